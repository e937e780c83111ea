"""What a network has to beat: a classical restoration without learning, by OpenCV.

In: a damaged face, enlarged with bicubic interpolation. Out: the same, cleaned by non-local means
(Buades et al. 2005) and sharpened by an unsharp mask. Its strength is fixed, like the network's;
`python -m gpen_engine.compact.baselines FACES` tries a grid of strengths on training faces, under
the damages by which checkpoints are compared, and prints what each gains.
"""

import argparse
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_engine.compact.data import Crop, cut, load_crops
from gpen_engine.compact.degrade import FIXED
from gpen_engine.compact.metrics import psnr

Picture = NDArray[np.uint8]
_TUNED_ON = 24


@dataclass(frozen=True, slots=True)
class Strength:
    """How much is done; lengths are in 256ths of the face's side.

    Attributes:
        luma: of the smoothing of lightness, in grey levels: OpenCV's `h`.
        colour: of the smoothing of colour: OpenCV's `hColor`.
        patch: side of what is compared.
        search: side of the surroundings in which it is looked for.
        amount: of the unsharp mask.
        radius: standard deviation of the blur that the mask is the difference to.
    """

    luma: float
    colour: float
    patch: int
    search: int
    amount: float
    radius: float


TUNED = Strength(luma=10, colour=3, patch=9, search=21, amount=0.6, radius=4)
"""The grid's best by mean PSNR over the four damages, 25 training faces of 256 px: +1.03 dB."""


def classical(damaged: Picture, strength: Strength = TUNED) -> Picture:
    """Return `(S, S, 3) uint8 RGB` cleaned and sharpened."""
    return _sharpened(_cleaned(damaged, strength), strength)


def _cleaned(picture: Picture, strength: Strength) -> Picture:
    side = picture.shape[0]
    patch, search = (_odd(length * side / 256) for length in (strength.patch, strength.search))
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    clean = cv2.fastNlMeansDenoisingColored(
        bgr, None, strength.luma, strength.colour, patch, search
    )
    return np.asarray(cv2.cvtColor(clean, cv2.COLOR_BGR2RGB), np.uint8)


def _sharpened(picture: Picture, strength: Strength) -> Picture:
    levels = picture.astype(np.float32)
    blurred = cv2.GaussianBlur(levels, (0, 0), strength.radius * picture.shape[0] / 256)
    sharp = levels + strength.amount * (levels - blurred)
    return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)


def _odd(length_px: float) -> int:
    return 2 * round((length_px - 1) / 2) + 1


def tune(
    crops: list[Crop], strengths: list[Strength], size: int
) -> list[tuple[Strength, list[float]]]:
    """Return what each strength gains over the damaged face: mean PSNR in dB, by damage."""
    gains = np.zeros((len(strengths), len(FIXED), len(crops)))
    for index, crop in enumerate(crops):
        face, valid = cut(crop, size)
        for which, damage in enumerate(FIXED.values()):
            truth = damage.tone(face)
            damaged = damage.apply(face, np.random.default_rng(index))
            before = psnr(truth, damaged, valid)
            cleaned: dict[Strength, Picture] = {}  # by what cleaning depends on: it takes the time
            for row, strength in enumerate(strengths):
                key = replace(strength, amount=0, radius=0)
                if key not in cleaned:
                    cleaned[key] = _cleaned(damaged, strength)
                after = psnr(truth, _sharpened(cleaned[key], strength), valid)
                gains[row, which, index] = after - before
    return list(zip(strengths, gains.mean(axis=2).tolist(), strict=True))


def main() -> None:
    """Print the grid, the best last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path, help="folder with MANIFEST.csv and the crops")
    parser.add_argument("--size", type=int, default=256, help="side of a face in pixels")
    arguments = parser.parse_args()
    crops = load_crops(arguments.faces, "train")
    crops = crops[:: max(1, len(crops) // _TUNED_ON)]
    grid = [
        Strength(luma, colour, patch, 21, amount, radius)
        for luma, colour, patch, amount, radius in itertools.product(
            (7, 10, 13), (1, 3, 6), (5, 9, 13), (0.4, 0.6, 0.8), (3, 4, 6)
        )
    ]
    rows = sorted(tune(crops, grid, arguments.size), key=lambda row: sum(row[1]))
    for strength, gains in rows:
        each = "  ".join(f"{name} {gain:+.2f}" for name, gain in zip(FIXED, gains, strict=True))
        print(f"{np.mean(gains):+.3f} dB  {each}  {strength}")  # noqa: T201 - its output


if __name__ == "__main__":
    main()
