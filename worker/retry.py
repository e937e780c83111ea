"""What happens after an error, as a table: error and attempt in, decision out. Pure.

The first row whose class fits decides. A service that is away has more patience than a photo that
fails: twelve tries over half an hour. What isn't in the table is unexpected: it is tried again,
and fails the photo in the end.
"""

from dataclasses import dataclass

from gpen_engine import DeviceError, GpenError, ImageError, OutOfMemory
from gpen_engine.errors import CheckpointError, WeightsNotHere
from jobs.errors import ClaimLost, JobError, Permanent, PhotoUnexpected, StoreFull, Transient

_FIRST_WAIT_S = 5.0
_LONGEST_WAIT_S = 300.0
_PATIENCE = 4
"""Times the photo's attempts are what a service that is away gets."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Give the photo back; it may be tried again after a while."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Fail:
    """Give the photo up, with a code, what happened, and what a person can do."""

    code: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Somebody else has the photo: do nothing."""


@dataclass(frozen=True, slots=True)
class Stop:
    """This worker can't work: give the photo back uncounted and end, with the error's own words."""

    code: str
    message: str
    advice: str


Decision = Retry | Fail | Drop | Stop

_TABLE: tuple[tuple[type[BaseException], type[Decision]], ...] = (
    (ClaimLost, Drop),
    (Permanent, Fail),
    (StoreFull, Stop),
    (Transient, Retry),
    (OutOfMemory, Retry),
    (MemoryError, Retry),
    (ImageError, Fail),
    (WeightsNotHere, Fail),
    (CheckpointError, Stop),
    (DeviceError, Stop),
    (Exception, Retry),
)


def decide(error: BaseException, attempt: int, *, max_attempts: int) -> Decision:
    """Say what to do after `error` ended attempt number `attempt`, counted from 1."""
    action = next((action for kind, action in _TABLE if isinstance(error, kind)), Stop)
    if action is Drop:
        return Drop()
    if action is Stop:
        return Stop(*_told(error))
    patience = _PATIENCE if isinstance(error, Transient) else 1
    if action is Retry and attempt < max_attempts * patience:
        return Retry(min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 4.0 ** (attempt - 1)))
    return Fail(*_told(error))


def _told(error: BaseException) -> tuple[str, str, str]:
    """Return an error's code, what happened and what to do."""
    if isinstance(error, JobError | GpenError):
        return error.code, str(error), error.advice
    return PhotoUnexpected.code, f"{type(error).__name__}: {error}", PhotoUnexpected.advice
