"""How many bytes derivatives will take: headers and a recipe go in, bytes come out.

The pixels outside faces are the master's, so what they take depends on how the master stores them:

* Lossless masters that stay what they are: what the master takes.
* JPEG: a share of the plain samples that grows with how many bytes the JPEG spends on each,
  for what is hard for one is hard for the other: `share = a + b ln(bytes per sample)`.
* Everything else: a fixed share of the plain samples.

The figures were measured on ../shared/corpus (docs/plan.md has how well they fit).
"""

import math

import numpy as np

from jobs.recipe import Recipe
from worker.codec import Header, PageHeader
from worker.codec.encode import Format, format_of

_SIDECAR_BYTES = 9_000
_LOSSLESS = {
    "tiff": {"none", "lzw", "packbits", "deflate", "adobe_deflate", "zstd", "lzma", "lerc"},
    "png": {"lzw", "deflate", "adobe_deflate", "zstd", "lzma"},
    "webp": {"webp"},
    "jp2": {"jpeg2000"},
}
"""By the derivative's format: compressions of a master that takes as much as its derivative."""
_OF_JPEG = {True: (0.90, 0.18), False: (0.68, 0.115)}
"""a and b, of gray pictures and of others."""
_SMALLEST_SHARE = 0.02
_BILEVEL_SHARE, _OTHER_SHARE = 0.15, 0.5
_JPEG_BYTES_PER_PIXEL = {True: 0.33, False: 0.30}
"""At quality 95, of gray pictures and of others."""
_QUALITIES, _OF_QUALITY_95 = (60, 80, 90, 95), (0.40, 0.54, 0.75, 1.0)
_ENLARGED = 1.6
"""Bytes grow with this power of the scale: an enlarged picture holds hardly more detail."""
_WHOLE_BYTE = 8


def expected_bytes(header: Header, size_bytes: int, recipe: Recipe) -> int:
    """Return what derivative and sidecar of a photo will take.

    Args:
        header: the master's.
        size_bytes: the master's.
        recipe: decides format, quality and scale.

    Raises:
        PhotoUnsupported: the chosen format can't hold the photo.
    """
    first, scale = header.pages[0], recipe.background_scale or 1
    kind = format_of(
        header.container,
        recipe.output,
        pages=len(header.pages),
        alpha=first.alpha,
        longest_px=max(first.width, first.height) * scale,
        special=first.special,
        lossless=first.lossless,
    )
    if kind == "jpeg":
        quality = float(np.interp(recipe.jpeg_quality, _QUALITIES, _OF_QUALITY_95))
        is_gray = _colours(first) == 1
        taken = quality * _JPEG_BYTES_PER_PIXEL[is_gray] * header.pixels
    elif all(_stays(page, kind) for page in header.pages):
        taken = float(size_bytes)
    else:
        plain = sum(map(_plain_bytes, header.pages))
        taken = plain * _share(first, size_bytes / plain)
    return round(taken * scale**_ENLARGED) + _SIDECAR_BYTES


def _stays(page: PageHeader, kind: Format) -> bool:
    """Tell whether the derivative stores the same samples, and stores them as densely."""
    same_samples = page.bits >= _WHOLE_BYTE and not page.palette
    return same_samples and page.compression in _LOSSLESS.get(kind, ())


def _share(page: PageHeader, density: float) -> float:
    """Return what compression leaves of plain samples, for which a master has so many bytes."""
    if page.compression == "jpeg":
        a, b = _OF_JPEG[_colours(page) == 1]
        return min(1.0, max(_SMALLEST_SHARE, a + b * math.log(density)))
    return _BILEVEL_SHARE if page.bits == 1 else _OTHER_SHARE


def _plain_bytes(page: PageHeader) -> int:
    """Return the bytes of a derivative's samples before they are compressed."""
    channels = _colours(page) + (page.alpha is not None)
    return page.pixels * channels * math.ceil(page.bits / _WHOLE_BYTE)


def _colours(page: PageHeader) -> int:
    """Return the colour channels of a derivative: palettes become RGB."""
    return 3 if page.palette else page.colours
