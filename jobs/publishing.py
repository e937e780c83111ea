"""Which photos go to the broker next: room in the window goes in, references come out.

Jobs of a higher priority come first; those of the same one share, so that each has as many photos
in flight as the others, and the older job comes first where that doesn't work out evenly. A job
that is paused, cancelled or outside its hours gets none.
"""

import heapq
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, and_, select, true

from jobs.memory import MemoryClass
from jobs.reading import flying_by_job, stands
from jobs.schema import JobStatus, PhotoRef, PhotoState
from jobs.tables import JobRow, PhotoRow
from jobs.transitions import BACK, Change, LedgerWriter


class Publishing(LedgerWriter):
    """The dispatcher's side of the ledger."""

    def publish_next(
        self,
        limit: int,
        *,
        job_id: str | None = None,
        memory_class: MemoryClass | None = None,
        urgent: bool = False,
    ) -> list[PhotoRef]:
        """Mark photos that are due as published, so that the caller may send them.

        Several dispatchers never get the same photo.

        Args:
            limit: at most so many.
            job_id: of this job only; of all where it is None.
            memory_class: of this class only; of all, the small ones first, where it is None.
            urgent: of jobs of more than the usual priority only.
        """
        classes = MemoryClass if memory_class is None else (memory_class,)
        which = and_(
            true() if job_id is None else JobRow.id == job_id,
            JobRow.priority > 0 if urgent else true(),
        )
        published: list[PhotoRef] = []
        for each in classes:
            if limit > len(published):
                published += self._publish(limit - len(published), which, each)
        return published

    def withdraw(self) -> int:
        """Take back what is published of jobs that rest; return how many photos."""
        resting = PhotoRow.job_id.in_(select(JobRow.id).where(~moving()))
        return self._unpublish(resting, by="withdraw")

    def unpublish(self) -> int:
        """Take back all published photos, for a broker that starts empty; return how many."""
        return self._unpublish(true(), by="unpublish")

    def _unpublish(self, which: ColumnElement[bool], *, by: str) -> int:
        with self._change() as change:
            values = {**BACK, "not_before": self._now}
            return len(
                change.move(
                    PhotoState.PUBLISHED, PhotoState.PENDING, by=by, where=which, values=values
                )
            )

    def _publish(
        self, room: int, which: ColumnElement[bool], memory_class: MemoryClass
    ) -> list[PhotoRef]:
        pending = and_(stands(PhotoState.PENDING), PhotoRow.memory_class == memory_class)
        due = and_(pending, PhotoRow.not_before <= self._now)
        asking = (
            select(JobRow.id, JobRow.name, JobRow.priority)
            .where(moving(), which, _next_try(pending) <= self._now)
            .order_by(JobRow.priority.desc(), JobRow.created_at, JobRow.id)
        )
        refs: list[PhotoRef] = []
        with self._change() as change:
            jobs = change.connection.execute(asking).all()
            flying = flying_by_job(change.connection)
            for _, equals in groupby(jobs, key=lambda job: job.priority):
                refs += self._serve(change, list(equals), flying, due, room - len(refs))
        return refs

    def _serve(
        self,
        change: Change,
        jobs: list[Any],
        flying: dict[str, int],
        due: ColumnElement[bool],
        room: int,
    ) -> list[PhotoRef]:
        """Publish photos of jobs of one priority, until the room or the photos are used up."""
        refs: list[PhotoRef] = []
        while jobs and len(refs) < room:
            shares = share(room - len(refs), [job.id for job in jobs], flying)
            for job in list(jobs):
                wanted = shares[job.id]
                got = self._mark(change, job, due, wanted) if wanted else []
                flying[job.id] = flying.get(job.id, 0) + len(got)
                refs += got
                if len(got) < wanted:
                    jobs.remove(job)
        return refs

    def _mark(
        self,
        change: Change,
        job: Any,  # noqa: ANN401 - a row
        due: ColumnElement[bool],
        limit: int,
    ) -> list[PhotoRef]:
        """Mark a job's photos that are due longest."""
        longest = (
            select(PhotoRow.id)
            .where(PhotoRow.job_id == job.id, due)
            .order_by(PhotoRow.not_before, PhotoRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("longest")
        )
        rows = change.move(
            PhotoState.PENDING,
            PhotoState.PUBLISHED,
            by="publish_next",
            where=PhotoRow.id.in_(select(longest.c.id)),
            values={"published_at": self._now},
        )
        rows = sorted(rows, key=lambda row: (row.not_before, row.id))
        return [
            PhotoRef(row.id, job.name, row.key, job.priority, MemoryClass(row.memory_class))
            for row in rows
        ]


def moving() -> ColumnElement[bool]:
    """Return the condition that a job's photos may begin."""
    return and_(JobRow.status == JobStatus.ACTIVE, JobRow.open)


def _next_try(pending: ColumnElement[bool]) -> ScalarSelect[float]:
    """Return when the first of a job's pending photos is due: the index's first entry.

    Asking whether any is due reads the same to a person, but lets PostgreSQL walk all photos.
    """
    mine = select(PhotoRow.not_before).where(PhotoRow.job_id == JobRow.id, pending)
    return mine.order_by(PhotoRow.not_before).limit(1).correlate(JobRow).scalar_subquery()


def share(room: int, jobs: Sequence[str], flying: Mapping[str, int]) -> dict[str, int]:
    """Divide room, so that jobs come as close as may be to the same number of photos in flight.

    Args:
        room: so many photos in all.
        jobs: the oldest first.
        flying: how many photos of each are in flight already; none where it isn't named.
    """
    shares = dict.fromkeys(jobs, 0)
    fewest = [(flying.get(job, 0), place, job) for place, job in enumerate(jobs)]
    heapq.heapify(fewest)
    for _ in range(room):
        count, place, job = fewest[0]
        shares[job] += 1
        heapq.heapreplace(fewest, (count + 1, place, job))
    return shares
