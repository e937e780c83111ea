"""What an export reads of a sidecar: JSON in, values out. Fields it has no use for are passed over.

So a sidecar of a later version is read too, as long as it still has these.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from jobs.errors import OutputDamaged
from worker.audit.seal import Seal, check

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Moment = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"),
]
_SEALED_SINCE = 2


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileRecord(_Part):
    """A file as the worker saw it."""

    key: Text
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Master(FileRecord):
    """The file as it came in."""

    container: Text


class Derivative(FileRecord):
    """The file that was made of it."""

    content_type: Text


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


class Find(_Part):
    """A face."""

    restored: bool


class Record(_Part):
    """One photo's sidecar."""

    kind: Literal["gpen-archive/sidecar"] = Field(alias="schema")
    schema_version: int
    software: Text
    created_at: Moment
    master: Master
    derivative: Derivative
    recipe: dict[str, Any]
    recipe_hash: str
    summary: str
    engine: Engine
    device: str
    precision: str
    faces: list[Find]
    notes: list[str]

    @property
    def faces_restored(self) -> int:
        """How many faces were restored."""
        return sum(face.restored for face in self.faces)

    @property
    def recipe_text(self) -> str:
        """The recipe in one line."""
        return json.dumps(self.recipe, sort_keys=True, ensure_ascii=False)


def read_record(sidecar: bytes, *, key: str) -> Record:
    """Read a sidecar.

    Raises:
        OutputDamaged: it isn't one, or its seal says that it was changed since.
    """
    try:
        # Not by pydantic's own reader: notes may hold what it refuses, names of files for example.
        record = Record.model_validate(json.loads(sidecar))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise OutputDamaged(f"the sidecar of {key!r} can't be read: {faults}") from error
    except (ValueError, RecursionError) as error:
        raise OutputDamaged(f"the sidecar of {key!r} is no JSON: {error}") from error
    seal = check(sidecar)
    if seal is Seal.BROKEN or (seal is Seal.MISSING and record.schema_version >= _SEALED_SINCE):
        raise OutputDamaged(f"the seal of the sidecar of {key!r} is {seal}")
    return record
