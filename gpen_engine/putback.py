"""One restored face back to its place: the network's answer in, a patch out.

The patch is for the photograph, or for its restored background, which may be larger. Only what the
network changed is pasted (docs/adr/0006).
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpen_engine.align import FaceView
from gpen_engine.blend import Patch, make_patch
from gpen_engine.colour import ColourSpace, seen_as_srgb
from gpen_engine.faces import Face, Finish, Mask, Pixels

Masks = Callable[[Tensor], NDArray[np.float32]]
"""`(3, S, S) float in [-1, 1]`, a restored face -> `(S, S) float32 in [0, 1]`."""


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    """A face, where its crop lies in the photograph, and the crop as the network sees it.

    Attributes:
        face: the face.
        view: where its crop lies.
        crop: `(s, s, 3) float32` in sRGB, in the photograph's levels (0 to 255 or 0 to 65535).
    """

    face: Face
    view: FaceView
    crop: NDArray[np.float32]


def cut_out(
    view: FaceView, picture: Pixels, colour: ColourSpace | None = None
) -> NDArray[np.float32]:
    """Return a face's crop as the network is to see it, in the picture's levels."""
    crop = view.crop(picture)
    if colour is None:
        return crop
    return seen_as_srgb(crop, colour, float(np.iinfo(picture.dtype).max))


def patch_of(
    aligned: AlignedFace,
    answer: Tensor,
    photograph: Pixels,
    canvas: Pixels,
    mask: NDArray[np.float32],
    *,
    finish: Finish,
    protected: Mask | None = None,
    colour: ColourSpace | None = None,
) -> Patch:
    """Return what a restored face changes.

    Args:
        aligned: the face as it went into the network.
        answer: `(3, S, S) float32 in [-1, 1]`, as it came out.
        photograph: the picture that it was cut from.
        canvas: what it is pasted onto: the photograph, or a picture so many times as large.
        mask: `(S, S) float32 in [0, 1]`.
        finish: how it is put back.
        protected: `(H, W) bool` of the photograph, never touched.
        colour: what the samples of photograph and canvas mean, where they aren't sRGB.
    """
    view, before = aligned.view, aligned.crop
    height, width = canvas.shape[:2]
    if canvas is not photograph or answer.shape[-1] != view.size:
        view = view.enlarged(height / view.shape[0]).sized(answer.shape[-1])
        before = cut_out(view, canvas, colour)
    half = float(np.iinfo(canvas.dtype).max) / 2.0
    restored = ((answer + 1.0) * half).permute(1, 2, 0).numpy()
    return make_patch(
        canvas,
        view,
        before,
        restored,
        mask,
        finish=finish,
        protected=_enlarged(protected, (width, height)),
        colour=colour,
    )


def _enlarged(protected: Mask | None, size: tuple[int, int]) -> Mask | None:
    if protected is None or protected.shape == size[::-1]:
        return protected
    areas = cv2.resize(protected.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(areas, np.bool_)
