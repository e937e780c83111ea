"""Frozen values that the engine hands out: faces, what became of each, a restored picture.

Coordinates are pixels of the upright image, x right, y down; a pixel's centre has whole
coordinates.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""A picture: `(H, W, 3) uint8|uint16 RGB`."""

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Region = tuple[int, int, int, int]
"""`(x0, y0, x1, y1)` in whole pixels; x1 and y1 are not part of it."""


Mask = NDArray[np.bool_]
"""Areas of a picture: `(H, W) bool`."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model, exactly.

    Attributes:
        name: what it is called.
        sha256: the hash of its weights.
    """

    name: str
    sha256: str


class Reason(StrEnum):
    """Why a face that was found wasn't restored."""

    LOW_SCORE = "low_score"
    NESTED = "nested"
    """It lies in another face: an eye or a mouth taken for one."""
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    """The photograph holds more of it than the network's picture can, and the policy leaves it."""
    CUT_OFF = "cut_off"
    """The picture's edge cuts it."""
    PROFILE = "profile"
    """It is turned so far that five points don't align it."""
    SWITCHED_OFF = "switched_off"
    """The policy names it."""
    PROTECTED = "protected"
    """It lies in an area that is never touched."""
    OVER_LIMIT = "over_limit"
    BAD_OUTPUT = "bad_output"


class LargeFaces(StrEnum):
    """What becomes of a face that is larger than the network's picture."""

    BLEND = "blend"
    """Restored; the detail that the network's picture can't show stays the photograph's."""
    TILE = "tile"
    """Restored at its own size, by the network over overlapped tiles of it."""
    LEAVE = "leave"


class MaskKind(StrEnum):
    """How the part of a face that is pasted is bounded."""

    AUTO = "auto"
    """Parsed where the weights of a parser are at hand, else soft."""
    SOFT = "soft"
    PARSED = "parsed"


class Template(StrEnum):
    """Where a network wants the five landmarks of an aligned face."""

    GPEN = "gpen"
    FFHQ = "ffhq"


class Detail(StrEnum):
    """Where the finest detail of a restored face comes from."""

    NETWORK = "network"
    PHOTOGRAPH = "photograph"
    """The face is larger than the network's picture: what that can't show stays the photo's own."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face as the detector found it.

    Attributes:
        box: (x0, y0, x1, y1).
        landmarks: left eye, right eye, nose, left and right corner of the mouth, as seen when the
            face is upright.
        score: the detector's certainty, 0 to 1.
    """

    box: Box
    landmarks: tuple[Point, Point, Point, Point, Point]
    score: float

    @property
    def eye_distance_px(self) -> float:
        """Distance between the eyes."""
        return math.dist(self.landmarks[0], self.landmarks[1])

    def enlarged(self, factor: float) -> "Face":
        """Return the same face in a picture `factor` times as large."""
        x0, y0, x1, y1 = ((edge + 0.5) * factor - 0.5 for edge in self.box)
        marks = [((x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5) for x, y in self.landmarks]
        return Face(
            (x0, y0, x1, y1), (marks[0], marks[1], marks[2], marks[3], marks[4]), self.score
        )


@dataclass(frozen=True, slots=True)
class FacePolicy:
    """Which faces are restored.

    Attributes:
        min_score: detector scores under it are no faces.
        min_eye_distance_px: faces with less between the eyes are left alone.
        max_faces: at most so many are restored, the most certain first.
        rotations: whether faces are also looked for in the picture turned by 90, 180 and 270
            degrees.
        large: what becomes of faces larger than the network's picture.
        profiles: whether faces seen from the side are restored.
        cut_off: whether faces that the picture's edge cuts are restored.
        leave: faces whose boxes contain one of these points are left alone.
    """

    min_score: float = 0.9
    min_eye_distance_px: float = 6.0
    max_faces: int = 500
    rotations: bool = False
    large: LargeFaces = LargeFaces.BLEND
    profiles: bool = False
    cut_off: bool = True
    leave: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Lens:
    """Radial distortion of the camera, in OpenCV's model.

    Attributes:
        k1: coefficient of the square of the radius, which is 1 at half the longest side.
        k2: coefficient of its fourth power.
    """

    k1: float = 0.0
    k2: float = 0.0


@dataclass(frozen=True, slots=True)
class Finish:
    """How restored faces are put back.

    Attributes:
        strength: 1 pastes the restored face, 0 leaves the photograph's own.
        texture: how much of the photograph's own fine texture is added back, 0 to 1.
        grain: whether the face gets the grain of its surroundings.
        mask: how the pasted part is bounded.
        lens: distortion that is taken out for the network and put back in the picture.
    """

    strength: float = 1.0
    texture: float = 0.0
    grain: bool = False
    mask: MaskKind = MaskKind.AUTO
    lens: Lens | None = None


@dataclass(frozen=True, slots=True)
class Treatment:
    """Everything that decides what happens to a picture.

    Attributes:
        faces: which faces are restored.
        finish: how they are put back.
        background_scale: 0 leaves the background alone; 1, 2 or 4 restores it and enlarges the
            picture so many times.
        compatible: whether everything is done just as the published GPEN pipeline does it, its
            rounding and its full-size masks included.
    """

    faces: FacePolicy = FacePolicy()
    finish: Finish = Finish()
    background_scale: int = 0
    compatible: bool = False


@dataclass(frozen=True, slots=True)
class FaceOutcome:
    """What became of one face.

    Attributes:
        face: the face.
        restored: whether its pixels were changed.
        reason: why not, when not.
        region: outside it this face changed nothing; None when it wasn't restored.
        detail: where the finest detail comes from; None when it wasn't restored.
        redone_in_float32: whether the faster precision failed on it.
    """

    face: Face
    restored: bool
    reason: Reason | None = None
    region: Region | None = None
    detail: Detail | None = None
    redone_in_float32: bool = False
