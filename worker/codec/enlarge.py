"""Fits what a page carries to a restored picture that is larger than the master's.

In: a page as decoded and how many times larger its derivative is. Out: the page to write. Its
resolution grows with its pixels, so that a print keeps its size. The pixels stay the master's.
"""

import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import cv2
from numpy.typing import NDArray

from worker.codec import exif, photoshop, xmp_packet
from worker.codec.photograph import Alpha, Metadata, Page
from worker.codec.xmp_packet import EXIF, TIFF, Changes

_FRACTION = re.compile(r"\d+(/0*[1-9]\d*)?", re.ASCII)
_XMP_WIDTHS = (f"{TIFF}ImageWidth", f"{EXIF}PixelXDimension")
_XMP_HEIGHTS = (f"{TIFF}ImageLength", f"{EXIF}PixelYDimension")
_XMP_RESOLUTIONS = (f"{TIFF}XResolution", f"{TIFF}YResolution")


def enlarge(page: Page, scale: int, notes: list[str]) -> Page:
    """Return the page for a picture `scale` times as wide and high.

    Args:
        page: as decoded.
        scale: 1 for no change.
        notes: is appended to.
    """
    if scale == 1:
        return page
    height, width = (side * scale for side in page.pixels.shape[:2])
    alpha = page.alpha
    if alpha is not None:
        samples: NDArray[Any] = cv2.resize(alpha.samples, (width, height))
        alpha = Alpha(samples, alpha.kind)
    metadata = _enlarge_metadata(page.metadata, scale, notes, width=width, height=height)
    return replace(page, alpha=alpha, metadata=metadata)


def _enlarge_metadata(
    metadata: Metadata, scale: int, notes: list[str], *, width: int, height: int
) -> Metadata:
    block, xmp = metadata.exif, metadata.xmp
    resolution, shown_at = metadata.resolution, metadata.shown_at
    if block is not None:
        block = exif.enlarge(block, scale, width=width, height=height)
    resources = metadata.photoshop
    if resources is not None:
        resources = photoshop.without(photoshop.RESOLUTION, resources, notes)
    if xmp is not None:
        changes = _xmp_changes(scale, width=width, height=height)
        xmp = xmp_packet.change(xmp, changes, notes)
    return replace(
        metadata,
        exif=block,
        xmp=xmp,
        photoshop=resources,
        resolution=resolution.times(scale) if resolution is not None else None,
        shown_at=shown_at.times(scale) if shown_at is not None else None,
    )


def _xmp_changes(scale: int, *, width: int, height: int) -> Changes:
    def multiply(value: str) -> str:
        if not _FRACTION.fullmatch(value):
            return value
        return "{}/{}".format(*(Fraction(value) * scale).as_integer_ratio())

    return {
        **dict.fromkeys(_XMP_WIDTHS, lambda _: str(width)),
        **dict.fromkeys(_XMP_HEIGHTS, lambda _: str(height)),
        **dict.fromkeys(_XMP_RESOLUTIONS, multiply),
    }
