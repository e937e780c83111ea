"""A recipe reaches the engine whole."""

import io

import numpy as np
from PIL import Image

from gpen_engine import FacePolicy, Finish, LargeFaces, Lens, MaskKind, Treatment
from jobs.recipe import Recipe
from worker.codec import decode
from worker.codec.limits import Limits
from worker.treatment import treatment_of, white_areas


def test_the_default_recipe_is_the_default_treatment():
    assert treatment_of(Recipe()) == Treatment()


def test_every_setting_arrives():
    recipe = Recipe(
        strength=0.5,
        min_score=0.8,
        min_eye_distance_px=9,
        max_faces=3,
        rotations=True,
        profiles=True,
        cut_off=False,
        large_faces="tile",
        texture=0.25,
        grain=True,
        mask="parsed",
        undistort=(0.1, -0.02),
        background_scale=4,
    )

    assert treatment_of(recipe, leave=[(1.0, 2.0)]) == Treatment(
        faces=FacePolicy(0.8, 9, 3, True, LargeFaces.TILE, True, False, ((1.0, 2.0),)),
        finish=Finish(0.5, 0.25, True, MaskKind.PARSED, Lens(0.1, -0.02)),
        background_scale=4,
    )
    assert treatment_of(Recipe(compatible=True)) == Treatment(compatible=True)


def test_white_areas_of_a_mask_are_protected():
    pixels = np.zeros((6, 9), np.uint8)
    pixels[2:4, 5:] = 200
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")

    areas = white_areas(decode(file.getvalue(), limits=Limits(1000)))

    assert areas.dtype == np.bool_
    np.testing.assert_array_equal(areas, pixels > 0)
