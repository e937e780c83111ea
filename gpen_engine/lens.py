"""Radial distortion of a camera: where a point lies with it, and where without.

In and out: points `(..., 2)` in pixels of the upright image, x right, y down. The model is
OpenCV's, radial terms only: with the radius r of the straight point in units of half the
picture's longest side, measured from the picture's centre, the photograph shows it at
r·(1 + k1·r² + k2·r⁴).
"""

import numpy as np
from numpy.typing import NDArray

from gpen_engine.faces import Lens

Points = NDArray[np.float64]

_FARTHEST = 3.0
"""Radius up to which the model is inverted; a picture's corner is at most at 1.42."""
_STEPS = 4096


def distorted(points: Points, lens: Lens, shape: tuple[int, int]) -> Points:
    """Return where the photograph of `shape` = (height, width) shows straight points."""
    straight, bent = _radii(lens)
    return _moved(points, shape, straight, bent)


def undistorted(points: Points, lens: Lens, shape: tuple[int, int]) -> Points:
    """Return where points of the photograph would lie without the lens's distortion."""
    straight, bent = _radii(lens)
    return _moved(points, shape, bent, straight)


def _radii(lens: Lens) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return straight radii and the bent ones that belong to them, both growing.

    A barrel turns back somewhere: beyond that the model says nothing about a real lens.
    """
    straight = np.linspace(0.0, _FARTHEST, _STEPS)
    bent = straight * (1.0 + lens.k1 * straight**2 + lens.k2 * straight**4)
    falls = np.flatnonzero(np.diff(bent) <= 0.0)
    end = max(int(falls[0]), 1) + 1 if len(falls) else _STEPS
    return straight[:end], bent[:end]


def _moved(
    points: Points,
    shape: tuple[int, int],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
) -> Points:
    """Move points along their radius, from the radii `before` to those `after`."""
    height, width = shape
    centre = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
    unit = max(width, height) / 2.0
    offset = (points - centre) / unit
    radius = np.hypot(offset[..., 0], offset[..., 1])
    grown = np.interp(radius, before, after) / np.maximum(radius, 1e-12)
    return np.asarray(centre + unit * offset * grown[..., None], np.float64)
