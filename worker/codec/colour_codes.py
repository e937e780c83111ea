"""Colours that a file tells by numbers (ISO/IEC 23091-2, ITU-T H.273), as an ICC profile.

In: the numbers. Out: a profile of three curves and a matrix, or of one curve (ICC.1:2022); its
colorants are adapted to D50 by Bradford's matrix (annex E).
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import PhotoUnsupported

_UNSPECIFIED = 2
_BT709, _SRGB = 1, 13
_PRIMARIES = {
    _BT709: ("BT.709", ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))),
    5: ("BT.601 of 625 lines", ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060))),
    6: ("BT.601 of 525 lines", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    12: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
}
"""A name, and red, green and blue; white is D65 in all of them."""
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CURVES = {4: (2.2,), 5: (2.8,), 8: (1.0,)} | dict.fromkeys((1, 6, _SRGB, 14, 15), _SRGB_CURVE)
"""Parameters of a parametric curve. What cameras write as BT.709, 601 or 2020 is shown as sRGB."""
_HIGH_RANGES = {16: "PQ", 18: "HLG"}

_D65, _D50 = (0.3127, 0.3290), np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_HEADER_BYTES, _DIRECTORY_BYTES = 128, 12
_VERSION = 0x04400000


def make_profile(primaries: int, transfer: int, *, is_gray: bool, notes: list[str]) -> bytes | None:
    """Return a profile; None where the numbers say sRGB, or nothing that is known.

    Raises:
        PhotoUnsupported: they tell a high dynamic range.
    """
    if transfer in _HIGH_RANGES:
        raise PhotoUnsupported(
            f"pictures of a high dynamic range ({_HIGH_RANGES[transfer]}) aren't supported"
        )
    place = _PRIMARIES.get(_BT709 if primaries == _UNSPECIFIED else primaries)
    curve = _CURVES.get(_SRGB if transfer == _UNSPECIFIED else transfer)
    if place is None or curve is None:
        told = f"{primaries} and {transfer}"
        notes.append(f"colours of the codes {told} aren't known; the samples were taken for sRGB")
        return None
    if curve is _SRGB_CURVE and (is_gray or place is _PRIMARIES[_BT709]):
        return None
    name = f"{place[0]}, gamma {curve[0]}" if curve is not _SRGB_CURVE else place[0]
    notes.append(f"an ICC profile was made from the file's colour codes ({name})")
    return _gray_profile(curve, name) if is_gray else _rgb_profile(place[1], curve, name)


def _rgb_profile(
    primaries: tuple[tuple[float, float], ...], curve: tuple[float, ...], name: str
) -> bytes:
    white = _xyz(_D65)
    colours = np.array([_xyz(place) for place in primaries]).T
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white)) @ _BRADFORD
    colorants = adapt @ colours * np.linalg.solve(colours, white)
    tags = {b"chad": b"sf32" + bytes(4) + _fixed(adapt.ravel())}
    for letter, column in zip((b"r", b"g", b"b"), colorants.T, strict=True):
        tags |= {letter + b"XYZ": _xyz_tag(column), letter + b"TRC": _curve_tag(curve)}
    return _pack(b"RGB ", tags, name)


def _gray_profile(curve: tuple[float, ...], name: str) -> bytes:
    return _pack(b"GRAY", {b"kTRC": _curve_tag(curve)}, name)


def _xyz(place: tuple[float, float]) -> NDArray[Any]:
    """Return the colour of a chromaticity x, y whose Y is 1."""
    x, y = place
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _pack(space: bytes, tags: dict[bytes, bytes], name: str) -> bytes:
    tags = {
        b"desc": _text_tag(name),
        b"cprt": _text_tag("CC0"),
        b"wtpt": _xyz_tag(_D50),
    } | tags
    at = _HEADER_BYTES + 4 + _DIRECTORY_BYTES * len(tags)
    directory, body = struct.pack(">I", len(tags)), b""
    for kind, data in tags.items():
        directory += struct.pack(">4sII", kind, at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = at + len(body)
    header = struct.pack(">I4xI4s4s4s", size, _VERSION, b"mntr", space, b"XYZ ")
    date = struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")  # fixed: same master, same bytes
    header = (header + date).ljust(68, b"\0") + _fixed(_D50)
    return header.ljust(_HEADER_BYTES, b"\0") + directory + body


def _fixed(values: NDArray[Any] | tuple[float, ...]) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz_tag(values: NDArray[Any]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _curve_tag(parameters: tuple[float, ...]) -> bytes:
    """Return a gamma (function type 0), or one with a straight part (3)."""
    kind = 0 if len(parameters) == 1 else 3
    return b"para" + struct.pack(">4xHxx", kind) + _fixed(parameters)


def _text_tag(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII4sII", 1, 12, b"enUS", len(encoded), 28) + encoded
