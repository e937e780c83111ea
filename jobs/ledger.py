"""The ledger: the only writer of jobs and photos, on SQLite and PostgreSQL.

Candidates, claims and outcomes go in; references to publish and claims come out. Each transition
of a photo is one UPDATE that names the state it leaves (`jobs.schema.TRANSITIONS`), so of two that
want the same photo one finds no row. A method is one or a few short transactions, committed when it
returns.
"""

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from jobs.errors import ClaimLost, PhotoCrashesWorker
from jobs.reading import LedgerReader, find_job_of
from jobs.schema import Candidate, Claim, Job, Outcome, PhotoRef, PhotoState, check_key
from jobs.tables import JobRow, PhotoRow

_BATCH = 1000
_LONGEST_MESSAGE = 2000
_NOBODY = {"claim_token": None, "lease_until": None, "published_at": None}
_NO_ERROR = {"error_code": None, "error_message": None, "error_advice": None, "error_stage": None}


@dataclass(frozen=True, slots=True)
class Stalled:
    """What became of photos that nobody was working on any more."""

    requeued: int
    crashed: int


class Ledger(LedgerReader):
    """Where every photo stands.

    Args:
        url: the address of a SQLite or PostgreSQL database; nothing is opened before the first use.
        clock: seconds since the epoch.

    Raises:
        DatabaseUnavailable: by every method, when the database doesn't answer.
        SettingsInvalid: the address isn't one of SQLite or PostgreSQL.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(url)
        self._clock = clock
        dialect = postgresql if self._database.dialect == "postgresql" else sqlite
        self._insert = dialect.insert

    def add_job(self, job: Job) -> bool:
        """Add a job; return False when it is there already."""
        row = {
            "id": job.id,
            "name": job.name,
            "source": job.source,
            "destination": job.destination,
            "recipe": job.recipe.canonical(),
            "created_at": self._clock(),
        }
        with self._database.begin() as connection:
            statement = self._insert(JobRow).values(row).on_conflict_do_nothing()
            return connection.execute(statement.returning(JobRow.id)).first() is not None

    def add_photos(self, job_id: str, candidates: Iterable[Candidate]) -> int:
        """Add photos to a job, a batch at a time; return how many of them are new.

        Raises:
            UnsafeKey: a key can't be the name of an object; batches before it stay added.
        """
        statement = self._insert(PhotoRow).on_conflict_do_nothing().returning(PhotoRow.id)
        remaining = iter(candidates)
        added = 0
        while batch := list(islice(remaining, _BATCH)):
            rows = [self._new_row(job_id, candidate) for candidate in batch]
            with self._database.begin() as connection:
                added += len(connection.execute(statement, rows).all())
        return added

    def publish_next(self, limit: int, *, job_id: str | None = None) -> list[PhotoRef]:
        """Mark the photos that are due longest as published, so that the caller may send them.

        Several dispatchers never get the same photo.

        Args:
            limit: at most so many.
            job_id: of this job only; of all where it is None.
        """
        now = self._clock()
        wanted = true() if job_id is None else PhotoRow.job_id == job_id
        due = (
            select(PhotoRow.id)
            .where(wanted, PhotoRow.state == PhotoState.PENDING, PhotoRow.not_before <= now)
            .order_by(PhotoRow.not_before, PhotoRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        publish = (
            update(PhotoRow)
            .where(PhotoRow.id.in_(select(due.c.id)), PhotoRow.state == PhotoState.PENDING)
            .values(state=PhotoState.PUBLISHED, published_at=now)
            .returning(PhotoRow.id, PhotoRow.key, PhotoRow.job_id, PhotoRow.not_before)
        )
        with self._database.begin() as connection:
            rows = sorted(connection.execute(publish), key=lambda row: (row.not_before, row.id))
            theirs = JobRow.id.in_({row.job_id for row in rows})
            jobs = connection.execute(select(JobRow.id, JobRow.name).where(theirs))
            names = {job.id: job.name for job in jobs}
        return [PhotoRef(id=row.id, job_name=names[row.job_id], key=row.key) for row in rows]

    def claim(self, photo_id: int, *, worker: str, lease_s: float) -> Claim | None:
        """Take a photo to work on; return None where it is taken, finished, unknown or not yet due.

        A published photo is due by its dispatcher's clock, which is the one that counts.
        """
        now = self._clock()
        token = secrets.token_hex(16)
        claimable = or_(
            PhotoRow.state == PhotoState.PUBLISHED,
            and_(PhotoRow.state == PhotoState.PENDING, PhotoRow.not_before <= now),
        )
        take = (
            update(PhotoRow)
            .where(PhotoRow.id == photo_id, claimable)
            .values(
                state=PhotoState.CLAIMED,
                attempts=PhotoRow.attempts + 1,
                claim_token=token,
                worker=worker,
                lease_until=now + lease_s,
                published_at=None,
            )
            .returning(PhotoRow.key, PhotoRow.attempts, PhotoRow.job_id)
        )
        with self._database.begin() as connection:
            row = connection.execute(take).one_or_none()
            if row is None:
                return None
            job = find_job_of(connection, row.job_id)
        return Claim(
            photo_id=photo_id,
            key=row.key,
            token=token,
            attempt=row.attempts,
            worker=worker,
            job=job,
        )

    def renew(self, claim: Claim, *, lease_s: float) -> None:
        """Hold a claim for another `lease_s` from now.

        Raises:
            ClaimLost: the photo isn't this claim's any more; so for the next three methods.
        """
        self._change(claim, lease_until=self._clock() + lease_s)

    def succeed(self, claim: Claim, outcome: Outcome) -> None:
        """Record that the derivative and its sidecar are stored."""
        self._change(
            claim,
            **_NOBODY,
            state=PhotoState.DONE,
            finished_at=self._clock(),
            derivative_key=outcome.derivative_key,
            sidecar_key=outcome.sidecar_key,
            faces=outcome.faces,
            faces_restored=outcome.faces_restored,
            elapsed_s=outcome.elapsed_s,
        )

    def fail(self, claim: Claim, *, code: str, message: str, advice: str, stage: str) -> None:
        """Give a photo up, with the reason and what a person can do."""
        self._change(
            claim,
            **_NOBODY,
            state=PhotoState.FAILED,
            finished_at=self._clock(),
            error_code=code,
            error_message=_storable(message),
            error_advice=_storable(advice),
            error_stage=stage,
        )

    def release(self, claim: Claim, *, after_s: float, counted: bool = True) -> None:
        """Give a photo back, to be tried in `after_s`; with `counted=False` as if it never was."""
        self._change(
            claim,
            **_NOBODY,
            state=PhotoState.PENDING,
            not_before=self._clock() + after_s,
            attempts=PhotoRow.attempts if counted else PhotoRow.attempts - 1,
        )

    def requeue_stalled(self, *, published_timeout_s: float, max_attempts: int) -> Stalled:
        """Take back photos whose lease ran out, or whose message nobody answered in time.

        Args:
            published_timeout_s: how long a message may wait with the broker.
            max_attempts: a photo whose lease ran out at this attempt or later is failed.
        """
        now = self._clock()
        unanswered = and_(
            PhotoRow.state == PhotoState.PUBLISHED,
            PhotoRow.published_at <= now - published_timeout_s,
        )
        with self._database.begin() as connection:
            stalled = self._take_back(connection, PhotoRow.lease_until <= now, max_attempts)
            unpublished = self._requeue(connection, unanswered)
        return Stalled(requeued=stalled.requeued + unpublished, crashed=stalled.crashed)

    def requeue_lost(self, worker: str, *, max_attempts: int) -> Stalled:
        """Take back at once whatever a worker holds that is known to be dead."""
        with self._database.begin() as connection:
            return self._take_back(connection, PhotoRow.worker == worker, max_attempts)

    def give_back(self, worker: str) -> int:
        """Take back what a worker held that was stopped in order, as if it had never been tried."""
        held = and_(PhotoRow.state == PhotoState.CLAIMED, PhotoRow.worker == worker)
        with self._database.begin() as connection:
            return self._requeue(connection, held, attempts=PhotoRow.attempts - 1)

    def unpublish(self) -> int:
        """Take back all published photos, for a broker that starts empty; return how many."""
        with self._database.begin() as connection:
            return self._requeue(connection, PhotoRow.state == PhotoState.PUBLISHED)

    def retry(self, job_id: str, *, code: str | None = None) -> int:
        """Give a job's failed photos, or those with one code, all their attempts again.

        Returns:
            how many photos will be tried again.
        """
        failed = and_(PhotoRow.job_id == job_id, PhotoRow.state == PhotoState.FAILED)
        if code is not None:
            failed = and_(failed, PhotoRow.error_code == code)
        with self._database.begin() as connection:
            return self._requeue(connection, failed, **_NO_ERROR, attempts=0, finished_at=None)

    def _new_row(self, job_id: str, candidate: Candidate) -> dict[str, object]:
        return {
            "job_id": job_id,
            "key": check_key(candidate.key),
            "size_bytes": candidate.size_bytes,
            "state": PhotoState.PENDING,
            "attempts": 0,
            "not_before": self._clock(),
        }

    def _change(self, claim: Claim, **values: Any) -> None:  # noqa: ANN401 - values or SQL
        """Change the row of a photo that `claim` holds, and no other."""
        statement = (
            update(PhotoRow)
            .where(
                PhotoRow.id == claim.photo_id,
                PhotoRow.state == PhotoState.CLAIMED,
                PhotoRow.claim_token == claim.token,
            )
            .values(**values)
        )
        with self._database.begin() as connection:
            if connection.execute(statement).rowcount != 1:
                raise ClaimLost(f"the claim of {claim.worker} on {claim.key!r} is over")

    def _take_back(
        self, connection: Connection, whose: ColumnElement[bool], max_attempts: int
    ) -> Stalled:
        """Requeue claimed photos; fail those that have had all their attempts."""
        held = and_(PhotoRow.state == PhotoState.CLAIMED, whose)
        give_up = (
            update(PhotoRow)
            .where(held, PhotoRow.attempts >= max_attempts)
            .values(
                **_NOBODY,
                state=PhotoState.FAILED,
                finished_at=self._clock(),
                error_code=PhotoCrashesWorker.code,
                error_message="the worker died or fell silent with this photo, at its last attempt",
                error_advice=PhotoCrashesWorker.advice,
                error_stage="worker",
            )
        )
        crashed = connection.execute(give_up).rowcount
        return Stalled(requeued=self._requeue(connection, held), crashed=crashed)

    def _requeue(
        self,
        connection: Connection,
        which: ColumnElement[bool],
        **values: object,
    ) -> int:
        """Make photos pending, from now on; return how many."""
        pending = {"state": PhotoState.PENDING, "not_before": self._clock()}
        statement = update(PhotoRow).where(which).values(**_NOBODY, **pending, **values)
        return connection.execute(statement).rowcount


def _storable(text: str) -> str:
    """Return `text` as every database takes it: no NUL, no lone surrogates, not endless."""
    clean = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return clean[:_LONGEST_MESSAGE]
