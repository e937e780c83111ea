"""The sheets that show what gpen-compact does."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from gpen_engine.compact.data import cut, load_crops
from gpen_engine.compact.origins import read_origins
from gpen_engine.compact.scores import HEADLINE, FaceScore, Quality, measure
from gpen_engine.compact.sheets import COLUMNS, Line, choose, draw, write_sheets
from gpen_engine.compact.start import start_from_identity
from gpen_engine.model import GpenConfig, GpenGenerator
from tests.unit.gpen_engine.portraits import names, write_faces

LIMIT_BYTES = 600_000
INPUT = Quality(psnr=23, ssim=0.7, sharpness=0.2, checkerboard=1, cast=0.3, distance=0.5)


def face(index, gain, drift=0.0, damage=HEADLINE):
    restored = replace(INPUT, psnr=23 + gain, distance=0.5 + drift)
    return FaceScore(index, damage, INPUT, INPUT, restored)


# Which faces.


def test_the_sheets_have_the_best_the_middling_and_the_worst():
    gains = np.random.default_rng(1).permutation(21).tolist()
    scores = [face(index, gain) for index, gain in enumerate(gains)]
    scores += [face(index, 50 + index, damage="down8") for index in range(21)]

    sheets = {name: [each.gain for each in faces] for name, (_, faces) in choose(scores).items()}

    assert sheets["best"] == [20, 19, 18, 17, 16]
    assert sheets["median"] == [12, 11, 10, 9, 8]
    assert sheets["worst"] == [4, 3, 2, 1, 0]


def test_a_sheet_has_those_that_were_moved_farthest_from_their_person():
    scores = [face(index, gain=1, drift=drift) for index, drift in enumerate([0.0, 0.3, -0.2, 0.1])]

    title, faces = choose(scores)["identity"]

    assert [each.index for each in faces] == [1, 3, 0, 2]
    assert "of 4" in title


def test_without_distances_there_is_no_sheet_of_identity():
    unknown = replace(INPUT, distance=None)

    assert set(choose([FaceScore(0, HEADLINE, *[unknown] * 3)])) == {"best", "median", "worst"}


# How they are drawn.


def first_cells(sheet):
    """Return the pictures of a sheet's first face."""
    return [sheet[80 : 80 + 256, left : left + 256] for left in range(8, sheet.shape[1], 264)]


def test_every_version_of_a_face_has_its_column():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (120, 120, 0)]
    pictures = tuple(np.full((16, 16, 3), colour, np.uint8) for colour in colours)
    line = Line("a face", pictures, ("",) * 4)

    sheet = np.asarray(draw("a title", [line, line]))

    assert len(COLUMNS) == len(first_cells(sheet)) == 4
    for colour, cell in zip(colours, first_cells(sheet), strict=True):
        assert (cell == colour).all()
    # Title, columns' names and caption are above the first face.
    assert (sheet[:60].min(axis=2) < 100).sum() > 200


def test_the_sheets_are_written_small_enough_and_show_what_was_scored(tmp_path):
    files = {f"made/{name}": "1.jpg" for name in names("validation", 2)}
    root = write_faces(tmp_path / "faces", files)
    crops, origins = load_crops(root, "validation"), read_origins(root)
    torch.manual_seed(2)
    model = GpenGenerator(GpenConfig(64, 1, 16 / 512))
    start_from_identity(model)
    scores = measure(model, crops, [HEADLINE])

    written = write_sheets(
        tmp_path / "sheets", model, crops, [origins[crop.path] for crop in crops], scores
    )

    assert [file.name for file in written] == ["best.jpg", "median.jpg", "worst.jpg"]
    for file in written:
        assert file.stat().st_size < LIMIT_BYTES
    with Image.open(written[0]) as sheet:
        bicubic, _, restored, truth = first_cells(np.asarray(sheet, np.float32))
    best = max(scores, key=lambda each: each.gain)
    assert np.abs(bicubic - restored).mean() < 1
    assert np.abs(bicubic - truth).mean() > 3
    face = cut(crops[best.index], 64)[0]
    np.testing.assert_allclose(truth[::4, ::4], face, atol=60)
    assert np.abs(truth[::4, ::4] - face).mean() < 8
