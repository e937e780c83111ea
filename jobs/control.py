"""What a person may say about a whole job: pause, resume, cancel, priority, hours.

A job's id goes in; its row is changed, whatever number of photos it has. Photos in hand are always
finished. What was published is taken back by the dispatcher, or by the worker that is asked to take
it.
"""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, select, update

from jobs.hours import Hours
from jobs.schema import JobStatus
from jobs.tables import JobRow
from jobs.transitions import LedgerWriter


class JobControl(LedgerWriter):
    """Commands that concern a job as a whole; a job that nobody knows is left as it is."""

    def pause(self, job_id: str) -> None:
        """Let no photo of a job begin, until it is resumed."""
        self._set(job_id, status=JobStatus.PAUSED)

    def resume(self, job_id: str) -> None:
        """Take a paused or cancelled job up again."""
        self._set(job_id, status=JobStatus.ACTIVE)

    def cancel(self, job_id: str) -> None:
        """Give a job up; what was delivered stays, and it may be resumed after all."""
        self._set(job_id, status=JobStatus.CANCELLED)

    def set_priority(self, job_id: str, priority: int) -> None:
        """Let a job go before those of a lower priority; 0 is usual."""
        self._set(job_id, priority=priority)

    def set_hours(self, job_id: str, hours: Hours | None) -> None:
        """Let a job run in these hours of the day only; None: at any time."""
        values: dict[str, object] = {"hours": None if hours is None else str(hours)}
        self._set(job_id, **values, **({"open": True} if hours is None else {}))

    def keep_hours(self) -> None:
        """Open and close the jobs that have hours, by this machine's clock and time zone.

        A job whose hours are changed meanwhile is left to the next call.
        """
        now = datetime.fromtimestamp(self._clock(), UTC).astimezone()
        with_hours = select(JobRow.id, JobRow.hours, JobRow.open).where(JobRow.hours.is_not(None))
        with self._database.begin() as connection:
            jobs = connection.execute(with_hours).all()
        for job in jobs:
            is_open = Hours.parse(job.hours).is_open(now)
            if is_open != job.open:
                self._set(job.id, JobRow.hours == job.hours, open=is_open)

    def _set(self, job_id: str, *conditions: ColumnElement[bool], **values: object) -> None:
        with self._database.begin() as connection:
            connection.execute(
                update(JobRow).where(JobRow.id == job_id, *conditions).values(values)
            )
