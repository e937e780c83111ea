"""Holding claims while the work on them goes on: one thread renews all leases of a process."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobs.errors import ClaimLost, DatabaseUnavailable, StoreFull
from jobs.ledger import Ledger
from jobs.logs import get_logger
from jobs.schema import Claim

_log = get_logger(__name__)


class Lease:
    """One claim that is being held.

    Args:
        claim: the hold on a photo.
        longest_s: after that the work is taken to hang.
        on_lost: called once the claim doesn't hold any more.
    """

    def __init__(self, claim: Claim, *, longest_s: float, on_lost: Callable[[], None]) -> None:
        self.claim = claim
        self._end = time.monotonic() + longest_s
        self._on_lost = on_lost
        self._lost = threading.Event()

    @property
    def is_lost(self) -> bool:
        """Whether the claim doesn't hold any more."""
        return self._lost.is_set()

    @property
    def is_overdue(self) -> bool:
        """Whether the work takes longer than it may."""
        return time.monotonic() > self._end

    def check(self) -> None:
        """Make sure that the claim still holds.

        Raises:
            ClaimLost: it doesn't.
        """
        if self.is_lost:
            raise ClaimLost(f"the claim on {self.claim.key!r} was lost while working on it")

    def lose(self) -> None:
        """Let the next check know, and whoever wants to."""
        self._lost.set()
        self._on_lost()


class Leases:
    """Renews all claims in hand every third of the lease, from a thread that the first one starts.

    A database that doesn't answer is asked again at the next turn: the lease has room for two
    misses. Work that hangs loses its lease, which runs out, and another worker may have the photo.

    Args:
        ledger: knows the claims.
        lease_s: for how long a claim is held at a time.
        longest_s: how long the work on a photo may take.
    """

    def __init__(self, ledger: Ledger, *, lease_s: float, longest_s: float = math.inf) -> None:
        self._ledger = ledger
        self._lease_s = lease_s
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._held: set[Lease] = set()
        self._is_renewing = False

    @contextmanager
    def hold(self, claim: Claim, *, on_lost: Callable[[], None] = lambda: None) -> Iterator[Lease]:
        """Hold a claim while the work goes on."""
        lease = Lease(claim, longest_s=self._longest_s, on_lost=on_lost)
        with self._lock:
            self._held.add(lease)
            if not self._is_renewing:
                self._is_renewing = True
                threading.Thread(target=self._renew_all, name="leases", daemon=True).start()
        try:
            yield lease
        finally:
            with self._lock:
                self._held.remove(lease)

    def _renew_all(self) -> None:
        """Renew, turn by turn, what is held; end when that is nothing."""
        while True:
            time.sleep(self._lease_s / 3)
            with self._lock:
                held = [*self._held]
                self._is_renewing = bool(held)
            if not held:
                return
            for lease in held:
                if not lease.is_lost:
                    self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        claim = lease.claim
        if lease.is_overdue:
            _log.error("lease.photo_hangs", photo_id=claim.photo_id, key=claim.key)
            lease.lose()
            return
        try:
            self._ledger.renew(claim, lease_s=self._lease_s)
        except ClaimLost:
            lease.lose()
        except (DatabaseUnavailable, StoreFull) as error:
            _log.warning("lease.not_renewed", photo_id=claim.photo_id, error=str(error))
