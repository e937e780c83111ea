"""The colours of a page: its ICC profile as the engine's `ColourSpace`, computed by Little CMS.

In: a profile's bytes, and whether the page has one channel. Out: a `PageColour`; profiles that say
what sRGB says, and those that can't be used, have no colour space. Intents are relative
colorimetric with black point compensation: white stays white, black stays black, and what a
perceptual table would bend on purpose isn't bent twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from gpen_engine.colour import ColourSpace, Samples, Shares

_SRGB = "srgb"
_SRGB_DELTA_E = 0.5
"""Nobody sees less, side by side; the many files that are called sRGB differ by up to 0.35."""
_GRID = 17
_TABLE = 1 << 16
"""Points of a curve: all levels of 16 bits."""
_SAME = 1 / 512
"""By so much two ways of computing may differ and be the same: half a level of 8 bits."""
_LINEAR_SRGB, _LINEAR_LIGHT = np.float32(0.04045), np.float32(0.0031308)
"""Up to here sRGB is straight."""
_SURE_GRAYS = (0.1, 0.9)
_ROUND_TRIP = 1 / 64
"""So near to where they were must grays between these come back, or a profile isn't to be used."""


@dataclass(frozen=True, slots=True)
class PageColour:
    """What a page's samples mean.

    Attributes:
        space: None where they are sRGB, or are taken for it.
        name: for the sidecar: `srgb`, or `icc: ` and the profile's own description.
        note: why a profile that is there isn't used; else empty.
    """

    space: ColourSpace | None
    name: str = _SRGB
    note: str = ""


def page_colour(icc: bytes | None, *, gray: bool) -> PageColour:
    """Return what a page's samples mean.

    Args:
        icc: the profile that the page carries.
        gray: the page has one channel; an RGB profile then counts for its grays.
    """
    if icc is None:
        return PageColour(None)
    try:
        name, kind = _described(icc)
        if kind not in ("RGB", "GRAY") or (kind == "GRAY" and not gray):
            raise ValueError(f"it is one for {kind or 'no colours'}")
        space = _GrayCurve(icc, kind) if gray else _rgb_space(icc)
        if _is_srgb(space, gray=gray):
            return PageColour(None)
        _require_round_trip(space)
    except (ImageCms.PyCMSError, imagecodecs.CmsError, OSError, ValueError) as error:
        reason = str(error).strip().rstrip(".")
        note = f"the ICC profile couldn't be used; the samples were taken for sRGB ({reason})"
        return PageColour(None, note=note)
    return PageColour(space, f"icc: {name}")


def _rgb_space(icc: bytes) -> ColourSpace:
    """Return an RGB profile's colours: fast where it is curves and a matrix, as nearly all are."""
    profile, fast = _Profile(icc), _MatrixProfile(icc)
    grid = _colours()
    ways = (
        (profile.to_srgb(grid), fast.to_srgb(grid)),
        (profile.from_srgb(grid), fast.from_srgb(grid)),
    )
    same = all(float(np.abs(one - other).max()) <= _SAME for one, other in ways)
    return fast if same else profile


class _Profile:
    """An RGB profile as Little CMS computes it: 0.2 s for a million pixels."""

    def __init__(self, icc: bytes) -> None:
        self._icc = icc

    def to_srgb(self, pixels: Samples) -> Samples:
        return _shown(pixels, self._icc, _srgb_profile())

    def from_srgb(self, pixels: Shares) -> Shares:
        return _shown(pixels, _srgb_profile(), self._icc)


class _MatrixProfile(_Profile):
    """An RGB profile of three curves and a matrix, read off Little CMS: seven times as fast.

    For any other profile it is wrong.
    """

    def __init__(self, icc: bytes) -> None:
        super().__init__(icc)

        def light_of(pixels: Shares) -> Shares:
            shown = _converted(pixels, icc, _srgb_profile(), ("rgb", "rgb"))
            if not np.isfinite(shown).all():
                raise ValueError("it gives values that are no numbers")
            return _light(shown)

        self._to_srgb = light_of(np.eye(3, dtype=np.float32))
        self._from_srgb = np.linalg.inv(self._to_srgb)
        levels = _levels()
        curves = light_of(np.repeat(levels[:, None], 3, axis=1)) @ self._from_srgb
        self._curves = [np.maximum.accumulate(curve) for curve in curves.T]
        self._inverses = [_inverse(levels, curve) for curve in self._curves]

    def to_srgb(self, pixels: Samples) -> Samples:
        if pixels.dtype == np.uint8:
            return super().to_srgb(pixels)
        light = _looked_up(self._curves, pixels) @ self._to_srgb
        return np.asarray(_encoded(np.clip(light, 0.0, 1.0)), pixels.dtype)

    def from_srgb(self, pixels: Shares) -> Shares:
        light = np.clip(_light(pixels) @ self._from_srgb, 0.0, 1.0)
        return _looked_up(self._inverses, np.sqrt(light))


class _GrayCurve:
    """A gray profile, or the grays of an RGB one: the same curve for every channel."""

    def __init__(self, icc: bytes, kind: str) -> None:
        levels = _levels()
        ramp = np.repeat(levels[:, None], 1 if kind == "GRAY" else 3, axis=1)
        shown = _shown(ramp, icc, _srgb_profile(), kind=kind.lower())
        self._curve = np.maximum.accumulate(shown.mean(axis=1))
        self._inverse = _inverse(levels, self._curve)

    def to_srgb(self, pixels: Samples) -> Samples:
        if pixels.dtype == np.uint8:
            of_8_bits = np.rint(self._curve[:: _TABLE // 255] * 255.0).astype(np.uint8)
            return np.asarray(of_8_bits[pixels], pixels.dtype)
        return np.asarray(_looked_up([self._curve] * 3, pixels), pixels.dtype)

    def from_srgb(self, pixels: Shares) -> Shares:
        return _looked_up([self._inverse] * 3, np.sqrt(pixels))


def _levels() -> Shares:
    return np.linspace(0.0, 1.0, _TABLE, dtype=np.float32)


def _inverse(levels: Shares, curve: Shares) -> Shares:
    """Turn a curve's table around, over square roots: a little light is many levels."""
    return np.interp(levels**2, curve, levels).astype(np.float32)


def _looked_up(tables: Sequence[Shares], shares: NDArray[Any]) -> Shares:
    """Return `(..., 3)` shares through a table each."""
    places = (shares * np.float32(_TABLE - 1) + np.float32(0.5)).astype(np.intp)
    values = [table.take(places[..., channel]) for channel, table in enumerate(tables)]
    return np.stack(values, axis=-1)


def _light(srgb: Shares) -> Shares:
    """Return the light that sRGB stands for (IEC 61966-2-1)."""
    bright = (np.maximum(srgb, _LINEAR_SRGB) + np.float32(0.055)) / np.float32(1.055)
    return np.where(srgb <= _LINEAR_SRGB, srgb / np.float32(12.92), bright ** np.float32(2.4))


def _encoded(light: Shares) -> Shares:
    """Return sRGB that stands for so much light."""
    bright = np.maximum(light, _LINEAR_LIGHT) ** np.float32(1 / 2.4) * np.float32(1.055)
    return np.where(light <= _LINEAR_LIGHT, light * np.float32(12.92), bright - np.float32(0.055))


@cache
def _srgb_profile() -> bytes:
    profile: bytes = imagecodecs.cms_profile("srgb")
    return profile


def _shown(pixels: Samples, source: bytes, target: bytes, *, kind: str = "rgb") -> Samples:
    """Return `(..., channels)` as `(..., 3)` of an RGB profile; what that can't show is cut off."""
    converted = _converted(pixels, source, target, kinds=(kind, "rgb"))
    # Little CMS lets floats go beyond.
    return converted if converted.dtype == np.uint8 else np.clip(converted, 0.0, 1.0)


def _lab(shares: Shares) -> Shares:
    """Return L*, a* and b*, for D50, of sRGB; OpenCV's are half a Delta E off."""
    return _converted(shares, _srgb_profile(), imagecodecs.cms_profile("lab2"), ("rgb", "lab"))


def _converted(pixels: Samples, source: bytes, target: bytes, kinds: tuple[str, str]) -> Samples:
    """Convert `(..., channels)` to `(..., 3)`.

    Every call opens the profiles anew, in less than a millisecond: threads share nothing.
    """
    converted: Samples = imagecodecs.cms_transform(
        np.ascontiguousarray(pixels).reshape(1, -1, pixels.shape[-1]),
        source,
        target,
        colorspace=kinds[0],
        outcolorspace=kinds[1],
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        flags=imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION,
    ).reshape(*pixels.shape[:-1], 3)
    return converted


def _described(icc: bytes) -> tuple[str, str]:
    """Return a profile's description and what it is for: RGB, GRAY, CMYK and so on."""
    profile = ImageCms.ImageCmsProfile(BytesIO(icc)).profile
    try:
        name = (profile.profile_description or "").strip()
    except ValueError:  # it is no text
        name = ""
    return name or "no description", profile.xcolor_space.strip()


def _is_srgb(space: ColourSpace, *, gray: bool) -> bool:
    """Say whether the samples look as they would in sRGB: all of a grid of colours, or of grays."""
    grid = _grays(0.0, 1.0) if gray else _colours()
    difference = np.linalg.norm(_lab(space.to_srgb(grid)) - _lab(grid), axis=-1)
    return float(difference.max()) < _SRGB_DELTA_E


def _require_round_trip(space: ColourSpace) -> None:
    """Refuse a profile whose grays don't come back from sRGB.

    Raises:
        ValueError: that is so.
    """
    grays = _grays(*_SURE_GRAYS)
    back = space.from_srgb(space.to_srgb(grays))
    if not float(np.abs(back - grays).max()) <= _ROUND_TRIP:
        raise ValueError("its grays don't come back from sRGB")


def _colours() -> Shares:
    axis = np.linspace(0.0, 1.0, _GRID, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis), axis=-1)


def _grays(low: float, high: float) -> Shares:
    return np.repeat(np.linspace(low, high, 256, dtype=np.float32)[:, None], 3, axis=1)
