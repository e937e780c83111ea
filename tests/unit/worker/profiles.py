"""ICC profiles made by hand (ICC.1:2001-04, ICC.1:2022), the smallest that say what a test needs.

Colorants are those of a white of D50, to which ICC adapts all colours by Bradford's matrix.
"""

import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
D65_XY = (0.3127, 0.3290)
D50_XY = (0.3457, 0.3585)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_V2, _V4 = 0x02400000, 0x04400000

ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO = ((0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""The parameters of a parametric curve of type 3."""


def colorants(primaries, white=D65_XY):
    """Return the matrix `(3, 3)` from linear RGB to XYZ under D50."""
    xyz = np.array([_xyz(xy) for xy in primaries]).T
    source = _xyz(white)
    matrix = xyz * np.linalg.solve(xyz, source)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ D50 / (_BRADFORD @ source)) @ _BRADFORD
    return adapted @ matrix


def rgb_profile(primaries, *, white=D65_XY, gamma=None, name="made by hand"):
    """Make a profile of three curves and a matrix; without a gamma, version 4 and sRGB's curve."""
    curve = _sampled([gamma]) if gamma else _parametric(SRGB_CURVE)
    tags = {
        tag: _xyz_tag(column)
        for tag, column in zip(
            (b"rXYZ", b"gXYZ", b"bXYZ"), colorants(primaries, white).T, strict=True
        )
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(b"RGB ", tags, name, version=_V2 if gamma else _V4)


def gray_profile(*, gamma=None, curve=None, name="made by hand"):
    """Make a profile of one channel: a gamma, or a curve's points as a dot gain has them."""
    points = [gamma] if curve is None else curve
    return _profile(b"GRAY", {b"kTRC": _sampled(points)}, name, version=_V2)


def table_profile(primaries, *, gamma=2.2, both_ways=True, kind=b"mntr", cyan=1.0):
    """Make a profile of tables to XYZ and, where wanted, back; scanners often have no way back.

    Cyan may be darker than green and blue make it: no matrix can say that.
    """
    matrix = colorants(primaries, D65_XY)
    axis = np.linspace(0.0, 1.0, 4096)
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)
    linear = np.array([0.0, 1.0])
    # XYZ is stored as if 2 were the highest.
    colours = corners @ matrix.T / 2
    colours[3] *= cyan
    tags = {b"A2B0": _tables(np.eye(3), axis**gamma, colours, linear)}
    if both_ways:
        # The matrix gets XYZ as stored, and makes of it half of linear RGB.
        curve = np.minimum(axis * 2.0, 1.0) ** (1.0 / gamma)
        tags[b"B2A0"] = _tables(np.linalg.inv(matrix), linear, corners, curve)
    return _profile(b"RGB ", tags, "made by hand", version=_V2, kind=kind)


def _xyz(xy):
    x, y = xy
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _profile(space, tags, name, *, version, kind=b"mntr"):
    tags = {
        b"desc": _description(name, version),
        b"cprt": _copyright(version),
        b"wtpt": _xyz_tag(D50),
    } | tags
    start = 128 + 4 + 12 * len(tags)
    directory, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        directory += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"\0" * 4, version, kind, space, b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp").ljust(44, b"\0")
    return (header + _fixed(D50)).ljust(128, b"\0") + directory + body


def _fixed(values):
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz_tag(values):
    return b"XYZ " + bytes(4) + _fixed(values)


def _sampled(points):
    """Return a curve: one number is a gamma, more are shares."""
    if len(points) == 1:
        return b"curv" + struct.pack(">IIH", 0, 1, round(points[0] * 256))
    levels = np.rint(np.asarray(points) * 65535).astype(">u2")
    return b"curv" + struct.pack(">II", 0, len(levels)) + levels.tobytes()


def _parametric(parameters):
    return b"para" + struct.pack(">IHH", 0, 3, 0) + _fixed(parameters)


def _tables(matrix, before, grid, after):
    """Return a 16-bit table of 2 points a side (lut16Type) with its curves."""
    header = b"mft2" + struct.pack(">I4B", 0, 3, 3, 2, 0) + _fixed(matrix.ravel())
    header += struct.pack(">2H", len(before), len(after))
    parts = (np.tile(before, 3), np.ravel(grid), np.tile(after, 3))
    return header + b"".join(
        np.rint(np.clip(part, 0, 1) * 65535).astype(">u2").tobytes() for part in parts
    )


def _description(name, version):
    if version == _V4:
        text = name.encode("utf-16-be")
        return b"mluc" + struct.pack(">3I4s2I", 0, 1, 12, b"enUS", len(text), 28) + text
    text = name.encode() + b"\0"
    return b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78)


def _copyright(version):
    if version == _V4:
        return _description("none", version)
    return b"text" + bytes(4) + b"none\0"
