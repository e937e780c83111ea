"""Every setting of a recipe is an option, with the recipe's own type, limits, default and help."""

import pytest
import typer
from typer.testing import CliRunner

from jobs.recipe import Recipe
from producer.options import make_recipe, with_recipe


@pytest.fixture
def cook():
    """A command that takes a recipe; returns what it was called with."""
    seen = []

    def command(dish: str, *, recipe: Recipe) -> None:
        seen.append((dish, recipe))

    app = typer.Typer()
    app.command()(with_recipe(command, besides=("output",)))

    def call(*arguments):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        return result, seen[-1] if seen else None

    return call


def test_without_options_it_is_the_default_recipe(cook):
    assert cook("soup")[1] == ("soup", Recipe())


def test_each_kind_of_setting_can_be_given(cook):
    _, (_, recipe) = cook(
        "soup", "--strength", 0.5, "--max-faces", 3, "--rotations", "--no-cut-off",
        "--large-faces", "leave", "--undistort", -0.1, 0.02, "--background-scale", 2,
        "--min-eye-distance", 9, "--quality", 80,
    )  # fmt: skip

    assert recipe == Recipe(
        strength=0.5,
        max_faces=3,
        rotations=True,
        cut_off=False,
        large_faces="leave",
        undistort=(-0.1, 0.02),
        background_scale=2,
        min_eye_distance_px=9,
        jpeg_quality=80,
    )


def test_every_setting_but_the_commands_own_has_an_option_with_its_help(cook):
    told = " ".join(cook("--help")[0].output.replace("│", " ").split())

    for name, field in Recipe.model_fields.items():
        own = name in {"weights", "output"}
        assert (" ".join(field.description.split()[:2]) in told) is not own


@pytest.mark.parametrize(
    "wrong",
    [
        ("--strength", "1.1"),
        ("--strength", "nan"),
        ("--background-scale", "3"),
        ("--mask", "square"),
        ("--max-faces", "-1"),
        ("--undistort", "0.1"),
        ("--output", "png"),
        ("--compatible", "--grain"),
    ],
)
def test_what_no_recipe_takes_is_a_usage_error(cook, wrong):
    result, seen = cook("soup", *wrong)

    assert result.exit_code == 2
    assert seen is None


def test_settings_that_exclude_each_other_are_told_in_a_plain_sentence(cook):
    result, _ = cook("soup", "--compatible", "--texture", 0.5)

    told = " ".join(result.output.replace("│", " ").split())
    assert "Invalid value: compatible goes without texture" in told


def test_a_setting_that_no_recipe_takes_is_named():
    with pytest.raises(typer.BadParameter, match=r"^strength: Input should be"):
        make_recipe(strength=2)
