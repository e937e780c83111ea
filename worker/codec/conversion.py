"""Conversions between a page's own samples and the pixels that the engine sees.

In: `(N, C)` samples or pixels. Out: the other. Gray and RGB of any number type are only scaled; of
CMYK and Lab an sRGB rendition is made.
"""

from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from worker.codec.native import Conversion, Samples

Floats = NDArray[np.floating[Any]]

_WHOLE_BYTE, _WHITE_16 = 8, 65535
_RELATIVE_COLORIMETRIC, _BLACK_POINT_COMPENSATION = 1, 0x2000  # lcms2.h
_SPACE, _CMYK = slice(16, 20), b"CMYK"  # ICC.1:2022, 7.2

# Lab of D50, as in ICC.1, from and to linear sRGB, with Bradford's adaptation (IEC 61966-2-1).
_D50 = np.array([0.9642, 1.0, 0.8249])
_TO_XYZ = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
_TO_RGB = np.linalg.inv(_TO_XYZ)
_LINEAR_LIGHT, _LINEAR_CURVE = 0.0031308, 0.04045  # IEC 61966-2-1
_EPSILON, _KAPPA = 216 / 24389, 24389 / 27  # CIE 15:2004


@dataclass(frozen=True, slots=True)
class Scaled:
    """Gray or RGB samples of which `low` is shown as black and `high` as white.

    Attributes:
        depth: bits of the pixels, 8 or 16.
    """

    low: float
    high: float
    depth: int

    def show(self, samples: NDArray[Any]) -> Samples:
        """Scale, round, and clip what lies outside."""
        white = 2**self.depth - 1
        scaled = (samples.astype(np.float64) - self.low) * (white / (self.high - self.low))
        return _pixels(scaled, self.depth)

    def take_back(
        self,
        pixels: Samples,
        near: NDArray[Any] | None = None,  # noqa: ARG002 - the scale is exact
    ) -> Floats:
        """Scale back."""
        white = 2**self.depth - 1
        samples: Floats = self.low + pixels * ((self.high - self.low) / white)
        return samples


@dataclass(frozen=True, slots=True)
class Inks:
    """CMYK samples, full ink the largest number, by their own ICC profile."""

    profile: bytes
    depth: int

    def show(self, samples: NDArray[Any]) -> Samples:
        """Convert to sRGB."""
        dtype = f"uint{self.depth}"
        return _transform(samples, self.profile, _srgb(), ("cmyk", "rgb"), dtype)

    def take_back(
        self,
        pixels: Samples,
        near: NDArray[Any] | None = None,  # noqa: ARG002 - the profile decides
    ) -> Floats:
        """Convert from sRGB, through 16 bits."""
        inks = _transform(pixels, _srgb(), self.profile, ("rgb", "cmyk"), "uint16")
        samples: Floats = inks * ((2**self.depth - 1) / _WHITE_16)
        return samples


@dataclass(frozen=True, slots=True)
class PlainInks:
    """CMYK samples that come without a usable profile: each ink takes its part of the light."""

    depth: int

    def show(self, samples: NDArray[Any]) -> Samples:
        """Multiply what each ink lets through."""
        light = 1 - samples / (2**self.depth - 1)
        return _pixels(light[:, :3] * light[:, 3:] * (2**self.depth - 1), self.depth)

    def take_back(self, pixels: Samples, near: NDArray[Any] | None = None) -> Floats:
        """Keep the black ink that was there; only what is too bright for it takes some away."""
        white = 2**self.depth - 1
        light = pixels / white
        brightest = light.max(axis=1, keepdims=True)
        through = brightest if near is None else np.maximum(1 - near[:, 3:] / white, brightest)
        inks = 1 - np.divide(light, through, out=np.ones_like(light), where=through > 0)
        samples: Floats = np.hstack([inks, 1 - through]) * white
        return samples


@dataclass(frozen=True, slots=True)
class Lab:
    """CIE L*a*b* samples of D50, a* and b* offset by half their range.

    Attributes:
        lightest: the number that L* = 100 has.
        depth: bits a sample, 8 or 16.
    """

    lightest: int
    depth: int

    def show(self, samples: NDArray[Any]) -> Samples:
        """Convert to sRGB; colours outside it are clipped."""
        unit = 2 ** (self.depth - 8)
        lightness = samples[:, 0] * (100 / self.lightest)
        a, b = (samples[:, channel] / unit - 128 for channel in (1, 2))
        y = (lightness + 16) / 116
        f = np.stack([y + a / 500, y, y - b / 200], axis=1)
        xyz = np.where(f**3 > _EPSILON, f**3, (116 * f - 16) / _KAPPA) * _D50
        light = np.clip(xyz @ _TO_RGB.T, 0, 1)
        curve = np.where(light <= _LINEAR_LIGHT, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
        return _pixels(curve * (2**self.depth - 1), self.depth)

    def take_back(
        self,
        pixels: Samples,
        near: NDArray[Any] | None = None,  # noqa: ARG002 - there is one answer
    ) -> Floats:
        """Convert from sRGB."""
        curve = pixels / (2**self.depth - 1)
        light = np.where(curve <= _LINEAR_CURVE, curve / 12.92, ((curve + 0.055) / 1.055) ** 2.4)
        xyz = light @ _TO_XYZ.T / _D50
        f = np.where(xyz > _EPSILON, np.cbrt(xyz), (_KAPPA * xyz + 16) / 116)
        unit = 2 ** (self.depth - 8)
        return np.stack(
            [
                (116 * f[:, 1] - 16) * (self.lightest / 100),
                (500 * (f[:, 0] - f[:, 1]) + 128) * unit,
                (200 * (f[:, 1] - f[:, 2]) + 128) * unit,
            ],
            axis=1,
        )


def choose_inks(icc: bytes | None, depth: int, notes: list[str]) -> Conversion:
    """Return the conversion for CMYK samples: by the file's profile where it works both ways."""
    if icc is not None and icc[_SPACE] == _CMYK:
        conversion = Inks(icc, depth)
        try:
            conversion.take_back(conversion.show(np.zeros((1, 4), f"uint{depth}")))
        except imagecodecs.CmsError:
            notes.append("the CMYK profile can't be used both ways; inks were taken as pure")
        else:
            return conversion
    return PlainInks(depth)


def widen(samples: NDArray[Any], bits: int) -> NDArray[Any]:
    """Spread numbers of some bits over the full range of their type."""
    white = np.iinfo(samples.dtype).max
    widened: NDArray[Any] = np.rint(samples * (white / (2**bits - 1))).astype(samples.dtype)
    return widened


def _srgb() -> bytes:
    profile: bytes = imagecodecs.cms_profile("srgb")
    return profile


def _transform(
    values: NDArray[Any], source: bytes, target: bytes, spaces: tuple[str, str], dtype: str
) -> Samples:
    transformed = imagecodecs.cms_transform(
        np.ascontiguousarray(values[None]),
        source,
        target,
        colorspace=spaces[0],
        outcolorspace=spaces[1],
        outdtype=dtype,
        intent=_RELATIVE_COLORIMETRIC,
        flags=_BLACK_POINT_COMPENSATION,
    )
    pixels: Samples = transformed[0]
    return pixels


def _pixels(values: Floats, depth: int) -> Samples:
    rounded = np.clip(np.rint(values), 0, 2**depth - 1)
    return rounded.astype(np.uint8) if depth == _WHOLE_BYTE else rounded.astype(np.uint16)
