"""What cutting faces out and putting them back costs, whatever the size of the photograph.

    python -m benchmarks.paste [--size PX] [--json PATH]

Prints, from one run, what a face costs on a page of 35 megapixels against the same face on one of
2, and the time and memory of pages with 74 faces: as large as on an album page, and 30 to 600 px
between the eyes. The network is a stub whose time doesn't count. The whole way of a photo, finding
the faces too, is `benchmarks.photo`'s.
"""

import argparse
import functools
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure import peak_beside, write_json
from gpen_engine.align import Picture, view_of
from gpen_engine.blend import blend, make_patch
from gpen_engine.faces import Pixels, Point
from gpen_engine.mask import soft_face_mask
from gpen_engine.restoration import Restoration

PAGE_PX = (7016, 4960)
SMALL_PX = (1700, 1200)
RATIO_MAX = 1.2
PAGES = {
    "as on an album page": np.repeat([28.0, 90.0], [58, 16]).tolist(),
    "30 to 600 px": np.repeat([600.0, 300.0, 150.0, 75.0, 30.0], [2, 4, 8, 20, 40]).tolist(),
}
"""Pixels between the eyes."""

Landmarks = tuple[Point, ...]

_MARKS = ((-0.5, -0.57), (0.5, -0.57), (0.0, 0.0), (-0.42, 0.59), (0.42, 0.59))


def main() -> int:
    """Print the figures; return 1 when a face costs more on the larger page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="side of an aligned face")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    page, small = album_page(*PAGE_PX), album_page(*SMALL_PX)

    numbers: dict[str, float] = {}
    for eyes_px in (30, 100):
        ratio, face_s = compared(page, small, eyes_px, arguments.size, arguments.repeats)
        numbers[f"ratio_{eyes_px}_px"] = ratio
        print(f"a face of {eyes_px} px: {1000 * face_s:.1f} ms; 35 MP : 2 MP = {ratio:.2f}")
    for name, distances_px in PAGES.items():
        work = functools.partial(restore, page, faces_on(*PAGE_PX, distances_px), arguments.size)
        steps, held_mb = work(), peak_beside(work) / 1e6
        numbers[f"page_s {name}"], numbers[f"page_mb {name}"] = sum(steps.values()), held_mb
        print(f"74 faces, {name}: {sum(steps.values()):.2f} s, {held_mb:.0f} MB beside the page")
        print("  " + ", ".join(f"{step} {seconds:.2f} s" for step, seconds in steps.items()))
    write_json(arguments.json, numbers)
    return 0 if max(numbers["ratio_30_px"], numbers["ratio_100_px"]) <= RATIO_MAX else 1


def compared(
    page: Pixels, small: Pixels, eyes_px: float, size: int, repeats: int
) -> tuple[float, float]:
    """Return the ratio of what a face costs on both, and its seconds on the page.

    Copying the picture once isn't a face's cost, however large the picture.
    """
    on_page = faces_on(*PAGE_PX, [eyes_px] * 20)
    on_small = faces_on(*SMALL_PX, [eyes_px] * 20)
    costs: list[float] = []
    small_costs: list[float] = []
    for _ in range(repeats):
        for steps, taken in (
            (restore(page, on_page, size), costs),
            (restore(small, on_small, size), small_costs),
        ):
            taken.append(sum(steps.values()) - steps["copy"])
    return min(costs) / min(small_costs), min(costs) / len(on_page)


def restore(image: Pixels, faces: Sequence[Landmarks], size: int) -> dict[str, float]:
    """Take all faces of a page through the stub; return the seconds of each step."""
    mask, patches = soft_face_mask(size), []
    steps = dict.fromkeys(("align", "patch", "paste", "copy"), 0.0)
    for landmarks in faces:
        start = time.perf_counter()
        view = view_of(landmarks, size, shape=image.shape)
        crop = view.crop(image)
        steps["align"] += time.perf_counter() - start
        answer = softened(crop)
        start = time.perf_counter()
        patches.append(make_patch(image, view, crop, answer, mask))
        steps["patch"] += time.perf_counter() - start
    start = time.perf_counter()
    _ = Restoration(image, (), {}, pieces=blend(image, patches)).image
    pasted = time.perf_counter()
    image.copy()
    steps["copy"] = time.perf_counter() - pasted
    steps["paste"] = pasted - start - steps["copy"]
    return steps


def softened(crop: Picture) -> Picture:
    """Stand in for the network: a change of every pixel."""
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), 2.0), np.float32) + np.float32(5.0)


def album_page(width: int, height: int) -> Pixels:
    """Draw a page in colour, `(H, W, 3) uint8`: smooth shapes under film grain."""
    rng = np.random.default_rng(1)
    tile = rng.normal(0, 4, (512, 512)).astype(np.float32)
    grain = np.tile(tile, (height // 512 + 1, width // 512 + 1))[:height, :width]
    page = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        shapes = rng.uniform(40, 215, (height // 40, width // 40)).astype(np.float32)
        smooth = cv2.resize(shapes, (width, height), interpolation=cv2.INTER_CUBIC)
        page[..., channel] = np.clip(smooth + grain, 0, 255)
    return page


def faces_on(width: int, height: int, eye_distances_px: Sequence[float]) -> list[Landmarks]:
    """Spread faces over a page, their middles evenly."""
    columns = int(np.ceil(np.sqrt(len(eye_distances_px) * width / height)))
    rows = int(np.ceil(len(eye_distances_px) / columns))
    order = np.random.default_rng(2).permutation(len(eye_distances_px))
    faces = []
    for place, index in enumerate(order):
        unit = eye_distances_px[index]
        x = (place % columns + 0.5) * width / columns
        y = (place // columns + 0.5) * height / rows
        faces.append(tuple((x + unit * u, y + unit * v) for u, v in _MARKS))
    return faces


if __name__ == "__main__":
    raise SystemExit(main())
