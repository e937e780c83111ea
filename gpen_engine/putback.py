"""Restored faces back into the picture: answers of the network in, a picture and outcomes out.

The picture they go into is the photograph, or its restored background, which may be larger. Only
what the network changed is pasted (docs/adr/0006).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpen_engine.align import FaceView
from gpen_engine.batch import Answer
from gpen_engine.blend import Patch, make_patch, paste
from gpen_engine.faces import Face, FaceOutcome, Finish, Mask, Pixels, Reason

Masks = Callable[[Tensor], NDArray[np.float32]]
"""`(3, S, S) float in [-1, 1]`, a restored face -> `(S, S) float32 in [0, 1]`."""


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    """A face, where its crop lies in the photograph, and the crop `(s, s, 3) float32`."""

    face: Face
    view: FaceView
    crop: NDArray[np.float32]


def put_back(
    photograph: Pixels,
    canvas: Pixels,
    answers: Mapping[AlignedFace, Answer],
    *,
    finish: Finish,
    masks: Masks,
    protected: Mask | None = None,
) -> tuple[Pixels, dict[Face, FaceOutcome]]:
    """Paste restored faces and say what became of each.

    Args:
        photograph: the picture that the crops were cut from.
        canvas: what they are pasted onto: the photograph, or a picture so many times as large.
        answers: what the network made of each face.
        finish: how they are put back.
        masks: bounds a face.
        protected: `(H, W) bool` of the photograph, never touched.
    """
    factor = canvas.shape[0] / photograph.shape[0]
    protected = _enlarged(protected, canvas)
    patches: list[Patch] = []
    outcomes: dict[Face, FaceOutcome] = {}
    for aligned, answer in answers.items():
        if answer.face is None:
            outcomes[aligned.face] = FaceOutcome(
                aligned.face, restored=False, reason=Reason.BAD_OUTPUT
            )
            continue
        view, before = aligned.view, aligned.crop
        side = answer.face.shape[-1]
        if canvas is not photograph or side != view.size:
            view = view.enlarged(factor).sized(side)
            before = view.crop(canvas)
        half = float(np.iinfo(canvas.dtype).max) / 2.0
        face = answer.face.clamp(-1, 1)
        restored = ((face + 1.0) * half).permute(1, 2, 0).numpy()
        patch = make_patch(
            canvas, view, before, restored, masks(face), finish=finish, protected=protected
        )
        patches.append(patch)
        outcomes[aligned.face] = FaceOutcome(
            aligned.face, restored=True, region=patch.region, detail=patch.detail
        )
    return paste(canvas, patches), outcomes


def _enlarged(protected: Mask | None, canvas: Pixels) -> Mask | None:
    if protected is None or protected.shape == canvas.shape[:2]:
        return protected
    height, width = canvas.shape[:2]
    areas = cv2.resize(protected.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(areas, np.bool_)
