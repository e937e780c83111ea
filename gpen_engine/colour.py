"""What a photograph's samples mean: their way to sRGB, which networks were trained on, and back.

In: pictures in the photograph's own levels, and its `ColourSpace`, which whoever reads the file
provides: the engine knows no ICC. Out: the same in sRGB, and an sRGB change in the photograph's own
levels. Without a colour space the samples are taken for sRGB, and nothing here is called.
"""

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float32]
"""`(..., 3) float32`, in shares of the highest level: 0 to 1."""
Samples = TypeVar("Samples", Shares, NDArray[np.uint8])


class ColourSpace(Protocol):
    """The meaning of a photograph's samples; threads may share it."""

    def to_srgb(self, pixels: Samples) -> Samples:
        """Return samples `(..., 3)` as sRGB encodes their colours, cut to what sRGB can show.

        Of uint8, which is what a detector is shown, a few levels' precision will do.
        """
        ...

    def from_srgb(self, pixels: Shares) -> Shares:
        """Return the samples `(..., 3)` that show sRGB colours best."""
        ...


def seen_as_srgb(picture: Shares, colour: ColourSpace, top: float) -> Shares:
    """Return a picture as the network is to see it.

    Args:
        picture: in the photograph's levels, 0 to `top`; what lies beyond is cut off.
        colour: the meaning of these levels.
        top: the highest level.
    """
    shares = colour.to_srgb(np.clip(picture / np.float32(top), 0.0, 1.0))
    # As [-1, 1] holds them: otherwise what a network leaves alone would come back a little changed,
    # and near black a little is many of the photograph's levels.
    signed = shares * np.float32(2.0) - np.float32(1.0)
    return np.asarray((signed + np.float32(1.0)) * np.float32(top / 2.0), np.float32)


def own_change(before: Shares, after: Shares, colour: ColourSpace, top: float) -> Shares:
    """Return a change of sRGB pixels as a change of the photograph's own samples.

    Both ends are brought back, and their difference is the change: what the way there and back
    loses, and what sRGB can't show of the photograph's colours, cancels out. No change is none.

    Args:
        before: `(h, w, 3)` in sRGB, in levels from 0 to `top`; what lies beyond is cut off.
        after: the same, changed.
        colour: the meaning of the photograph's levels.
        top: the highest level.
    """
    own_before, own_after = (
        colour.from_srgb(np.clip(picture / np.float32(top), 0.0, 1.0))
        for picture in (before, after)
    )
    return (own_after - own_before) * np.float32(top)
