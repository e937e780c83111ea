"""A `Photograph` as JSON beside blocks of bytes, and back: nothing in it can name code to run.

Values of a closed set of classes, each checked against the types that the class declares. Arrays
and byte strings lie in the blocks, and stand in the JSON as a place.
"""

import dataclasses
import math
import operator
from collections.abc import Callable
from enum import Enum
from fractions import Fraction
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from worker.codec.conversion import Inks, Lab, PlainInks, Scaled
from worker.codec.limits import Limits
from worker.codec.native import Conversion
from worker.codec.photograph import Page, Photograph, Samples
from worker.decoding.arena import Arena

_KINDS = "buf"  # bool, whole numbers from 0, floats
_PICTURE_DIMENSIONS = 3
_RGB_CHANNELS = 3
_MOST_BITS = 64
_CONVERSIONS = Scaled | Inks | PlainInks | Lab

Block = tuple[memoryview, memoryview]
"""What lies in memory, and what lies on the disk."""


class WireError(ValueError):
    """What came isn't a photograph."""


def pack(photograph: Photograph, arena: Arena) -> object:
    """Return a photograph as JSON; the rest of it is then in the arena's files."""
    pages = tuple(
        # All channels of a gray page are the same.
        dataclasses.replace(page, pixels=page.pixels[:, :, :1]) if page.gray else page
        for page in photograph.pages
    )
    return _pack(dataclasses.replace(photograph, pages=pages), arena)


def unpack(message: object, block: Block, limits: Limits) -> Photograph:
    """Return the photograph, whose arrays are views of the blocks.

    Raises:
        WireError: it isn't one, or one that `limits` don't allow.
    """
    try:
        photograph = _unpack(message, Photograph, block)
    except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise WireError(f"not a photograph: {error}") from error
    assert isinstance(photograph, Photograph)  # noqa: S101 - `_unpack` returns what it is asked for
    _check(photograph, limits)
    pages = tuple(
        dataclasses.replace(page, pixels=_repeated(page.pixels)) if page.gray else page
        for page in photograph.pages
    )
    return dataclasses.replace(photograph, pages=pages)


def _pack(value: object, arena: Arena) -> object:  # noqa: C901, PLR0911 - a line for each kind
    if isinstance(value, Enum):
        return ["enum", value.value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):
        return ["bytes", *arena.add(value), len(value)]
    if isinstance(value, np.ndarray):
        return ["array", *arena.add(value), value.dtype.str, *value.shape]
    if isinstance(value, tuple):
        return ["tuple", *(_pack(item, arena) for item in value)]
    if isinstance(value, dict):
        return ["dict", *([_pack(k, arena), _pack(v, arena)] for k, v in value.items())]
    if isinstance(value, Fraction):
        return ["fraction", value.numerator, value.denominator]
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return [type(value).__name__, *(_pack(getattr(value, name), arena) for name in names)]
    return operator.index(value)  # type: ignore[arg-type]  # raises for what isn't a whole number


def _unpack(node: Any, hint: Any, block: Block) -> object:  # noqa: ANN401 - JSON and types
    if hint is Conversion:
        hint = _CONVERSIONS
    if get_origin(hint) in {Union, UnionType}:
        return _unpack_any(node, get_args(hint), block)
    if hint in {NoneType, bool, str, int, float}:
        if type(node) is not hint and not (hint is float and type(node) is int):
            raise WireError(f"{str(node)[:40]!r} where {hint} has to be")
        return node
    origin = get_origin(hint) or hint
    for kind, read in _READERS:
        if isinstance(origin, type) and issubclass(origin, kind):
            return read(_content(node, kind.__name__), hint, block)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _unpack_fields(_content(node, hint.__name__), hint, block)
    raise WireError(f"{hint} can't come")


def _unpack_any(node: object, hints: tuple[Any, ...], block: Block) -> object:
    for hint in hints:
        try:
            return _unpack(node, hint, block)
        except WireError:
            continue
    raise WireError(f"{str(node)[:40]!r} is none of {hints}")


def _content(node: object, tag: str) -> list[Any]:
    tag = {"ndarray": "array", "Enum": "enum", "Fraction": "fraction"}.get(tag, tag)
    if not isinstance(node, list) or not node or node[0] != tag:
        raise WireError(f"{str(node)[:40]!r} where {tag} has to be")
    return node[1:]


def _unpack_fields(content: list[Any], kind: type, block: Block) -> object:
    hints = _hints(kind)
    if len(content) != len(hints):
        raise WireError(f"{kind.__name__} with {len(content)} fields")
    values = (
        _unpack(node, hint, block) for node, hint in zip(content, hints.values(), strict=True)
    )
    return kind(*values)


def _unpack_bytes(content: list[Any], _hint: object, block: Block) -> bytes:
    file, at, length = content
    return bytes(_part(block, file, at, length))


def _unpack_array(content: list[Any], _hint: object, block: Block) -> NDArray[Any]:
    file, at, kind, *shape = content
    dtype = np.dtype(str(kind))
    if dtype.kind not in _KINDS or not 0 < len(shape) <= _PICTURE_DIMENSIONS:
        raise WireError(f"an array of {dtype} and {len(shape)} dimensions")
    if not all(type(side) is int and side > 0 for side in shape):
        raise WireError(f"an array of shape {shape}")
    part = _part(block, file, at, math.prod(shape) * dtype.itemsize)
    return np.frombuffer(part, dtype).reshape(shape)


def _unpack_tuple(content: list[Any], hint: object, block: Block) -> tuple[object, ...]:
    hints = get_args(hint)
    if hints[-1] is Ellipsis:
        return tuple(_unpack(node, hints[0], block) for node in content)
    return tuple(_unpack(node, item, block) for node, item in zip(content, hints, strict=True))


def _unpack_dict(content: list[Any], hint: object, block: Block) -> dict[object, object]:
    key, value = get_args(hint)
    return {_unpack(k, key, block): _unpack(v, value, block) for k, v in content}


def _unpack_enum(content: list[Any], hint: Any, _block: Block) -> object:  # noqa: ANN401 - a type
    (value,) = content
    return hint(value)


def _unpack_fraction(content: list[Any], _hint: object, _block: Block) -> Fraction:
    over, under = content
    return Fraction(operator.index(over), operator.index(under))


_READERS: tuple[tuple[type, Callable[[list[Any], Any, Block], object]], ...] = (
    (bytes, _unpack_bytes),
    (np.ndarray, _unpack_array),
    (tuple, _unpack_tuple),
    (dict, _unpack_dict),
    (Enum, _unpack_enum),
    (Fraction, _unpack_fraction),
)


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _repeated(gray: Samples) -> Samples:
    pixels: Samples = np.broadcast_to(gray, (*gray.shape[:2], _RGB_CHANNELS))  # type: ignore[assignment]
    return pixels


def _part(block: Block, file: object, at: object, length: int) -> memoryview:
    if type(file) is not int or not 0 <= file < len(block):
        raise WireError(f"a file {file!r}")
    if type(at) is not int or type(length) is not int or at < 0 or length < 0:
        raise WireError(f"a place {at!r} of {length!r} bytes")
    if at + length > len(block[file]):
        raise WireError("a place behind the end")
    return block[file][at : at + length]


def _check(photograph: Photograph, limits: Limits) -> None:
    """Check what types don't tell: what the pipeline relies on."""
    pages = photograph.pages
    if not 0 < len(pages) <= limits.max_pages:
        raise WireError(f"{len(pages)} pages")
    for page in pages:
        _check_page(page)
    if sum(page.pixels.shape[0] * page.pixels.shape[1] for page in pages) > limits.max_pixels:
        raise WireError("more pixels than the limit")


def _check_page(page: Page) -> None:
    channels = 1 if page.gray else _RGB_CHANNELS
    shape, kind = page.pixels.shape, page.pixels.dtype
    if len(shape) != _PICTURE_DIMENSIONS or shape[2] != channels:
        raise WireError(f"pixels of shape {shape}")
    if kind not in (np.uint8, np.uint16):
        raise WireError(f"pixels of {kind}")
    if page.alpha is not None and page.alpha.samples.shape != shape[:2]:
        raise WireError("an alpha channel of another size")
    native = page.native
    if native is not None:
        if native.samples.shape != (*shape[:2], native.model.channels):
            raise WireError("samples of another size")
        if native.model.is_gray is not page.gray or not 0 < native.bits <= _MOST_BITS:
            raise WireError("samples of another kind")
