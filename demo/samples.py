"""Sample scans made from one public-domain portrait (`skimage.data.astronaut()`, NASA).

Nothing goes in; a folder of scans comes out: an album page of small damaged prints, a gray
portrait, a 16-bit one, a tiny print and a picture without a face. The damage is drawn from a fixed
seed.
"""

from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from skimage import data

Picture = NDArray[np.uint8]

_HEAD = np.s_[0:300, 70:370]
_SHUTTLE = np.s_[0:220, 330:512]
_DPI = 300
_PAPER = (238, 231, 214)


def make_samples(folder: Path) -> list[Path]:
    """Write the sample scans into `folder` and return their paths."""
    rng = np.random.default_rng(1969)
    portrait: Picture = data.astronaut()  # type: ignore[no-untyped-call]
    prints = folder / "prints"
    prints.mkdir(parents=True, exist_ok=True)
    album, gray, deep, small, landscape = (
        folder / "album_page.jpg",
        prints / "gray_portrait.tif",
        prints / "portrait_16bit.tif",
        prints / "small_print.png",
        prints / "no_face.jpg",
    )
    Image.fromarray(_album_page(portrait, rng)).save(album, quality=90, dpi=(_DPI, _DPI))
    worn = np.asarray(cv2.cvtColor(_worn(portrait, 300, rng), cv2.COLOR_RGB2GRAY), np.uint8)
    _write_tiff(gray, worn, "minisblack")
    fine = rng.normal(0.0, 160.0, (384, 384, 3))
    blurred = np.asarray(cv2.GaussianBlur(portrait, (0, 0), 2.0), np.uint8)
    soft = _reduced(blurred, 384).astype(np.float64) * 257.0
    _write_tiff(deep, np.clip(soft + fine, 0, 65535).astype(np.uint16), "rgb")
    Image.fromarray(_worn(portrait[_HEAD], 110, rng)).save(small)
    Image.fromarray(np.ascontiguousarray(portrait[_SHUTTLE])).save(landscape, quality=92)
    return [album, gray, deep, small, landscape]


def _write_tiff(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16], kind: str) -> None:
    tifffile.imwrite(
        path,
        pixels,
        photometric=kind,
        compression="zlib",
        resolution=(_DPI, _DPI),
        resolutionunit="INCH",
    )


def _reduced(picture: NDArray[np.uint8], side: int) -> Picture:
    reduced = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, np.uint8)


def _worn(picture: Picture, side: int, rng: np.random.Generator) -> Picture:
    """A small, soft and grainy print of a square picture."""
    print_ = cv2.GaussianBlur(_reduced(picture, side), (0, 0), 1.0).astype(np.float64)
    grain = rng.normal(0.0, 5.0, (side, side, 1))
    return np.clip(print_ + grain, 0, 255).astype(np.uint8)


def _album_page(portrait: Picture, rng: np.random.Generator) -> Picture:
    """Six small prints on a page: colour, sepia and gray, straight, mirrored and tilted."""
    page = np.full((1240, 1754, 3), _PAPER, np.float64)
    page += rng.normal(0.0, 2.0, page.shape[:2])[:, :, None]
    sides = (330, 260, 210, 300, 230, 190)
    for index, side in enumerate(sides):
        source = portrait[_HEAD] if index % 2 else portrait
        print_ = _worn(source, side, rng).astype(np.float64)
        if index % 3 == 1:
            print_ = print_.mean(axis=2, keepdims=True) * np.array([1.0, 0.86, 0.68])
        elif index % 3 == 2:
            print_ = np.repeat(print_.mean(axis=2, keepdims=True), 3, axis=2)
        if index >= 3:
            print_ = print_[:, ::-1]
        _mount(page, print_, (140 + 540 * (index % 3), 130 + 560 * (index // 3)), 4.0 * index - 8)
    return np.clip(page, 0, 255).astype(np.uint8)


def _mount(
    page: NDArray[np.float64], print_: NDArray[np.float64], corner: tuple[int, int], tilt_deg: float
) -> None:
    """Stick a print with its white border onto the page, a little askew."""
    bordered = cv2.copyMakeBorder(
        print_, 12, 12, 12, 12, cv2.BORDER_CONSTANT, value=(248, 246, 240)
    )
    side = bordered.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), tilt_deg, 1.0)
    turn[:, 2] += corner
    size = (page.shape[1], page.shape[0])
    mounted = cv2.warpAffine(bordered, turn, size, flags=cv2.INTER_CUBIC)
    inside = cv2.warpAffine(np.ones((side, side)), turn, size)[:, :, None]
    page[...] = page * (1.0 - inside) + mounted * inside
