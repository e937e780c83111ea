"""From a recipe to what the engine is asked to do."""

from collections.abc import Sequence

import numpy as np

from gpen_engine import FacePolicy, Finish, LargeFaces, Lens, MaskKind, Treatment
from gpen_engine.faces import Mask, Point
from jobs.recipe import Recipe
from worker.codec import Photograph


def treatment_of(recipe: Recipe, *, leave: Sequence[Point] = ()) -> Treatment:
    """Return the treatment that a recipe describes.

    Args:
        recipe: the job's recipe.
        leave: points of this one photo; the faces there are left alone.
    """
    return Treatment(
        faces=FacePolicy(
            min_score=recipe.min_score,
            min_eye_distance_px=recipe.min_eye_distance_px,
            max_faces=recipe.max_faces,
            rotations=recipe.rotations,
            large=LargeFaces(recipe.large_faces),
            profiles=recipe.profiles,
            cut_off=recipe.cut_off,
            leave=tuple(leave),
        ),
        finish=Finish(
            strength=recipe.strength,
            texture=recipe.texture,
            grain=recipe.grain,
            mask=MaskKind(recipe.mask),
            lens=Lens(*recipe.undistort) if recipe.undistort else None,
        ),
        background_scale=recipe.background_scale,
        compatible=recipe.compatible,
    )


def white_areas(mask: Photograph) -> Mask:
    """Return where a mask's first page is brighter than half: `(H, W) bool`."""
    pixels = mask.pages[0].pixels
    return np.asarray(pixels.max(axis=2) > np.iinfo(pixels.dtype).max // 2)
