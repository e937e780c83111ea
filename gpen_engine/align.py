"""Five-point alignment: landmarks -> a `FaceView`, the map between photograph and aligned face.

In: landmarks in pixels of the upright image. Out: crops, `(S, S, 3) float32` in the photograph's
levels, and what is made of them brought back to the photograph's pixels. Only the face's own
region is ever touched. GPEN's template is the 96×112 five-point reference of the face-recognition
literature, made square, with a quarter of padding (docs/gpen-network.md). FFHQ's is that of
facexlib's FaceRestoreHelper, for GFPGAN and CodeFormer. The least-squares similarity is Umeyama's
(1991).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_engine.faces import Lens, Pixels, Point, Region, Template
from gpen_engine.lens import Points, distorted, undistorted

Matrix = NDArray[np.float64]
Picture = NDArray[np.float32]

_GPEN_96X112 = (
    (30.2946, 51.6963),
    (65.5318, 51.5014),
    (48.0252, 71.7366),
    (33.5493, 92.3655),
    (62.7299, 92.2041),
)
_SQUARE_SHIFT_PX = 8.0
_PADDING_PX = 28.0
_PADDED_SIDE_PX = 168.0
_FFHQ_512 = (
    (192.98138, 239.94708),
    (318.90277, 240.1936),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)
_MARGIN_PX = 2
"""A cubic looks so far beyond the pixels that it interpolates between."""
_OUTLINE = 9
"""Points on each side of a crop that say how far a lens bends it."""


def template(size: int, kind: Template = Template.GPEN) -> Points:
    """Return the five landmarks `(5, 2)` of an aligned crop of `size` pixels."""
    if kind is Template.FFHQ:
        return np.array(_FFHQ_512) * (size / 512.0)
    points = np.array(_GPEN_96X112) + np.array([_SQUARE_SHIFT_PX + _PADDING_PX, _PADDING_PX])
    return np.asarray(points * (size / _PADDED_SIDE_PX), np.float64)


def similarity(
    landmarks: Sequence[Point] | Points, size: int, kind: Template = Template.GPEN
) -> Matrix:
    """Return the `(2, 3)` similarity that best maps landmarks onto the template."""
    source = np.asarray(landmarks, np.float32).astype(np.float64)
    target = template(size, kind)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    u, spread, vt = np.linalg.svd((target - target_mean).T @ centred / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = u @ np.diag(signs) @ vt
    variance = centred.var(axis=0).sum()
    scale = float(spread @ signs) / variance if variance > 0 else 1.0
    shift = target_mean - scale * rotation @ source_mean
    return np.hstack([scale * rotation, shift[:, None]])


def scale_of(matrix: Matrix) -> float:
    """Return by how much a similarity enlarges."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def invert(matrix: Matrix) -> Matrix:
    """Return the inverse of a `(2, 3)` similarity."""
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class FaceView:
    """The map between a photograph and one aligned face of it; made by `view_of`.

    Attributes:
        matrix: `(2, 3)` similarity from the photograph, free of its lens's distortion, to the crop.
        size: the crop's side in pixels.
        shape: the photograph's (height, width).
        lens: the photograph's distortion.
    """

    matrix: Matrix
    size: int
    shape: tuple[int, int]
    lens: Lens | None = None

    @property
    def scale(self) -> float:
        """Pixels of the crop for one of the photograph's."""
        return scale_of(self.matrix)

    @property
    def side_px(self) -> float:
        """The crop's side in pixels of the photograph: the measure of a face's size."""
        return self.size / self.scale

    @property
    def region(self) -> Region:
        """The part of the photograph that the crop shows."""
        return self.region_of((0, 0, self.size, self.size))

    def region_of(self, part: Region, *, margin_px: int = 0) -> Region:
        """Return where the photograph shows a part of the crop, at least one pixel.

        Pixels that are interpolated between the part and its neighbours belong to it.
        """
        spots = self._photographed(_outline(part))
        height, width = self.shape
        low = np.floor(spots.min(axis=0)).astype(int) - margin_px
        high = np.ceil(spots.max(axis=0)).astype(int) + 1 + margin_px
        x0, y0 = (int(value) for value in np.clip(low, 0, (width - 1, height - 1)))
        x1, y1 = (int(value) for value in np.clip(high, (x0 + 1, y0 + 1), (width, height)))
        return x0, y0, x1, y1

    def crop(self, image: Pixels) -> Picture:
        """Cut the aligned face out of the photograph; past its edge it is mirrored.

        Returns:
            `(S, S, 3) float32`, in the photograph's own levels (0 to 255 or 0 to 65535).
        """
        region = self.region_of((0, 0, self.size, self.size), margin_px=_MARGIN_PX)
        x0, y0, x1, y1 = region
        part = image[y0:y1, x0:x1].astype(np.float32)
        extent = (self.size, self.size)
        if self.lens is None:
            return warp(part, _from_part(self.matrix, region), extent, border=cv2.BORDER_REFLECT)
        sources = self._photographed(_grid((0, 0, *extent))) - (x0, y0)
        return _sampled(part, sources, self.scale, border=cv2.BORDER_REFLECT)

    def bring_back(self, picture: Picture, region: Region) -> Picture:
        """Show an aligned picture `(S, S[, C]) float32` in a region of the photograph.

        Beyond the crop it is 0.
        """
        x0, y0, x1, y1 = region
        if self.lens is None:
            back = invert(_from_part(self.matrix, region))
            return warp(picture, back, (x1 - x0, y1 - y0))
        straight = undistorted(_grid(region), self.lens, self.shape)
        return _sampled(picture, _mapped(self.matrix, straight), 1.0 / self.scale)

    def enlarged(self, factor: float) -> "FaceView":
        """Return the view of the same face in a picture `factor` times as large."""
        # A pixel's centre has whole coordinates: large pixel X lies at (X + ½) / factor − ½.
        matrix = self.matrix.copy()
        matrix[:, 2] += matrix[:, :2].sum(axis=1) * (0.5 / factor - 0.5)
        matrix[:, :2] /= factor
        height, width = self.shape
        shape = (round(height * factor), round(width * factor))
        return replace(self, matrix=matrix, shape=shape)

    def sized(self, size: int) -> "FaceView":
        """Return the view of the same face as a crop of another size."""
        return replace(self, matrix=self.matrix * (size / self.size), size=size)

    def _photographed(self, points: Points) -> Points:
        """Return where in the photograph points of the crop are shown."""
        straight = _mapped(invert(self.matrix), points)
        return straight if self.lens is None else distorted(straight, self.lens, self.shape)


def view_of(
    landmarks: Sequence[Point],
    size: int,
    *,
    shape: tuple[int, ...],
    kind: Template = Template.GPEN,
    lens: Lens | None = None,
) -> FaceView:
    """Return the view that aligns a face onto a template.

    Args:
        landmarks: five, in pixels of the photograph.
        size: side of the crop.
        shape: the photograph's, (height, width) or more.
        kind: whose template.
        lens: distortion to take out of the crop.
    """
    height, width = shape[:2]
    marks = np.asarray(landmarks, np.float64)
    if lens is not None:
        marks = undistorted(marks, lens, (height, width))
    return FaceView(similarity(marks, size, kind), size, (height, width), lens)


def warp(
    picture: Picture,
    matrix: Matrix,
    size: tuple[int, int],
    *,
    border: int = cv2.BORDER_CONSTANT,
) -> Picture:
    """Warp float32 `(H, W[, C])` by a similarity into `size` = (width, height).

    Where the similarity shrinks, a pixel is the mean over its whole area, so that nothing aliases
    and nothing is blurred beyond it; where it enlarges, interpolation is cubic.
    """
    scale = scale_of(matrix)
    times = _samples(scale)
    # A pixel's centre has whole coordinates: sample j of pixel u lies at u + (j + ½) / times − ½.
    matrix = matrix * times
    matrix[:, 2] += (times - 1) / 2
    fine = (size[0] * times, size[1] * times)
    warped = cv2.warpAffine(picture, matrix, fine, flags=_interpolation(scale), borderMode=border)
    return _averaged(warped, times)


def _sampled(
    picture: Picture, sources: Points, scale: float, *, border: int = cv2.BORDER_CONSTANT
) -> Picture:
    """Sample float32 `(H, W[, C])` at points `(h, w, 2)`; about `scale` times as large."""
    times = _samples(scale)
    height, width = sources.shape[:2]
    # A lens bends slowly: between pixels its map is straight.
    fine = cv2.resize(sources.astype(np.float32), (width * times, height * times))
    across, down = cv2.split(fine)
    sampled = cv2.remap(picture, across, down, _interpolation(scale), borderMode=border)
    return _averaged(sampled, times)


def _samples(scale: float) -> int:
    """Return how many samples across a pixel see every pixel of a picture that is shrunk."""
    return 1 if scale >= 0.95 else math.ceil(1.0 / scale)


def _averaged(picture: NDArray[Any], times: int) -> Picture:
    if times > 1:
        size = (picture.shape[1] // times, picture.shape[0] // times)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(picture, np.float32)


def _interpolation(scale: float) -> int:
    return cv2.INTER_CUBIC if scale > 1.05 else cv2.INTER_LINEAR


def _from_part(matrix: Matrix, region: Region) -> Matrix:
    """Return the matrix for an image of which only `region` is at hand."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ np.array(region[:2], np.float64)
    return moved


def _mapped(matrix: Matrix, points: Points) -> Points:
    return points @ matrix[:, :2].T + matrix[:, 2]


def _grid(region: Region) -> Points:
    """Return the coordinates `(h, w, 2)` of a region's pixels."""
    x0, y0, x1, y1 = region
    across, down = np.meshgrid(np.arange(x0, x1, dtype=np.float64), np.arange(y0, y1))
    return np.dstack([across, down])


def _outline(part: Region) -> Points:
    """Return points around a part of a crop, through its nearest neighbours."""
    x0, y0, x1, y1 = part[0] - 1, part[1] - 1, part[2], part[3]
    across, down = np.linspace(x0, x1, _OUTLINE), np.linspace(y0, y1, _OUTLINE)
    return np.concatenate(
        [np.stack([across, np.full(_OUTLINE, y)], axis=-1) for y in (y0, y1)]
        + [np.stack([np.full(_OUTLINE, x), down], axis=-1) for x in (x0, x1)]
    )
