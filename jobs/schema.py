"""Jobs, photos, states, messages and object keys: pure values, no I/O."""

import hashlib
import posixpath
import re
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import UnsafeKey
from jobs.hours import Hours
from jobs.memory import MemoryClass
from jobs.recipe import Recipe

MESSAGE_VERSION = 1
_LARGEST_ID = 2**63 - 1
MAX_OBJECT_KEY_BYTES = 1024  # what S3 allows
MAX_MASTER_KEY_BYTES = 900  # the rest is for the prefix, `.restored` and the sidecar's suffix
_UNSAFE = re.compile(
    r"(?:^|/)\.{0,2}(?:/|$)"  # an empty part, `.` or `..`; a slash at an end makes an empty one
    r"|[\x00-\x1f\x7f\\]"
    r"|[\ud800-\udfff]"  # of a file name in another encoding
)
_SPELLINGS = {".tif": (".tif", ".tiff"), ".jpg": (".jpg", ".jpeg", ".jpe", ".jfif")}


class PhotoState(StrEnum):
    """Where a photo stands; docs/architecture.md draws the ways from one to another."""

    PENDING = "pending"  # known, waiting to be published or for its next try
    PUBLISHED = "published"  # its message is with the broker
    CLAIMED = "claimed"  # one worker holds it, under a lease
    DONE = "done"  # derivative and sidecar are stored
    FAILED = "failed"  # given up, with a code and advice


TRANSITIONS: dict[PhotoState, dict[PhotoState, frozenset[str]]] = {
    PhotoState.PENDING: {
        PhotoState.PUBLISHED: frozenset({"publish_next"}),
        PhotoState.CLAIMED: frozenset({"claim"}),
    },
    PhotoState.PUBLISHED: {
        PhotoState.CLAIMED: frozenset({"claim"}),
        PhotoState.PENDING: frozenset({"requeue_stalled", "unpublish", "withdraw", "claim"}),
    },
    PhotoState.CLAIMED: {
        PhotoState.DONE: frozenset({"succeed"}),
        PhotoState.FAILED: frozenset({"fail", "requeue_stalled", "requeue_lost"}),
        PhotoState.PENDING: frozenset({"release", "give_back", "requeue_stalled", "requeue_lost"}),
    },
    PhotoState.DONE: {},
    PhotoState.FAILED: {PhotoState.PENDING: frozenset({"retry"})},
}
"""From a state, to a state, by which methods of the ledger: all that ever happens to a photo."""


@dataclass(frozen=True, slots=True)
class Job:
    """One submission of an archive; the same source, destination and recipe are the same job."""

    name: str
    source: str
    destination: str
    recipe: Recipe

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits decided by what the job does, not by its name or time."""
        identity = "\n".join((self.source, self.destination, self.recipe.hash()))
        return hashlib.sha256(identity.encode()).hexdigest()[:16]


class JobStatus(StrEnum):
    """What was last said about a job as a whole."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Control:
    """Whether a job's photos may begin, and before whose."""

    status: JobStatus = JobStatus.ACTIVE
    priority: int = 0
    hours: Hours | None = None
    open: bool = True  # by the dispatcher's clock, where there are hours


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file of the source that may be a photo."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PhotoRef:
    """A photo as the broker and Flower see it."""

    id: int
    job_name: str
    key: str
    priority: int = 0
    memory_class: MemoryClass = MemoryClass.SMALL


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a photo."""

    photo_id: int
    key: str
    token: str
    attempt: int
    worker: str
    job: Job
    outages: int = 0  # earlier tries that a service ended that was away
    memory_class: MemoryClass = MemoryClass.SMALL

    @property
    def tries(self) -> int:
        """How often the photo has been taken in hand, this time included."""
        return self.attempt + self.outages


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a photo that was delivered."""

    derivative_key: str
    sidecar_key: str
    faces: int
    faces_restored: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a photo wasn't delivered."""

    key: str
    code: str
    message: str
    advice: str
    stage: str
    attempts: int  # with the outages
    failed_at: float
    """When it was given up, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One row as a reader sees it; fields that don't apply to the state are None."""

    id: int
    key: str
    state: PhotoState
    attempts: int
    outages: int = 0  # tries that aren't counted as attempts, for a service was away
    memory_class: MemoryClass = MemoryClass.SMALL
    derivative_key: str | None = None
    sidecar_key: str | None = None
    faces: int | None = None
    faces_restored: int | None = None
    elapsed_s: float | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """A job in numbers."""

    by_state: dict[PhotoState, int] = field(default_factory=dict)
    faces: int = 0
    faces_restored: int = 0
    by_code: dict[str, int] = field(default_factory=dict)  # the failed ones

    def of(self, *states: PhotoState) -> int:
        """Return the number of photos in any of the given states."""
        return sum(self.by_state.get(state, 0) for state in states)

    @property
    def total(self) -> int:
        """All photos of the job."""
        return sum(self.by_state.values())

    @property
    def finished(self) -> int:
        """Photos that are done or failed."""
        return self.of(PhotoState.DONE, PhotoState.FAILED)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands, and what could keep it waiting."""

    job: Job
    control: Control
    counts: Counts
    next_try_at: float | None = None  # the earliest of its pending photos
    others_in_flight: int = 0  # photos of other jobs

    @property
    def over(self) -> bool:
        """True when nothing of it will happen any more unless somebody says so."""
        left = self.counts.total - self.counts.finished
        given_up = self.control.status is JobStatus.CANCELLED
        return left == (self.counts.of(PhotoState.PENDING) if given_up else 0)


@dataclass(frozen=True, slots=True)
class Miscount:
    """A tally that differs from what its rows add up to."""

    job_id: str
    state: PhotoState
    code: str  # of the failed ones
    photos: int  # so many too few; negative: too many; so for the next two
    faces: int
    faces_restored: int


class PhotoMessage(BaseModel):
    """What travels through the broker: a version and an id, nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: int = MESSAGE_VERSION
    photo_id: int = Field(ge=0, le=_LARGEST_ID)


def check_key(key: str, *, max_bytes: int = MAX_MASTER_KEY_BYTES) -> str:
    """Return `key` if it stays inside the store it is used in.

    Raises:
        UnsafeKey: it is empty, absolute, too long, not Unicode, or has control characters,
            backslashes, `.` or `..` parts.
    """
    if _UNSAFE.search(key) or len(key.encode()) > max_bytes:
        raise UnsafeKey(f"the key {key[:200]!r} can't be used as the name of an object")
    return key


def derivative_key(key: str, suffix: str) -> str:
    """Name a derivative: `a.tif` -> `a.restored.tif`, or `a.jpg` -> `a.restored.jpg.png`.

    Where the container changes, the master's suffix stays before the new one, so that two masters
    never share a name. A master without one has a lone dot in its place: `a` -> `a.restored..png`.

    Args:
        key: the master's key.
        suffix: the derivative's own suffix with its dot, in lower case, such as `.png`.
    """
    stem, own = posixpath.splitext(check_key(key))
    if own.lower() in _SPELLINGS.get(suffix, (suffix,)):
        return f"{stem}.restored{own}"
    if own in ("", ".", ".restored"):  # else `a.` and `a`, `a.restored` and `a.restored.png` meet
        stem, own = key, "."
    return f"{stem}.restored{own}{suffix}"


def sidecar_key(derivative: str) -> str:
    """Name the sidecar of a derivative: the same name with `.json` behind it."""
    return f"{derivative}.json"
