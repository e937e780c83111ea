"""Holding a claim while the work goes on: a thread renews the lease until it is over or lost."""

import math
import threading
import time
from types import TracebackType
from typing import Self

from jobs.errors import ClaimLost, DatabaseUnavailable, StoreFull
from jobs.ledger import Ledger
from jobs.logs import get_logger
from jobs.schema import Claim

_log = get_logger(__name__)


class Lease:
    """Renews a claim every third of the lease, from a thread of its own.

    A database that doesn't answer is asked again at the next turn: the lease has room for two
    misses. After `longest_s` the work is taken to hang: the lease runs out, and another worker may
    have the photo.
    """

    def __init__(
        self, ledger: Ledger, claim: Claim, *, lease_s: float, longest_s: float = math.inf
    ) -> None:
        self._ledger = ledger
        self._claim = claim
        self._lease_s = lease_s
        self._end = time.monotonic() + longest_s
        self._over = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Make sure that the claim still holds.

        Raises:
            ClaimLost: it doesn't.
        """
        if self._lost.is_set():
            raise ClaimLost(f"the claim on {self._claim.key!r} was lost while working on it")

    def _renew(self) -> None:
        while not self._over.wait(self._lease_s / 3):
            if time.monotonic() > self._end:
                _log.error("lease.photo_hangs", photo_id=self._claim.photo_id, key=self._claim.key)
                self._lost.set()
                return
            try:
                self._ledger.renew(self._claim, lease_s=self._lease_s)
            except ClaimLost:
                self._lost.set()
                return
            except (DatabaseUnavailable, StoreFull) as error:
                _log.warning("lease.not_renewed", photo_id=self._claim.photo_id, error=str(error))
