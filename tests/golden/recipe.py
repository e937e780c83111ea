"""How the goldens' networks and inputs are made: from seeds that anyone can repeat.

In: a network or a size. Out: the network, filled; an input `(B, 3, S, S) float32`. MT19937 and
arithmetic only, so that every platform makes the same bits.
"""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from gpen_engine.model import GpenConfig, GpenGenerator

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "gpen" / "goldens"


def scale_and_offset(name: str) -> tuple[float, float]:
    """Return the spread and the middle of a tensor's values; the first rule that fits."""
    if name.endswith("noise.weight"):
        return 0.1, 0.5
    if ".style." in name:
        # The style network's weights are stored divided by its learning rate multiplier, 0.01.
        return (100.0, 0.0) if name.endswith(".weight") else (10.0, 0.0)
    if name.endswith(".modulation.bias"):
        return 0.1, 1.0
    if "to_rgb" in name and name.endswith(".conv.weight"):
        return 0.15, 0.0
    if name.endswith(".bias"):
        return 0.1, 0.0
    return 1.0, 0.0


def fill(model: torch.nn.Module, *, zeroed: tuple[str, ...] = ()) -> None:
    """Overwrite every tensor but the blur kernels."""
    for name, tensor in model.state_dict().items():
        if name.endswith(".kernel"):
            continue
        scale, offset = scale_and_offset(name)
        drawn = np.random.RandomState(zlib.crc32(name.encode())).random_sample(tensor.numel())
        values = (2.0 * drawn - 1.0) * math.sqrt(3.0) * scale + offset
        filled = torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape)
        tensor.copy_(torch.zeros_like(filled) if name in zeroed else filled)


def make_model(config: Mapping[str, Any]) -> GpenGenerator:
    """Return the filled network of a key list's `config`."""
    model = GpenGenerator(shape_of(config))
    fill(model, zeroed=tuple(config.get("zeroed", ())))
    return model.eval().requires_grad_(requires_grad=False)


def shape_of(config: Mapping[str, Any]) -> GpenConfig:
    """Turn a key list's `config` into ours."""
    return GpenConfig(
        size=config.get("size") or config["out_size"],
        channel_multiplier=config["channel_multiplier"],
        narrow=config["narrow"],
        in_size=config.get("in_size"),
    )


def seeded_input(size: int, batch: int) -> torch.Tensor:
    """Return noise in [-1, 1]."""
    random = np.random.RandomState(zlib.crc32(f"input{size}".encode()))
    values = 2.0 * random.random_sample(batch * 3 * size * size) - 1.0
    return torch.from_numpy(values.astype(np.float32).reshape(batch, 3, size, size))


def face_input(path: Path) -> torch.Tensor:
    """Return a stored face in [-1, 1]."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB).astype(np.float32)
    return torch.from_numpy((picture / 255.0 - 0.5) / 0.5).permute(2, 0, 1)[None]


def read_keys(name: str, folder: Path) -> dict[str, Any]:
    """Read a key list."""
    keys: dict[str, Any] = json.loads((folder / "keys" / f"{name}.json").read_text())
    return keys
