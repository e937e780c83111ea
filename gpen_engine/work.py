"""One picture on its way through the engine: what was found, cut out, measured and noted."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from gpen_engine.errors import ImageError
from gpen_engine.faces import Face, FaceOutcome, Mask, Pixels, Reason, Restoration
from gpen_engine.putback import AlignedFace


@dataclass(slots=True)
class Work:
    """One picture on its way through the engine.

    Attributes:
        image: the photograph.
        protected: areas of it that are never touched.
        timings: seconds by step.
        notes: what had to give way.
        reasons: every find, the most certain first, and why it is left alone.
        aligned: the faces that are restored.
    """

    image: Pixels
    protected: Mask | None
    timings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reasons: dict[Face, Reason | None] = field(default_factory=dict)
    aligned: list[AlignedFace] = field(default_factory=list)

    @property
    def chosen(self) -> list[Face]:
        """The faces that the policy lets through, the most certain first."""
        return [face for face, reason in self.reasons.items() if reason is None]

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add what the block takes to a step."""
        start = time.perf_counter()
        yield
        self.timings[step] = self.timings.get(step, 0.0) + time.perf_counter() - start

    def result(self, image: Pixels, outcomes: dict[Face, FaceOutcome]) -> Restoration:
        """Return the restoration: what became of each find, in the finds' order."""
        faces = tuple(
            outcomes.get(face) or FaceOutcome(face, restored=False, reason=reason)
            for face, reason in self.reasons.items()
        )
        return Restoration(image, faces, self.timings, tuple(dict.fromkeys(self.notes)))


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
        raise ImageError(f"the protected areas {protected.shape} don't fit {image.shape[:2]}")
