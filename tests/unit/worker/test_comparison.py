import shutil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from gpen_engine.faces import Face
from worker.comparison import (
    CELL_PX,
    Cell,
    Column,
    Row,
    Sheet,
    draw,
    font_of,
    scale_of,
    shown,
    surroundings,
)

PAPER = (246, 246, 246)


def face_at(box):
    x, y = box[0] + 2, box[1] + 2
    return Face(box, ((x, y), (x + 4, y), (x + 2, y + 2), (x, y + 4), (x + 4, y + 4)), 0.9)


def cell(colour, size=(CELL_PX, CELL_PX), note=""):
    return Cell(Image.new("RGB", size, colour), note)


def sheet(rows, columns=("original", "one"), **given):
    heads = tuple(name if isinstance(name, Column) else Column(name) for name in columns)
    return Sheet(title="t", subtitle="s", columns=heads, rows=tuple(rows), **given)


def where(picture, colour):
    """The box (x0, y0, x1, y1) of all pixels of one colour."""
    ys, xs = np.nonzero((np.asarray(picture) == colour).all(axis=2))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_a_face_is_shown_with_what_surrounds_it():
    assert surroundings(face_at((100, 100, 150, 150)), (400, 400)) == (85, 85, 165, 165)


@pytest.mark.parametrize(
    ("box", "shape", "expected"),
    [
        ((0, 0, 50, 50), (400, 400), (0, 0, 80, 80)),
        ((370, 360, 420, 410), (400, 400), (320, 320, 400, 400)),
        ((10, 0, 60, 50), (60, 400), (0, 0, 80, 60)),
        ((5, 5, 5, 5), (400, 400), (4, 4, 5, 5)),
    ],
)
def test_at_an_edge_the_cut_out_moves_inside_the_picture(box, shape, expected):
    assert surroundings(face_at(box), shape) == expected


def test_small_and_large_cut_outs_fill_the_cell_alike():
    pixels = np.zeros((1000, 1000, 3), np.uint8)
    assert shown(pixels, (0, 0, 32, 32)).size == (CELL_PX, CELL_PX)
    assert shown(pixels, (0, 0, 1000, 1000)).size == (CELL_PX, CELL_PX)
    assert shown(pixels, (0, 0, 1000, 250)).size == (CELL_PX, CELL_PX // 4)
    assert shown(pixels, (0, 0, 1000, 1)).size == (CELL_PX, 1)
    assert scale_of((10, 10, 58, 34)) == CELL_PX / 48


def test_the_cut_out_shows_its_part_of_the_picture_at_either_depth():
    deep = np.zeros((40, 40, 3), np.uint16)
    deep[10:20, 20:30] = (65535, 32896, 0)
    eight = (deep // 257).astype(np.uint8)
    for pixels in (deep, eight):
        picture = np.asarray(shown(pixels, (20, 10, 30, 20)))
        assert picture.dtype == np.uint8
        assert (picture == (255, 128, 0)).all()


def test_every_row_has_its_cells_under_their_columns():
    rows = [
        Row("first", (cell((255, 0, 0)), cell((0, 255, 0)))),
        Row("second", (cell((0, 0, 255)), cell((255, 0, 255)))),
    ]
    picture = draw(sheet(rows))
    red, green = where(picture, (255, 0, 0)), where(picture, (0, 255, 0))
    blue, pink = where(picture, (0, 0, 255)), where(picture, (255, 0, 255))
    assert red[2] - red[0] == red[3] - red[1] == CELL_PX
    assert (red[0], green[0]) == (blue[0], pink[0])
    assert (red[1], blue[1]) == (green[1], pink[1])
    assert green[0] > red[2]
    assert blue[1] > red[3]
    assert picture.width == red[0] + green[2]


def test_a_low_picture_takes_no_more_room_than_it_needs():
    low = draw(sheet([Row("", (cell((9, 9, 9), (CELL_PX, 50)),) * 2)]))
    high = draw(sheet([Row("", (cell((9, 9, 9), (CELL_PX, 150)),) * 2)]))
    assert high.height - low.height == 100


def test_a_narrow_picture_stands_in_the_middle_of_its_cell():
    picture = draw(sheet([Row("", (cell((255, 0, 0), (100, CELL_PX)), cell((0, 255, 0))))]))
    left, _, right, _ = where(picture, (255, 0, 0))
    assert left - 24 == 24 + CELL_PX - right


@pytest.mark.parametrize(
    "change",
    [
        {"title": "other"},
        {"subtitle": "other"},
        {"columns": (Column("original"), Column("other", ("print",)))},
        {"columns": (Column("original"), Column("one", ("other",)))},
        {"rows": (Row("other", (cell((9, 9, 9)), cell((9, 9, 9), note="note"))),)},
        {"rows": (Row("label", (cell((9, 9, 9)), cell((9, 9, 9), note="other"))),)},
        {"footer": ("other",)},
    ],
)
def test_everything_that_is_said_can_be_read(change):
    plain = {
        "title": "title",
        "subtitle": "subtitle",
        "columns": (Column("original"), Column("one", ("print",))),
        "rows": (Row("label", (cell((9, 9, 9)), cell((9, 9, 9), note="note"))),),
        "footer": ("footer",),
    }
    before, after = draw(Sheet(**plain)), draw(Sheet(**plain | change))
    assert before.size == after.size
    assert before.tobytes() != after.tobytes()


@pytest.fixture(params=["with the system's font", "without"])
def has_font(request, tmp_path, monkeypatch):
    """Whether the system has DejaVu Sans."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    has_font = request.param != "without"
    if has_font:
        font = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
        (tmp_path / "fonts").mkdir()
        shutil.copy(font, tmp_path / "fonts")
    font_of.cache_clear()
    yield has_font
    font_of.cache_clear()


def test_a_name_with_accents_keeps_them_or_is_drawn_without_but_never_as_boxes(has_font):
    def titled(name):
        return draw(Sheet(name, "s", (Column("original"),), ())).tobytes()

    accents, composed_of_two = "fonds Ünïcode", "fonds U\u0308ni\u0308code"
    assert titled(accents) == titled(composed_of_two)
    assert (titled(accents) == titled("fonds Unicode")) == (not has_font)
    assert titled("\uffff\n") == titled("??")


def test_a_long_name_stays_in_its_column():
    long = Column("an-unusually-long-name-of-weights" * 4, ("0123456789abcdef" * 8,))
    short = Column("")
    rows = [Row("", (cell((9, 9, 9)),) * 2)]
    named = np.asarray(draw(sheet(rows, (long, short))))
    right = 24 + CELL_PX
    assert (
        named[:, right:] == np.asarray(draw(sheet(rows, (Column("", ("",)), short))))[:, right:]
    ).all()
    assert (named[:, right - 40 : right].min(axis=(1, 2)) < 200).any()


def test_long_reasons_are_wrapped_and_the_sheet_grows():
    rows = [Row("", (cell((9, 9, 9)),) * 2)]
    one = draw(sheet(rows, footer=("word",)))
    many = draw(sheet(rows, footer=("word " * 100,)))
    assert many.height >= one.height + 3 * 21
    bottom = np.asarray(many)[-24:]
    assert (bottom == PAPER).all()
