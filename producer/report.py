"""How jobs stand: jobs, counts and failures go in; tables, lines, or JSON for programs come out.

Pure: nothing is read, printed or timed here. The JSON's shape is a contract; a change of meaning
raises `SCHEMA_VERSION`. `status --json` gives `{"schema_version", "jobs": [JOB...]}`, the newest
job first; `status JOB --json` gives `{"schema_version", "job": JOB}`, with `failures`. A JOB is

    {"id", "name", "source", "destination", "recipe": {...}, "recipe_hash", "finished": bool,
     "status": "active" | "paused" | "cancelled", "priority", "window": "22:00-06:00" | null,
     "photos": {"total", "pending", "published", "claimed", "done", "failed", "cancelled"},
     "failed_by_code": {CODE: number}, "faces": {"found", "restored"},
     "waiting_for": TEXT | null,
     "failures": [{"key", "code", "message", "advice", "stage", "attempts", "failed_at"}]}

`finished`: nothing more happens unless somebody says so; true of a job that was cancelled, too.
`waiting_for` and `failures` only come with a single job; `failed_at` is in seconds since the epoch.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from textwrap import indent
from typing import Any

from rich.table import Table
from rich.text import Text

from jobs.durations import duration
from jobs.schema import Counts, Failure, JobStatus, PhotoState, Standing
from producer.scan import Tally

SCHEMA_VERSION = 1
_NOT_BEGUN = (PhotoState.PENDING, PhotoState.PUBLISHED)
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


def jobs_json(jobs: Iterable[Standing]) -> str:
    """Return the list of jobs as JSON."""
    records = [_record(standing) for standing in jobs]
    return json.dumps({"schema_version": SCHEMA_VERSION, "jobs": records}, indent=2)


def job_json(standing: Standing, failures: Iterable[Failure], *, now: float) -> Iterator[str]:
    """Yield one job with its failures as JSON, piece by piece, for there may be very many.

    Args:
        standing: how the job stands.
        failures: of its photos.
        now: in seconds since the epoch.
    """
    record = _record(standing) | {"waiting_for": waiting_for(standing, now=now), "failures": []}
    whole = json.dumps({"schema_version": SCHEMA_VERSION, "job": record}, indent=2)
    start, _, end = whole.rpartition("[]")
    separator = f"{start}["
    for failure in failures:
        yield separator + indent("\n" + json.dumps(asdict(failure), indent=2), " " * 6)
        separator = ","
    yield f"\n    ]{end}\n" if separator == "," else f"{whole}\n"


def jobs_table(jobs: Iterable[Standing]) -> Table:
    """Return one row a job."""
    table = Table("job", "name", box=None, pad_edge=False)
    for heading in ("photos", "done", "failed", "waiting", "finds"):
        table.add_column(heading, justify="right")
    table.add_column("status")
    table.add_column("destination", overflow="fold")
    for standing in jobs:
        job, counts = standing.job, standing.counts
        done, failed = counts.of(PhotoState.DONE), counts.of(PhotoState.FAILED)
        numbers = (counts.total, done, failed, counts.total - done - failed, counts.faces)
        table.add_row(
            job.id,
            Text(plain(job.name)),
            *map(str, numbers),
            "finished" if standing.over else standing.control.status,
            Text(plain(job.destination)),
        )
    return table


def job_table(standing: Standing, *, now: float | None = None) -> Table:
    """Return one job in numbers; with `now`, in seconds since the epoch, what it waits for too."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    job, counts, control = standing.job, standing.counts, standing.control
    waiting = None if now is None else waiting_for(standing, now=now)
    left = counts.faces - counts.faces_restored
    rows = [
        ("job", f"{job.id} {plain(job.name)}"),
        ("from", plain(job.source)),
        ("to", plain(job.destination)),
        *([("status", control.status)] if control.status is not JobStatus.ACTIVE else []),
        *([("priority", f"{control.priority}")] if control.priority else []),
        *([("window", f"{control.hours}")] if control.hours else []),
        ("photos", f"{counts.total}"),
        *((f"  {name}", f"{photos}") for name, photos in _photos(standing).items() if photos),
        ("finds", f"{counts.faces}, {counts.faces_restored} restored"),
        *([("  left alone", f"{left}{_LEFT_ALONE}")] if left else []),
        *([("waiting", waiting)] if waiting else []),
    ]
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def waiting_for(standing: Standing, *, now: float) -> str | None:
    """Say why nothing of a job moves; None where something does, or all is done."""
    counts, control = standing.counts, standing.control
    if counts.finished == counts.total or counts.of(PhotoState.CLAIMED):
        return None
    next_try_s = 0.0 if standing.next_try_at is None else standing.next_try_at - now
    reasons = {
        f"it is {control.status}: `gpen-archive resume` lets it go on": (
            control.status is not JobStatus.ACTIVE
        ),
        f"it runs {control.hours} by the clock of `dispatch` or `run`, or neither is there": (
            not control.open
        ),
        "its photos are published; no worker that takes their memory class has one yet": (
            counts.of(PhotoState.PUBLISHED)
        ),
        f"the next try, in {duration(next_try_s)}": next_try_s > 0,
        f"{standing.others_in_flight} photos of other jobs are before it": (
            standing.others_in_flight
        ),
    }
    nobody = "nobody publishes its photos: no `dispatch` or `run` is there, or no broker for it"
    return next((reason for reason, holds in reasons.items() if holds), nobody)


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


def _record(standing: Standing) -> dict[str, Any]:
    job, counts, control = standing.job, standing.counts, standing.control
    return {
        "id": job.id,
        "name": job.name,
        "source": job.source,
        "destination": job.destination,
        "recipe": job.recipe.model_dump(),
        "recipe_hash": job.recipe.hash(),
        "finished": standing.over,
        "status": control.status,
        "priority": control.priority,
        "window": None if control.hours is None else str(control.hours),
        "photos": {"total": counts.total} | _photos(standing),
        "failed_by_code": counts.by_code,
        "faces": {"found": counts.faces, "restored": counts.faces_restored},
    }


def _photos(standing: Standing) -> dict[str, int]:
    """Return the numbers of photos by state; what a cancelled job never began is cancelled."""
    counts = standing.counts
    numbers: dict[str, int] = {state: counts.of(state) for state in PhotoState}
    numbers["cancelled"] = 0
    if standing.control.status is JobStatus.CANCELLED:
        numbers["cancelled"] = counts.of(*_NOT_BEGUN)
        numbers |= dict.fromkeys(_NOT_BEGUN, 0)
    return numbers


def _rate(per_s: float | None) -> str:
    if per_s is None:
        return ""
    return f"{per_s:.1f} photos/s" if per_s >= 1 else f"{per_s * _MINUTE_S:.1f} photos/min"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
