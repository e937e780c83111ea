"""What a photograph costs around the network: cutting faces out and putting them back.

    python -m benchmarks.paste

Prints, from one run, what a face costs on a page of 35 megapixels against one of 2, and the time
and memory of a whole album page with a stub network. Finding faces isn't measured here.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence

import cv2
import numpy as np

from gpen_engine.align import Picture, view_of
from gpen_engine.blend import make_patch, paste
from gpen_engine.faces import Finish, Pixels, Point
from gpen_engine.mask import soft_face_mask

PAGE_PX = (7016, 4960)
SMALL_PX = (1700, 1200)
Landmarks = tuple[Point, ...]

_MARKS = ((-0.5, -0.57), (0.5, -0.57), (0.0, 0.0), (-0.42, 0.59), (0.42, 0.59))


def album_page(width: int, height: int, *, colour: bool) -> Pixels:
    """Draw a page: smooth shapes under film grain, `(H, W, 3) uint8`, in colour or gray."""
    rng = np.random.default_rng(1)
    channels = 3 if colour else 1
    shapes = rng.uniform(40, 215, (height // 40, width // 40, channels)).astype(np.float32)
    smooth = cv2.resize(shapes, (width, height), interpolation=cv2.INTER_CUBIC)
    tile = rng.normal(0, 4, (512, 512)).astype(np.float32)
    grain = np.tile(tile, (height // 512 + 1, width // 512 + 1))[:height, :width]
    page = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        plane = smooth[..., channel] if colour else smooth
        page[..., channel] = np.clip(plane + grain, 0, 255)
    return page


def faces_on(width: int, height: int, eye_distances_px: Sequence[float]) -> list[Landmarks]:
    """Spread faces over a page, the same ones on every page of that size."""
    rng = np.random.default_rng(2)
    faces = []
    for unit in eye_distances_px:
        x, y = rng.uniform((unit, unit), (width - unit, height - unit))
        faces.append(tuple((x + unit * u, y + unit * v) for u, v in _MARKS))
    return faces


def softened(crop: Picture) -> Picture:
    """Stand in for the network: a change of every pixel."""
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), 2.0), np.float32) + np.float32(5.0)


def restore(image: Pixels, faces: Sequence[Landmarks], size: int, finish: Finish) -> dict[str, float]:
    """Take all faces of a page through the stub; return the seconds of each step."""
    mask = soft_face_mask(size)
    start = time.perf_counter()
    views = [view_of(landmarks, size, shape=image.shape, lens=finish.lens) for landmarks in faces]
    crops = [view.crop(image) for view in views]
    aligned = time.perf_counter()
    answers = [softened(crop) for crop in crops]
    answered = time.perf_counter()
    patches = [
        make_patch(image, view, crop, answer, mask, finish=finish)
        for view, crop, answer in zip(views, crops, answers, strict=True)
    ]
    made = time.perf_counter()
    paste(image, patches)
    pasted = time.perf_counter()
    copied = time.perf_counter()
    image.copy()
    copied = time.perf_counter() - copied
    return {
        "align": aligned - start,
        "patch": made - answered,
        "paste": pasted - made - copied,
        "copy": copied,
    }
