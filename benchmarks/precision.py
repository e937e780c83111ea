"""How far the faster precisions are from float32, on real faces with the checkpoint that ships.

    python -m benchmarks.precision [--faces FOLDER] [--count 60] [--json PATH]

Prints PSNR in 8 bits and the largest difference, per precision. Without the folder of aligned faces
(with its MANIFEST.csv) the one portrait inside scikit-image is damaged in four ways instead.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray

from benchmarks.measure import devices, write_json
from gpen_engine.align import similarity, warp
from gpen_engine.checkpoint import load_generator
from gpen_engine.compact.data import cut, load_crops, to_tensor
from gpen_engine.compact.degrade import FIXED
from gpen_engine.inference import PreparedGenerator
from gpen_engine.model import GpenGenerator
from gpen_engine.precision import Precision
from gpen_engine.weights import COMPACT_FILE

FACES = Path("../shared/faces_train")
_PORTRAIT = ((204.0, 100.2), (247.9, 103.8), (224.6, 129.0), (199.2, 138.3), (245.8, 141.3))


def faces(folder: Path, count: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Give aligned faces, each damaged in one of the four fixed ways."""
    damages = list(FIXED.values())
    if (folder / "MANIFEST.csv").is_file():
        crops = load_crops(folder, "validation")
        real = [crop for crop in crops if crop.source in ("london", "congress")]
        found = [cut(crop, size)[0] for crop in real[:count]]
    else:
        picture = np.asarray(skimage.data.astronaut(), np.float32)  # type: ignore[no-untyped-call]
        matrix = similarity(_PORTRAIT, size)
        face = warp(picture, matrix, (size, size), border=cv2.BORDER_REFLECT)
        found = [np.clip(np.rint(face), 0, 255).astype(np.uint8)] * len(damages)
    for index, face8 in enumerate(found):
        yield damages[index % len(damages)].apply(face8, np.random.default_rng(index))


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and keep the numbers where it is asked for."""
    parser = argparse.ArgumentParser(description="Faster precisions against float32.")
    parser.add_argument("--faces", type=Path, default=FACES)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    model = load_generator(COMPACT_FILE).model
    crops = [to_tensor(face)[None] for face in faces(asked.faces, asked.count, model.config.size)]
    numbers = {}
    for device in devices():
        exact = restored(model, device, Precision.FP32, crops)
        for precision in (Precision.FP16, Precision.BF16):
            other = restored(model, device, precision, crops)
            decibels = [psnr(*pair) for pair in zip(exact, other, strict=True)]
            most = max(
                float((one - two).abs().max()) for one, two in zip(exact, other, strict=True)
            )
            numbers[f"{device} {precision}"] = {
                "faces": len(crops),
                "lowest_psnr_db": min(decibels),
                "median_psnr_db": float(np.median(decibels)),
                "largest_difference_levels": most,
            }
            print(
                f"{device} {precision}: {len(crops)} faces, PSNR to float32 {min(decibels):.1f} dB "
                f"at least, {np.median(decibels):.1f} in the median; {most:.0f} levels at most"
            )
    write_json(asked.json, numbers)


def restored(
    model: GpenGenerator, device: torch.device, precision: Precision, crops: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Return the answers in grey levels, rounded as in an 8-bit picture."""
    network = PreparedGenerator(model, device=device, precision=precision)
    with torch.inference_mode():
        answers = [network(crop.to(device)).cpu().clamp(-1, 1) for crop in crops]
    return [((answer + 1) * 127.5).round() for answer in answers]


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the ratio of 255 to the error, in dB; 99 where there is none."""
    error = float((one - other).square().mean())
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


if __name__ == "__main__":
    main()
