"""What can be asked of the ledger: a job's name or id goes in, plain values come out; read-only."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select
from sqlalchemy.exc import ProgrammingError

from jobs.database import Database
from jobs.errors import DatabaseUnavailable, JobUnknown
from jobs.migrate import current_revision, expected_revision
from jobs.recipe import Recipe
from jobs.schema import Counts, Failure, Job, Photo, PhotoState
from jobs.tables import JobRow, PhotoRow

_PAGE = 1000
_SHORTEST_PREFIX = 6
_IN_FLIGHT = (PhotoState.PUBLISHED, PhotoState.CLAIMED)


class LedgerReader:
    """Read-only questions to the ledger. No connection is opened before the first one."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

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
        query = select(func.count()).where(PhotoRow.state.in_(_IN_FLIGHT))
        if job_id is not None:
            query = query.where(PhotoRow.job_id == job_id)
        with self._database.begin() as connection:
            return connection.execute(query).scalar_one()

    def counts(self, job_id: str) -> Counts:
        """Return a job in numbers; a job without photos, or an unknown one, has zeros."""
        query = (
            select(
                PhotoRow.state,
                func.count().label("photos"),
                func.coalesce(func.sum(PhotoRow.faces), 0).label("faces"),
                func.coalesce(func.sum(PhotoRow.faces_restored), 0).label("faces_restored"),
            )
            .where(PhotoRow.job_id == job_id)
            .group_by(PhotoRow.state)
        )
        with self._database.begin() as connection:
            rows = connection.execute(query).all()
        return Counts(
            by_state={PhotoState(row.state): row.photos for row in rows},
            faces=sum(row.faces for row in rows),
            faces_restored=sum(row.faces_restored for row in rows),
        )

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

    def failures(self, job_id: str, *, limit: int | None = None) -> list[Failure]:
        """Return why a job's failed photos failed, by key."""
        query = (
            select(PhotoRow)
            .where(PhotoRow.job_id == job_id, PhotoRow.state == PhotoState.FAILED)
            .order_by(PhotoRow.key)
            .limit(limit)
        )
        with self._database.begin() as connection:
            return [_read_failure(row) for row in connection.execute(query)]


def find_job_of(connection: Connection, job_id: str) -> Job:
    """Return the job of a photo inside the transaction that touches the photo."""
    return read_job(connection.execute(select(JobRow).where(JobRow.id == job_id)).one())


def read_job(row: Row[Any]) -> Job:
    """Turn a row of `jobs` into a value."""
    return Job(
        name=row.name,
        source=row.source,
        destination=row.destination,
        recipe=Recipe.from_canonical(row.recipe),
    )


def _read_photo(row: Row[Any]) -> Photo:
    return Photo(
        id=row.id,
        key=row.key,
        state=PhotoState(row.state),
        attempts=row.attempts,
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
        attempts=row.attempts,
        failed_at=row.finished_at,
    )
