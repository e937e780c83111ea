"""Score a checkpoint on people it never saw: `python -m gpen_engine.compact.evaluate FACES`.

In: the validation part of the crops and a network. Out: mean PSNR and SSIM of the output and of
its input (the damaged face, enlarged with bicubic interpolation) against the true face, a row per
degradation. The damage is drawn from fixed seeds.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from gpen_engine.checkpoint import load_generator
from gpen_engine.compact.data import Crop, cut, load_crops, to_tensor
from gpen_engine.compact.degrade import FIXED
from gpen_engine.model import GpenGenerator

SHIPPED = Path(__file__).with_name("gpen-compact-128.safetensors")


@dataclass(frozen=True, slots=True)
class Score:
    """Means over the faces of one degradation; PSNR in dB."""

    degradation: str
    faces: int
    psnr: float
    input_psnr: float
    ssim: float
    input_ssim: float
    better: float
    """Share of the faces whose PSNR rose."""


def score(
    model: GpenGenerator, crops: list[Crop], degradations: Iterable[str] = tuple(FIXED)
) -> list[Score]:
    """Score `model`, which takes and gives `(B, 3, S, S)`, on `crops`.

    Pixels that the photograph doesn't have (mirrored at its edge) count neither way.
    """
    size = model.config.size
    device = next(model.parameters()).device
    rows = []
    for name in degradations:
        measured = []
        for index, crop in enumerate(crops):
            truth, valid = cut(crop, size)
            damaged = FIXED[name].apply(truth, np.random.default_rng(index))
            with torch.inference_mode():
                output = model(to_tensor(damaged)[None].to(device))[0]
            levels = (output.float().clamp(-1, 1).permute(1, 2, 0) + 1) * 127.5
            restored = levels.round().to(torch.uint8).cpu().numpy()
            inside = valid[:, :, None] > 0.5
            measured.append(
                _compare(truth, np.where(inside, restored, truth))
                + _compare(truth, np.where(inside, damaged, truth))
            )
        psnr, ssim, input_psnr, input_ssim = np.mean(measured, axis=0)
        better = float(np.mean([row[0] > row[2] for row in measured]))
        rows.append(Score(name, len(crops), psnr, input_psnr, ssim, input_ssim, better))
    return rows


def _compare(truth: NDArray[np.uint8], picture: NDArray[np.uint8]) -> tuple[float, float]:
    ssim: float = structural_similarity(  # type: ignore[no-untyped-call]
        truth,
        picture,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    error = np.square(truth.astype(np.float64) - picture).mean()
    # A face that comes back unchanged has no error; the bound of 60 dB keeps the mean finite.
    return min(60.0, 10 * float(np.log10(255**2 / max(error, 1e-9)))), ssim


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=SHIPPED)
    arguments = parser.parse_args()
    model = load_generator(arguments.checkpoint).model
    crops = load_crops(arguments.faces, "validation")
    for source in (None, *sorted({crop.source for crop in crops})):
        chosen = [crop for crop in crops if source in (None, crop.source)]
        for row in score(model, chosen):
            print(  # noqa: T201 - this program's output is the table
                f"{source or 'all':<10} {row.degradation:<22} {row.faces:>4} faces  "
                f"PSNR {row.input_psnr:.2f} -> {row.psnr:.2f} dB  "
                f"SSIM {row.input_ssim:.3f} -> {row.ssim:.3f}  better {row.better:.0%}"
            )


if __name__ == "__main__":
    main()
