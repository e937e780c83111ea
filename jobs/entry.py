"""Enters photos by the thousand: a transaction and candidates go in, how many were new comes out.

PostgreSQL takes a batch as one array a column, several times as fast as a row at a time; SQLite is
as fast with rows.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Double,
    Executable,
    String,
    Text,
    bindparam,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from jobs.memory import memory_class
from jobs.schema import Candidate, PhotoState, check_key
from jobs.tables import PhotoRow

_COUNTED = {"preserve_rowcount": True}


def enter(
    connection: Connection, job_id: str, candidates: Sequence[Candidate], *, now: float
) -> int:
    """Add photos to a job as pending ones; return how many of them it hadn't.

    Raises:
        UnsafeKey: a key can't be the name of an object.
    """
    keys = [check_key(candidate.key) for candidate in candidates]
    sizes = [candidate.size_bytes for candidate in candidates]
    classes = list(map(memory_class, keys, sizes))
    given: Any
    if connection.dialect.name == "postgresql":
        statement = _from_arrays()
        given = {"of_job": job_id, "now": now, "keys": keys, "sizes": sizes, "classes": classes}
    else:
        statement = sqlite.insert(PhotoRow).on_conflict_do_nothing()
        untried = {"state": PhotoState.PENDING, "attempts": 0, "outages": 0}
        same = {"job_id": job_id, "not_before": now, **untried}
        columns = zip(keys, sizes, classes, strict=True)
        own = ("key", "size_bytes", "memory_class")
        given = [same | dict(zip(own, values, strict=True)) for values in columns]
    return connection.execute(statement, given, execution_options=_COUNTED).rowcount


def _from_arrays() -> Executable:
    arrays: dict[str, Any] = {"keys": Text, "sizes": BigInteger, "classes": String}
    columns: Any = [bindparam(name, type_=ARRAY(kind)) for name, kind in arrays.items()]
    new = func.unnest(*columns).table_valued("key", "size_bytes", "memory_class").render_derived()
    row = {
        "job_id": bindparam("of_job", type_=String),
        "key": new.c.key,
        "size_bytes": new.c.size_bytes,
        "memory_class": new.c.memory_class,
        "state": literal(PhotoState.PENDING.value),
        "attempts": literal(0),
        "outages": literal(0),
        "not_before": bindparam("now", type_=Double),
    }
    insert = postgresql.insert(PhotoRow).from_select(list(row), select(*row.values()))
    return insert.on_conflict_do_nothing()
