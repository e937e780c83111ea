"""A contact sheet: every face before and after, side by side, enlarged.

Masters, derivatives and sidecars go in; one RGB picture comes out. The enlargement is linear, so
that nothing on the sheet is sharper than in the files.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from worker.codec import decode
from worker.codec.limits import Limits
from worker.comparison import font_of, legible

_CELL_PX = 220
_MARGIN_PX, _BETWEEN_PAIRS_PX, _IN_A_PAIR_PX = 16, 48, 4
_TEXT_PX, _LINE_PX = 13, 20
_PAIR_PX = 2 * _CELL_PX + _IN_A_PAIR_PX
_ROW_PX = _LINE_PX + _CELL_PX + _LINE_PX
_MAX_PIXELS = 200_000_000


class Delivered(NamedTuple):
    """One photo's files."""

    master: Path
    derivative: Path
    sidecar: Path


def contact_sheet(photos: Sequence[Delivered], *, columns: int = 3) -> Image.Image:
    """Lay out every restored face as a pair, before on the left."""
    pairs = [pair for photo in photos for pair in _pairs(photo)]
    rows = max(1, -(-len(pairs) // columns))
    across, down = _PAIR_PX + _BETWEEN_PAIRS_PX, _ROW_PX + _MARGIN_PX
    width = columns * across - _BETWEEN_PAIRS_PX + 2 * _MARGIN_PX
    sheet = Image.new("RGB", (width, rows * down + _MARGIN_PX), "white")
    draw, font = ImageDraw.Draw(sheet), font_of(_TEXT_PX)
    for index, (label, before, after) in enumerate(pairs):
        x = _MARGIN_PX + (index % columns) * across
        y = _MARGIN_PX + (index // columns) * down
        middle = x + before.width + _IN_A_PAIR_PX
        for left, heading, picture in ((x, "before", before), (middle, "after", after)):
            draw.text((left, y), heading, fill="dimgray", font=font)
            sheet.paste(picture, (left, y + _LINE_PX))
        below = y + _LINE_PX + before.height + _IN_A_PAIR_PX
        draw.text((x, below), legible(label, font), fill="black", font=font)
    return sheet


def _pairs(photo: Delivered) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    sidecar = json.loads(photo.sidecar.read_text(encoding="utf-8"))
    before = decode(photo.master.read_bytes(), limits=Limits(_MAX_PIXELS)).pages
    after = decode(photo.derivative.read_bytes(), limits=Limits(_MAX_PIXELS)).pages
    for face in sidecar["faces"]:
        if face["restored"]:
            left, top, right, bottom = face["box"]
            size = f"face {right - left:.0f} by {bottom - top:.0f} px"
            label = f"{photo.master.name}   {size}   score {face['score']:.2f}"
            x0, y0, x1, y1 = face["region"]
            page, part = face["page"], np.s_[y0:y1, x0:x1]
            yield label, _cell(before[page].pixels[part]), _cell(after[page].pixels[part])


def _cell(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Image.Image:
    eight = pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257.0).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(eight))
    picture.thumbnail((_CELL_PX, _CELL_PX), Image.Resampling.LANCZOS)
    scale = min(_CELL_PX / picture.width, _CELL_PX / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(size, Image.Resampling.BILINEAR)
