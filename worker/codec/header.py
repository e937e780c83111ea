"""What a file's header tells, without its pixels. Values only, as stored: nothing is turned yet."""

from dataclasses import dataclass

from worker.codec.photograph import AlphaKind, Container, Resolution


@dataclass(frozen=True, slots=True)
class PageHeader:
    """One picture of a file.

    Attributes:
        width: pixels as stored; `orientation` may turn them.
        bits: of a sample.
        colours: 1 for gray, or an index into a palette; 3 for RGB and Lab; 4 for CMYK.
        compression: its name in lower case.
        orientation: 1 to 8, how the picture has to be turned (EXIF 2.32, section 4.6.4).
        resolution: None where the file doesn't give one.
        special: what of its samples only TIFF can hold, "" where there is no such thing.
        lossless: whether a WebP picture was stored without loss, or a JPEG 2000 one reversibly.
    """

    width: int
    height: int
    bits: int
    colours: int
    compression: str
    palette: bool = False
    alpha: AlphaKind | None = None
    sample_format: str = "uint"
    icc: bool = False
    orientation: int = 1
    resolution: Resolution | None = None
    special: str = ""
    lossless: bool = False

    @property
    def pixels(self) -> int:
        """How many pixels it has."""
        return self.width * self.height

    @property
    def channels(self) -> int:
        """Samples of a pixel as stored."""
        return self.colours + (self.alpha is not None and not self.palette)


@dataclass(frozen=True, slots=True)
class Header:
    """A file's kind and its pages, those that `decode` would give."""

    container: Container
    pages: tuple[PageHeader, ...]

    @property
    def pixels(self) -> int:
        """How many pixels all pages have."""
        return sum(page.pixels for page in self.pages)
