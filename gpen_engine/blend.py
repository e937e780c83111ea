"""Paste restored faces back: on their regions only, at the picture's own depth, in no order.

In: a picture `(H, W, 3) uint8|uint16 RGB` and patches. Out: a new picture; where no patch has
weight, its pixels are the input's bit for bit. Where patches overlap, each counts by its weight,
so the result doesn't depend on which came first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpen_engine.align import Matrix, footprint, invert, scale_of, shifted, warp
from gpen_engine.faces import Detail, Pixels, Region


@dataclass(frozen=True, slots=True)
class Patch:
    """What one face would change.

    Attributes:
        region: where.
        change: `(h, w, 3) float32`, to be added to the picture, in its levels.
        weight: `(h, w) float32 in [0, 1]`.
        detail: whose finest detail the result has.
    """

    region: Region
    change: NDArray[np.float32]
    weight: NDArray[np.float32]
    detail: Detail


def make_patch(
    image: Pixels,
    crop: NDArray[np.float32],
    restored: NDArray[np.float32],
    mask: NDArray[np.float32],
    matrix: Matrix,
) -> Patch:
    """Bring the network's change of a face back to its place.

    The change and not the face is resampled: what the network left alone stays sharp, and a face
    larger than the network's picture keeps the detail that the network never saw.

    Args:
        image: the photograph.
        crop: the aligned face as the network saw it, `(S, S, 3)` in the photograph's levels.
        restored: the network's answer, the same shape and levels.
        mask: `(S, S)` weights.
        matrix: from photograph to crop.
    """
    size = crop.shape[0]
    region = footprint(matrix, size, image.shape)
    x0, y0, x1, y1 = region
    back = invert(shifted(matrix, region))
    extent = (x1 - x0, y1 - y0)
    weight = np.clip(warp(mask, back, extent), 0.0, 1.0)
    own = image[y0:y1, x0:x1]
    change = warp(restored - crop, back, extent)
    detail = Detail.PHOTOGRAPH if scale_of(matrix) < 1.0 else Detail.NETWORK
    if _is_gray(own):
        change = np.repeat(change.mean(axis=2, keepdims=True), 3, axis=2)
    return _trimmed(Patch(region, change, weight, detail))


def paste(image: Pixels, patches: Sequence[Patch]) -> Pixels:
    """Return a copy of `image` with all patches applied."""
    result = image.copy()
    top = np.iinfo(image.dtype).max
    for group in _overlapping(patches):
        x0 = min(patch.region[0] for patch in group)
        y0 = min(patch.region[1] for patch in group)
        x1 = max(patch.region[2] for patch in group)
        y1 = max(patch.region[3] for patch in group)
        total = np.zeros((y1 - y0, x1 - x0, 1), np.float32)
        change = np.zeros((y1 - y0, x1 - x0, 3), np.float32)
        # Sums depend on their order in the last bit.
        for patch in sorted(group, key=lambda patch: patch.region):
            left, upper, right, lower = patch.region
            part = np.s_[upper - y0 : lower - y0, left - x0 : right - x0]
            weight = patch.weight[:, :, None]
            total[part] += weight
            change[part] += weight * patch.change
        change /= np.maximum(total, 1.0)
        part = np.s_[y0:y1, x0:x1]
        levels = np.clip(np.rint(image[part] + change), 0, top).astype(image.dtype)
        result[part] = np.where(total > 0, levels, image[part])
    return result


def _is_gray(pixels: Pixels) -> bool:
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return bool((red == green).all() and (green == blue).all())


def _trimmed(patch: Patch) -> Patch:
    """Cut the region down to where the patch has weight."""
    rows = np.flatnonzero(patch.weight.any(axis=1))
    columns = np.flatnonzero(patch.weight.any(axis=0))
    if not len(rows):
        return patch
    upper, lower = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    x0, y0, _, _ = patch.region
    region = (x0 + left, y0 + upper, x0 + right, y0 + lower)
    part = np.s_[upper:lower, left:right]
    return Patch(region, patch.change[part], patch.weight[part], patch.detail)


def _overlapping(patches: Sequence[Patch]) -> list[list[Patch]]:
    """Group patches whose regions touch, directly or through others."""
    groups: list[list[Patch]] = []
    for patch in patches:
        touching = [group for group in groups if any(_meet(patch, other) for other in group)]
        groups = [group for group in groups if not any(group is one for one in touching)]
        groups.append([member for group in touching for member in group] + [patch])
    return groups


def _meet(one: Patch, other: Patch) -> bool:
    ax0, ay0, ax1, ay1 = one.region
    bx0, by0, bx1, by1 = other.region
    return ax0 < bx1 and bx0 < ax1 and ay0 < by1 and by0 < ay1
