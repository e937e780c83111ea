"""A weights file -> a network: sha256, safe load, unwrap, configuration from shapes, strict load.

In: the path of a `.pth` or `.safetensors` file. Out: a `LoadedGenerator`. The file is the
configuration: size, channel multiplier and width are read off the tensors' shapes, so nobody can
give the wrong ones. Pickled code is never run.
"""

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from gpen_engine.errors import CheckpointCorrupt, CheckpointMismatch, CheckpointUnknown
from gpen_engine.model import GpenConfig, GpenGenerator

_WRAPPERS = ("g_ema", "params_ema", "params", "state_dict")
_MAX_WRAPPERS = 4
"""Deeper than any training program wraps; a dictionary may hold itself."""
_MARKERS = ("generator.input.input", "ecd0.0.0.weight", "final_linear.0.weight")


@dataclass(frozen=True, slots=True)
class LoadedGenerator:
    """A network in evaluation mode, float32 on the CPU, and the hash of the file it came from."""

    model: GpenGenerator
    sha256: str
    path: Path


def load_generator(path: Path, *, expected_sha256: str | None = None) -> LoadedGenerator:
    """Load any GPEN generator.

    Args:
        path: the weights file; wrapped or bare, float16 or float32.
        expected_sha256: the hash it has to have, when it is known.

    Raises:
        CheckpointCorrupt: the file is missing, unreadable, or another than expected.
        CheckpointUnknown: it holds something else than a GPEN generator.
        CheckpointMismatch: it is a GPEN generator with missing, extra or misshapen tensors.
    """
    sha256 = hash_file(path, expected=expected_sha256)
    tensors = unwrap(read_tensors(path), name=path.name)
    config = infer_config(tensors, name=path.name)
    # Drawing random weights that are overwritten at once would take seconds at 512 px.
    with torch.device("meta"):
        model = GpenGenerator(config)
    _check(model, tensors, path.name)
    model.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
    return LoadedGenerator(model.eval().requires_grad_(requires_grad=False), sha256, path)


def hash_file(path: Path, *, expected: str | None = None) -> str:
    """Return the sha256 of a file in hexadecimal.

    Raises:
        CheckpointCorrupt: it can't be read, or has another hash than `expected`.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointCorrupt(f"can't read the weights {path}: {error.strerror}") from error
    if expected and sha256 != expected:
        raise CheckpointCorrupt(
            f"{path.name} has sha256 {sha256}, expected {expected}: it is damaged or another file"
        )
    return sha256


def read_tensors(path: Path) -> object:
    """Read a file's content without running code from it.

    Raises:
        CheckpointCorrupt: it is neither a safetensors file nor a PyTorch file that loads safely.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointCorrupt(
            f"{path.name} is damaged, or holds more than tensors, and was refused"
        ) from error
    except Exception as error:  # damaged bytes lead the readers anywhere
        raise CheckpointCorrupt(
            f"{path.name} is damaged or no weights file ({type(error).__name__})"
        ) from error


def unwrap(content: object, *, name: str) -> dict[str, Tensor]:
    """Take the tensors out of the dictionaries that training programs wrap around them.

    Raises:
        CheckpointUnknown: there are no tensors by name.
    """
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(content, Mapping):
            break
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    if not isinstance(content, Mapping):
        raise CheckpointUnknown(f"{name} holds a {type(content).__name__}, expected named tensors")
    tensors = {
        str(key).removeprefix("module."): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        found = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise CheckpointUnknown(f"{name} holds no tensors by name; found {found}")
    return tensors


def infer_config(tensors: Mapping[str, Tensor], *, name: str) -> GpenConfig:
    """Read the configuration off the tensors' shapes.

    Raises:
        CheckpointUnknown: the tensors aren't those of a GPEN generator.
        CheckpointMismatch: they are, with shapes that no configuration has.
    """
    missing = [key for key in _MARKERS if key not in tensors]
    if missing:
        found = ", ".join(sorted(tensors)[:3])
        raise CheckpointUnknown(
            f"{name} is no GPEN generator: expected {missing[0]}, "
            f"found {len(tensors)} tensors such as {found}"
        )
    levels = sum(re.fullmatch(r"ecd\d+\.0\.[12]\.bias", key) is not None for key in tensors)
    pictures = sum(
        re.fullmatch(r"generator\.to_rgbs\.\d+\.bias", key) is not None for key in tensors
    )
    in_size, size = 2 ** (levels + 1), 2 ** (pictures + 2)
    try:
        narrow = tensors["generator.input.input"].shape[1] / 512
        multiplier = _multiplier(tensors, pictures) / narrow if size >= 64 else 1.0
        return GpenConfig(size, multiplier, narrow, None if in_size == size else in_size)
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointMismatch(
            f"{name} has {levels} encoder levels and {pictures + 1} picture levels, "
            f"which no GPEN has: {error}"
        ) from error


def _multiplier(tensors: Mapping[str, Tensor], pictures: int) -> float:
    """Return channel multiplier times narrow, from the widths of the levels from 64 px up.

    Widths are cut to whole channels; the largest lower bound gives every level its own width.
    """
    bounds = [0.0]
    for level in range(3, pictures):
        weight = tensors.get(f"generator.to_rgbs.{level}.conv.weight")
        if weight is not None:
            bounds.append(weight.shape[2] // 2 * 2 ** (level + 3) / 16384)
    return max(bounds)


def _check(model: GpenGenerator, tensors: Mapping[str, Tensor], name: str) -> None:
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    faults = [f"{key} is missing" for key in expected if key not in found]
    faults += [f"{key} is not part of it" for key in found if key not in expected]
    faults += [
        f"{key} is {found[key]}, expected {shape}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    if faults:
        shown = "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")
        raise CheckpointMismatch(
            f"{name} looks like {model.config}: expected {len(expected)} tensors, "
            f"found {len(found)}: {shown}"
        )
