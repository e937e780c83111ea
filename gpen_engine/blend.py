"""Paste restored faces back: on their regions only, at the picture's own depth, in no order.

In: a picture `(H, W, 3) uint8|uint16 RGB` and patches. Out: pieces of a new picture; where no patch
has weight, its pixels are the input's bit for bit. Where patches overlap, each counts by its
weight, so the result doesn't depend on which came first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gpen_engine.align import FaceView, Picture
from gpen_engine.colour import ColourSpace, own_change
from gpen_engine.faces import Detail, Finish, Mask, Pixels, Region
from gpen_engine.finish import (
    Flags,
    grain_between,
    grain_of,
    is_gray,
    lost_texture,
    luma,
    tone_of,
)

# In shares of the crop's side in the photograph, which is 4.8 times the distance of the eyes.
_TEXTURE_RADIUS = 0.006
_FEATHER = 0.05
_FEATHER_LEAST_PX = 4.0
_STRIP_ROWS = 256
"""So many rows are blended at once: a face may be as large as the picture."""
_DEPTHS = {np.dtype(np.uint8): cv2.CV_8U, np.dtype(np.uint16): cv2.CV_16U}


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What one face would change.

    Attributes:
        region: where.
        change: `(h, w, 1 or 3) float32`, to be added to the picture, in its levels; one channel
            for all three.
        weight: `(h, w) float32 in [0, 1]`.
        detail: whose finest detail the result has.
    """

    region: Region
    change: Picture
    weight: Picture
    detail: Detail


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A part of a restored picture.

    Attributes:
        region: where.
        pixels: `(h, w, 3)`, the picture's dtype.
    """

    region: Region
    pixels: Pixels


def make_patch(
    image: Pixels,
    view: FaceView,
    crop: Picture,
    restored: Picture,
    mask: Picture,
    *,
    finish: Finish | None = None,
    protected: Mask | None = None,
    colour: ColourSpace | None = None,
) -> Patch:
    """Bring the network's change of a face back to its place.

    The change and not the face is resampled: what the network left alone stays sharp, and a face
    larger than the network's picture keeps the detail that the network never saw.

    Args:
        image: the photograph.
        view: from the photograph to the aligned face.
        crop: the aligned face as the network saw it, `(S, S, 3)` in the photograph's levels.
        restored: the network's answer, the same shape and levels.
        mask: `(S, S)` weights.
        finish: how the face is put back.
        protected: areas of the photograph that are never touched.
        colour: what the photograph's samples mean; then `crop` and `restored` are in sRGB, and the
            change is brought back to the photograph's own samples before it is pasted.
    """
    finish = finish or Finish()
    region = view.region_of(_extent(mask))
    x0, y0, x1, y1 = region
    own = image[y0:y1, x0:x1]
    weight = np.clip(view.bring_back(mask, region), 0.0, 1.0)
    aligned = _in_tone(crop, restored, mask, own, weight > 0)
    if colour is not None:
        aligned = _in_own_samples(crop, aligned, colour, _top(image))
    change = view.bring_back(aligned, region).reshape(y1 - y0, x1 - x0, -1)
    if finish.texture > 0:
        radius_px = max(_TEXTURE_RADIUS * view.side_px, 1.0)
        change = change + np.float32(finish.texture) * lost_texture(
            own[..., : change.shape[2]].astype(np.float32), change, radius_px
        )
    if finish.grain:
        change = _grained(image, view, change, weight, region)
    weight = weight * np.float32(finish.strength)
    if protected is not None:
        weight = weight * _open(protected, region, max(_FEATHER * view.side_px, _FEATHER_LEAST_PX))
    detail = Detail.PHOTOGRAPH if view.scale < 1.0 else Detail.NETWORK
    return _trimmed(Patch(region, change, weight, detail))


def blend(image: Pixels, patches: Sequence[Patch]) -> tuple[Piece, ...]:
    """Return what `image` has to hold where patches are, in the order of their places."""
    # Sums depend on their order in the last bit.
    ordered = sorted(patches, key=lambda patch: patch.region)
    return tuple(Piece(patch.region, _blended(image, patch.region, ordered)) for patch in ordered)


def _in_tone(crop: Picture, restored: Picture, mask: Picture, own: Pixels, where: Flags) -> Picture:
    """Return the aligned change in the tone of the photograph; one channel where it is gray."""
    if is_gray(own, where):
        return luma(restored - crop)
    tone = tone_of(crop, _top(own))
    return restored - crop if tone is None else tone.change(crop, restored, mask, _top(own))


def _in_own_samples(crop: Picture, change: Picture, colour: ColourSpace, top: float) -> Picture:
    """Return an aligned change, `(S, S, 1 or 3)` in sRGB, as one of the photograph's samples."""
    if change.shape[2] == 3:
        return own_change(crop, crop + change, colour, top)
    before = luma(crop)
    return luma(own_change(_in_three(before), _in_three(before + change), colour, top))


def _in_three(gray: Picture) -> Picture:
    return np.asarray(cv2.merge([gray] * 3), np.float32)


def _grained(
    image: Pixels, view: FaceView, change: Picture, weight: Picture, region: Region
) -> Picture:
    """Add the grain that the photograph has around the face and the restored face hasn't."""
    top = _top(image)
    wide = view.region
    around = np.ones((wide[3] - wide[1], wide[2] - wide[0]), np.bool_)
    part = _inside(wide, region)
    around[part] = weight[_inside(region, wide)] == 0
    light = luma(_own(image, wide, 3))
    face = luma(_own(image, region, change.shape[2]) + change)
    grain = grain_between(
        grain_of(light, around, top), grain_of(face, weight > 0.9, top), weight.shape, region
    )
    return change if grain is None else change + grain


def _blended(image: Pixels, region: Region, patches: Sequence[Patch]) -> Pixels:
    """Return the pixels of a region with all patches that reach into it applied."""
    x0, y0, x1, y1 = region
    blended = np.empty((y1 - y0, x1 - x0, 3), image.dtype)
    for top in range(y0, y1, _STRIP_ROWS):
        strip = x0, top, x1, min(top + _STRIP_ROWS, y1)
        # Where patches overlap, the pieces of all of them hold the same sum.
        near = [patch for patch in patches if _meet(patch.region, strip)]
        blended[_inside(region, strip)] = _blended_strip(image, strip, near)
    return blended


def _blended_strip(image: Pixels, region: Region, patches: Sequence[Patch]) -> Pixels:
    x0, y0, x1, y1 = region
    own = image[y0:y1, x0:x1]
    if len(patches) == 1:
        change = _weighted(patches[0], _inside(patches[0].region, region))
    else:
        change = np.zeros(own.shape, np.float32)
        total = np.zeros(own.shape[:2], np.float32)
        for patch in patches:
            there, here = _inside(region, patch.region), _inside(patch.region, region)
            total[there] += patch.weight[here]
            change[there] += _weighted(patch, here)
        change /= np.maximum(total, 1.0)[:, :, None]
    # Adds, rounds and cuts to the range in one pass; no weight adds nothing.
    blended: Pixels = np.asarray(cv2.add(own, change, dtype=_DEPTHS[image.dtype]))  # type: ignore[assignment]
    return blended


def _weighted(patch: Patch, part: tuple[slice, slice]) -> Picture:
    change, weight = patch.change[part], patch.weight[part]
    if change.shape[2] == 1:
        return _in_three(change[..., 0] * weight)
    return np.asarray(cv2.multiply(change, cv2.merge([weight] * 3), dtype=cv2.CV_32F), np.float32)


def _open(protected: Mask, region: Region, feather_px: float) -> Picture:
    """Return 0 in protected areas, growing smoothly to 1 at `feather_px` from them."""
    x0, y0, x1, y1 = region
    margin = int(np.ceil(feather_px))
    left, upper = max(x0 - margin, 0), max(y0 - margin, 0)
    free = ~protected[upper : y1 + margin, left : x1 + margin]
    if free.all():
        return np.ones((y1 - y0, x1 - x0), np.float32)
    distance = cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ramp = np.clip(distance[y0 - upper :, x0 - left :] / np.float32(feather_px), 0.0, 1.0)
    ramp = ramp[: y1 - y0, : x1 - x0]
    return np.asarray(ramp * ramp * (3.0 - 2.0 * ramp), np.float32)


def _top(image: Pixels) -> float:
    return float(np.iinfo(image.dtype).max)


def _own(image: Pixels, region: Region, channels: int) -> Picture:
    x0, y0, x1, y1 = region
    return image[y0:y1, x0:x1, :channels].astype(np.float32)


def _extent(mask: Picture) -> Region:
    """Return the part of a mask that has weight; all of it when none has."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, mask.shape[1], mask.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _trimmed(patch: Patch) -> Patch:
    """Cut the region down to where the patch has weight."""
    left, upper, right, lower = _extent(patch.weight)
    x0, y0, _, _ = patch.region
    region = (x0 + left, y0 + upper, x0 + right, y0 + lower)
    part = np.s_[upper:lower, left:right]
    return Patch(region, patch.change[part], patch.weight[part], patch.detail)


def _inside(frame: Region, region: Region) -> tuple[slice, slice]:
    """Return what two regions share, as a part of `frame`."""
    x0, y0, x1, y1 = frame
    left, upper, right, lower = region
    return (
        slice(max(upper, y0) - y0, min(lower, y1) - y0),
        slice(max(left, x0) - x0, min(right, x1) - x0),
    )


def _meet(one: Region, other: Region) -> bool:
    ax0, ay0, ax1, ay1 = one
    bx0, by0, bx1, by1 = other
    return ax0 < bx1 and bx0 < ax1 and ay0 < by1 and by0 < ay1
