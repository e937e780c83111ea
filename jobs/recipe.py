"""The recipe: every setting that decides pixels, frozen and hashed."""

import hashlib
import json
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

VERSION = 2

Output = Literal["same", "png", "tiff", "jpeg"]
LargeFaces = Literal["blend", "tile", "leave"]
MaskKind = Literal["auto", "soft", "parsed"]
BackgroundScale = Literal[0, 1, 2, 4]


class Recipe(BaseModel):
    """How the photos of a job are restored.

    The fields' descriptions are the help of the command line's options.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str = Field(
        default="compact", description="A name that workers know, or the sha256 of a weights file."
    )
    strength: float = Field(
        default=1.0,
        ge=0.0,
        le=1.0,
        description="1 pastes the restored face, 0 keeps the photograph's own.",
    )
    min_score: float = Field(
        default=0.9,
        ge=0.0,
        le=1.0,
        description="The detector's score from which a find is taken for a face.",
    )
    min_eye_distance_px: float = Field(
        default=6.0,
        ge=0.0,
        description="Pixels between the eyes; smaller faces are left alone.",
    )
    max_faces: int = Field(
        default=500, ge=0, description="At most so many faces of a page are restored."
    )
    rotations: bool = Field(
        default=False, description="Look for sideways faces too, such as prints on an album page."
    )
    profiles: bool = Field(default=False, description="Restore faces seen from the side as well.")
    cut_off: bool = Field(
        default=True, description="Restore faces that the edge of the picture cuts."
    )
    large_faces: LargeFaces = Field(
        default="blend",
        description="Faces larger than the network's picture: `blend` keeps the photograph's own "
        "finest detail, `tile` restores them in parts, `leave` leaves them alone.",
    )
    texture: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="How much of the photograph's own fine texture is added back.",
    )
    grain: bool = Field(
        default=False, description="Give restored faces the grain of their surroundings."
    )
    mask: MaskKind = Field(
        default="auto",
        description="What is pasted: `soft` an oval, `parsed` what a face parser finds, `auto` "
        "the second where its weights are at hand.",
    )
    undistort: tuple[float, float] | None = Field(
        default=None,
        description="Lens coefficients K1 K2: the network sees the face without the distortion.",
    )
    background_scale: BackgroundScale = Field(
        default=0,
        description="0 leaves everything but faces untouched; 1, 2 or 4 restores it too, and "
        "enlarges the picture so many times.",
    )
    compatible: bool = Field(
        default=False,
        description="Do everything as the published GPEN pipeline does: in 8 bits, and large "
        "faces lose the detail that the network's picture can't show.",
    )
    output: Output = Field(
        default="same",
        description="Container; `same` keeps a lossless master's and turns a lossy one into PNG.",
    )
    jpeg_quality: int = Field(default=95, ge=1, le=95, description="For JPEG output.")

    @field_validator("undistort")
    @classmethod
    def _lens_is_possible(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        """No lens bends more; a coefficient that is no number would spread into the pixels."""
        if value is not None and not all(-1.0 <= coefficient <= 1.0 for coefficient in value):
            raise ValueError("a lens coefficient lies between -1 and 1")
        return value

    @model_validator(mode="after")
    def _compatible_is_alone(self) -> Self:
        """The published pipeline has no such settings: asking for both is a mistake."""
        ours = ("texture", "grain", "undistort", "large_faces")
        chosen = [name for name in ours if getattr(self, name) != Recipe.model_fields[name].default]
        if self.compatible and chosen:
            raise ValueError(f"compatible goes without {', '.join(chosen)}")
        return self

    def canonical(self) -> str:
        """Return the recipe as JSON with sorted keys: equal recipes, equal text.

        Defaults are left out, so that a new field doesn't change the hash of recipes from before
        it. A default that changes pixels may therefore change only together with `VERSION`.
        """
        content = {"version": VERSION} | self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_canonical(cls, text: str) -> "Recipe":
        """Read what `canonical` wrote."""
        content = json.loads(text)
        if content.pop("version") == 1:
            content.setdefault("profiles", True)  # its default then
        return cls.model_validate(content)

    def hash(self) -> str:
        """Return the sha256 of the canonical JSON in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
