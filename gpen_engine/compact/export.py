"""Turn a run into the file that ships: `python -m gpen_engine.compact.export FILE MEAN...`.

In: a run's checkpoint, `mean-NNNNN.pt` or `last.pt`, or several of one run. Out: the mean of their
averaged weights as float16 safetensors, the blur kernels included. The mean of an early and a late
checkpoint is often better than either (Wortsman et al. 2022, "Model soups"); `docs/compact` has
what it gave here. Exit code 2 when nothing can be written.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from gpen_engine.checkpoint import load_generator, read_tensors
from gpen_engine.errors import CheckpointError


def export(checkpoints: Sequence[Path], target: Path) -> str:
    """Write `target` and return its sha256; the written file has loaded.

    Raises:
        CheckpointCorrupt: a checkpoint can't be read, or `target` isn't named `.safetensors`.
        CheckpointUnknown: the averaged weights aren't those of a GPEN generator.
        CheckpointMismatch: some of its weights are missing or misshapen.
        ValueError: a checkpoint has no averaged weights or those of another network than the
            first, or float16 can't hold one of them.
        OSError: there is no such checkpoint, or `target` can't be written.
    """
    states = [_read(each) for each in checkpoints]
    for path, state in zip(checkpoints, states, strict=True):
        _check_alike(path, state["g_ema"], states[0]["g_ema"])
    tensors = {
        name: torch.stack([state["g_ema"][name] for state in states]).mean(dim=0).half()
        for name in states[0]["g_ema"]
    }
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} isn't finite in float16: the checkpoints can't be shipped")
    steps = "+".join(str(state["step"]) for state in states)
    metadata = {"name": "gpen-compact", "steps": steps, "licence": "Apache-2.0"}
    # The suffix stays at the end: the loader goes by it.
    partial = target.with_name(f"{target.stem}.part{target.suffix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(save(tensors, metadata))
        sha256 = load_generator(partial).sha256
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return sha256


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    state = read_tensors(path)
    if not isinstance(state, Mapping) or not {"g_ema", "step"} <= state.keys():
        raise ValueError(
            f"{path} has no averaged weights and their step: expected a run's mean-*.pt or last.pt"
        )
    return state


def _check_alike(path: Path, weights: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> None:
    unlike = sorted(name for name, _ in _shapes(weights) ^ _shapes(first))
    if unlike:
        raise ValueError(
            f"{path} is of another network than the first checkpoint: {unlike[0]} is missing in "
            "one of them or has another shape"
        )


def _shapes(weights: Mapping[str, Tensor]) -> set[tuple[str, torch.Size]]:
    return {(name, each.shape) for name, each in weights.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, write the file, print its hash; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    asked = parser.parse_args(arguments)
    try:
        print(export(asked.checkpoints, asked.target))  # noqa: T201 - its output
    except (OSError, ValueError, CheckpointError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - as argparse says what is wrong
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
