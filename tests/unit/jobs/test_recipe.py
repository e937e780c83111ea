import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.recipe import Recipe

RECIPES = st.builds(
    Recipe,
    weights=st.text(),
    strength=st.floats(0, 1),
    min_score=st.floats(0, 1),
    max_faces=st.integers(0, 1000),
    output=st.sampled_from(["same", "png", "tiff", "jpeg"]),
    jpeg_quality=st.integers(1, 95),
    rotations=st.booleans(),
    undistort=st.none() | st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    background_scale=st.sampled_from([0, 1, 2, 4]),
)


@given(RECIPES)
def test_a_recipe_survives_being_stored_with_its_hash(recipe):
    again = Recipe.from_canonical(recipe.canonical())
    assert again == recipe
    assert again.hash() == recipe.hash()


@given(RECIPES, RECIPES)
def test_recipes_have_one_hash_exactly_when_they_are_equal(one, other):
    assert (one.hash() == other.hash()) == (one == other)


def test_every_setting_is_part_of_the_hash_whatever_the_order_they_are_written_in():
    other = Recipe(
        weights="x",
        strength=0.5,
        min_score=0.8,
        min_eye_distance_px=7,
        max_faces=1,
        rotations=True,
        profiles=True,
        cut_off=False,
        large_faces="leave",
        texture=0.5,
        grain=True,
        mask="soft",
        undistort=(0.1, 0.0),
        background_scale=2,
        output="png",
        jpeg_quality=90,
    )
    settings = set(Recipe.model_fields) - {"compatible"}
    assert set(json.loads(other.canonical())) == settings | {"version"}
    other = Recipe(compatible=True)
    assert json.loads(other.canonical()) == {"compatible": True, "version": 2}


def test_a_default_is_left_out_so_that_a_new_setting_changes_no_hash_of_before():
    assert Recipe().canonical() == '{"version":2}'
    assert Recipe(strength=1.0, max_faces=3).canonical() == '{"max_faces":3,"version":2}'


def test_a_whole_number_means_the_same_as_a_fraction():
    assert Recipe(strength=1).hash() == Recipe(strength=1.0).hash()


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": 1.1},
        {"strength": -0.1},
        {"strength": float("nan")},
        {"jpeg_quality": 0},
        {"output": "gif"},
        {"max_faces": -1},
        {"background_scale": 3},
        {"undistort": (0.1,)},
        {"undistort": (float("nan"), 0.0)},
        {"undistort": (-3.0, 0.0)},
        {"compatible": True, "texture": 0.5},
        {"compatible": True, "undistort": (0.1, 0.0)},
        {"strenght": 0.5},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        Recipe(**wrong)


def test_a_recipe_cannot_be_changed_after_it_was_made():
    with pytest.raises(ValidationError):
        Recipe().strength = 0.5


def test_a_recipe_of_the_first_version_keeps_what_was_its_default():
    assert Recipe.from_canonical('{"strength":0.5,"version":1}') == Recipe(
        strength=0.5, profiles=True
    )
