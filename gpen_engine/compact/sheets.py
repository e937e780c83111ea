"""Sheets of faces for the model card: what went in, both restorations, and the truth.

In: the scores of all faces, and the network. Out: a JPEG for the faces that gained most, in the
middle and least, and for those that were moved farthest from their person. What is shown is made
anew, from the same seeds as the scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gpen_engine.compact.baselines import classical
from gpen_engine.compact.data import Crop
from gpen_engine.compact.degrade import FIXED
from gpen_engine.compact.origins import Origin
from gpen_engine.compact.scores import HEADLINE, FaceScore, Quality, versions
from gpen_engine.model import GpenGenerator

Picture = NDArray[np.uint8]

_FACES = 5
_CELL_PX = 256
_GAP_PX = 8
_TEXT_PX, _TITLE_PX, _LINE_PX = 14, 18, 20
_PAPER, _INK, _FAINT = (246, 246, 246), (24, 24, 24), (96, 96, 96)
_QUALITY = 90
COLUMNS = ("bicubic (input)", "classical", "gpen-compact", "true face")


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One face in all its versions.

    Attributes:
        caption: which face it is.
        pictures: `(S, S, 3) uint8 RGB`, one for each of `COLUMNS`.
        notes: the figures under each.
    """

    caption: str
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


def write_sheets(
    folder: Path,
    model: GpenGenerator,
    crops: Sequence[Crop],
    origins: Sequence[Origin],
    scores: Sequence[FaceScore],
) -> list[Path]:
    """Draw the sheets of the headline damage and return their files.

    Args:
        folder: made where it isn't there.
        model: the network.
        crops: the faces.
        origins: theirs, in the same order.
        scores: of all faces; `FaceScore.index` is the place among the crops.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, (title, chosen) in choose(scores).items():
        lines = [_line(model, crops[each.index], origins[each.index], each) for each in chosen]
        file = folder / f"{name}.jpg"
        draw(title, lines).save(file, quality=_QUALITY, optimize=True)
        files.append(file)
    return files


def choose(scores: Sequence[FaceScore]) -> dict[str, tuple[str, list[FaceScore]]]:
    """Return title and faces of each sheet, by the name of its file.

    Without figures on identity there is no sheet of it.
    """
    faces = sorted(
        (score for score in scores if score.damage == HEADLINE),
        key=lambda score: score.gain,
        reverse=True,
    )
    middle = max(0, (len(faces) - _FACES) // 2)
    sheets = {
        "best": ("faces that gained most PSNR", faces[:_FACES]),
        "median": ("faces that gained a middling PSNR", faces[middle : middle + _FACES]),
        "worst": ("faces that gained least PSNR", faces[-_FACES:]),
    }
    drifted = [(score.drift, score) for score in faces if score.drift is not None]
    if drifted:
        drifted.sort(key=lambda pair: -pair[0])
        farthest = [score for _, score in drifted[:_FACES]]
        sheets["identity"] = ("faces moved farthest from their person", farthest)
    return {
        name: (f"{HEADLINE}: {title}, of {len(faces)}", chosen)
        for name, (title, chosen) in sheets.items()
    }


def _line(model: GpenGenerator, crop: Crop, origin: Origin, score: FaceScore) -> Line:
    made = versions(model, crop, FIXED[score.damage], score.index)
    pictures = (made.bicubic, classical(made.bicubic), made.restored, made.truth)
    notes = [_note(quality) for quality in (score.bicubic, score.classical, score.restored)]
    caption = ", ".join(filter(None, (origin.file, origin.source_file, origin.licence)))
    drift = "" if score.drift is None else f", identity {score.drift:+.2f}"
    return Line(caption, pictures, (*notes, f"restored: {score.gain:+.2f} dB{drift}"))


def _note(quality: Quality) -> str:
    distance = "" if quality.distance is None else f", identity {quality.distance:.2f}"
    return f"{quality.psnr:.2f} dB, SSIM {quality.ssim:.3f}{distance}"


def draw(title: str, lines: Sequence[Line]) -> Image.Image:
    """Draw one sheet: a title, the columns' names, and a row for every face."""
    row_px = _CELL_PX + 2 * _LINE_PX + _GAP_PX
    top = 3 * _LINE_PX
    width = len(COLUMNS) * (_CELL_PX + _GAP_PX) + _GAP_PX
    sheet = Image.new("RGB", (width, top + len(lines) * row_px), _PAPER)
    pen = ImageDraw.Draw(sheet)
    text = ImageFont.load_default(_TEXT_PX)
    pen.text((_GAP_PX, _GAP_PX), title, _INK, ImageFont.load_default(_TITLE_PX))
    lefts = [_GAP_PX + column * (_CELL_PX + _GAP_PX) for column in range(len(COLUMNS))]
    for left, name in zip(lefts, COLUMNS, strict=True):
        pen.text((left, 2 * _LINE_PX - 4), name, _INK, text)
    for index, line in enumerate(lines):
        y = top + index * row_px
        pen.text((_GAP_PX, y), line.caption, _FAINT, text)
        for left, picture, note in zip(lefts, line.pictures, line.notes, strict=True):
            cell = Image.fromarray(picture).resize((_CELL_PX, _CELL_PX), Image.Resampling.BICUBIC)
            sheet.paste(cell, (left, y + _LINE_PX))
            pen.text((left, y + _LINE_PX + _CELL_PX + 2), note, _INK, text)
    return sheet
