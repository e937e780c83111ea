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


class Reason(StrEnum):
    """Why a face that was found wasn't restored."""

    LOW_SCORE = "low_score"
    TOO_SMALL = "too_small"
    OVER_LIMIT = "over_limit"
    BAD_OUTPUT = "bad_output"


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
        landmarks: left eye, right eye, nose, left and right corner of the mouth, as seen in the
            picture.
        score: the detector's certainty, 0 to 1.
    """

    box: Box
    landmarks: tuple[Point, Point, Point, Point, Point]
    score: float

    @property
    def eye_distance_px(self) -> float:
        """Distance between the eyes."""
        return math.dist(self.landmarks[0], self.landmarks[1])


@dataclass(frozen=True, slots=True)
class FacePolicy:
    """Which faces are restored, and how strongly.

    Attributes:
        strength: 1 pastes the restored face, 0 leaves the photograph's own.
        min_score: detector scores under it are no faces.
        min_eye_distance_px: faces with less between the eyes are left alone.
        max_faces: at most so many are restored, the most certain first.
    """

    strength: float = 1.0
    min_score: float = 0.9
    min_eye_distance_px: float = 6.0
    max_faces: int = 500


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


@dataclass(frozen=True, slots=True)
class Restoration:
    """A restored picture.

    Attributes:
        image: `(H, W, 3)`, the input's dtype; pixels outside the faces' regions are the input's.
        faces: every find of the detector, from the most certain to the least.
        timings_s: seconds by step: detect, align, forward, paste.
    """

    image: Pixels
    faces: tuple[FaceOutcome, ...]
    timings_s: dict[str, float]
