"""A page's own samples, where the engine can't work on them as they are, and their way back.

In: samples as stored, and how they are shown. Out: pixels for the engine; and, from what it made
of them, samples again. Only pixels that differ are converted: all others stay as they were stored.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.scratch import Space, bands

Samples = NDArray[np.uint8] | NDArray[np.uint16]

_PARTLY_USED_BITS = (12, 14)
"""What scanners and cameras deliver in samples of 16 bits."""
_FADE = 8 / 255
"""The change, as a part of the full range, from which on a conversion's own loss isn't undone."""


class ColourModel(StrEnum):
    """What a page's colour channels mean."""

    GRAY = "gray"
    INVERTED_GRAY = "gray where 0 is white"
    RGB = "RGB"
    CMYK = "CMYK"
    LAB = "Lab"

    @property
    def channels(self) -> int:
        """How many there are."""
        return {"RGB": 3, "CMYK": 4, "Lab": 3}.get(self.value, 1)

    @property
    def is_gray(self) -> bool:
        """Whether there is one."""
        return self.channels == 1


def name_special(model: ColourModel, *, is_float: bool) -> str:
    """Name what of samples only TIFF can hold, "" where there is no such thing."""
    if model in {ColourModel.CMYK, ColourModel.LAB}:
        return f"{model} colour"
    return "floating-point samples" if is_float else ""


class Conversion(Protocol):
    """How samples are shown to the engine, and how pixels become samples again."""

    def show(self, samples: NDArray[Any]) -> Samples:
        """Return `(N, 1|3) uint8|uint16` pixels for `(N, C)` samples."""
        ...

    def take_back(
        self, pixels: Samples, near: NDArray[Any] | None = None
    ) -> NDArray[np.floating[Any]]:
        """Return `(N, C)` samples, not rounded.

        Args:
            pixels: `(N, 1|3)`, of the type that `show` returns.
            near: the samples that were there before, where there were any.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Native:
    """A page's own colour samples.

    Attributes:
        samples: `(H, W, C)`, upright, without alpha.
        conversion: how they are shown.
        model: what the channels mean.
        bits: how many each sample has; fewer than 8 can't hold what a restoration changes.
        plain: how a format that can't hold them shows them, where the engine is shown them over
            a wider range than any viewer would; None where both are shown the same.
    """

    samples: NDArray[Any]
    conversion: Conversion
    model: ColourModel
    bits: int
    plain: Conversion | None = None

    def show(self, space: Space) -> Samples:
        """Return `(H, W, 1|3)` pixels for the engine."""
        shown: Samples | None = None
        for rows in bands(self.samples):
            part = show(self.samples[rows], self.conversion)
            if shown is None:
                shown = space.empty((*self.samples.shape[:2], part.shape[2]), part.dtype)
            shown[rows] = part
        assert shown is not None  # noqa: S101 - a page has rows
        return shown

    def merge(self, samples: NDArray[Any], shown: Samples, restored: Samples) -> NDArray[Any]:
        """Return some rows of the samples with what the engine changed.

        Args:
            samples: the rows as stored.
            shown: what `show` made of them.
            restored: what the engine made of that: the same shape and type.
        """
        merged = samples.copy()
        changed = (shown != restored).any(axis=2)
        if changed.any():
            merged[changed] = self._converted(shown[changed], restored[changed], merged[changed])
        return merged

    def convert(self, restored: Samples) -> NDArray[Any]:
        """Return samples for rows of pixels of another size than the page's."""
        height, width, channels = restored.shape
        part = self.conversion.take_back(restored.reshape(-1, channels))
        return self._rounded(part).reshape(height, width, self.model.channels)

    def _converted(self, before: Samples, after: Samples, near: NDArray[Any]) -> NDArray[Any]:
        """Convert pixels, and undo what the conversion loses where they hardly changed.

        A small change thus moves a sample by little, and a face has no visible edge.
        """
        lost = near - self.conversion.take_back(before, near)
        white = np.iinfo(before.dtype).max
        change = np.abs(after.astype(np.float64) - before).max(axis=1, keepdims=True) / white
        kept = np.clip(1 - change / _FADE, 0, 1)
        return self._rounded(self.conversion.take_back(after, near) + lost * kept)

    def _rounded(self, values: NDArray[np.floating[Any]]) -> NDArray[Any]:
        dtype = self.samples.dtype
        if dtype.kind == "f":
            return values.astype(dtype)
        rounded: NDArray[Any] = np.clip(np.rint(values), 0, 2**self.bits - 1).astype(dtype)
        return rounded


def show(samples: NDArray[Any], conversion: Conversion) -> Samples:
    """Return `(H, W, 1|3)` pixels for a few rows of `(H, W, C)` samples."""
    height, width, channels = samples.shape
    pixels: Samples = conversion.show(samples.reshape(-1, channels)).reshape(height, width, -1)
    return pixels


def used_bits(samples: NDArray[Any]) -> int:
    """Return how many bits of each sample are used: 12 or 14 of 16, else all that it has."""
    bits = samples.dtype.itemsize * 8
    if bits <= min(_PARTLY_USED_BITS):
        return bits
    highest = max(int(samples[rows].max()) for rows in bands(samples))
    return next((used for used in _PARTLY_USED_BITS if highest < 2**used), bits)


def note_of_range(used: int, bits: int) -> str:
    """Say that the engine sees samples brighter than a viewer shows them."""
    return f"{used} bits of {bits} are used; the engine saw them over the full range"
