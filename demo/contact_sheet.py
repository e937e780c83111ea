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

_CELL_PX = 220
_GAP_PX = 12
_LABEL_PX = 22
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
    width = columns * (2 * _CELL_PX + 2 * _GAP_PX) + _GAP_PX
    height = rows * (_CELL_PX + _LABEL_PX + _GAP_PX) + _GAP_PX
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (label, before, after) in enumerate(pairs):
        x = _GAP_PX + (index % columns) * (2 * _CELL_PX + 2 * _GAP_PX)
        y = _GAP_PX + (index // columns) * (_CELL_PX + _LABEL_PX + _GAP_PX)
        sheet.paste(before, (x, y))
        sheet.paste(after, (x + _CELL_PX + 2, y))
        draw.text((x, y + _CELL_PX + 4), label, fill="black")
    return sheet


def _pairs(photo: Delivered) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    sidecar = json.loads(photo.sidecar.read_text(encoding="utf-8"))
    before = decode(photo.master.read_bytes(), limits=Limits(_MAX_PIXELS)).pages
    after = decode(photo.derivative.read_bytes(), limits=Limits(_MAX_PIXELS)).pages
    for face in sidecar["faces"]:
        if face["restored"]:
            x0, y0, x1, y1 = face["region"]
            page = face["page"]
            label = f"{photo.master.name}   {x1 - x0} x {y1 - y0} px   score {face['score']:.2f}"
            part = np.s_[y0:y1, x0:x1]
            yield label, _cell(before[page].pixels[part]), _cell(after[page].pixels[part])


def _cell(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Image.Image:
    eight = pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257.0).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(eight))
    picture.thumbnail((_CELL_PX, _CELL_PX), Image.Resampling.LANCZOS)
    scale = min(_CELL_PX / picture.width, _CELL_PX / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX), "white")
    cell.paste(picture.resize(size, Image.Resampling.BILINEAR))
    return cell
