"""A sheet for comparing restorers: a face in every row, a restorer in every column, all labelled.

Cut-outs of pictures go in, one RGB picture comes out. All cut-outs of a row have the same place
and size and are scaled alike, so that what differs on the sheet differs in the pictures.
"""

import math
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gpen_engine.faces import Face, Pixels, Region

CELL_PX = 384
_GAP_PX = 8
_MARGIN_PX = 24
_SURROUNDINGS = 1.6
"""Side of a cut-out in sides of the detector's box: hair and neck, where a paste would show."""
_TITLE_PX, _NAME_PX, _TEXT_PX = 24, 18, 14
_LEADING = 1.45
_NO_LETTER = "\uffff"
"""No font has it, and each draws its box for it."""
_PAPER, _INK, _FAINT = (246, 246, 246), (24, 24, 24), (96, 96, 96)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column: a name, and lines of small print."""

    name: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A cut-out as it is shown, and a note under it."""

    picture: Image.Image
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One face in all its versions, a cell for every column."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Everything that is on a sheet."""

    title: str
    subtitle: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footer: tuple[str, ...] = ()


def surroundings(face: Face, shape: tuple[int, ...]) -> Region:
    """Return the square around a face that is shown, as far as the picture of `shape` has it."""
    x0, y0, x1, y1 = face.box
    side = max(1, math.ceil(max(x1 - x0, y1 - y0) * _SURROUNDINGS))
    left, width = _within((x0 + x1) / 2, side, shape[1])
    top, height = _within((y0 + y1) / 2, side, shape[0])
    return left, top, left + width, top + height


def scale_of(region: Region) -> float:
    """Return how many times a cut-out is enlarged when it is shown."""
    x0, y0, x1, y1 = region
    return CELL_PX / max(x1 - x0, y1 - y0)


def shown(pixels: Pixels, region: Region) -> Image.Image:
    """Return a part of a picture as it is shown in a cell, with 8 bits a sample."""
    x0, y0, x1, y1 = region
    part = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    eight = part if part.dtype == np.uint8 else np.rint(np.divide(part, 257.0)).astype(np.uint8)
    scale = scale_of(region)
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    picture = Image.fromarray(eight)
    sampling = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return picture.resize(size, sampling)


def draw(sheet: Sheet) -> Image.Image:
    """Draw a sheet."""
    room = len(sheet.columns) * (CELL_PX + _GAP_PX) - _GAP_PX
    footer = [line for text in sheet.footer for line in _wrapped(text, room)]
    head_px = _line_px(_NAME_PX) + max(len(column.notes) for column in sheet.columns) * _line_px()
    height = 2 * _MARGIN_PX + _line_px(_TITLE_PX) + _line_px() + _GAP_PX + head_px + _GAP_PX
    height += sum(_row_px(row) for row in sheet.rows) + len(footer) * _line_px()
    canvas = Image.new("RGB", (room + 2 * _MARGIN_PX, height), _PAPER)
    pen = _Pen(canvas)
    y = pen.write((_MARGIN_PX, _MARGIN_PX), sheet.title, size=_TITLE_PX, room=room)
    y = pen.write((_MARGIN_PX, y), sheet.subtitle, ink=_FAINT, room=room) + _GAP_PX
    for x, column in zip(_lefts(sheet.columns), sheet.columns, strict=True):
        below = pen.write((x, y), column.name, size=_NAME_PX)
        for note in column.notes:
            below = pen.write((x, below), note, ink=_FAINT)
    y += head_px + _GAP_PX
    for row in sheet.rows:
        top = pen.write((_MARGIN_PX, y), row.label, room=room)
        for x, cell in zip(_lefts(row.cells), row.cells, strict=True):
            canvas.paste(cell.picture, (x + (CELL_PX - cell.picture.width) // 2, top))
            pen.write((x, top + _tallest(row)), cell.note, ink=_FAINT)
        y += _row_px(row)
    for line in footer:
        y = pen.write((_MARGIN_PX, y), line, ink=_FAINT, room=room)
    return canvas


@cache
def font_of(size: int) -> Font:
    """Return a sheet's font: the system's DejaVu Sans, or Pillow's own, which knows ASCII alone."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        return ImageFont.load_default(size)


def legible(text: str, font: Font) -> str:
    """Return a text in letters that the font has: others without their accents, or as `?`."""
    box = bytes(font.getmask(_NO_LETTER))
    return "".join(_letter(char, font, box) for char in unicodedata.normalize("NFC", text))


def _letter(char: str, font: Font, box: bytes) -> str:
    known = (char, unicodedata.normalize("NFKD", char)[0])
    return next((one for one in known if bytes(font.getmask(one)) != box), "?")


class _Pen:
    """Writes lines on a canvas."""

    def __init__(self, canvas: Image.Image) -> None:
        self._draw = ImageDraw.Draw(canvas)

    def write(
        self,
        place: tuple[int, int],
        text: str,
        *,
        size: int = _TEXT_PX,
        ink: tuple[int, int, int] = _INK,
        room: int = CELL_PX,
    ) -> int:
        """Write one line, cut to its room, and return where the next one begins."""
        font = font_of(size)
        text = whole = legible(text, font)
        while text and self._draw.textlength(text, font) > room:
            text = whole[: len(text.removesuffix("…")) - 1] + "…"
        self._draw.text(place, text, fill=ink, font=font)
        return place[1] + _line_px(size)


def _wrapped(text: str, room: int) -> list[str]:
    characters = int(room / font_of(_TEXT_PX).getlength("n"))
    return textwrap.wrap(text, characters, break_on_hyphens=False)


def _lefts(things: Sequence[object]) -> list[int]:
    return [_MARGIN_PX + index * (CELL_PX + _GAP_PX) for index in range(len(things))]


def _tallest(row: Row) -> int:
    return max(cell.picture.height for cell in row.cells)


def _row_px(row: Row) -> int:
    notes_px = _line_px() if any(cell.note for cell in row.cells) else 0
    return _line_px() + _tallest(row) + notes_px + 2 * _GAP_PX


def _line_px(size: int = _TEXT_PX) -> int:
    return math.ceil(size * _LEADING)


def _within(centre: float, side: int, available: int) -> tuple[int, int]:
    """Return where a stretch of `side` begins, moved into what is available, and its length."""
    length = min(side, available)
    return min(max(round(centre - side / 2), 0), available - length), length
