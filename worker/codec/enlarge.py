"""Fits what a page carries to a restored picture that is larger than the master's.

In: a page as decoded and how many times larger its derivative is. Out: the page to write. Its
resolution grows with its pixels, so that a print keeps its size. The pixels stay the master's.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import cv2
from numpy.typing import NDArray

from worker.codec import exif, photoshop
from worker.codec.photograph import Alpha, Metadata, Page

_XMP_VALUE = rb"(?:=[\"']|>)\s*)(\d+(?:/[1-9]\d*)?)"
_XMP_RESOLUTION = re.compile(rb"(tiff:[XY]Resolution" + _XMP_VALUE)
_XMP_WIDTH = re.compile(rb"((?:tiff:ImageWidth|exif:PixelXDimension)" + _XMP_VALUE)
_XMP_HEIGHT = re.compile(rb"((?:tiff:ImageLength|exif:PixelYDimension)" + _XMP_VALUE)


def enlarge(page: Page, scale: int) -> Page:
    """Return the page for a picture `scale` times as wide and high."""
    if scale == 1:
        return page
    height, width = (side * scale for side in page.pixels.shape[:2])
    alpha = page.alpha
    if alpha is not None:
        samples: NDArray[Any] = cv2.resize(alpha.samples, (width, height))
        alpha = Alpha(samples, alpha.kind)
    metadata = _enlarge_metadata(page.metadata, scale, width=width, height=height)
    return replace(page, alpha=alpha, metadata=metadata)


def _enlarge_metadata(metadata: Metadata, scale: int, *, width: int, height: int) -> Metadata:
    block, xmp, resolution = metadata.exif, metadata.xmp, metadata.resolution
    if block is not None:
        block = exif.enlarge(block, scale, width=width, height=height)
    resources = metadata.photoshop
    if resources is not None:
        resources = photoshop.without(photoshop.RESOLUTION, resources)
    if xmp is not None:
        xmp = _XMP_RESOLUTION.sub(_multiplied(scale), xmp)
        xmp = _XMP_WIDTH.sub(rb"\g<1>%d" % width, xmp)
        xmp = _XMP_HEIGHT.sub(rb"\g<1>%d" % height, xmp)
    if resolution is not None:
        resolution = resolution.times(scale)
    return replace(metadata, exif=block, xmp=xmp, photoshop=resources, resolution=resolution)


def _multiplied(scale: int) -> Callable[[re.Match[bytes]], bytes]:
    def replacement(match: re.Match[bytes]) -> bytes:
        value = Fraction(match[2].decode()) * scale
        return match[1] + b"%d/%d" % value.as_integer_ratio()

    return replacement
