"""Measuring a checkpoint: aligned faces, damaged in fixed ways -> scores of each, and their means.

In: crops and a network. Out: for every face and damage what the network, a classical restoration
and the damaged face itself (enlarged with bicubic interpolation) are worth against the true face.
A face's damage is drawn from its own fixed seed, its place among the crops.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpen_engine.compact import metrics
from gpen_engine.compact.baselines import classical
from gpen_engine.compact.data import Crop, cut, to_tensor
from gpen_engine.compact.degrade import FIXED, Degradation
from gpen_engine.model import GpenGenerator

Picture = NDArray[np.uint8]
Describe = Callable[[Tensor], Tensor]
"""From `(B, 3, S, S) float in [-1, 1] RGB` to descriptors `(B, 128)`: `identity.FaceNet`."""

HEADLINE = "blur_down4_noise_jpeg"
POOLED = "all damages"


@dataclass(frozen=True, slots=True)
class Quality:
    """What a picture is worth against the true face, or the means of many.

    Attributes:
        psnr: in dB.
        ssim: structural similarity.
        sharpness: gradient energy, as a share of the true face's.
        checkerboard: how far a regular pattern stands out, see `metrics.checkerboard`.
        cast: distance of the mean CIE a* and b*.
        distance: of the identity descriptors; None where it wasn't measured.
    """

    psnr: float
    ssim: float
    sharpness: float
    checkerboard: float
    cast: float
    distance: float | None


@dataclass(frozen=True, slots=True)
class FaceScore:
    """One face under one damage.

    Attributes:
        index: the crop's place, which is the seed of the damage.
        damage: its name.
        bicubic: the damaged face as the network gets it.
        classical: after the classical restoration.
        restored: after the network.
    """

    index: int
    damage: str
    bicubic: Quality
    classical: Quality
    restored: Quality

    @property
    def gain(self) -> float:
        """By how many dB the network raised the PSNR."""
        return self.restored.psnr - self.bicubic.psnr

    @property
    def drift(self) -> float | None:
        """By how much the network moved the face away from its person; below 0 is nearer."""
        if self.restored.distance is None or self.bicubic.distance is None:
            return None
        return self.restored.distance - self.bicubic.distance


@dataclass(frozen=True, slots=True)
class Row:
    """Means over some faces under one damage, or under all of them.

    Attributes:
        damage: its name, or `POOLED`.
        faces: how many.
        bicubic: as in `FaceScore`, and so are the next two.
        better: share of the scores in which the PSNR rose.
        farther: share of the scores in which the network moved the face away from its person; None
            where identity wasn't measured.
    """

    damage: str
    faces: int
    bicubic: Quality
    classical: Quality
    restored: Quality
    better: float
    farther: float | None

    @property
    def identity_ratio(self) -> float | None:
        """The restored faces' identity distance to the damaged ones'; None where not measured."""
        given, made = self.bicubic.distance, self.restored.distance
        return made / given if made is not None and given else None


@dataclass(frozen=True, slots=True, eq=False)
class Versions:
    """A true face, which of its pixels the photograph has, and what became of it."""

    truth: Picture
    valid: NDArray[np.float32]
    bicubic: Picture
    restored: Picture


def versions(model: GpenGenerator, crop: Crop, damage: Degradation, seed: int) -> Versions:
    """Damage a face and restore it; `(S, S, 3) uint8 RGB` in the network's size."""
    face, valid = cut(crop, model.config.size)
    damaged = damage.apply(face, np.random.default_rng(seed))
    return Versions(damage.tone(face), valid, damaged, restore(model, damaged))


def restore(model: GpenGenerator, picture: Picture) -> Picture:
    """Return `(S, S, 3) uint8 RGB` restored by the plain network, in float32."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        output = model(to_tensor(picture)[None].to(device))[0]
    levels = (output.float().clamp(-1, 1).permute(1, 2, 0) + 1) * 127.5
    restored: Picture = levels.round().to(torch.uint8).cpu().numpy()
    return restored


def measure(
    model: GpenGenerator,
    crops: Sequence[Crop],
    damages: Iterable[str] = tuple(FIXED),
    *,
    describe: Describe | None = None,
) -> list[FaceScore]:
    """Score `model`, which takes and gives `(B, 3, S, S)`, face by face.

    Args:
        model: the network.
        crops: the faces.
        damages: names in `FIXED`.
        describe: the identity network; without it no identity is measured.
    """
    names = tuple(damages)
    return [
        _measure_face(versions(model, crop, FIXED[name], index), index, name, describe)
        for index, crop in enumerate(crops)
        for name in names
    ]


def _measure_face(made: Versions, index: int, damage: str, describe: Describe | None) -> FaceScore:
    pictures = (made.bicubic, classical(made.bicubic), made.restored)
    distances = _distances(describe, made, pictures) if describe else [None] * 3
    bicubic, cleaned, restored = (
        _quality(made, picture, distance)
        for picture, distance in zip(pictures, distances, strict=True)
    )
    return FaceScore(index, damage, bicubic, cleaned, restored)


def _quality(made: Versions, picture: Picture, distance: float | None) -> Quality:
    truth, valid = made.truth, made.valid
    energies = [metrics.gradient_energy(each, valid) for each in (picture, truth)]
    return Quality(
        psnr=metrics.psnr(truth, picture, valid),
        ssim=metrics.ssim(truth, picture, valid),
        sharpness=energies[0] / max(energies[1], 1e-9),
        checkerboard=metrics.checkerboard(picture, valid),
        cast=metrics.colour_cast(truth, picture, valid),
        distance=distance,
    )


def _distances(
    describe: Describe, made: Versions, pictures: Sequence[Picture]
) -> list[float | None]:
    inside = made.valid[:, :, None] > 0.5
    faces = [made.truth, *(np.where(inside, picture, made.truth) for picture in pictures)]
    with torch.inference_mode():
        true, *others = describe(torch.stack([to_tensor(face) for face in faces]))
    return [float((other - true).norm()) for other in others]


def measure_clean(model: GpenGenerator, crops: Iterable[Crop]) -> list[float]:
    """Return for each undamaged face the PSNR in dB of what the network makes of it."""
    values = []
    for crop in crops:
        truth, valid = cut(crop, model.config.size)
        values.append(metrics.psnr(truth, restore(model, truth), valid))
    return values


def average(scores: Sequence[FaceScore]) -> Row:
    """Return the means over faces under one damage.

    Raises:
        ValueError: there are no faces, or more than one damage.
    """
    damages = {score.damage for score in scores}
    if len(damages) != 1:
        raise ValueError(f"means are over faces of one damage, not of {sorted(damages)}")
    return _row(damages.pop(), scores)


def pool(scores: Sequence[FaceScore]) -> Row:
    """Return the means over faces under all damages; each face counts once for each damage."""
    return _row(POOLED, scores)


def _row(damage: str, scores: Sequence[FaceScore]) -> Row:
    drifts = [score.drift for score in scores if score.drift is not None]
    return Row(
        damage=damage,
        faces=len({score.index for score in scores}),
        bicubic=_mean([score.bicubic for score in scores]),
        classical=_mean([score.classical for score in scores]),
        restored=_mean([score.restored for score in scores]),
        better=float(np.mean([score.gain > 0 for score in scores])),
        farther=float(np.mean([drift > 0 for drift in drifts])) if drifts else None,
    )


def _mean(qualities: Sequence[Quality]) -> Quality:
    distances = [quality.distance for quality in qualities if quality.distance is not None]
    names = [field.name for field in fields(Quality) if field.name != "distance"]
    means = np.mean([[getattr(each, name) for name in names] for each in qualities], axis=0)
    distance = float(np.mean(distances)) if distances else None
    return Quality(**dict(zip(names, means.tolist(), strict=True)), distance=distance)
