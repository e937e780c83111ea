"""What happens after an error, as a table: error and tries in, decision out. Pure.

The first row whose errors fit decides. A service that is away uses up none of the photo's own
attempts, which end with `photo.crashes_worker`: its outages are counted apart. docs/errors.md shows
the table; a test compares them.
"""

from dataclasses import dataclass
from enum import StrEnum

from gpen_engine import DeviceError, GpenError, ImageError, OutOfMemory
from gpen_engine.errors import CheckpointError, WeightsNotHere
from jobs.errors import (
    ClaimLost,
    JobError,
    Permanent,
    PhotoOutOfMemory,
    PhotoUnexpected,
    StoreFull,
    Transient,
)
from jobs.memory import MemoryClass
from jobs.schema import Claim

_SPREAD = 0.5


@dataclass(frozen=True, slots=True)
class Waits:
    """`first_s`, then `growth` times as long each time, `longest_s` at most.

    Each is drawn out by up to half of it, so that what failed together doesn't come back together.
    """

    first_s: float
    growth: float
    longest_s: float

    def after(self, tries: int, *, draw: float) -> float:
        """Return the seconds to wait after so many tries; `draw` is by chance, 0 to 1."""
        even_s = min(self.longest_s, self.first_s * self.growth ** min(tries - 1, 99))
        return even_s * (1 + _SPREAD * draw)


class Counted(StrEnum):
    """As what a try counts that is followed by another."""

    ATTEMPT = "attempt"
    OUTAGE = "outage"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Retry:
    """Give the photo back; it may be tried again after a while."""

    after_s: float
    counted: Counted
    memory_class: MemoryClass | None = None


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


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one class of errors.

    Args:
        what: the class, in a few words.
        errors: which they are.
        end: what comes once the tries are used up.
        waits: between the tries; None: there is one try.
        counted: as what a try counts.
        most_tries: so many; None: the photo's own attempts, GPEN_MAX_ATTEMPTS.
        moves: first the photo goes to each larger memory class, which counts as nothing.
    """

    what: str
    errors: tuple[type[Exception], ...]
    end: type[Fail | Drop | Stop]
    waits: Waits | None = None
    counted: Counted = Counted.ATTEMPT
    most_tries: int | None = None
    moves: bool = False


_WAITS = Waits(first_s=5, growth=4, longest_s=300)
RULES: tuple[Rule, ...] = (
    Rule("another worker has the photo", (ClaimLost,), Drop),
    Rule("the photo, or what is asked for it", (Permanent, ImageError, WeightsNotHere), Fail),
    Rule("no room in the store", (StoreFull,), Stop),
    Rule("a service is away", (Transient,), Fail, _WAITS, Counted.OUTAGE, most_tries=12),
    Rule("out of memory", (OutOfMemory, MemoryError), Fail, _WAITS, moves=True),
    Rule("bad weights, or no device", (CheckpointError, DeviceError), Stop),
    Rule("unforeseen", (Exception,), Fail, _WAITS),
)
LEDGER_WAITS = Waits(first_s=0.5, growth=2, longest_s=10)
"""For a ledger that doesn't answer: it is asked again until it does, whatever that takes."""


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a photo was tried, the try that just ended included, and where."""

    attempts: int = 1
    outages: int = 0
    memory_class: MemoryClass = MemoryClass.LARGE

    @classmethod
    def of(cls, claim: Claim) -> "Tries":
        """Return what a claim tells of them."""
        return cls(claim.attempt, claim.outages, claim.memory_class)


def decide(error: Exception, tries: Tries, *, max_attempts: int, draw: float) -> Decision:
    """Say what to do after an error.

    Args:
        error: ended the last of the tries.
        tries: of the photo.
        max_attempts: so many attempts of its own a photo has.
        draw: by chance, 0 to 1: how far the wait is drawn out.
    """
    rule = next(rule for rule in RULES if isinstance(error, rule.errors))
    retry = _retry(rule, tries, max_attempts=max_attempts, draw=draw)
    if retry is not None:
        return retry
    if rule.end is Drop:
        return Drop()
    return (Fail if rule.end is Fail else Stop)(*_told(error))


def _retry(rule: Rule, tries: Tries, *, max_attempts: int, draw: float) -> Retry | None:
    """Return how the photo is tried again; None where that is over."""
    if rule.waits is None:
        return None
    by_outages = rule.counted is Counted.OUTAGE
    done = tries.outages + 1 if by_outages else tries.attempts
    after_s = rule.waits.after(done, draw=draw)
    larger = tries.memory_class.larger if rule.moves else None
    if larger is not None:
        return Retry(after_s, Counted.NOTHING, larger)
    return Retry(after_s, rule.counted) if done < (rule.most_tries or max_attempts) else None


def _told(error: Exception) -> tuple[str, str, str]:
    """Return an error's code, what happened and what to do."""
    if isinstance(error, JobError | GpenError):
        return error.code, str(error), error.advice
    kind = PhotoOutOfMemory if isinstance(error, MemoryError) else PhotoUnexpected
    return kind.code, f"{type(error).__name__}: {error}", kind.advice
