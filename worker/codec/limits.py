"""How much a file may be and unfold to; asked before anything is decoded.

None of the limits can be off: each is a number above 0, and its message names its setting.
"""

from dataclasses import dataclass, replace

from jobs.errors import PhotoCorrupt, PhotoTooLarge

_BYTES_PER_PIXEL = 3  # of 8-bit RGB, the least that the engine is shown
_ALWAYS_BYTES = 256 << 20
"""So much any file may unfold to: a blank page is small, and no bomb."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a file may have.

    Attributes:
        max_pixels: of all its pages together.
        max_bytes: of the file itself.
        max_pages: pictures of one file, reduced copies among them.
        max_ratio: bytes that it unfolds to, 3 for each pixel, for each of its own.
        file_bytes: how large the file in hand is; None where its ratio doesn't matter.
    """

    max_pixels: int = 300_000_000
    max_bytes: int = 4 << 30
    max_pages: int = 1000
    max_ratio: float = 1000.0
    file_bytes: int | None = None

    def __post_init__(self) -> None:
        most = (self.max_pixels, self.max_bytes, self.max_pages, self.max_ratio)
        if not all(value > 0 for value in most):  # nor is what is no number
            raise ValueError(f"limits have to be above 0: {self}")

    def enlarged(self, scale: int) -> "Limits":
        """The same for a picture that will have so many times the pixels along a side."""
        return replace(self, max_pixels=max(1, self.max_pixels // scale**2))

    def of_file(self, size_bytes: int) -> "Limits":
        """The same for a file of so many bytes.

        Raises:
            PhotoTooLarge: they are too many.
        """
        check_file(size_bytes, limits=self)
        return replace(self, file_bytes=size_bytes)

    def of_part(self, least_pixels: int) -> "Limits":
        """The same for a strip or tile, which may have `least_pixels` in any case."""
        return replace(self, max_pixels=max(self.max_pixels, least_pixels), file_bytes=None)


def check_file(size_bytes: int, *, limits: Limits) -> None:
    """Check that a file isn't too large to be fetched.

    Raises:
        PhotoTooLarge: it is.
    """
    if size_bytes > limits.max_bytes:
        raise PhotoTooLarge(
            f"the file has {size_bytes} bytes; the limit is {limits.max_bytes} (GPEN_MAX_BYTES)"
        )


def check_pages(pages: int, *, limits: Limits) -> None:
    """Check how many pages a file has.

    Raises:
        PhotoTooLarge: too many.
    """
    if pages > limits.max_pages:
        raise PhotoTooLarge(
            f"the file has more than {limits.max_pages} pages, which is the limit (GPEN_MAX_PAGES)"
        )


def check_pixels(width: int, height: int, *, limits: Limits, taken: int = 0) -> int:
    """Return the pixels of a picture, together with those `taken` by the pages before it.

    Raises:
        PhotoCorrupt: a side is 0.
        PhotoTooLarge: they are too many, or too many for so small a file.
    """
    if width < 1 or height < 1:
        raise PhotoCorrupt(f"the header gives a size of {width}x{height} pixels")
    total = taken + width * height
    if total > limits.max_pixels:
        raise PhotoTooLarge(
            f"{width}x{height} pixels make {total / 1e6:.1f} megapixels in all; "
            f"the limit is {limits.max_pixels / 1e6:.1f} (GPEN_MAX_MEGAPIXELS)"
        )
    if limits.file_bytes is not None:
        unfolded = total * _BYTES_PER_PIXEL
        if unfolded > max(_ALWAYS_BYTES, limits.max_ratio * limits.file_bytes):
            raise PhotoTooLarge(
                f"{limits.file_bytes} bytes would unfold to {unfolded}, "
                f"{unfolded / limits.file_bytes:.0f} times as many; "
                f"the limit is {limits.max_ratio:.0f} times (GPEN_MAX_RATIO)"
            )
    return total
