"""The finish of a restored face: the photograph's own tone, texture and grain.

In and out: float32 arrays in the photograph's levels (0 to 255 or 0 to 65535); a change is what is
added to the photograph's pixels, `(h, w, 1 or 3)`, one channel for a gray photograph. What is
nothing to do leaves the change as it is, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_engine.align import Picture
from gpen_engine.faces import Pixels

Flags = NDArray[np.bool_]

_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
"""Rec. 601, of the levels as they are stored."""

_TONE_SIDE = 8
"""A face is judged by so many colours across: scanner noise and JPEG's chroma blocks average out,
what is of another colour doesn't."""
_TONE_SHARE = 0.9
_TONE_MISS = 1.75
_TONE_MISS_PER_CHROMA = 0.05
"""So far from the tone, in Delta E, lie `_TONE_SHARE` of a monochrome print's colours at most; more
where the tone is strong, because so are its stains and its noise. All of 258 faces on gray and
toned prints are within, and of 2,270 portraits in colour one that shows nothing but skin."""
_TONE_DRIFT = 1.0
"""Delta E by which the mean tone of a face may follow its mean lightness."""

_TONE_OTHER = 15.0
"""A pixel whose L* changes by much more is another pixel."""

_GRAIN_BAND_PX = 1.5
"""Grain is judged by what a Gaussian of this sigma takes away: coarser, and the features of a small
face would count."""
_GRAIN_RADII_PX = tuple(np.arange(0.0, 2.51, 0.1).tolist())
_GRAIN_LEAST_PX = 400
"""Fewer pixels say nothing about grain."""
_FLAT_SHARE = 0.3
"""Grain is measured in this share of the pixels, where the picture beneath changes least."""
_NORMAL_MEDIAN = 0.6745
"""Of the absolute values of a normal distribution with sigma 1."""
_CLIPPED = 0.03
"""Share of the levels at either end where grain is cut off."""


def is_gray(pixels: Pixels, where: Flags) -> bool:
    """Say whether R = G = B wherever it is asked, `(h, w)`."""

    def differs(part: Pixels, flags: Flags) -> bool:
        red, green, blue = part[..., 0], part[..., 1], part[..., 2]
        return bool((((red != green) | (green != blue)) & flags).any())

    # A few pixels tell most photographs in colour.
    return not differs(pixels[::16, ::16], where[::16, ::16]) and not differs(pixels, where)


def luma(picture: Picture) -> Picture:
    """Return the lightness `(h, w, 1)` of RGB, or of what is gray already."""
    if picture.shape[2] == 1:
        return picture
    return np.asarray(cv2.transform(picture, _LUMA), np.float32)[..., None]


# --- tone ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Tone:
    """The tone of a monochrome print: its colour is a function of its lightness.

    Attributes:
        bends: `(3, 2)`, a* and b* as quadratics of L* / 100: constant, linear, quadratic terms.
        low: the darkest L* seen; the tone of anything darker is the same.
        high: the lightest.
    """

    bends: NDArray[np.float32]
    low: float
    high: float

    def change(self, crop: Picture, restored: Picture, mask: Picture, top: float) -> Picture:
        """Return what makes `crop` as light as `restored`, and moves its colour along the tone.

        A pixel keeps its own distance from the tone, its noise or a stain, unless it gets another
        lightness altogether: a scratch that is taken out. A face that gets lighter or darker as a
        whole keeps its mean tone.

        Args:
            crop: an aligned face `(S, S, 3)`, in levels.
            restored: the network's answer, the same.
            mask: `(S, S)` weights of the mean.
            top: the highest level.
        """
        before, lightness = _lab(crop, top), _lab(restored, top)[..., 0]
        tone = self._colour(before[..., 0])
        replaced = 1.0 - np.exp(-(((lightness - before[..., 0]) / np.float32(_TONE_OTHER)) ** 2))
        shift = self._colour(lightness) - tone - replaced[..., None] * (before[..., 1:] - tone)
        drift = np.hypot(*np.tensordot(mask, shift, 2)) / max(float(mask.sum()), 1e-6)
        shift *= np.float32(min(1.0, _TONE_DRIFT / max(drift, 1e-6)))
        after = np.dstack([lightness, before[..., 1:] + shift])
        return (_rgb(after) - _rgb(before)) * np.float32(top)

    def _colour(self, lightness: Picture) -> Picture:
        """Return the tone's a* and b*, `(S, S, 2)`."""
        share = np.clip(lightness, self.low, self.high)[..., None] / np.float32(100.0)
        constant, linear, quadratic = self.bends
        return np.asarray(constant + share * (linear + share * quadratic), np.float32)


def tone_of(crop: Picture, top: float) -> Tone | None:
    """Return the tone of a monochrome print, None for a photograph in colour.

    On a toned print (sepia, selenium, a tintype) a* and b* follow L*; in a colour photograph lips,
    eyes, hair or clothes lie beside any curve. Differences of a* and b* are Delta E.

    Args:
        crop: an aligned face `(S, S, 3)`, in levels.
        top: the highest level.
    """
    small = cv2.resize(crop, (_TONE_SIDE, _TONE_SIDE), interpolation=cv2.INTER_AREA)
    lab = _lab(np.asarray(small, np.float32), top).reshape(-1, 3)
    lightness, colour = lab[:, 0], lab[:, 1:]
    powers = np.vander(lightness / 100.0, 3, increasing=True)
    bends = np.linalg.lstsq(powers, colour, rcond=None)[0].astype(np.float32)
    miss = np.quantile(np.hypot(*(colour - powers @ bends).T), _TONE_SHARE)
    if miss > _TONE_MISS * (1.0 + _TONE_MISS_PER_CHROMA * np.hypot(*colour.mean(axis=0))):
        return None
    return Tone(bends, float(lightness.min()), float(lightness.max()))


def _lab(picture: Picture, top: float) -> Picture:
    # A cubic overshoots at edges, and what is no colour has no place in Lab.
    shares = np.clip(picture / np.float32(top), 0.0, 1.0)
    return np.asarray(cv2.cvtColor(shares, cv2.COLOR_RGB2LAB), np.float32)


def _rgb(lab: Picture) -> Picture:
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.float32)


# --- texture ---------------------------------------------------------------------------------


def lost_texture(own: Picture, change: Picture, radius_px: float) -> Picture:
    """Return the photograph's fine detail that a change takes away.

    Fine is what a Gaussian of `radius_px` takes away. Where the change adds detail or sharpens what
    is there, nothing is lost.

    Args:
        own: the photograph's pixels, `(h, w, c)`.
        change: what is to be added to them, the same shape.
        radius_px: sigma in the photograph's pixels.
    """
    detail = _fine(own, radius_px)
    return np.clip(-_fine(change, radius_px), np.minimum(detail, 0.0), np.maximum(detail, 0.0))


def _fine(picture: Picture, radius_px: float) -> Picture:
    return picture - _blurred(picture, radius_px)


def _blurred(picture: Picture, radius_px: float) -> Picture:
    blurred = cv2.GaussianBlur(picture, (0, 0), radius_px, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32).reshape(picture.shape)


# --- grain -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grain:
    """The grain of a film, or the noise of a scanner.

    Attributes:
        sigma: in levels, of what is finer than the band.
        radius_px: of the Gaussian that makes such grain out of white noise.
    """

    sigma: float
    radius_px: float


def grain_of(light: Picture, where: Flags, top: float) -> Grain | None:
    """Measure grain in the flat parts of a picture; None where there are too few.

    Args:
        light: luma `(h, w, 1)` in levels.
        where: `(h, w)`, the pixels to look at.
        top: the highest level.
    """
    plane = light[..., 0]
    smooth = _blurred(plane, _GRAIN_BAND_PX)
    usable = where & (smooth > _CLIPPED * top) & (smooth < (1.0 - _CLIPPED) * top)
    if np.count_nonzero(usable) < _GRAIN_LEAST_PX:
        return None
    # Looked at so coarsely that where grain happens to be weak doesn't pass for flat.
    coarse = _blurred(plane, 2.0 * _GRAIN_BAND_PX)
    slope = np.hypot(cv2.Sobel(coarse, cv2.CV_32F, 1, 0), cv2.Sobel(coarse, cv2.CV_32F, 0, 1))
    flat = usable & (slope <= np.quantile(slope[usable], _FLAT_SHARE))
    fine = plane - smooth
    sigma = float(np.median(np.abs(fine[flat]))) / _NORMAL_MEDIAN
    # Dust and scratches aren't grain.
    return Grain(sigma, _radius_of(_likeness(np.clip(fine, -3.0 * sigma, 3.0 * sigma), flat)))


def grain_between(
    wanted: Grain | None, there: Grain | None, shape: tuple[int, int], seed: Sequence[int]
) -> Picture | None:
    """Return the grain `(h, w, 1)` that is missing; None when there is as much, or nobody knows.

    Args:
        wanted: the grain of the surroundings.
        there: the grain of the face.
        shape: (height, width).
        seed: whole numbers not below 0; the same ones give the same grain.
    """
    if wanted is None or there is None or wanted.sigma <= there.sigma:
        return None
    missing = float(np.sqrt(wanted.sigma**2 - there.sigma**2))
    noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
    if wanted.radius_px > 0:
        noise = _blurred(noise, wanted.radius_px)
    power, _ = _response(wanted.radius_px)
    return noise[..., None] * np.float32(missing / np.sqrt(power))


def _likeness(fine: Picture, flat: Flags) -> float:
    """Return the correlation of neighbours, over pairs that both lie in flat parts."""
    across = flat[:, 1:] & flat[:, :-1]
    down = flat[1:] & flat[:-1]
    products = np.concatenate([(fine[:, 1:] * fine[:, :-1])[across], (fine[1:] * fine[:-1])[down]])
    power = float(np.mean(fine[flat] ** 2))
    return float(products.mean()) / power if power > 0 and len(products) else 0.0


def _radius_of(likeness: float) -> float:
    """Return the radius of the grain whose neighbours are so alike."""
    likenesses = [_response(radius)[1] for radius in _GRAIN_RADII_PX]
    return float(np.interp(likeness, likenesses, _GRAIN_RADII_PX))


@cache
def _response(radius_px: float) -> tuple[float, float]:
    """Return the power of grain made from unit white noise, and its neighbours' correlation.

    Both of what is finer than the band, as `grain_of` sees it.
    """
    impulse = np.zeros((49, 49), np.float32)
    impulse[24, 24] = 1.0
    grain = _blurred(impulse, radius_px) if radius_px > 0 else impulse
    fine = _fine(grain, _GRAIN_BAND_PX)
    power = float((fine**2).sum())
    return power, float((fine[:, 1:] * fine[:, :-1]).sum()) / power
