"""What an audit reads of a sidecar: JSON from outside in, checked values out.

Fields that no check needs are passed over; docs/schema/ has them all.
"""

import json
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
SCHEMA_VERSION = 2
"""What is written now; older versions are read too."""
SEALED_SINCE = 2

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredFile(_Part):
    """A file as the worker saw it."""

    key: str
    sha256: Sha256
    bytes: int


class Derivative(StoredFile):
    """The file that was made."""

    content_type: str


class ByHand(_Part):
    """What was asked for this photo alone."""

    leave: tuple[Point, ...] = ()
    keep_mask_sha256: Sha256 | None = None


class Engine(_Part):
    """What restored it."""

    weights: str
    weights_sha256: Sha256


class PageSize(_Part):
    """A page of the upright derivative."""

    width: int
    height: int


class Find(_Part):
    """A face."""

    page: int
    restored: bool
    region: Region | None = None


class Record(_Part):
    """A sidecar."""

    kind: Literal["gpen-archive/sidecar"] = Field(alias="schema")
    schema_version: int = Field(ge=1, le=SCHEMA_VERSION)
    software: str
    identity: dict[str, str]
    master: StoredFile
    derivative: Derivative
    recipe: dict[str, Any]
    recipe_hash: Sha256
    by_hand: ByHand
    engine: Engine
    device: str
    precision: str
    pages: tuple[PageSize, ...]
    faces: tuple[Find, ...]

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
        return self

    def regions(self, page: int) -> list[Region]:
        """Return the regions of a page outside which no sample was changed."""
        return [face.region for face in self.faces if face.page == page and face.region]


def read(sidecar: bytes) -> Record:
    """Read a sidecar.

    Raises:
        OutputDamaged: it isn't one, or one of a version that isn't known here.
    """
    try:
        # Names of files may hold what pydantic's own JSON reader refuses.
        return Record.model_validate(json.loads(sidecar))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise OutputDamaged(f"the sidecar doesn't say what it has to: {faults}") from error
    except (ValueError, RecursionError) as error:
        raise OutputDamaged(f"the sidecar is no JSON: {error}") from error


def read_sealed(sidecar: bytes) -> Record:
    """Read a sidecar whose seal is whole; versions from before the seal are read without.

    Raises:
        OutputDamaged: the seal is broken or missing, or `read` can't read it.
    """
    record, found = read(sidecar), check(sidecar)
    if found is Seal.INTACT or (found is Seal.MISSING and record.schema_version < SEALED_SINCE):
        return record
    raise OutputDamaged(f"the sidecar's seal is {found}: it was changed after it was written")
