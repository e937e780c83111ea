"""Shows a run to whoever started it: what `producer.local` tells in, a live bar or lines out."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from jobs.schema import Control, Counts, JobStatus
from producer.report import Pace, progress_line, scan_lines
from producer.submit import Submission

_LINE_EVERY_S = 10.0


def entered_lines(submission: Submission) -> list[str]:
    """Say what a submission found and changed."""
    job, tally = submission.job, submission.tally
    if not tally.photos:
        return [*scan_lines(tally), f"No photos found in {job.source}."]
    known = f", {submission.known} of them known already" if submission.known else ""
    photos = "1 photo" if tally.photos == 1 else f"{tally.photos} photos"
    return [*scan_lines(tally), f"Job {job.id} ({job.name}): {photos}{known}."]


def rest_line(control: Control) -> str:
    """Say why no photo begins; nothing where they may."""
    if control.status is not JobStatus.ACTIVE:
        return f"The job is {control.status}: `gpen-archive resume` lets it go on."
    if control.open or control.hours is None:
        return ""
    rest = f"photos in hand are finished, the others wait until {control.hours.begin:%H:%M}"
    return f"Outside its hours, {control.hours}: {rest}."


class LineWatcher:
    """For logs and pipes: a line when something changed, at most one in ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace = Pace()
        self._last = ""
        self._resting = ""
        self._last_at_s = -_LINE_EVERY_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def entered(self, submission: Submission) -> None:
        """Say what was found."""
        for line in entered_lines(submission):
            self._say(line)

    def progress(self, counts: Counts) -> None:
        """Say how far it is, where that is news."""
        now_s = time.monotonic()
        self._pace.observe(now_s, counts.finished)
        line = progress_line(counts, self._pace)
        due = counts.finished == counts.total or now_s - self._last_at_s >= _LINE_EVERY_S
        if due and line != self._last:
            self._last, self._last_at_s = line, now_s
            self._say(line)

    def control(self, control: Control) -> None:
        """Say when nothing more begins, and why, and when it goes on."""
        resting = rest_line(control)
        if resting != self._resting:
            self._resting = resting
            self._say(resting or "It goes on.")

    def stopping(self) -> None:
        """Say that the end is near."""
        self._say("Stopping: photos in hand are finished first. A second Ctrl-C doesn't wait.")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveWatcher(LineWatcher):
    """For a terminal: one bar that moves."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            TextColumn("{task.description}", markup=False),
            console=console,
        )
        self._task = self._bar.add_task("looking for photos", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def entered(self, submission: Submission) -> None:
        """Say what was found, above the bar."""
        super().entered(submission)
        self._bar.update(self._task, description="starting the worker")

    def progress(self, counts: Counts) -> None:
        """Move the bar."""
        self._pace.observe(time.monotonic(), counts.finished)
        line = progress_line(counts, self._pace)
        self._bar.update(
            self._task, description=line, completed=counts.finished, total=counts.total
        )
