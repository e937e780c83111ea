"""Five-point alignment against the stored reference, and warping that doesn't alias."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gpen_engine.align import (
    crop,
    footprint,
    invert,
    scale_of,
    shifted,
    similarity,
    template,
    warp,
)
from tests.golden.recipe import HERE, SHARED
from tests.unit.gpen_engine.fakes import ASTRONAUT, face_at

GOLDEN = np.load(HERE / "pipeline.npz")
FACES = ("lm0", "lm1", "lm2")


def test_the_template_of_512_px_has_the_published_numbers():
    expected = [
        (202.0407, 242.8840),
        (309.4302, 242.2900),
        (256.0768, 303.9592),
        (211.9598, 366.8282),
        (300.8911, 366.3363),
    ]

    np.testing.assert_allclose(template(512), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [256, 512, 1024, 2048])
def test_the_template_is_that_of_the_reference(size):
    np.testing.assert_allclose(template(size), GOLDEN[f"ref5_{size}"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("face", FACES)
def test_the_similarity_and_its_inverse_are_those_of_the_reference(face, size):
    matrix = similarity([tuple(point) for point in GOLDEN[f"landmarks_{face}"]], size)

    np.testing.assert_allclose(matrix, GOLDEN[f"tfm_{face}_{size}"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(invert(matrix), GOLDEN[f"inv_{face}_{size}"], rtol=0, atol=1e-3)
    assert scale_of(matrix) == pytest.approx(GOLDEN[f"scale_{face}_{size}"], abs=1e-6)


@pytest.mark.parametrize("turn", [0.0, 0.7, -2.0, 3.1])
def test_landmarks_that_fit_the_template_are_mapped_onto_it(turn):
    rotation = 0.4 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = template(128) @ rotation.T + [300.0, -20.0]

    matrix = similarity([tuple(point) for point in moved], 128)

    mapped = np.hstack([moved, np.ones((5, 1))]) @ matrix.T
    np.testing.assert_allclose(mapped, template(128), rtol=0, atol=1e-3)
    assert scale_of(matrix) == pytest.approx(2.5, rel=1e-5)


def test_a_mirrored_face_is_turned_never_mirrored():
    mirrored = template(128) * [-1.0, 1.0]

    matrix = similarity([tuple(point) for point in mirrored], 128)

    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
    "points", [[(7.0, 7.0)] * 5, [(x, 3.0) for x in range(5)]], ids=["one point", "a line"]
)
def test_degenerate_landmarks_give_finite_numbers(points):
    matrix = similarity(points, 128)

    assert np.isfinite(matrix).all()
    assert np.isfinite(crop(np.zeros((20, 20, 3), np.uint8), matrix, 128)).all()


def test_the_inverse_brings_points_back():
    matrix = similarity(ASTRONAUT.landmarks, 128)
    there = np.vstack([matrix, [0, 0, 1]])
    back = np.vstack([invert(matrix), [0, 0, 1]])

    np.testing.assert_allclose(back @ there, np.eye(3), rtol=0, atol=1e-9)


def test_a_shifted_matrix_maps_a_part_as_the_whole():
    matrix = similarity(ASTRONAUT.landmarks, 128)
    whole, part = np.array([200.0, 110.0, 1.0]), np.array([200.0 - 31, 110.0 - 17, 1.0])

    np.testing.assert_allclose(shifted(matrix, (31, 17, 99, 99)) @ part, matrix @ whole)


def test_the_footprint_covers_the_crop():
    matrix = similarity(face_at(250.0, 250.0, turn=0.4).landmarks, 128)

    x0, y0, x1, y1 = footprint(matrix, 128, (512, 512, 3))

    for corner in ((0, 0), (128, 0), (0, 128), (128, 128)):
        x, y = invert(matrix) @ [*corner, 1]
        assert x0 <= x < x1
        assert y0 <= y < y1


@pytest.mark.parametrize("where", [(-500.0, 50.0), (900.0, 50.0), (50.0, -500.0), (50.0, 900.0)])
def test_a_footprint_beyond_the_picture_is_still_a_part_of_it(where):
    matrix = similarity(face_at(*where).landmarks, 128)

    x0, y0, x1, y1 = footprint(matrix, 128, (80, 120, 3))

    assert 0 <= x0 < x1 <= 120
    assert 0 <= y0 < y1 <= 80


def test_a_crop_at_the_scale_of_the_picture_copies_it():
    picture = np.random.default_rng(1).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    matrix = np.array([[1.0, 0.0, -10.0], [0.0, 1.0, -20.0]])

    result = crop(picture, matrix, 32)

    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, picture[20:52, 10:42])


def test_a_crop_past_the_edge_is_mirrored():
    picture = np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    matrix = np.array([[1.0, 0.0, 8.0], [0.0, 1.0, 0.0]])

    result = crop(picture, matrix, 32)

    np.testing.assert_array_equal(result[:, :8], picture[:32, 7::-1])


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    matrix = np.array([[0.125, 0.0, 0.0], [0.0, 0.125, 0.0]])

    result = crop(stripes, matrix, 32)

    np.testing.assert_allclose(result, 127.5, rtol=0, atol=1.0)


@pytest.mark.parametrize("scale", [0.2, 0.5, 0.9, 1.0, 1.5, 4.0])
def test_warping_puts_a_ramp_where_the_matrix_says(scale):
    across, down = np.meshgrid(np.arange(200, dtype=np.float32), np.arange(160, dtype=np.float32))
    ramp = np.dstack([across, down, across + down])
    matrix = np.array([[scale, 0.0, -20.3 * scale], [0.0, scale, -31.6 * scale]])
    side = int(80 * scale)

    result = warp(ramp, matrix, (side, side), border=cv2.BORDER_REFLECT)

    # The source of crop pixel u is u / scale + the shift.
    expected = np.arange(side) / scale + 20.3
    inner = slice(2, side - 2)
    np.testing.assert_allclose(result[side // 2, inner, 0], expected[inner], rtol=0, atol=0.1)
    np.testing.assert_allclose(
        result[inner, side // 2, 1], (expected + 11.3)[inner], rtol=0, atol=0.1
    )


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/gpen/goldens isn't beside the project")
@pytest.mark.parametrize("face", range(3))
def test_a_crop_shows_what_the_reference_crop_shows(face):
    def read(path: Path):
        return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)

    landmarks = GOLDEN[f"landmarks_lm{face}"]
    reference = read(SHARED / f"pipeline_crop512_{face}.png").astype(np.float32)
    picture = read(SHARED / "inputs" / "astronaut_512.png")
    matrix = similarity([tuple(point) for point in landmarks], 512)
    inside = cv2.warpAffine(np.ones((512, 512), np.float32), matrix, (512, 512)) == 1

    difference = np.abs(crop(picture, matrix, 512) - reference)[inside]

    # Ours interpolates with a cubic, the reference linearly: edges differ a little.
    assert difference.mean() < 3.0
