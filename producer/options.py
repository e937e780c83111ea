"""Arguments that several commands share, and an option for every setting of a recipe.

The recipe's own fields give the options their types, limits, defaults and help, so that a new
setting appears in every command that takes a recipe.
"""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import annotated_types
import typer
from pydantic import ByteSize, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from jobs.hours import ALWAYS, Always, Hours
from jobs.recipe import Recipe

_FLAGS = {"min_eye_distance_px": "--min-eye-distance", "jpeg_quality": "--quality"}
"""Options that aren't called like their fields."""

Source = Annotated[
    str, typer.Argument(metavar="SRC", help="Directory or s3://bucket/prefix with the masters.")
]
WeightsOption = Annotated[
    str,
    typer.Option(help="A name that workers know, a weights file, or its sha256."),
]
WeightsHere = Annotated[
    str, typer.Option(envvar="GPEN_WEIGHTS", help="A known name or a weights file.")
]

_SIZE: TypeAdapter[int] = TypeAdapter(Annotated[ByteSize, Field(gt=0)])


def _size(typed: str | None) -> str | None:
    """Refuse what is no size at once: the worker, which reads it too, starts much later.

    Raises:
        typer.BadParameter: it isn't one.
    """
    try:
        if typed is not None:
            _SIZE.validate_python(typed)
    except ValidationError as error:
        raise typer.BadParameter(f"{typed!r} is no size above 0, such as 2GB or 500MiB") from error
    return typed


VramLimit = Annotated[
    str | None,
    typer.Option(
        envvar="GPEN_VRAM_LIMIT",
        metavar="SIZE",
        help="Use no more of the card, such as 2GB.",
        callback=_size,
    ),
]

Window = Annotated[
    str | None,
    typer.Option(metavar="HOURS", help=f"Run only then, such as 22:00-06:00, or `{ALWAYS}`."),
]


def hours(text: str | None) -> Hours | Always | None:
    """Read an option's or argument's hours; None where it wasn't given.

    Raises:
        typer.BadParameter: they aren't of the form.
    """
    if text is None:
        return None
    try:
        return ALWAYS if text == ALWAYS else Hours.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; or say `{ALWAYS}`") from error


DEFAULT = Recipe()


def with_recipe(
    command: Callable[..., None], *, besides: Collection[str] = ()
) -> Callable[..., None]:
    """Give a command that takes the keyword `recipe` an option for each of its fields.

    Args:
        command: gets a recipe of the chosen options; which weights, it decides itself.
        besides: fields that the command decides too.

    Returns:
        The command for Typer. A value that no range catches, such as `nan`, is a wrong use.
    """
    fields = {
        name: field
        for name, field in Recipe.model_fields.items()
        if name != "weights" and name not in besides
    }

    @functools.wraps(command)
    def wrapped(*args: object, **kwargs: object) -> None:
        chosen = {name: kwargs.pop(name) for name in fields}
        command(*args, recipe=make_recipe(**chosen), **kwargs)

    own = inspect.signature(command, eval_str=True).parameters
    parameters = [parameter for name, parameter in own.items() if name != "recipe"]
    parameters += [_parameter(name, field) for name, field in fields.items()]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {one.name: one.annotation for one in parameters}
    return wrapped


def make_recipe(**values: object) -> Recipe:
    """Return the recipe for a command's options.

    Raises:
        typer.BadParameter: a value that no range catches.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(map(_fault, error.errors()))) from error


def _fault(error: ErrorDetails) -> str:
    """Return a fault as a sentence; one that concerns no single setting names them itself."""
    said = error["msg"].removeprefix("Value error, ")
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {said}" if where else said


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kind: Any = field.annotation
    least = next((one.ge for one in field.metadata if isinstance(one, annotated_types.Ge)), None)
    most = next((one.le for one in field.metadata if isinstance(one, annotated_types.Le)), None)
    if get_origin(kind) is Literal and not isinstance(get_args(kind)[0], str):
        kind = type(get_args(kind)[0])
    flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
    flag = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    option = typer.Option(
        flag,
        min=cast("float | None", least),
        max=cast("float | None", most),
        help=field.description,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind, option],
    )
