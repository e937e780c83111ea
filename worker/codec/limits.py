"""How much a file may unfold to; asked before anything is decoded."""

from jobs.errors import PhotoCorrupt, PhotoTooLarge


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
