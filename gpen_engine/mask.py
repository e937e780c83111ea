"""The soft mask of an aligned face: how much of each pixel the restored face replaces.

In: the crop's size. Out: `(size, size) float32 in [0, 1]`, exactly 0 well inside the crop's
border, so that a paste never shows the crop's edge.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpen_engine.faces import Template


class _Ellipse(NamedTuple):
    """Centre and radii, (x, y) in shares of the crop's side."""

    centre: tuple[float, float]
    radii: tuple[float, float]


# From the hairline to below the chin. Judged by eye on aligned portraits; the restored hair and
# neck outside are never needed. FFHQ's template shows a face 1.17 times as large.
_FACE = {
    Template.GPEN: _Ellipse((0.5, 0.56), (0.33, 0.39)),
    Template.FFHQ: _Ellipse((0.5, 0.55), (0.38, 0.41)),
}
_CORE = 0.55
"""Share of the radius within which the mask is 1."""


def soft_face_mask(size: int, kind: Template = Template.GPEN) -> NDArray[np.float32]:
    """Return the mask, falling smoothly from 1 in the face to 0 at the ellipse."""
    centre, radii = _FACE[kind]
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    across = (axis[None, :] - centre[0]) / radii[0]
    down = (axis[:, None] - centre[1]) / radii[1]
    distance = np.sqrt(across**2 + down**2)
    ramp = np.clip((1.0 - distance) / (1.0 - _CORE), 0.0, 1.0)
    return np.asarray(ramp * ramp * (3.0 - 2.0 * ramp), np.float32)
