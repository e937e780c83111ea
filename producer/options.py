"""Arguments that several commands share, and the recipe they make."""

from enum import StrEnum
from typing import Annotated

import typer
from pydantic import ValidationError

from jobs.recipe import Recipe


class Output(StrEnum):
    """Container of the derivatives."""

    SAME = "same"
    PNG = "png"
    TIFF = "tiff"
    JPEG = "jpeg"


_RECIPE = "Recipe"

Source = Annotated[
    str, typer.Argument(metavar="SRC", help="Directory or s3://bucket/prefix with the masters.")
]
Strength = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="1 pastes the restored face, 0 keeps the photograph's own.",
        rich_help_panel=_RECIPE,
    ),
]
MinScore = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="The detector's score from which a find is taken for a face.",
        rich_help_panel=_RECIPE,
    ),
]
MinEyeDistance = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="Pixels between the eyes; smaller faces are left alone.",
        rich_help_panel=_RECIPE,
    ),
]
MaxFaces = Annotated[
    int,
    typer.Option(
        min=0, help="At most so many faces of a page are restored.", rich_help_panel=_RECIPE
    ),
]
Container = Annotated[
    Output,
    typer.Option(
        "--output",
        help="Container; `same` keeps a lossless master's and turns a lossy one into PNG.",
        rich_help_panel=_RECIPE,
    ),
]
Quality = Annotated[
    int, typer.Option(min=1, max=95, help="For --output jpeg.", rich_help_panel=_RECIPE)
]
WeightsOption = Annotated[
    str,
    typer.Option(
        help="A name that workers know, a weights file, or its sha256.", rich_help_panel=_RECIPE
    ),
]
WeightsHere = Annotated[
    str,
    typer.Option(
        envvar="GPEN_WEIGHTS", help="`compact` or a weights file.", rich_help_panel=_RECIPE
    ),
]

DEFAULT = Recipe()
DEFAULT_OUTPUT = Output(DEFAULT.output)


def make_recipe(**values: object) -> Recipe:
    """Return the recipe for a command's options.

    Raises:
        typer.BadParameter: a value that no range catches, such as `nan`.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise typer.BadParameter("; ".join(faults)) from error
