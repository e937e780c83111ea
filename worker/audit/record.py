"""What audits and exports read of a sidecar: JSON from outside in, checked values out.

Fields that neither needs are passed over; docs/schema/ has them all.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from gpen_engine.faces import Point, Region
from jobs.errors import OutputDamaged
from worker.audit.seal import Seal, check

SCHEMA = "gpen-archive/sidecar"
SCHEMA_VERSION = 3
"""What is written now; older versions are read too."""
SEALED_SINCE = 2

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Moment = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"),
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredFile(_Part):
    """A file as the worker saw it."""

    key: Text
    sha256: Sha256
    bytes: int = Field(ge=0)


class Master(StoredFile):
    """The file as it came in."""

    container: Text


class Derivative(StoredFile):
    """The file that was made of it."""

    content_type: Text


class ByHand(_Part):
    """What was asked for this photo alone."""

    leave: tuple[Point, ...] = ()
    keep_mask_sha256: Sha256 | None = None


class Engine(_Part):
    """What restored it."""

    restorer: str = "gpen, built in"
    weights: Text
    weights_sha256: Sha256
    detector: str | None = None
    detector_sha256: str | None = None
    parser: str | None = None
    parser_sha256: str | None = None
    background: str | None = None
    background_sha256: str | None = None


class Environment(_Part):
    """What decides last bits beside weights and settings, on one class of device."""

    threads: int | None = Field(default=None, ge=1, le=4096)
    instructions: str | None = None
    versions: dict[str, str] = {}

    def changes(self, now: Self) -> list[str]:
        """Say what isn't the same now, of what both tell: only a CPU has threads, for one."""
        before, after = self._facts(), now._facts()
        return [
            f"{name} {before[name]} then, {after[name]} now"
            for name in before
            if before[name] != after.get(name, before[name])
        ]

    def _facts(self) -> dict[str, str | int]:
        own = {"threads": self.threads, "instructions": self.instructions}
        return {name: fact for name, fact in own.items() if fact is not None} | self.versions


class PageSize(_Part):
    """A page of the upright derivative."""

    width: int
    height: int


class Find(_Part):
    """A face."""

    page: int
    restored: bool
    region: Region | None = None

    def lies_within(self, page: PageSize) -> bool:
        """Tell whether the region, if any, is a part of its page."""
        x0, y0, x1, y1 = self.region or (0, 0, 0, 0)
        return 0 <= x0 <= x1 <= page.width and 0 <= y0 <= y1 <= page.height


class Record(_Part):
    """A sidecar. What has a default here wasn't written from the beginning."""

    kind: Literal["gpen-archive/sidecar"] = Field(alias="schema")
    schema_version: int = Field(ge=1, le=SCHEMA_VERSION)
    software: Text
    created_at: Moment
    identity: dict[str, str]
    master: Master
    derivative: Derivative
    recipe: dict[str, Any]
    recipe_hash: Sha256
    by_hand: ByHand = ByHand()
    summary: str = ""
    engine: Engine
    device: str
    precision: str
    environment: Environment | None = None
    pages: tuple[PageSize, ...]
    faces: tuple[Find, ...]
    notes: tuple[str, ...]
    timings_s: dict[str, float] = {}

    @property
    def faces_restored(self) -> int:
        """How many faces were restored."""
        return sum(face.restored for face in self.faces)

    @property
    def recipe_text(self) -> str:
        """The recipe in one line."""
        return json.dumps(self.recipe, sort_keys=True, ensure_ascii=False)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        """What is said twice has to be the same, and a change has a place."""
        identity = self.identity
        if identity.get("master_sha256") != self.master.sha256:
            raise ValueError("it names two masters")
        if identity.get("recipe_hash") != self.recipe_hash:
            raise ValueError("it names two recipes")
        if any(face.restored and face.region is None for face in self.faces):
            raise ValueError("a restored face has no region")
        if any(not 0 <= face.page < len(self.pages) for face in self.faces):
            raise ValueError("a face is on no page")
        if not all(face.lies_within(self.pages[face.page]) for face in self.faces):
            raise ValueError("a face's region lies beyond its page")
        return self

    def changed(self, work: Mapping[str, str]) -> tuple[str, ...]:
        """Name what decides the pixels of some work and isn't as it was in this one."""
        names = sorted(work.keys() | self.identity.keys())
        return tuple(name for name in names if work.get(name) != self.identity.get(name))

    def regions(self, page: int) -> list[Region]:
        """Return the regions of a page outside which no sample was changed."""
        return [
            face.region
            for face in self.faces
            if face.page == page and face.restored and face.region
        ]


def read(sidecar: bytes, *, name: str = "the sidecar") -> Record:
    """Read a sidecar; errors call it by its name.

    Raises:
        OutputDamaged: it isn't one, or one of a version that isn't known here.
    """
    try:
        # Names of files may hold what pydantic's own JSON reader refuses.
        content = json.loads(sidecar)
        _require_known(content, name)
        return Record.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise OutputDamaged(f"{name} doesn't say what it has to: {faults}") from error
    except (ValueError, RecursionError) as error:
        raise OutputDamaged(f"{name} is no JSON: {error}") from error


def read_sealed(sidecar: bytes, *, name: str = "the sidecar") -> Record:
    """Read a sidecar whose seal is whole; versions from before the seal are read without.

    Raises:
        OutputDamaged: the seal is broken or missing, or `read` can't read it.
    """
    record, found = read(sidecar, name=name), check(sidecar)
    if found is Seal.INTACT or (found is Seal.MISSING and record.schema_version < SEALED_SINCE):
        return record
    raise OutputDamaged(f"the seal of {name} is {found}: it was changed after it was written")


def _require_known(content: object, name: str) -> None:
    """Refuse a sidecar of a later version, whose fields may mean something else."""
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise OutputDamaged(
            f"{name} has schema_version {version}, and this program knows those up to "
            f"{SCHEMA_VERSION}: a later one has to read it"
        )
