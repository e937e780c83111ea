"""The ledger: the only writer of jobs and photos, on SQLite and PostgreSQL.

Candidates, claims and outcomes go in; references to publish and claims come out. What may happen to
a photo is one table (`jobs.schema.TRANSITIONS`), and `jobs.transitions` holds every method to it. A
method is one or a few short transactions, committed when it returns.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import ColumnElement, and_, delete, literal, select, text, update

from jobs.control import JobControl
from jobs.entry import enter
from jobs.errors import ClaimLost, PhotoCrashesWorker
from jobs.hours import Hours
from jobs.memory import MemoryClass
from jobs.publishing import Publishing, moving
from jobs.reading import counted, stands
from jobs.schema import Candidate, Claim, Job, JobStatus, Outcome, PhotoState
from jobs.tables import JobRow, PhotoRow, TallyRow
from jobs.transitions import BACK, TOLD, Change

_AT_ONCE = 1000
_LONGEST_MESSAGE = 2000
_NO_ERROR = {"error_code": None, "error_message": None, "error_advice": None, "error_stage": None}


@dataclass(frozen=True, slots=True)
class Stalled:
    """What became of photos that nobody was working on any more."""

    requeued: int
    crashed: int


class Ledger(JobControl, Publishing):
    """Where every photo stands; what a whole job is told, and what is published, its parents do."""

    def add_job(self, job: Job, *, priority: int = 0, hours: Hours | None = None) -> bool:
        """Add a job; return False when it is there already, and stays as it is.

        With hours it is closed until a dispatcher opens it.
        """
        row = {
            "id": job.id,
            "name": job.name,
            "source": job.source,
            "destination": job.destination,
            "recipe": job.recipe.canonical(),
            "created_at": self._now,
            "status": JobStatus.ACTIVE,
            "priority": priority,
            "hours": None if hours is None else str(hours),
            "open": hours is None,
        }
        with self._database.begin() as connection:
            statement = self._insert(JobRow).values(row).on_conflict_do_nothing()
            return connection.execute(statement.returning(JobRow.id)).first() is not None

    def add_photos(self, job_id: str, candidates: Iterable[Candidate]) -> int:
        """Add photos to a job, a batch at a time; return how many of them are new.

        Raises:
            UnsafeKey: a key can't be the name of an object; batches before it stay added.
        """
        remaining = iter(candidates)
        added = 0
        while batch := list(islice(remaining, _AT_ONCE)):
            with self._change() as change:
                now = change.connection.execute(select(self._now)).scalar_one()
                new = enter(change.connection, job_id, batch, now=now)
                change.count(job_id, PhotoState.PENDING, new)
            added += new
        return added

    def claim(
        self, photo_id: int, *, worker: str, lease_s: float, token: str | None = None
    ) -> Claim | None:
        """Take a photo in hand, or return None: it is taken, finished, unknown or not due yet.

        A photo whose job rests isn't taken either, and waits from now on.

        Args:
            photo_id: of the photo.
            worker: who takes it.
            lease_s: for how long.
            token: by which the claim is known, used for no other; who asks again with it, for the
                answer was lost, has the same claim. None: one is drawn.
        """
        now = self._now
        this = PhotoRow.id == photo_id
        may_begin = and_(this, PhotoRow.job_id.in_(select(JobRow.id).where(moving())))
        token = token or secrets.token_hex(16)
        taken = {
            "attempts": PhotoRow.attempts + 1,
            "claim_token": token,
            "worker": worker,
            "lease_until": now + lease_s,
            "published_at": None,
        }
        with self._change(lasting=False) as change:
            rows = change.move(
                PhotoState.PUBLISHED,
                PhotoState.CLAIMED,
                by="claim",
                where=may_begin,
                values=taken,
            ) or change.move(
                PhotoState.PENDING,
                PhotoState.CLAIMED,
                by="claim",
                where=and_(may_begin, PhotoRow.not_before <= now),
                values=taken,
            )
            if not rows:  # unless it is this claim's already
                mine = and_(this, stands(PhotoState.CLAIMED), PhotoRow.claim_token == token)
                again = update(PhotoRow).where(mine).values(lease_until=now + lease_s)
                rows = change.connection.execute(again.returning(*TOLD)).all()
            if not rows:
                self._requeue(change, PhotoState.PUBLISHED, this, by="claim")
                return None
            [row] = rows
            job = self._job_of(change.connection, row.job_id)
        return Claim(
            photo_id=photo_id,
            key=row.key,
            token=token,
            attempt=row.attempts,
            worker=worker,
            job=job,
            outages=row.outages,
            memory_class=MemoryClass(row.memory_class),
        )

    def renew(self, claim: Claim, *, lease_s: float) -> None:
        """Hold a claim for another `lease_s` from now.

        Raises:
            ClaimLost: the photo isn't this claim's any more; so for the next three methods.
        """
        renewed = update(PhotoRow).where(stands(PhotoState.CLAIMED), _holds(claim))
        with self._database.begin() as connection:
            until = self._now + lease_s
            if connection.execute(renewed.values(lease_until=until)).rowcount != 1:
                raise _lost(claim)

    def succeed(self, claim: Claim, outcome: Outcome) -> None:
        """Record that the derivative and its sidecar are stored."""
        delivered = {
            "finished_at": self._now,
            "derivative_key": outcome.derivative_key,
            "sidecar_key": outcome.sidecar_key,
            "faces": outcome.faces,
            "faces_restored": outcome.faces_restored,
            "elapsed_s": outcome.elapsed_s,
        }
        self._end(claim, PhotoState.DONE, by="succeed", values=delivered)

    def fail(self, claim: Claim, *, code: str, message: str, advice: str, stage: str) -> None:
        """Give a photo up, with the reason and what a person can do."""
        reason = {
            "finished_at": self._now,
            "error_code": code,
            "error_message": _storable(message),
            "error_advice": _storable(advice),
            "error_stage": stage,
        }
        self._end(claim, PhotoState.FAILED, by="fail", values=reason)

    def release(
        self,
        claim: Claim,
        *,
        after_s: float,
        counted: bool = True,
        outage: bool = False,
        memory_class: MemoryClass | None = None,
    ) -> None:
        """Give a photo back, to be tried in `after_s`.

        Args:
            claim: the hold on it.
            after_s: seconds.
            counted: False: as if it had never been tried.
            outage: a service was away: counted as an outage, and as no attempt of the photo's own.
            memory_class: where it should have gone, if the estimate was wrong.
        """
        waiting = {
            "not_before": self._now + after_s,
            "attempts": PhotoRow.attempts - int(outage or not counted),
            "outages": PhotoRow.outages + int(outage),
            **({} if memory_class is None else {"memory_class": memory_class}),
        }
        self._end(claim, PhotoState.PENDING, by="release", values=waiting)

    def requeue_stalled(self, *, published_timeout_s: float, max_attempts: int) -> Stalled:
        """Take back photos whose lease ran out, or whose message nobody answered in time.

        Args:
            published_timeout_s: how long a message may wait with the broker.
            max_attempts: a photo whose lease ran out at this attempt or later is failed.
        """
        now = self._now
        by = "requeue_stalled"
        with self._change() as change:
            stalled = self._take_back(change, PhotoRow.lease_until <= now, max_attempts, by=by)
            unanswered = PhotoRow.published_at <= now - published_timeout_s
            unpublished = self._requeue(change, PhotoState.PUBLISHED, unanswered, by=by)
        return Stalled(requeued=stalled.requeued + unpublished, crashed=stalled.crashed)

    def requeue_lost(self, worker: str, *, max_attempts: int) -> Stalled:
        """Take back at once whatever a worker holds that is known to be dead."""
        with self._change() as change:
            whose = PhotoRow.worker == worker
            return self._take_back(change, whose, max_attempts, by="requeue_lost")

    def give_back(self, worker: str) -> int:
        """Take back what a worker held that was stopped in order, as if it had never been tried."""
        uncounted = PhotoRow.attempts - 1
        held = PhotoRow.worker == worker
        with self._change() as change:
            return self._requeue(
                change, PhotoState.CLAIMED, held, by="give_back", attempts=uncounted
            )

    def retry(self, job_id: str, *, code: str | None = None) -> int:
        """Give a job's failed photos, or those with one code, all their tries again.

        A batch at a time, so that the first ones needn't wait for the last.

        Returns:
            how many photos will be tried again.
        """
        codes = self.counts(job_id).by_code if code is None else [code]
        return sum(self._retry(job_id, each) for each in codes)

    def recount(self) -> None:
        """Write all tallies anew, by counting all photos; everybody else waits for the end."""
        names = [column.name for column in TallyRow.__table__.columns if column.name != "slot"]
        with self._database.begin(writing=True) as connection:
            if self._database.dialect == "postgresql":
                connection.execute(text("LOCK TABLE tallies IN EXCLUSIVE MODE"))
            connection.execute(delete(TallyRow))
            rows = counted().add_columns(literal(0))
            connection.execute(self._insert(TallyRow).from_select([*names, "slot"], rows))

    def _retry(self, job_id: str, code: str) -> int:
        retried, last = 0, ""
        afresh: dict[str, object] = {"attempts": 0, "outages": 0, "finished_at": None, **_NO_ERROR}
        failed = select(PhotoRow.id).where(
            PhotoRow.job_id == job_id, stands(PhotoState.FAILED), PhotoRow.error_code == code
        )
        while True:
            batch = failed.where(PhotoRow.key > last).order_by(PhotoRow.key).limit(_AT_ONCE)
            with self._change() as change:
                rows = change.move(
                    PhotoState.FAILED,
                    PhotoState.PENDING,
                    by="retry",
                    where=PhotoRow.id.in_(batch.cte("batch").select()),
                    values=afresh | {"not_before": self._now},
                    left_code=code,
                )
            if not rows:
                return retried
            retried += len(rows)
            last = max(row.key for row in rows)

    def _end(
        self, claim: Claim, enters: PhotoState, *, by: str, values: Mapping[str, object]
    ) -> None:
        """End a claim: change the row of the photo that it holds, and no other."""
        values = {**values, **BACK}
        with self._change() as change:
            if not change.move(
                PhotoState.CLAIMED, enters, by=by, where=_holds(claim), values=values
            ):
                raise _lost(claim)

    def _take_back(
        self, change: Change, whose: ColumnElement[bool], max_attempts: int, *, by: str
    ) -> Stalled:
        """Requeue claimed photos; fail those that have had all their attempts."""
        given_up = {
            **BACK,
            "finished_at": self._now,
            "error_code": PhotoCrashesWorker.code,
            "error_message": "the worker died or fell silent with this photo, at its last attempt",
            "error_advice": PhotoCrashesWorker.advice,
            "error_stage": "worker",
        }
        last = and_(whose, PhotoRow.attempts >= max_attempts)
        crashed = change.move(
            PhotoState.CLAIMED, PhotoState.FAILED, by=by, where=last, values=given_up
        )
        requeued = self._requeue(change, PhotoState.CLAIMED, whose, by=by)
        return Stalled(requeued=requeued, crashed=len(crashed))

    def _requeue(
        self,
        change: Change,
        leaves: PhotoState,
        which: ColumnElement[bool],
        *,
        by: str,
        **values: object,
    ) -> int:
        """Make photos pending, from now on; return how many."""
        values |= {**BACK, "not_before": self._now}
        return len(change.move(leaves, PhotoState.PENDING, by=by, where=which, values=values))


def _holds(claim: Claim) -> ColumnElement[bool]:
    return and_(PhotoRow.id == claim.photo_id, PhotoRow.claim_token == claim.token)


def _lost(claim: Claim) -> ClaimLost:
    return ClaimLost(f"the claim of {claim.worker} on {claim.key!r} is over")


def _storable(text: str) -> str:
    """Return `text` as every database takes it: no NUL, no lone surrogates, not endless."""
    clean = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return clean[:_LONGEST_MESSAGE]
