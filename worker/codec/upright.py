"""Turns what a reader found upright: samples, EXIF, XMP and resolution together, exactly once.

In: samples and metadata as stored. Out: a `Page`. What had to be left out is said in `notes`.
"""

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import PhotoUnsupported
from worker.codec import exif
from worker.codec.ifd import DamagedError
from worker.codec.photograph import Alpha, AlphaKind, Metadata, Page, Samples, TiffStorage

_QUARTER_TURNS = {5, 6, 7, 8}
_PROFILE_HEADER_BYTES = 128
_COLOURS = {1: 1, 2: 1, 3: 3, 4: 3}  # by the number of channels; what is over is alpha
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>)\s*)([1-8])")


def make_page(
    samples: Samples,
    stored: Metadata,
    *,
    notes: list[str],
    orientation: int | None = None,
    alpha_kind: AlphaKind = AlphaKind.STRAIGHT,
    storage: TiffStorage | None = None,
) -> Page:
    """Make an upright page.

    Args:
        samples: `(H, W)` or `(H, W, 1..4)` uint8|uint16 as stored: gray or RGB, then perhaps alpha.
        stored: the metadata as stored.
        notes: is appended to.
        orientation: 1 to 8 where the container says it; else the EXIF block decides.
        alpha_kind: what the last of 2 or 4 channels means.
        storage: kept with the page.
    """
    metadata, told = _make_upright(stored, notes, orientation)
    planes = _turn(np.atleast_3d(samples), told)
    channels = planes.shape[2]
    if channels not in _COLOURS or planes.dtype not in (np.uint8, np.uint16):
        raise PhotoUnsupported(f"{channels} channels of {planes.dtype} aren't supported")
    colours = _COLOURS[channels]
    pixels = np.ascontiguousarray(planes[:, :, :colours])
    if colours == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    alpha = None
    if channels > colours:
        alpha = Alpha(np.ascontiguousarray(planes[:, :, colours]), alpha_kind)
    return Page(pixels, colours == 1, alpha, metadata, storage)


def _make_upright(
    stored: Metadata, notes: list[str], orientation: int | None
) -> tuple[Metadata, int]:
    block, resolution, told = stored.exif, stored.resolution, 1
    if block is not None:
        try:
            found = exif.read(block.removeprefix(b"Exif\0\0"))
        except DamagedError as error:
            block = None
            notes.append(f"the EXIF block is damaged and was left out ({error})")
        else:
            block, told = found.block, found.orientation
            resolution = resolution or found.resolution
            if found.damaged:
                notes.append("the EXIF block is damaged; only its readable fields were kept")
    told = told if orientation is None else orientation
    if resolution is not None and told in _QUARTER_TURNS:
        resolution = resolution.turned()
    icc, xmp = stored.icc, stored.xmp
    if icc is not None and not _is_profile(icc):
        icc = None
        notes.append("the ICC profile is damaged and was left out")
    if xmp is not None:
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    return replace(stored, icc=icc, exif=block, xmp=xmp, resolution=resolution), told


def _is_profile(icc: bytes) -> bool:
    """Check size and signature (ICC.1:2022, 7.2); zero bytes behind a profile are common."""
    return _PROFILE_HEADER_BYTES <= int.from_bytes(icc[:4]) <= len(icc) and icc[36:40] == b"acsp"


def _turn(planes: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn `(H, W, C)` samples by an orientation of EXIF 2.32, section 4.6.4."""
    if orientation in _QUARTER_TURNS:
        planes = planes.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        planes = planes[::-1]
    if orientation in {2, 3, 6, 7}:
        planes = planes[:, ::-1]
    return planes
