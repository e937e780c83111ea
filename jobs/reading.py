"""What can be asked of the ledger: a job's name or id goes in, plain values come out; read-only."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.exc import ProgrammingError

from jobs.database import Database
from jobs.errors import DatabaseUnavailable, JobUnknown
from jobs.hours import Hours
from jobs.memory import MemoryClass
from jobs.migrate import current_revision, expected_revision
from jobs.recipe import Recipe
from jobs.schema import (
    Control,
    Counts,
    Failure,
    Job,
    JobStatus,
    Miscount,
    Photo,
    PhotoState,
    Standing,
)
from jobs.tables import JobRow, PhotoRow, TallyRow

_PAGE = 1000
_SHORTEST_PREFIX = 6
_TALLIED = ("photos", "faces", "faces_restored")
_IN_FLIGHT = (PhotoState.PUBLISHED, PhotoState.CLAIMED)


class LedgerReader:
    """Read-only questions to the ledger. No connection is opened before the first one."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._jobs: dict[str, Job] = {}

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def check(self) -> None:
        """Make sure that the database answers and has the tables that this program expects.

        Raises:
            DatabaseUnavailable: it doesn't.
        """
        if self._database.is_missing:
            raise DatabaseUnavailable(
                f"there is no database {self._database.shown_url}: run `gpen-archive migrate`, or "
                "name the destination of a `run` with --at"
            )
        try:
            with self._database.begin() as connection:
                current = current_revision(connection)
        except ProgrammingError as error:  # connected, but not allowed to look
            raise DatabaseUnavailable(
                f"the database {self._database.shown_url} refuses: {error.orig}"
            ) from error
        expected = expected_revision()
        if current != expected:
            raise DatabaseUnavailable(
                f"the database {self._database.shown_url} is at revision {current or 'none'}, this "
                f"program expects {expected}: run `gpen-archive migrate`, or the newest program"
            )

    def find_job(self, id_or_name: str) -> Job:
        """Return a job by its id, its name, or the first six or more digits of its id.

        Raises:
            JobUnknown: no job answers to this, or several do.
        """
        matches: list[ColumnElement[bool]] = [JobRow.id == id_or_name, JobRow.name == id_or_name]
        if len(id_or_name) >= _SHORTEST_PREFIX:
            matches.append(JobRow.id.startswith(id_or_name, autoescape=True))
        with self._database.begin() as connection:
            for match in matches:
                jobs = [read_job(row) for row in connection.execute(select(JobRow).where(match))]
                if len(jobs) == 1:
                    return jobs[0]
                if jobs:
                    ids = ", ".join(sorted(job.id for job in jobs))
                    raise JobUnknown(f"{len(jobs)} jobs answer to {id_or_name!r}; say which: {ids}")
        raise JobUnknown(f"no job has the id or name {id_or_name!r}")

    def jobs(self) -> list[Job]:
        """Return all jobs, the newest first."""
        query = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id)
        with self._database.begin() as connection:
            return [read_job(row) for row in connection.execute(query)]

    def in_flight(self, job_id: str | None = None) -> int:
        """Return how many photos are with the broker or a worker, of one job or of all."""
        with self._database.begin() as connection:
            flying = flying_by_job(connection)
        return sum(flying.values()) if job_id is None else flying.get(job_id, 0)

    def in_flight_by_class(self, job_id: str | None = None) -> dict[MemoryClass, int]:
        """Return the same by memory class; what is in flight is never many, and is counted."""
        wanted = true() if job_id is None else PhotoRow.job_id == job_id
        each = [select(PhotoRow.memory_class).where(stands(state), wanted) for state in _IN_FLIGHT]
        flying = union_all(*each).subquery()
        query = select(flying.c.memory_class, func.count()).group_by(flying.c.memory_class)
        with self._database.begin() as connection:
            rows = connection.execute(query).all()
        return dict.fromkeys(MemoryClass, 0) | {MemoryClass(name): count for name, count in rows}

    def standings(self) -> list[Standing]:
        """Return how all jobs stand, the newest first."""
        query = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id)
        with self._database.begin() as connection:
            jobs = connection.execute(query).all()
            sums = connection.execute(_sums().order_by(TallyRow.job_id)).all()
        counts = {job_id: _count(rows) for job_id, rows in groupby(sums, lambda row: row.job_id)}
        return [
            Standing(read_job(row), read_control(row), counts.get(row.id, Counts())) for row in jobs
        ]

    def standing(self, job_id: str) -> Standing:
        """Return how one job stands, and what it could be waiting for.

        Raises:
            JobUnknown: no job has this id.
        """
        with self._database.begin() as connection:
            row = connection.execute(select(JobRow).where(JobRow.id == job_id)).one_or_none()
            if row is None:
                raise JobUnknown(f"no job has the id {job_id!r}")
            counts = _count(connection.execute(_sums().where(TallyRow.job_id == job_id)).all())
            flying = flying_by_job(connection)
            next_try_at = connection.execute(_next_try(job_id)).scalar()
        return Standing(
            read_job(row),
            read_control(row),
            counts,
            next_try_at=next_try_at,
            others_in_flight=sum(flying.values()) - flying.get(job_id, 0),
        )

    def counts(self, job_id: str) -> Counts:
        """Return a job in numbers; a job without photos, or an unknown one, has zeros."""
        with self._database.begin() as connection:
            rows = connection.execute(_sums().where(TallyRow.job_id == job_id)).all()
        return _count(rows)

    def miscounts(self) -> list[Miscount]:
        """Count all photos and return where the tallies differ: nowhere, or something is broken."""
        both = union_all(counted(), _negated()).subquery()  # one statement, so one moment
        keys = (both.c.job_id, both.c.state, both.c.code)
        missing = [func.sum(both.c[name]) for name in _TALLIED]
        query = select(*keys, *missing).group_by(*keys).order_by(*keys)
        with self._database.begin() as connection:
            rows = connection.execute(query.having(or_(*(each != 0 for each in missing)))).all()
        return [Miscount(row[0], PhotoState(row[1]), row[2], *map(int, row[3:])) for row in rows]

    def photos(self, job_id: str, *, state: PhotoState | None = None) -> Iterator[Photo]:
        """Yield a job's photos by key, a page of rows at a time, each its own transaction."""
        query = select(PhotoRow).where(PhotoRow.job_id == job_id).order_by(PhotoRow.key)
        if state is not None:
            query = query.where(PhotoRow.state == state)
        last = ""
        while True:
            with self._database.begin() as connection:
                rows = connection.execute(query.where(PhotoRow.key > last).limit(_PAGE)).all()
            yield from map(_read_photo, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1].key

    def failures(self, job_id: str, *, limit: int | None = None) -> Iterator[Failure]:
        """Yield why a job's failed photos failed, by key, out of one transaction."""
        query = (
            select(PhotoRow)
            .where(PhotoRow.job_id == job_id, stands(PhotoState.FAILED))
            .order_by(PhotoRow.key)
            .limit(limit)
        )
        with self._database.begin() as connection:
            rows = connection.execute(query, execution_options={"yield_per": _PAGE})
            yield from map(_read_failure, rows)

    def _job_of(self, connection: Connection, job_id: str) -> Job:
        """Return a job inside the transaction that touches a photo of it; it is read once.

        What a job is never changes: its id is made of it.
        """
        if job_id not in self._jobs:
            row = connection.execute(select(JobRow).where(JobRow.id == job_id)).one()
            self._jobs[job_id] = read_job(row)
        return self._jobs[job_id]


def stands(state: PhotoState) -> ColumnElement[bool]:
    """Return the condition that a photo is in a state, so that the state's index serves it.

    The state stands in the statement itself: a plan made for any state could use no index of one.
    """
    return PhotoRow.state == literal(state.value, literal_execute=True)


def flying_by_job(connection: Connection) -> dict[str, int]:
    """Return how many photos of each job are with the broker or a worker."""
    query = select(TallyRow.job_id, func.sum(TallyRow.photos)).where(TallyRow.state.in_(_IN_FLIGHT))
    rows = connection.execute(query.group_by(TallyRow.job_id)).all()
    return {job_id: int(photos) for job_id, photos in rows}


def read_job(row: Row[Any]) -> Job:
    """Turn a row of `jobs` into a value."""
    return Job(
        name=row.name,
        source=row.source,
        destination=row.destination,
        recipe=Recipe.from_canonical(row.recipe),
    )


def counted() -> Select[*tuple[Any, ...]]:
    """Return the query that counts all photos, as the tallies should have them."""
    code = func.coalesce(PhotoRow.error_code, "")
    return select(
        PhotoRow.job_id,
        PhotoRow.state,
        code.label("code"),
        func.count().label("photos"),
        func.coalesce(func.sum(PhotoRow.faces), 0).label("faces"),
        func.coalesce(func.sum(PhotoRow.faces_restored), 0).label("faces_restored"),
    ).group_by(PhotoRow.job_id, PhotoRow.state, code)


def _negated() -> Select[*tuple[Any, ...]]:
    negative = [-getattr(TallyRow, name) for name in _TALLIED]
    return select(TallyRow.job_id, TallyRow.state, TallyRow.code, *negative)


def _sums() -> Select[*tuple[Any, ...]]:
    """Return the query for a job's tallies, the slots added up."""
    sums = [func.sum(getattr(TallyRow, name)).label(name) for name in _TALLIED]
    keys = (TallyRow.job_id, TallyRow.state, TallyRow.code)
    return select(*keys, *sums).group_by(*keys)


def _count(rows: Iterable[Row[Any]]) -> Counts:
    """Turn the tallies of one job into its numbers."""
    by_state: Counter[PhotoState] = Counter()
    by_code = {}
    faces = faces_restored = 0
    for row in rows:
        by_state[PhotoState(row.state)] += int(row.photos)
        if row.code and row.photos:
            by_code[row.code] = int(row.photos)
        faces, faces_restored = faces + int(row.faces), faces_restored + int(row.faces_restored)
    kept = {state: photos for state, photos in by_state.items() if photos}
    return Counts(kept, faces, faces_restored, by_code)


def read_control(row: Row[Any]) -> Control:
    """Turn a row of `jobs` into what was said about the job."""
    return Control(
        status=JobStatus(row.status),
        priority=row.priority,
        hours=None if row.hours is None else Hours.parse(row.hours),
        open=row.open,
    )


def _next_try(job_id: str) -> Select[float]:
    """Return the query for when the first of a job's pending photos is due, by the index."""
    pending = select(PhotoRow.not_before).where(
        PhotoRow.job_id == job_id, stands(PhotoState.PENDING)
    )
    firsts = [
        pending.where(PhotoRow.memory_class == each).order_by(PhotoRow.not_before).limit(1)
        for each in MemoryClass
    ]
    each_first = union_all(*(first.subquery().select() for first in firsts)).subquery()
    return select(func.min(each_first.c.not_before))


def _read_photo(row: Row[Any]) -> Photo:
    return Photo(
        id=row.id,
        key=row.key,
        state=PhotoState(row.state),
        attempts=row.attempts,
        outages=row.outages,
        memory_class=MemoryClass(row.memory_class),
        derivative_key=row.derivative_key,
        sidecar_key=row.sidecar_key,
        faces=row.faces,
        faces_restored=row.faces_restored,
        elapsed_s=row.elapsed_s,
        failure=_read_failure(row) if row.error_code else None,
    )


def _read_failure(row: Row[Any]) -> Failure:
    return Failure(
        key=row.key,
        code=row.error_code,
        message=row.error_message,
        advice=row.error_advice,
        stage=row.error_stage,
        attempts=row.attempts + row.outages,
        failed_at=row.finished_at,
    )
