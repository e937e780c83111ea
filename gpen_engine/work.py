"""One picture on its way through the engine: what was found, cut out, measured and noted."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from gpen_engine.blend import Patch, blend
from gpen_engine.colour import ColourSpace
from gpen_engine.errors import ImageError
from gpen_engine.faces import Detail, Face, FaceOutcome, Mask, Pixels, Reason, Region
from gpen_engine.restoration import Restoration

_STEPS = ("detect", "align", "forward", "paste")


@dataclass(slots=True)
class Work:
    """One picture on its way through the engine.

    Attributes:
        image: the photograph.
        protected: areas of it that are never touched.
        colour: what its samples mean; None takes them for sRGB.
        canvas: what faces are pasted onto; the photograph itself, unless its background is
            restored.
        timings: seconds by step.
        notes: what had to give way.
        reasons: every find, the most certain first, and why it is left alone.
        outcomes: what became of the faces that aren't.
        patches: what they change.
    """

    image: Pixels
    protected: Mask | None
    colour: ColourSpace | None = None
    canvas: Pixels = field(init=False)
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STEPS, 0.0))
    notes: list[str] = field(default_factory=list)
    reasons: dict[Face, Reason | None] = field(default_factory=dict)
    outcomes: dict[Face, FaceOutcome] = field(default_factory=dict)
    patches: list[Patch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.canvas = self.image

    @property
    def chosen(self) -> list[Face]:
        """The faces that the policy lets through, the most certain first."""
        return [face for face, reason in self.reasons.items() if reason is None]

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add what the block takes to a step."""
        start = time.perf_counter()
        yield
        self.spend(step, time.perf_counter() - start)

    def spend(self, step: str, seconds: float) -> None:
        """Add time to a step."""
        self.timings[step] = self.timings.get(step, 0.0) + seconds

    def add(
        self, face: Face, region: Region | None, detail: Detail | None, *, redone_in_float32: bool
    ) -> None:
        """Keep what became of a face; without a region its answer was unusable."""
        self.outcomes[face] = FaceOutcome(
            face,
            restored=region is not None,
            reason=None if region else Reason.BAD_OUTPUT,
            region=region,
            detail=detail,
            redone_in_float32=redone_in_float32,
        )

    def note(self, text: str) -> None:
        """Keep a note, unless there is nothing to say."""
        if text:
            self.notes.append(text)

    def result(self) -> Restoration:
        """Blend all patches and return the restoration."""
        with self.timed("paste"):
            pieces = blend(self.canvas, self.patches)
        return replace(self.restoration(self.canvas), pieces=pieces)

    def restoration(self, canvas: Pixels) -> Restoration:
        """Return a picture with what became of each find, in the finds' order."""
        faces = tuple(
            self.outcomes.get(face) or FaceOutcome(face, restored=False, reason=reason)
            for face, reason in self.reasons.items()
        )
        return Restoration(canvas, faces, self.timings, tuple(dict.fromkeys(self.notes)))


def check_picture(image: object, protected: object) -> None:
    """Refuse what is no picture, or areas of another shape.

    Raises:
        ImageError: says what was found.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"expected a (H, W, 3) array, found {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"expected a (H, W, 3) array, found shape {image.shape}")
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"expected uint8 or uint16, found {image.dtype}")
    if protected is None:
        return
    if not isinstance(protected, np.ndarray) or protected.dtype != np.bool_:
        raise ImageError("protected areas are a (H, W) bool array")
    if protected.shape != image.shape[:2]:
        (height, width), (tall, wide) = protected.shape, image.shape[:2]
        raise ImageError(
            f"the protected areas have {width} x {height} pixels, the picture {wide} x {tall}"
        )
