"""What running a model over tiles costs, against running it over the whole picture.

    python -m benchmarks.tiling [--weights FOLDER] [--side PX] [--json PATH]

Prints, from one run: whether the identity is exact, the steepest border between tiles against the
same place without tiles, the time against one pass over the whole picture, and the memory beside
the arrays against a float copy of the picture. With realesr-general-x4v3 in the folder, its numbers
too, else those of a small random network.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from benchmarks.measure import peak_beside
from gpen_engine.background import load_background
from gpen_engine.faces import Pixels
from gpen_engine.tiling import run_tiled

CPU = torch.device("cpu")
SCALE, TILE_PX = 2, 256
InTiles = Callable[[Pixels, int], Pixels]
_T = TypeVar("_T")


def main(argv: list[str]) -> int:
    """Measure, print, and keep the numbers where it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", type=Path, help="folder that may hold realesr-general-x4v3")
    parser.add_argument("--side", type=int, default=640, help="the picture's side for the network")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    asked = parser.parse_args(argv)

    numbers = measure_identity(photograph(4000, 3000)) | measure_network(
        photograph(asked.side, asked.side), network(asked.weights)
    )
    for name, value in numbers.items():
        sys.stdout.write(f"{name:46} {value:10.3f}\n")
    if asked.json:
        asked.json.write_text(json.dumps(numbers, indent=2) + "\n")
    return 0


def photograph(width: int, height: int) -> Pixels:
    """Draw smooth shapes under film grain, `(H, W, 3) uint8`."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grain = np.random.default_rng(1).normal(0, 6, (height, width)).astype(np.float32)
    shapes = [128 + 70 * np.sin(x / (23 + 9 * k)) * np.cos(y / (31 - 7 * k)) for k in range(3)]
    return np.dstack([np.clip(shape + grain, 0, 255).astype(np.uint8) for shape in shapes])


def network(weights: Path | None) -> tuple[str, InTiles]:
    """Return a network that doubles a picture in tiles: the real one where it is at hand."""
    background = load_background(CPU, folder=weights)
    if background is None:
        return "random network", random_network()

    def enhance(image: Pixels, tile_px: int) -> Pixels:
        background.tile_px = tile_px
        return background.enhance(image, SCALE)

    return background.identity.name, enhance


def random_network() -> InTiles:
    """Return a network that looks 16 px far."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 5, padding=2)]
    for _ in range(6):
        layers += [nn.LeakyReLU(0.1), nn.Conv2d(32, 32, 5, padding=2)]
    body = nn.Sequential(*layers, nn.Conv2d(32, 3 * SCALE**2, 5, padding=2))
    body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types miss it

    def double(x: Tensor) -> Tensor:
        enlarged = x.repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)
        return enlarged * 0.8 + 0.1 + 0.5 * pixel_shuffle(body(x), SCALE)

    def in_tiles(image: Pixels, tile_px: int) -> Pixels:
        return run_tiled(
            double, image, device=CPU, scale=SCALE, tile_px=tile_px, overlap_px=80, margin_px=32
        )

    return in_tiles


def measure_identity(image: Pixels) -> dict[str, float]:
    """Take a picture through tiles that change nothing."""

    def take(picture: Pixels) -> Pixels:
        return run_tiled(lambda tile: tile, picture, device=CPU, tile_px=512, overlap_px=32)

    copied_s, _ = timed(image.astype, np.float32)
    taken_s, same = timed(take, image)
    deep = image.astype(np.uint16) * 257
    deep_same = take(deep)
    peak_bytes = peak_beside(lambda: take(image))
    return {
        "identity, 8 bits: largest difference": float(np.abs(same.astype(int) - image).max()),
        "identity, 16 bits: largest difference": float(np.abs(deep_same.astype(int) - deep).max()),
        "identity: s/Mpx": taken_s / megapixels(image),
        "identity: time / one float copy": taken_s / copied_s,
        "identity: memory / a float picture": (peak_bytes - image.nbytes) / (image.nbytes * 4),
    }


def measure_network(image: Pixels, named: tuple[str, InTiles]) -> dict[str, float]:
    """Take a picture through a network in tiles and whole."""
    name, in_tiles = named
    side_px = max(image.shape)
    in_tiles(image, TILE_PX)
    whole_s, whole = timed(lambda: in_tiles(image, side_px))
    tiled_s, tiled = timed(lambda: in_tiles(image, TILE_PX))
    whole_bytes = peak_beside(lambda: in_tiles(image, side_px)) - whole.nbytes
    tiled_bytes = peak_beside(lambda: in_tiles(image, TILE_PX)) - whole.nbytes
    difference = np.abs(tiled.astype(int) - whole).max()
    return {
        f"{name}: largest difference in levels": float(difference),
        f"{name}: steepest border / without": float((steps(tiled) / steps(whole)).max()),
        f"{name}: s/Mpx in tiles": tiled_s / megapixels(image),
        f"{name}: time / one pass": tiled_s / whole_s,
        f"{name}: memory / one pass": tiled_bytes / whole_bytes,
        f"{name}: bytes a pixel of a tile": tiled_bytes / TILE_PX**2,
    }


def steps(image: Pixels) -> NDArray[np.float64]:
    """Return the mean difference between neighbouring columns, then between neighbouring rows."""
    levels = image.astype(np.float64)
    columns = np.abs(np.diff(levels, axis=1)).mean(axis=(0, 2))
    rows = np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2))
    return np.concatenate([columns, rows])


def megapixels(image: Pixels) -> float:
    """Return how large a picture is."""
    height, width = image.shape[:2]
    return float(height * width / 1e6)


def timed(work: Callable[..., _T], *arguments: object) -> tuple[float, _T]:
    """Return the seconds that work took, and its result."""
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
