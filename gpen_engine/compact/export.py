"""Turn a run into the file that ships: `python -m gpen_engine.compact.export FILE LAST...`.

In: a run's checkpoint, or several of one run. Out: the mean of their averaged weights as float16
safetensors, the blur kernels included. The mean of an early and a late checkpoint is often better
than either (Wortsman et al. 2022, "Model soups"); `docs/compact` has what it gave here.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from gpen_engine.checkpoint import load_generator


def export(checkpoints: Sequence[Path], target: Path) -> str:
    """Write `target` and return its sha256; the written file has loaded."""
    states = [torch.load(each, map_location="cpu", weights_only=True) for each in checkpoints]
    tensors = {
        name: torch.stack([state["g_ema"][name] for state in states]).mean(dim=0).half()
        for name in states[0]["g_ema"]
    }
    steps = "+".join(str(state["step"]) for state in states)
    metadata = {"name": "gpen-compact", "steps": steps, "licence": "Apache-2.0"}
    save_file(tensors, target, metadata)
    return load_generator(target).sha256


def main() -> None:
    """Parse the command line, write the file, print its hash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    arguments = parser.parse_args()
    print(export(arguments.checkpoints, arguments.target))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
