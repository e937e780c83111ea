"""The recipe: every setting that decides pixels, frozen and hashed."""

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1

Output = Literal["same", "png", "tiff", "jpeg"]


class Recipe(BaseModel):
    """How the photos of a job are restored.

    Attributes:
        weights: a name that workers know ("compact") or the sha256 of a weights file.
        strength: 1 pastes the restored face, 0 leaves the photograph's own.
        min_score: the detector's score under which a find isn't taken for a face.
        min_eye_distance_px: faces with less between the eyes are left alone.
        max_faces: at most so many faces of one page are restored, the most certain first.
        output: container of the derivative; "same" keeps a lossless master's and turns a lossy one
            into PNG.
        jpeg_quality: 1 to 95, for `output="jpeg"`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str = "compact"
    strength: float = Field(default=1.0, ge=0.0, le=1.0)
    min_score: float = Field(default=0.9, ge=0.0, le=1.0)
    min_eye_distance_px: float = Field(default=6.0, ge=0.0)
    max_faces: int = Field(default=500, ge=0)
    output: Output = "same"
    jpeg_quality: int = Field(default=95, ge=1, le=95)

    def canonical(self) -> str:
        """Return the recipe as JSON with sorted keys: equal recipes, equal text.

        Defaults are left out, so that a new field doesn't change the hash of recipes from before
        it. A default that changes pixels may therefore change only together with `VERSION`.
        """
        content = {"version": VERSION} | self.model_dump(exclude_defaults=True)
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_canonical(cls, text: str) -> "Recipe":
        """Read what `canonical` wrote."""
        content = json.loads(text)
        content.pop("version")
        return cls.model_validate(content)

    def hash(self) -> str:
        """Return the sha256 of the canonical JSON in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
