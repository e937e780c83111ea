"""The ledger's tables, as SQLAlchemy maps them: columns, constraints, indexes; no behaviour.

Times are seconds since the epoch and their names end in `_at`, `_until` or `not_before`. Both
databases order keys by code point, as object stores do.
"""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobs.memory import MemoryClass
from jobs.schema import JobStatus, PhotoState

_NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_KeyText = Text().with_variant(Text(collation="C"), "postgresql")
_RowId = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers only INTEGER by itself


def _listed(values: type[StrEnum]) -> str:
    return ", ".join(f"'{value}'" for value in values)


_STATES, _STATUSES, _CLASSES = map(_listed, (PhotoState, JobStatus, MemoryClass))


def _index_of(state: PhotoState, *columns: str) -> Index:
    """Return an index of the photos in one state; the others, done ones above all, aren't in it.

    It may be taken for that of one photo too, so those of the few in flight are by id.
    """
    only = text(f"state = '{state}'")
    return Index(f"ix_photos_{state}", *columns, postgresql_where=only, sqlite_where=only)


class Table(DeclarativeBase):
    """What all tables share: the names of constraints, so that migrations can speak of them."""

    metadata = MetaData(naming_convention=_NAMING_CONVENTION)


class JobRow(Table):
    """One submission of an archive."""

    __tablename__ = "jobs"
    __table_args__ = (CheckConstraint(f"status IN ({_STATUSES})", name="status_is_known"),)

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(Text, index=True)
    source: Mapped[str] = mapped_column(Text)
    destination: Mapped[str] = mapped_column(Text)
    recipe: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Double)

    status: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(Integer)
    hours: Mapped[str | None] = mapped_column(String(16))
    open: Mapped[bool] = mapped_column(Boolean)


class PhotoRow(Table):
    """One file of a job: the unit of work."""

    __tablename__ = "photos"
    __table_args__ = (
        UniqueConstraint("job_id", "key"),
        CheckConstraint(f"state IN ({_STATES})", name="state_is_known"),
        CheckConstraint(
            "(state = 'claimed') = (claim_token IS NOT NULL)", name="only_a_claim_has_a_token"
        ),
        CheckConstraint(f"memory_class IN ({_CLASSES})", name="memory_class_is_known"),
        _index_of(PhotoState.PENDING, "job_id", "memory_class", "not_before", "id"),
        _index_of(PhotoState.PUBLISHED, "id"),
        _index_of(PhotoState.CLAIMED, "id"),
        _index_of(PhotoState.FAILED, "job_id", "key"),
    )

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id))
    key: Mapped[str] = mapped_column(_KeyText)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    memory_class: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    outages: Mapped[int] = mapped_column(Integer)
    not_before: Mapped[float] = mapped_column(Double)

    published_at: Mapped[float | None] = mapped_column(Double)
    worker: Mapped[str | None] = mapped_column(Text)
    claim_token: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)

    derivative_key: Mapped[str | None] = mapped_column(Text)
    sidecar_key: Mapped[str | None] = mapped_column(Text)
    faces: Mapped[int | None] = mapped_column(Integer)
    faces_restored: Mapped[int | None] = mapped_column(Integer)
    elapsed_s: Mapped[float | None] = mapped_column(Double)

    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_advice: Mapped[str | None] = mapped_column(Text)
    error_stage: Mapped[str | None] = mapped_column(String(64))


class TallyRow(Table):
    """So many photos of a job are in a state: the sum over all slots.

    Written in the transaction that changes the photos. A slot is one row of several that add up, so
    that claimers needn't wait for each other; alone it may well be negative.
    """

    __tablename__ = "tallies"

    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), primary_key=True)
    code: Mapped[str] = mapped_column(String(64), primary_key=True)  # empty unless failed
    slot: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    photos: Mapped[int] = mapped_column(BigInteger)
    faces: Mapped[int] = mapped_column(BigInteger)
    faces_restored: Mapped[int] = mapped_column(BigInteger)
