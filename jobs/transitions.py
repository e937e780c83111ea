"""One change of the ledger: transitions of photos go in, rows and their tallies are written.

Each transition is one UPDATE that names the state it leaves, and a row of
`jobs.schema.TRANSITIONS`, so of two that want the same photo one finds no row. The tallies are
written last and in one order, so that no two changes wait for each other in a circle.
"""

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Executable,
    literal,
    literal_column,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from jobs.reading import LedgerReader, stands
from jobs.schema import TRANSITIONS, PhotoState
from jobs.tables import PhotoRow, TallyRow

BACK: Mapping[str, None] = {"claim_token": None, "lease_until": None, "published_at": None}
"""What to write on a photo that is in nobody's hands, nor with the broker, any more."""

_SLOTS = {"sqlite": 1, "postgresql": 16}  # SQLite has one writer at a time anyway
TOLD = (
    PhotoRow.id,
    PhotoRow.job_id,
    PhotoRow.key,
    PhotoRow.attempts,
    PhotoRow.outages,
    PhotoRow.not_before,
    PhotoRow.memory_class,
)
_TALLIED = ("photos", "faces", "faces_restored")
_SERVER_TIME = literal_column("CAST(extract(epoch FROM statement_timestamp()) AS float8)", Double)


class Change:
    """What one transaction does to photos; `settle` ends it.

    Args:
        connection: the transaction.
        insert: the dialect's own INSERT.
        slot: the slot of tallies that this change writes to.
    """

    def __init__(self, connection: Connection, *, insert: Callable[..., Any], slot: int) -> None:
        self.connection = connection
        self._insert = insert
        self._slot = slot
        self._tallies: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])

    def move(
        self,
        leaves: PhotoState,
        enters: PhotoState,
        *,
        by: str,
        where: ColumnElement[bool],
        values: Mapping[str, Any],
        left_code: str = "",
    ) -> Sequence[Any]:
        """Take the photos that fit from one state to another; return their rows.

        Args:
            leaves: only photos in this state.
            enters: where they go.
            by: the ledger's method.
            where: which of them.
            values: what else is written, by column: values or SQL.
            left_code: the code that all of them have, where they leave `failed`.

        Raises:
            ValueError: the table of transitions has no such row.
        """
        if by not in TRANSITIONS[leaves].get(enters, ()):
            raise ValueError(f"{by} may not take a photo from {leaves} to {enters}")
        statement = (
            update(PhotoRow)
            .where(stands(leaves), where)
            .values({**values, "state": enters})
            .returning(*TOLD)
        )
        rows = self.connection.execute(statement).all()
        code = values["error_code"] if enters is PhotoState.FAILED else ""
        faces = [values.get(name, 0) for name in _TALLIED[1:]]
        for row in rows:
            self.count(row.job_id, leaves, -1, code=left_code)
            self.count(row.job_id, enters, 1, *faces, code=code)
        return rows

    def count(
        self,
        job_id: str,
        state: PhotoState,
        photos: int,
        faces: int = 0,
        faces_restored: int = 0,
        *,
        code: str = "",
    ) -> None:
        """Remember for the tallies that so many photos came to a state, or left it."""
        tally = self._tallies[job_id, state, code]
        for place, more in enumerate((photos, faces, faces_restored)):
            tally[place] += more

    def settle(self) -> None:
        """Write the tallies: nothing of this change comes after."""
        rows = [
            {"job_id": job_id, "state": state, "code": code, "slot": self._slot}
            | dict(zip(_TALLIED, tally, strict=True))
            for (job_id, state, code), tally in sorted(self._tallies.items())
            if any(tally)
        ]
        if rows:
            self.connection.execute(_adding(self._insert), rows)


@cache
def _adding(insert: Callable[..., Any]) -> Executable:
    """Return what adds to tallies; to make it takes longer than to run it."""
    new = insert(TallyRow)
    more = {name: getattr(TallyRow, name) + new.excluded[name] for name in _TALLIED}
    key = (TallyRow.job_id, TallyRow.state, TallyRow.code, TallyRow.slot)
    added: Executable = new.on_conflict_do_update(index_elements=key, set_=more)
    return added


class LedgerWriter(LedgerReader):
    """A ledger that can be changed.

    Args:
        url: the address of a SQLite or PostgreSQL database; nothing is opened before the first use.
        clock: seconds since the epoch; None: the database server's own, so that machines whose
            clocks differ agree on leases, or this machine's for SQLite, which has no server.

    Raises:
        DatabaseUnavailable: by every method, when the database doesn't answer.
        SettingsInvalid: the address isn't one of SQLite or PostgreSQL.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] | None = None) -> None:
        super().__init__(url)
        on_server = self._database.dialect == "postgresql"
        self._clock = clock or time.time
        self._server_tells_time = on_server and clock is None
        self._insert = (postgresql if on_server else sqlite).insert

    @property
    def _now(self) -> ColumnElement[float]:
        """The time, as everything in the ledger is dated."""
        return _SERVER_TIME if self._server_tells_time else literal(self._clock(), Double)

    @contextmanager
    def _change(self, *, lasting: bool = True) -> Iterator[Change]:
        """Change photos in one transaction, whose tallies are written at its end.

        Args:
            lasting: False: what is lost if the database server dies, is done again.
        """
        slot = secrets.randbelow(_SLOTS[self._database.dialect])
        with self._database.begin(writing=True, lasting=lasting) as connection:
            change = Change(connection, insert=self._insert, slot=slot)
            yield change
            change.settle()
