"""What programs other than ours find in a file: its samples, upright, a page each."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

ORIENTATION = 274


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a picture as TIFF's field says."""
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}
    turned = np.rot90(array, turns[orientation])
    return {2: turned[:, ::-1], 4: turned[:, ::-1], 5: turned[::-1], 7: turned[::-1]}.get(
        orientation, turned
    )


def by_tifffile(data: bytes) -> list[np.ndarray]:
    """Read the pages of a TIFF file as they are stored."""
    found = []
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for page in file.pages:
            array = page.asarray()
            if page.planarconfig == 2:
                array = np.moveaxis(array, 0, 2)
            found.append(upright(array, int(page.tags.valueof(ORIENTATION, 1))))
    return found


def by_pillow(data: bytes) -> list[np.ndarray]:
    """Read the pages of a TIFF file, or the first picture of another."""
    found = []
    with Image.open(io.BytesIO(data)) as image:
        number = image.n_frames if image.format == "TIFF" else 1
        for index in range(number):
            image.seek(index)
            frame = ImageOps.exif_transpose(image)
            if frame.mode in {"1", "P"} or "transparency" in frame.info:
                frame = frame.convert("RGBA" if frame.has_transparency_data else "RGB")
            found.append(np.asarray(frame))
    return found


def by_vips(data: bytes) -> list[np.ndarray]:
    """Read the pages of a TIFF file, or the first picture of another."""
    pyvips = pytest.importorskip("pyvips")
    image = pyvips.Image.new_from_buffer(data, "")
    number = image.get("n-pages") if image.get_typeof("n-pages") else 1
    loader = image.get("vips-loader")
    options = [{"page": page} if "tiff" in loader else {} for page in range(number)]
    return [
        pyvips.Image.new_from_buffer(data, "", **one).autorot().numpy()
        for one in (options if "tiff" in loader else [{}])
    ]


READERS: dict[str, Callable[[bytes], list[np.ndarray]]] = {
    "tifffile": by_tifffile,
    "pillow": by_pillow,
    "vips": by_vips,
}


def assert_same_outside(
    box: tuple[slice, slice], before: np.ndarray, after: np.ndarray, tolerance: float = 0
) -> None:
    """Compare two pictures outside a box of rows and columns."""
    before, after = _gray_or_colour(before, after), _gray_or_colour(after, before)
    assert (before.shape, before.dtype) == (after.shape, after.dtype)
    differs = (before != after).any(axis=2)
    differs[box] = False
    difference = np.abs(before[differs].astype(np.float64) - after[differs])
    assert difference.max(initial=0) <= tolerance


def _gray_or_colour(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Gray as colour where another picture has it so: palettes come back as either."""
    array, like = np.atleast_3d(array), np.atleast_3d(like)
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 < like.shape[2] else array
