"""Five-point alignment: landmarks -> the similarity onto GPEN's template; antialiased warping.

In: landmarks in pixels of the upright image. Out: `(2, 3) float64` matrices from image to crop,
and warped float32 arrays. The template is the 96×112 five-point reference of the face-recognition
literature, made square, with a quarter of padding, as GPEN uses it (docs/gpen-network.md); it is
not FFHQ's. The least-squares similarity is Umeyama's (1991).
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_engine.faces import Pixels, Point, Region

Matrix = NDArray[np.float64]

_REFERENCE = (
    (30.2946, 51.6963),
    (65.5318, 51.5014),
    (48.0252, 71.7366),
    (33.5493, 92.3655),
    (62.7299, 92.2041),
)
_SQUARE_SHIFT_PX = 8.0
_PADDING_PX = 28.0
_PADDED_SIDE_PX = 168.0


def template(size: int) -> Matrix:
    """Return the five landmarks `(5, 2)` of an aligned crop of `size` pixels."""
    points = np.array(_REFERENCE) + np.array([_SQUARE_SHIFT_PX + _PADDING_PX, _PADDING_PX])
    return np.asarray(points * (size / _PADDED_SIDE_PX), np.float64)


def similarity(landmarks: Sequence[Point], size: int) -> Matrix:
    """Return the `(2, 3)` similarity that best maps landmarks onto the template."""
    source = np.asarray(landmarks, np.float32).astype(np.float64)
    target = template(size)
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


def footprint(matrix: Matrix, size: int, shape: tuple[int, ...], *, margin_px: int = 0) -> Region:
    """Return the part of an image of `shape` that a crop covers, at least one pixel."""
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], np.float64)
    spots = corners @ invert(matrix).T
    height, width = shape[:2]
    low = np.floor(spots.min(axis=0)).astype(int) - margin_px
    high = np.ceil(spots.max(axis=0)).astype(int) + 1 + margin_px
    x0, y0 = (int(value) for value in np.clip(low, 0, (width - 1, height - 1)))
    x1, y1 = (int(value) for value in np.clip(high, (x0 + 1, y0 + 1), (width, height)))
    return x0, y0, x1, y1


def shifted(matrix: Matrix, region: Region) -> Matrix:
    """Return the matrix for an image of which only `region` is at hand."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ np.array(region[:2], np.float64)
    return moved


def crop(image: Pixels, matrix: Matrix, size: int) -> NDArray[np.float32]:
    """Cut an aligned face out of an image; past the edge the image is mirrored.

    Returns:
        `(size, size, 3) float32`, in the image's own levels (0 to 255 or 0 to 65535).
    """
    region = footprint(matrix, size, image.shape, margin_px=2)
    x0, y0, x1, y1 = region
    part = image[y0:y1, x0:x1].astype(np.float32)
    return warp(part, shifted(matrix, region), (size, size), border=cv2.BORDER_REFLECT)


def warp(
    picture: NDArray[np.float32],
    matrix: Matrix,
    size: tuple[int, int],
    *,
    border: int = cv2.BORDER_CONSTANT,
) -> NDArray[np.float32]:
    """Warp float32 `(H, W[, C])` by a similarity into `size` = (width, height).

    Where the similarity shrinks, the picture is first reduced by area averaging, so that nothing
    aliases; where it enlarges, interpolation is cubic.
    """
    scale = scale_of(matrix)
    if scale < 0.95:
        height, width = picture.shape[:2]
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA).astype(np.float32)
        ratio = np.array([width / small[0], height / small[1]])
        # A pixel's centre has whole coordinates: reduced pixel u covers the middle of ratio·(u +
        # ½) − ½.
        matrix = matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ (ratio / 2 - 0.5)
        matrix[:, :2] *= ratio
    interpolation = cv2.INTER_CUBIC if scale > 1.05 else cv2.INTER_LINEAR
    warped = cv2.warpAffine(picture, matrix, size, flags=interpolation, borderMode=border)
    return np.asarray(warped, np.float32)
