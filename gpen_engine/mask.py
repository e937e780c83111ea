"""The soft mask of an aligned face: how much of each pixel the restored face replaces.

In: the crop's size. Out: `(size, size) float32 in [0, 1]`, exactly 0 well inside the crop's
border, so that a paste never shows the crop's edge.
"""

import numpy as np
from numpy.typing import NDArray

# An ellipse around the template's face, from the hairline to below the chin, in shares of the
# crop's side. Judged by eye on aligned portraits; the restored hair and neck outside it are never
# needed.
_CENTRE = (0.5, 0.56)
_RADII = (0.33, 0.39)
_CORE = 0.62
"""Share of the radius within which the mask is 1."""


def soft_face_mask(size: int) -> NDArray[np.float32]:
    """Return the mask, falling smoothly from 1 in the face to 0 at the ellipse."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    across = (axis[None, :] - _CENTRE[0]) / _RADII[0]
    down = (axis[:, None] - _CENTRE[1]) / _RADII[1]
    distance = np.sqrt(across**2 + down**2)
    ramp = np.clip((1.0 - distance) / (1.0 - _CORE), 0.0, 1.0)
    return np.asarray(ramp * ramp * (3.0 - 2.0 * ramp), np.float32)
