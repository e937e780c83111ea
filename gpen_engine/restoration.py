"""A restored picture: what faces were pasted onto, and the parts of it that they changed.

The whole picture is made only for whoever asks for it: rows are enough to write or compare one that
is larger than memory.
"""

from dataclasses import dataclass

import numpy as np

from gpen_engine.blend import Piece
from gpen_engine.faces import FaceOutcome, Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Restoration:
    """A restored picture.

    Attributes:
        canvas: `(H, W, 3)`, the input's dtype: the input itself, or its restored background.
        faces: every find of the detector, from the most certain to the least.
        timings_s: seconds by step: detect, align, forward, paste.
        notes: what had to give way, such as a batch that didn't fit; empty when nothing had to.
        pieces: what stands in the canvas's place where faces were restored.
    """

    canvas: Pixels
    faces: tuple[FaceOutcome, ...]
    timings_s: dict[str, float]
    notes: tuple[str, ...] = ()
    pieces: tuple[Piece, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """`(H, W, 3)`."""
        return self.canvas.shape

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """That of the input."""
        return self.canvas.dtype

    @property
    def image(self) -> Pixels:
        """The whole restored picture, made anew each time; outside all regions it is the canvas."""
        return self.rows(slice(None))

    def rows(self, rows: slice) -> Pixels:
        """Return some rows of the restored picture, as a copy."""
        top, bottom, _ = rows.indices(len(self.canvas))
        restored = self.canvas[top:bottom].copy()
        for piece in self.pieces:
            x0, y0, x1, y1 = piece.region
            first, last = max(y0, top), min(y1, bottom)
            if first < last:
                restored[first - top : last - top, x0:x1] = piece.pixels[first - y0 : last - y0]
        return restored
