"""What a file holds, decoded: its pages' pixels and all else that has to come back with them.

Values only. The readers make a `Photograph`; the writers take it back together with the restored
pixels and make an `Encoded`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, BinaryIO

from numpy.typing import NDArray

from worker.codec import native
from worker.codec.ifd import Directory, Layout
from worker.codec.native import ColourModel, Native
from worker.codec.stored import FileBytes

Samples = native.Samples
"""What the engine works on: `uint8` or `uint16`."""


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
    HEIC = "heic"


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
    """A transparency channel, kept aside: `(H, W)` samples of the page's own type, upright."""

    samples: NDArray[Any]
    kind: AlphaKind = AlphaKind.STRAIGHT


@dataclass(frozen=True, slots=True)
class Metadata:
    r"""What a page carries beside its samples, in a form that every writer understands.

    Attributes:
        icc: the colour profile's bytes.
        exif: a block as in a JPEG's APP1, without the `Exif\0\0` in front, upright.
        xmp: the packet's bytes, upright.
        photoshop: the image resource block that carries IPTC in JPEG and TIFF.
        iptc: an IPTC block that a TIFF or JPEG 2000 file has outside of it.
        comments: free text of JPEG and GIF files.
        resolution: None where the file doesn't give one.
        shown_at: the resolution for a screen that a JPEG 2000 file gives beside that of the print.
        chunks: PNG's own chunks (type, data) that describe colour or hold text.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    photoshop: bytes | None = None
    iptc: bytes | None = None
    comments: tuple[bytes, ...] = ()
    resolution: Resolution | None = None
    shown_at: Resolution | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class TiffStorage:
    """How a TIFF page's samples were stored, in the numbers of the TIFF specification.

    Attributes:
        predictor: 1 for none.
        tile: (length, width) in pixels, None for strips.
        rows_per_strip: of strips.
        planar: 1 where the samples of a pixel lie together, 2 where each channel lies alone.
        photometric: what the channels mean.
        bits: how many a sample has.
        lossless: whether the compression kept every sample.
        fields: raw fields that are true only as long as the samples are stored so.
    """

    layout: Layout
    compression: int
    predictor: int
    tile: tuple[int, int] | None
    rows_per_strip: int
    planar: int
    photometric: int
    bits: int
    lossless: bool
    fields: Directory = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Jp2Storage:
    """How a JPEG 2000 picture was stored.

    Attributes:
        boxes: every box but the codestream, in order: its type and content.
        bits: how many a sample has.
        order: which of the stored channels is the first colour, the next, and at last alpha.
    """

    boxes: tuple[tuple[bytes, bytes], ...]
    bits: int
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WebpStorage:
    """A WebP picture was stored without loss."""


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One picture of a file.

    Attributes:
        pixels: what the engine gets: `(H, W, 3) uint8|uint16 RGB`, upright, R = G = B where `gray`.
        gray: the master has one colour channel, so the derivative has one too.
        storage: how it was stored, where it can be stored so again.
        native: the master's own samples, where they aren't `pixels`.
    """

    pixels: Samples
    gray: bool
    alpha: Alpha | None = None
    metadata: Metadata = Metadata()
    storage: TiffStorage | Jp2Storage | WebpStorage | None = None
    native: Native | None = None

    @property
    def model(self) -> ColourModel:
        """What the master's colour channels mean."""
        if self.native is not None:
            return self.native.model
        return ColourModel.GRAY if self.gray else ColourModel.RGB

    @property
    def own(self) -> NDArray[Any]:
        """The master's own colour samples: `(H, W, C)`, upright, of its own type."""
        if self.native is not None:
            return self.native.samples
        return self.pixels[:, :, :1] if self.gray else self.pixels

    @property
    def is_bilevel(self) -> bool:
        """Whether the master's samples are black or white, with nothing between."""
        return self.native is not None and self.native.bits == 1

    @property
    def profile(self) -> bytes | None:
        """The ICC profile of `pixels`; None for sRGB, which CMYK and Lab are shown in."""
        return None if self.model in {ColourModel.CMYK, ColourModel.LAB} else self.metadata.icc


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """A decoded file; `notes` say in plain words what of it isn't kept, or was converted."""

    container: Container
    pages: tuple[Page, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A complete derivative; `notes` say what its format couldn't hold."""

    file: BinaryIO
    suffix: str
    content_type: str
    notes: tuple[str, ...] = ()

    @property
    def stored(self) -> FileBytes:
        """Its bytes, read as they are asked for."""
        return FileBytes(self.file)

    @property
    def data(self) -> bytes:
        """All of its bytes, read anew each time."""
        return self.stored[:]
