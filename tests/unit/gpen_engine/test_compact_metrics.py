"""What the scores are made of: each measure sees what it is for, and nothing else."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from gpen_engine.compact import metrics
from gpen_engine.compact.baselines import TUNED, Strength, classical, tune
from gpen_engine.compact.data import load_crops
from gpen_engine.compact.degrade import FIXED
from tests.unit.gpen_engine.portraits import names, portrait, write_faces

SIDE = 128
EVERYWHERE = np.ones((SIDE, SIDE), np.float32)
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
BOARDS = {
    "2 px": (ROWS + COLUMNS) % 2,
    "columns": COLUMNS % 2,
    "rows": ROWS % 2,
    "4 px": (ROWS // 2 + COLUMNS // 2) % 2,
}
MEASURES = {
    "psnr": metrics.psnr,
    "ssim": metrics.ssim,
    "gradient_energy": lambda _, picture, valid: metrics.gradient_energy(picture, valid),
    "checkerboard": lambda _, picture, valid: metrics.checkerboard(picture, valid),
    "colour_cast": metrics.colour_cast,
}


@pytest.fixture(scope="module")
def face(astronaut):
    """A real face, `(128, 128, 3) uint8`."""
    return cv2.resize(astronaut[40:296, 96:352], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def with_board(picture, board, levels=2):
    return np.clip(picture + levels * (1 - 2 * board[:, :, None]), 0, 255).astype(np.uint8)


# Fidelity.


def test_a_face_that_came_back_unchanged_has_the_best_scores(face):
    assert metrics.psnr(face, face, EVERYWHERE) == 60.0
    assert metrics.ssim(face, face, EVERYWHERE) == pytest.approx(1.0)
    assert metrics.colour_cast(face, face, EVERYWHERE) == 0.0


def test_an_error_of_ten_levels_is_28_decibels():
    truth = np.full((SIDE, SIDE, 3), 100, np.uint8)

    assert metrics.psnr(truth, truth + 10, EVERYWHERE) == pytest.approx(28.13, abs=0.01)


def test_similarity_falls_with_blur_and_not_with_brightness(face):
    blurred = cv2.GaussianBlur(face, (0, 0), 2)
    brighter = np.clip(face.astype(int) + 8, 0, 255).astype(np.uint8)

    assert metrics.ssim(face, blurred, EVERYWHERE) < 0.9
    assert metrics.ssim(face, brighter, EVERYWHERE) > 0.95


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_pixels_that_the_photograph_does_not_have_count_neither_way(face, measure):
    valid = EVERYWHERE.copy()
    valid[:, :40] = 0.0
    picture = cv2.GaussianBlur(face, (0, 0), 1)
    spoilt = picture.copy()
    spoilt[:, :40] = np.random.default_rng(1).integers(0, 256, (SIDE, 40, 3))

    assert measure(face, spoilt, valid) == measure(face, picture, valid)
    assert measure(face, spoilt, EVERYWHERE) != measure(face, picture, EVERYWHERE)


# Sharpness.


def test_the_energy_of_gradients_is_that_of_neighbours_across_and_down():
    stripes = np.repeat(np.uint8(100 + 3 * (COLUMNS % 2))[:, :, None], 3, axis=2)

    assert metrics.gradient_energy(stripes, EVERYWHERE) == 9.0


def test_a_soft_face_has_less_energy_than_a_sharp_one(face):
    soft = cv2.GaussianBlur(face, (0, 0), 1.5)

    ratio = metrics.gradient_energy(soft, EVERYWHERE) / metrics.gradient_energy(face, EVERYWHERE)

    assert ratio < 0.6


# Artefacts.


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_faint_regular_pattern_on_a_smooth_picture_stands_out(board):
    picture = portrait(SIDE, 1)

    assert metrics.checkerboard(picture, EVERYWHERE) < 1.0
    assert metrics.checkerboard(with_board(picture, board), EVERYWHERE) > 2.0


@pytest.mark.parametrize("name", ["2 px", "columns", "rows"])
def test_a_faint_pattern_of_two_pixels_stands_out_of_a_sharp_face_too(face, name):
    assert metrics.checkerboard(face, EVERYWHERE) < 1.0
    assert metrics.checkerboard(with_board(face, BOARDS[name]), EVERYWHERE) > 1.5


def test_no_pattern_stands_out_of_a_picture_without_one(face):
    rng = np.random.default_rng(1)
    noisy = np.clip(face + rng.normal(0, 8, face.shape), 0, 255).astype(np.uint8)
    small = cv2.resize(face, (32, 32), interpolation=cv2.INTER_AREA)
    pictures = {
        "sharp": face,
        "noisy": noisy,
        "enlarged": cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC),
        "flat": np.full_like(face, 90),
    }

    for name, picture in pictures.items():
        assert 0.3 < metrics.checkerboard(picture, EVERYWHERE) < 1.25, name


def test_a_cast_is_told_from_brightness_and_from_lost_detail(face):
    def cast(change):
        picture = np.clip(face + np.array(change), 0, 255).astype(np.uint8)
        return metrics.colour_cast(face, picture, EVERYWHERE)

    assert cast([8, 0, -8]) > 2.3
    assert cast([0, -6, 0]) > 2.3
    assert cast([6, 6, 6]) < 1.0
    assert metrics.colour_cast(face, cv2.GaussianBlur(face, (0, 0), 2), EVERYWHERE) < 1.0


# The classical restoration.


@pytest.mark.parametrize("side", [128, 256])
def test_the_classical_restoration_takes_grain_off(side):
    truth = portrait(side, 3)
    grain = np.random.default_rng(1).normal(0, 8, (side, side, 1))
    noisy = np.clip(truth + grain, 0, 255).astype(np.uint8)
    everywhere = np.ones((side, side), np.float32)

    restored = classical(noisy)

    assert restored.shape == truth.shape
    assert metrics.psnr(truth, restored, everywhere) > metrics.psnr(truth, noisy, everywhere) + 2


def test_the_classical_restoration_sharpens_and_keeps_the_colours(face):
    soft = cv2.GaussianBlur(face, (0, 0), 1.5)

    restored = classical(soft)

    energies = [metrics.gradient_energy(each, EVERYWHERE) for each in (restored, soft)]
    assert energies[0] > energies[1]
    assert metrics.colour_cast(soft, restored, EVERYWHERE) < 1.0


def test_its_strength_is_chosen_by_what_it_gains_on_faces(tmp_path):
    files = {f"made/{name}": "" for name in names("train", 2)}
    crops = load_crops(write_faces(tmp_path / "faces", files), "train")
    nothing = Strength(luma=0.001, colour=0.001, patch=1, search=1, amount=0.0, radius=1)
    spoiling = replace(nothing, amount=3.0, radius=12)

    rows = tune(crops, [nothing, spoiling, TUNED], 64)

    assert len(rows) == 3
    (_, none), (_, lost), (strength, gains) = rows

    assert strength == TUNED
    assert len(gains) == len(FIXED)
    # Through CIE Lab and back, nothing else.
    assert none == pytest.approx([0.0] * len(FIXED), abs=0.15)
    assert max(lost) < -1
    assert min(gains) > max(lost)
