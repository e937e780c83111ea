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
    assert list(json.loads(Recipe().canonical())) == sorted(Recipe.model_fields)


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
        {"strenght": 0.5},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        Recipe(**wrong)


def test_a_recipe_cannot_be_changed_after_it_was_made():
    with pytest.raises(ValidationError):
        Recipe().strength = 0.5
