"""What a file holds, decoded: its pages' pixels and all else that has to come back with them.

Values only. The readers make a `Photograph`; the writers take it back together with the restored
pixels and make an `Encoded`.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from worker.codec.ifd import Layout

Samples = NDArray[np.uint8] | NDArray[np.uint16]


class Container(StrEnum):
    """The kind of file, told by its content."""

    JPEG = "jpeg"
    PNG = "png"
    TIFF = "tiff"
    WEBP = "webp"
    BMP = "bmp"
    GIF = "gif"
    JP2 = "jp2"
    AVIF = "avif"


class Unit(StrEnum):
    """What a resolution is counted per; NONE gives only the shape of a pixel."""

    INCH = "inch"
    CM = "cm"
    NONE = "none"


class AlphaKind(StrEnum):
    """What the samples of an alpha channel mean, in the words of TIFF's ExtraSamples."""

    UNSPECIFIED = "unspecified"
    ASSOCIATED = "associated"
    STRAIGHT = "straight"


@dataclass(frozen=True, slots=True)
class Resolution:
    """Pixels per unit, exactly as stored, of the upright picture."""

    x: Fraction
    y: Fraction
    unit: Unit

    def per_inch(self) -> tuple[Fraction, Fraction]:
        """Dots per inch; an unknown unit is taken as the inch."""
        scale = Fraction(254, 100) if self.unit is Unit.CM else Fraction(1)
        return self.x * scale, self.y * scale

    def turned(self) -> "Resolution":
        """The same after a quarter turn."""
        return Resolution(self.y, self.x, self.unit)

    def times(self, scale: int) -> "Resolution":
        """The same print with so many times the pixels along a side."""
        if self.unit is Unit.NONE:
            return self
        return Resolution(self.x * scale, self.y * scale, self.unit)


@dataclass(frozen=True, slots=True, eq=False)
class Alpha:
    """A transparency channel, kept aside: `(H, W)` samples of the page's depth, upright."""

    samples: Samples
    kind: AlphaKind = AlphaKind.STRAIGHT


@dataclass(frozen=True, slots=True)
class Metadata:
    r"""What a page carries beside its samples, in a form that every writer understands.

    Attributes:
        icc: the colour profile's bytes.
        exif: a block as in a JPEG's APP1, without the `Exif\0\0` in front, upright.
        xmp: the packet's bytes, upright.
        photoshop: the image resource block that carries IPTC in JPEG and TIFF.
        comments: free text of JPEG and GIF files.
        resolution: None where the file doesn't give one.
        chunks: PNG's own chunks (type, data) that describe colour or hold text.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    photoshop: bytes | None = None
    comments: tuple[bytes, ...] = ()
    resolution: Resolution | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class TiffStorage:
    """How a TIFF page's samples were stored, in the numbers of the TIFF specification.

    Attributes:
        predictor: 1 for none.
        tile: (length, width) in pixels, None for strips.
    """

    layout: Layout
    compression: int
    predictor: int
    tile: tuple[int, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One picture of a file.

    Attributes:
        pixels: `(H, W, 3) uint8|uint16 RGB`, upright; the values as stored, R = G = B where `gray`.
        gray: the master has one colour channel, so the derivative has one too.
    """

    pixels: Samples
    gray: bool
    alpha: Alpha | None = None
    metadata: Metadata = Metadata()
    storage: TiffStorage | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """A decoded file; `notes` say in plain words what of it isn't kept, or was converted."""

    container: Container
    pages: tuple[Page, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """A complete derivative; `notes` say what its format couldn't hold."""

    data: bytes
    suffix: str
    content_type: str
    notes: tuple[str, ...] = ()
