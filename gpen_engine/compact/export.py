"""Turn a run into the file that ships: `python -m gpen_engine.compact.export LAST FILE`.

In: a run's checkpoint. Out: its averaged weights as float16 safetensors, the blur kernels included.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from gpen_engine.checkpoint import load_generator


def export(checkpoint: Path, target: Path) -> str:
    """Write `target` and return its sha256; the written file has loaded."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    tensors = {name: value.half().contiguous() for name, value in state["g_ema"].items()}
    metadata = {"name": "gpen-compact", "steps": str(state["step"]), "licence": "Apache-2.0"}
    save_file(tensors, target, metadata)
    return load_generator(target).sha256


def main() -> None:
    """Parse the command line, write the file, print its hash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    print(export(arguments.checkpoint, arguments.target))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
