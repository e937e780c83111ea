"""Synthetic damage: what stands between a sharp face and an archive's scan of it.

In: `(S, S, 3) uint8 RGB`. Out: the same shape and size, damaged, then enlarged back with bicubic
interpolation (linear where a recipe is `smooth`), which is what the network receives. The order is
the first-order model of GFPGAN (Wang et al. 2021): blur, reduce, noise and JPEG, each once, not
twice as in Real-ESRGAN's second-order model; scratches and grain stand for old prints. Tone and
colour are left alone on purpose: inside a photograph the restored face has to match its
surroundings.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_RESOLVED_REDUCTION = 6.0


@dataclass(frozen=True, slots=True)
class Degradation:
    """One recipe of damage.

    The lengths of the two blurs are in 256ths of the face's side. What softens the grain and the
    scratches is in pixels of the reduced picture: it is coarser on a face that is reduced more.

    Attributes:
        blur: standard deviation of the Gaussian blur; 0 for none.
        motion: length of a straight motion blur; 0 for none.
        motion_deg: its direction.
        reduce: factor by which the face is reduced before it is enlarged again.
        noise: standard deviation of the noise on the reduced picture, in grey levels.
        grain: True when the noise is the same in all three channels.
        grain_px: standard deviation, in pixels of the reduced picture, of the blur that gives the
            noise a grain of some pixels.
        jpeg: quality of the JPEG of the reduced picture; 0 for none.
        scratches: number of thin light or dark lines.
        smooth: True to enlarge with linear instead of cubic interpolation.
        faded: the photograph itself is gray and pale. That is no damage to undo: a restored face
            has to match its surroundings, so the true face is faded too (`tone`).
    """

    blur: float = 0.0
    motion: float = 0.0
    motion_deg: float = 0.0
    reduce: float = 1.0
    noise: float = 0.0
    grain: bool = False
    grain_px: float = 0.0
    jpeg: int = 0
    scratches: int = 0
    smooth: bool = False
    faded: bool = False

    @property
    def resolved(self) -> bool:
        """Whether the damage left enough to tell where the edges of a face are."""
        return self.motion == 0 and self.reduce <= _RESOLVED_REDUCTION

    def tone(self, face: Picture) -> Picture:
        """Return the true face as this photograph has it: `face`, or a gray and pale copy."""
        if not self.faded:
            return face
        gray = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
        pale = np.clip(np.rint(gray * 0.65 + 60), 0, 255).astype(np.uint8)
        return np.repeat(pale[:, :, None], 3, axis=2)

    def apply(self, face: Picture, rng: np.random.Generator) -> Picture:
        """Return the toned face, damaged, enlarged back to its own size."""
        side = face.shape[0]
        unit = side / 256
        picture = self.tone(face).astype(np.float32)
        if self.motion * unit >= 1:
            kernel = _motion_kernel(self.motion * unit, self.motion_deg)
            picture = np.asarray(cv2.filter2D(picture, -1, kernel), np.float32)
        if self.blur > 0:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), self.blur * unit), np.float32)
        small = max(4, round(side / self.reduce))
        if small != side:
            reduced = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
            picture = np.asarray(reduced, np.float32)
        if self.noise > 0:
            picture = picture + self._noise(small, rng)
        if self.scratches:
            picture = _scratch(picture, self.scratches, rng)
        damaged = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
        if self.jpeg:
            _, encoded = cv2.imencode(".jpg", damaged, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])
            damaged = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
        if small != side:
            interpolation = cv2.INTER_LINEAR if self.smooth else cv2.INTER_CUBIC
            enlarged = cv2.resize(damaged, (side, side), interpolation=interpolation)
            damaged = enlarged.astype(np.uint8)
        return damaged

    def _noise(self, side: int, rng: np.random.Generator) -> NDArray[np.float32]:
        channels = 1 if self.grain else 3
        shape = (side, side, channels)
        noise = rng.normal(0.0, self.noise, shape).astype(np.float32)
        if self.grain_px > 0:
            soft = cv2.GaussianBlur(noise, (0, 0), self.grain_px).reshape(shape)
            noise = np.asarray(soft * (self.noise / soft.std()), np.float32)
        return noise


FIXED: dict[str, Degradation] = {
    "blur_down4_noise_jpeg": Degradation(blur=2.5, reduce=4, noise=7.5, jpeg=80),
    "down8": Degradation(reduce=8),
    "old_photo": Degradation(
        blur=2.0, reduce=1.5, noise=10.0, grain=True, grain_px=0.6, scratches=4, faded=True
    ),
    "motion": Degradation(motion=12, motion_deg=30, noise=3.0, jpeg=80),
}
"""The degradations by which checkpoints are compared; `blur_down4_noise_jpeg` is the headline: the
middle of the ranges in GFPGAN's paper (section 4.1: blur 0.2 to 10 at 512 px, reduction 1 to 8,
noise 0 to 15, JPEG 60 to 100)."""

_CLEAN_SHARE = 0.05
_MILD_SHARE = 0.2
_TINY_SHARE = 0.12
_SMALL_SHARE = 0.5
"""Of the faces that are neither clean nor tiny."""
_WHOLE_SHARE = 0.6
"""Of the faces blurred by motion, those that aren't reduced, and those not blurred otherwise."""


def draw(rng: np.random.Generator) -> Degradation:
    """Draw a training degradation, from almost none to an eightfold reduction."""
    if rng.random() < _CLEAN_SHARE:
        return Degradation()
    if rng.random() < _TINY_SHARE:
        return _tiny_face(rng)
    if rng.random() < _SMALL_SHARE:
        return _small_face(rng)
    # Many faces of a good scan are merely small: a network that never saw them would smooth them
    # all.
    mild = rng.random() < _MILD_SHARE
    damage = Degradation(
        blur=float(rng.uniform(0.4, 1.5 if mild else 5.0)) if rng.random() < 0.7 else 0.0,
        reduce=math.exp(float(rng.uniform(0.0, math.log(2.5 if mild else 8.0)))),
        noise=float(rng.uniform(0.0, 3.0 if mild else 15.0)) if rng.random() < 0.7 else 0.0,
        grain=bool(rng.random() < 0.5),
        grain_px=float(rng.uniform(0.4, 1.2)) if rng.random() < 0.3 else 0.0,
        jpeg=int(rng.integers(80 if mild else 40, 98)) if rng.random() < 0.7 else 0,
        smooth=bool(rng.random() < 0.25),
    )
    if mild:
        return damage
    if rng.random() < 0.25:
        damage = replace(
            damage,
            motion=float(rng.uniform(3, 20)),
            motion_deg=float(rng.uniform(0, 180)),
            reduce=1.0 if rng.random() < _WHOLE_SHARE else min(damage.reduce, 3.0),
            blur=0.0 if rng.random() < _WHOLE_SHARE else damage.blur,
        )
    if rng.random() < 0.2:
        damage = replace(damage, scratches=int(rng.integers(1, 7)), reduce=min(damage.reduce, 2.0))
    return damage


def _small_face(rng: np.random.Generator) -> Degradation:
    """Draw around the headline of `FIXED`: faces of 50 to 85 px, which is what it stands for."""
    return Degradation(
        blur=float(rng.uniform(1.5, 3.5)),
        reduce=float(rng.uniform(3.0, 5.0)),
        noise=float(rng.uniform(3.0, 12.0)),
        jpeg=int(rng.integers(65, 96)),
    )


def _tiny_face(rng: np.random.Generator) -> Degradation:
    """Draw around `down8` of `FIXED`: faces of 28 to 50 px in an otherwise good scan."""
    return Degradation(
        reduce=float(rng.uniform(5.0, 9.0)),
        noise=float(rng.uniform(0.0, 3.0)) if rng.random() < 0.3 else 0.0,
        jpeg=int(rng.integers(80, 98)) if rng.random() < 0.3 else 0,
    )


def _motion_kernel(length_px: float, angle_deg: float) -> NDArray[np.float32]:
    side = int(length_px) | 1
    kernel = np.zeros((side, side), np.float32)
    centre = side // 2
    dx = math.cos(math.radians(angle_deg)) * length_px / 2
    dy = math.sin(math.radians(angle_deg)) * length_px / 2
    start = (round(centre - dx), round(centre - dy))
    end = (round(centre + dx), round(centre + dy))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _scratch(
    picture: NDArray[np.float32], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    side = picture.shape[0]
    layer = np.zeros((side, side), np.float32)
    for _ in range(count):
        points = np.cumsum(rng.normal(0, side / 6, (4, 2)), axis=0) + rng.uniform(0, side, 2)
        value = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 0.9))
        thickness = max(1, round(side * float(rng.uniform(0.003, 0.009))))
        cv2.polylines(layer, [points.astype(np.int32)], False, value, thickness)
    soft = cv2.GaussianBlur(layer, (0, 0), 0.6)[:, :, None]
    light, dark = np.maximum(soft, 0), np.maximum(-soft, 0)
    return np.asarray(picture * (1 - light - dark) + 235.0 * light + 20.0 * dark, np.float32)
