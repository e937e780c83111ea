"""How much a file may unfold to; asked before anything is decoded."""

from jobs.errors import PhotoCorrupt, PhotoTooLarge

_BYTES_PER_PIXEL = 16  # four channels of 32 bits, not compressed
_OVERHEAD_BYTES = 64 << 20
MAX_PAGES = 4096
"""Of one file: a page costs some time and memory even where it has a single pixel."""


def check_file(size_bytes: int, *, max_pixels: int) -> None:
    """Check that a file has no more bytes than the largest picture could fill.

    Raises:
        PhotoTooLarge: it has.
    """
    limit = max_pixels * _BYTES_PER_PIXEL + _OVERHEAD_BYTES
    if size_bytes > limit:
        raise PhotoTooLarge(f"the file has {size_bytes} bytes; the limit is {limit}")


def check_pages(number: int) -> None:
    """Check that a file has no more than `MAX_PAGES` pages.

    Raises:
        PhotoTooLarge: it has.
    """
    if number > MAX_PAGES:
        raise PhotoTooLarge(f"the file has more than {MAX_PAGES} pages")


def check_pixels(width: int, height: int, *, max_pixels: int, taken: int = 0) -> int:
    """Return the pixels of a picture, together with those `taken` by the pages before it.

    Raises:
        PhotoCorrupt: a side is 0.
        PhotoTooLarge: more than `max_pixels` in all.
    """
    if width < 1 or height < 1:
        raise PhotoCorrupt(f"the header gives a size of {width}x{height} pixels")
    total = taken + width * height
    if total > max_pixels:
        raise PhotoTooLarge(
            f"{width}x{height} pixels make {total / 1e6:.1f} megapixels in all; "
            f"the limit is {max_pixels / 1e6:.1f}"
        )
    return total
