"""How jobs stand: jobs, counts and failures go in; tables, lines, or JSON for programs come out.

Pure: nothing is read, printed or timed here. The JSON's shape is a contract; a change of meaning
raises `SCHEMA_VERSION`. `status --json` gives `{"schema_version", "jobs": [JOB...]}`, the newest
job first; `status JOB --json` gives `{"schema_version", "job": JOB}`, with `failures`. A JOB is

    {"id", "name", "source", "destination", "recipe": {...}, "recipe_hash", "finished": bool,
     "photos": {"total", "pending", "published", "claimed", "done", "failed"},
     "faces": {"found", "restored"},
     "failures": [{"key", "code", "message", "advice", "stage", "attempts", "failed_at"}]}

and `failed_at` is in seconds since the epoch.
"""

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from jobs.durations import duration
from jobs.schema import Counts, Failure, Job, PhotoState
from producer.scan import Tally

SCHEMA_VERSION = 1
_PACE_WINDOW_S = 120.0
_MINUTE_S = 60
_LEFT_ALONE = ": the sidecars say why; see --min-score, --profiles, --large-faces"


class Pace:
    """How fast a job moves: moments and numbers of finished photos go in, rate and ETA come out.

    The rate is that of the last two minutes, so that one slow album page doesn't spoil the night's.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def observe(self, at_s: float, finished: int) -> None:
        """Take in that `finished` photos were finished at `at_s`, seconds of any steady clock."""
        self._samples.append((at_s, finished))
        while len(self._samples) > 2 and self._samples[1][0] <= at_s - _PACE_WINDOW_S:  # noqa: PLR2004 - both ends stay
            self._samples.popleft()

    @property
    def per_s(self) -> float | None:
        """Photos a second; None as long as nothing moved."""
        if not self._samples:
            return None
        (start_s, before), (end_s, after) = self._samples[0], self._samples[-1]
        return (after - before) / (end_s - start_s) if after > before and end_s > start_s else None

    def eta_s(self, remaining: int) -> float | None:
        """Seconds until `remaining` photos are finished; None as long as nobody can tell."""
        return remaining / self.per_s if self.per_s else None


def progress_line(counts: Counts, pace: Pace) -> str:
    """Say in one line how a running job stands."""
    failed = counts.of(PhotoState.FAILED)
    parts = [
        f"{counts.finished} of {counts.total} photos",
        f"{failed} failed" if failed else "",
        f"{counts.faces_restored} of {counts.faces} finds restored" if counts.faces else "",
    ]
    if counts.finished < counts.total:
        eta_s = pace.eta_s(counts.total - counts.finished)
        parts += [_rate(pace.per_s), f"{duration(eta_s)} left" if eta_s is not None else ""]
    return ", ".join(part for part in parts if part)


def scan_lines(tally: Tally) -> list[str]:
    """Say what a scan passed over, and which photos have names that can't be used."""
    notes = [
        (tally.ignored, "not a photo by its suffix"),
        (tally.ours, "delivered by an earlier run"),
        (tally.hidden, "hidden"),
    ]
    lines = [f"passed over {_files(count)}: {reason}" for count, reason in notes if count]
    return lines + [
        f"left out {plain(key)}: the name can't be used (key.unsafe). Rename the file."
        for key in tally.unsafe
    ]


def jobs_json(jobs: Iterable[tuple[Job, Counts]]) -> str:
    """Return the list of jobs as JSON."""
    records = [_record(job, counts) for job, counts in jobs]
    return json.dumps({"schema_version": SCHEMA_VERSION, "jobs": records}, indent=2)


def job_json(job: Job, counts: Counts, failures: Iterable[Failure]) -> str:
    """Return one job with its failures as JSON."""
    record = _record(job, counts) | {"failures": [asdict(failure) for failure in failures]}
    return json.dumps({"schema_version": SCHEMA_VERSION, "job": record}, indent=2)


def jobs_table(jobs: Iterable[tuple[Job, Counts]]) -> Table:
    """Return one row a job."""
    table = Table("job", "name", box=None, pad_edge=False)
    for heading in ("photos", "done", "failed", "waiting", "finds"):
        table.add_column(heading, justify="right")
    table.add_column("destination", overflow="fold")
    for job, counts in jobs:
        done, failed = counts.of(PhotoState.DONE), counts.of(PhotoState.FAILED)
        numbers = (counts.total, done, failed, counts.total - done - failed, counts.faces)
        table.add_row(
            job.id, Text(plain(job.name)), *map(str, numbers), Text(plain(job.destination))
        )
    return table


def job_table(job: Job, counts: Counts) -> Table:
    """Return one job in numbers."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = [
        ("job", f"{job.id} {plain(job.name)}"),
        ("from", plain(job.source)),
        ("to", plain(job.destination)),
        ("photos", f"{counts.total}"),
        *((f"  {state}", f"{counts.of(state)}") for state in PhotoState if counts.of(state)),
        ("finds", f"{counts.faces}, {counts.faces_restored} restored"),
    ]
    if left := counts.faces - counts.faces_restored:
        rows.append(("  left alone", f"{left}{_LEFT_ALONE}"))
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def failures_table(failures: Sequence[Failure]) -> Table:
    """Return one row a failed photo: its key, the code, what happened and what to do."""
    table = Table("photo", "code", "what happened, and what to do", box=None, pad_edge=False)
    table.columns[0].overflow = table.columns[2].overflow = "fold"
    table.columns[1].no_wrap = True
    for failure in failures:
        why = Text(plain(failure.message)).append(f"\n{plain(failure.advice)}", style="dim")
        table.add_row(Text(plain(failure.key)), Text(failure.code), why)
    return table


def plain(text: str) -> str:
    """Return text from outside without what could steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def _record(job: Job, counts: Counts) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "source": job.source,
        "destination": job.destination,
        "recipe": job.recipe.model_dump(),
        "recipe_hash": job.recipe.hash(),
        "finished": counts.finished == counts.total,
        "photos": {"total": counts.total} | {state: counts.of(state) for state in PhotoState},
        "faces": {"found": counts.faces, "restored": counts.faces_restored},
    }


def _rate(per_s: float | None) -> str:
    if per_s is None:
        return ""
    return f"{per_s:.1f} photos/s" if per_s >= 1 else f"{per_s * _MINUTE_S:.1f} photos/min"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
