"""HEIC files, read through libheif (pillow-heif).

In: a file's bytes. Out: a `Page`. libheif turns the picture as the file's own properties say; the
EXIF orientation, which repeats them, isn't applied again (ISO/IEC 23008-12, 6.5.10).
"""

from io import BytesIO
from typing import Any

import numpy as np
import pillow_heif
from numpy.typing import NDArray

from jobs.errors import PhotoCorrupt, PhotoUnsupported
from worker.codec import item_properties
from worker.codec.colour_codes import make_profile
from worker.codec.header import PageHeader
from worker.codec.jp2_boxes import Box
from worker.codec.limits import Limits, check_pixels
from worker.codec.photograph import AlphaKind, Metadata, Page
from worker.codec.upright import Reading, make_page
from worker.scratch import Space

_MODES = {"L", "L;16", "LA", "LA;16", "RGB", "RGB;16", "RGBA", "RGBA;16", "RGBa", "RGBa;16"}
_I16 = {"I;16": "L;16", "I;16L": "L;16"}
_PREMULTIPLIED = "RGBa"
_WHOLE_BYTE = 8


def read(data: bytes, *, limits: Limits, space: Space, notes: list[str]) -> Page:
    """Decode the primary picture of a file."""
    file, mode = _open(data, limits=limits)
    if len(file) > 1:
        notes.append(f"the file holds {len(file)} pictures; only the primary one was kept")
    notes += _name_others(file)
    bits = file.info["bit_depth"]
    if bits > _WHOLE_BYTE:
        notes.append(f"samples of {bits} bits were spread over the full range of 16")
    told = file.size
    samples: NDArray[Any] = np.asarray(file)
    if samples.shape[1::-1] != told:
        raise PhotoCorrupt(f"the HEIC decoder gave samples of shape {samples.shape}")
    properties = item_properties.read(data)
    return make_page(
        samples,
        _read_metadata(file, properties, notes, is_gray=mode.startswith("L")),
        space=space,
        notes=notes,
        reading=Reading(
            orientation=1,
            turned=item_properties.is_quarter_turn(properties),
            alpha_kind=_alpha_kind(mode),
        ),
    )


def read_header(data: bytes, *, limits: Limits) -> PageHeader:
    """Read a file's properties."""
    file, mode = _open(data, limits=limits)
    is_gray = mode.startswith("L")
    metadata = _read_metadata(file, item_properties.read(data), [], is_gray=is_gray)
    return PageHeader(
        width=file.size[0],
        height=file.size[1],
        bits=file.info["bit_depth"],
        colours=1 if is_gray else 3,
        alpha=_alpha_kind(mode) if "A" in mode.upper() else None,
        compression="hevc",
        icc=metadata.icc is not None,
    )


def _open(data: bytes, *, limits: Limits) -> tuple[pillow_heif.HeifFile, str]:
    file = pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=False)
    check_pixels(*file.size, limits=limits)
    mode = _I16.get(file.mode, file.mode)
    if mode not in _MODES:
        raise PhotoUnsupported(f"HEIC of kind {file.mode} isn't supported")
    return file, mode


def _alpha_kind(mode: str) -> AlphaKind:
    return AlphaKind.ASSOCIATED if mode.startswith(_PREMULTIPLIED) else AlphaKind.STRAIGHT


def _name_others(file: pillow_heif.HeifFile) -> list[str]:
    """Say what lies beside the picture: masks, gain maps, depth, and copies for a quick look."""
    info = file.info
    others = [f"an auxiliary picture {kind!r}" for kind in info.get("aux", {})]
    others += ["a picture of depths"] * bool(info.get("depth_images"))
    others += ["a thumbnail"] * bool(info.get("thumbnails"))
    return [f"{name} was left out" for name in others]


def _read_metadata(
    file: pillow_heif.HeifFile, properties: list[Box], notes: list[str], *, is_gray: bool
) -> Metadata:
    info = file.info
    icc = info.get("icc_profile") or None
    codes = item_properties.colour_codes(properties)
    if icc is None and codes is not None:
        icc = make_profile(*codes, is_gray=is_gray, notes=notes)
    return Metadata(
        icc=icc,
        exif=info.get("exif") or None,
        xmp=info.get("xmp") or None,
    )
