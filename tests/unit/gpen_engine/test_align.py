"""Five-point alignment against the stored reference, and warping that doesn't alias."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gpen_engine.align import FaceView, invert, scale_of, similarity, template, view_of, warp
from gpen_engine.faces import Lens, Template
from gpen_engine.lens import distorted
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


def test_the_template_of_ffhq_has_the_published_numbers_at_any_size():
    expected = np.array(
        [
            (192.98138, 239.94708),
            (318.90277, 240.1936),
            (256.63416, 314.01935),
            (201.26117, 371.41043),
            (313.08905, 371.15118),
        ]
    )

    np.testing.assert_allclose(template(512, Template.FFHQ), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(template(256, Template.FFHQ), expected / 2, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", Template)
@pytest.mark.parametrize("turn", [0.0, 0.7, -2.0, 3.1])
def test_landmarks_that_fit_the_template_are_mapped_onto_it(turn, kind):
    rotation = 0.4 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = template(128, kind) @ rotation.T + [300.0, -20.0]

    matrix = similarity([tuple(point) for point in moved], 128, kind)

    mapped = np.hstack([moved, np.ones((5, 1))]) @ matrix.T
    np.testing.assert_allclose(mapped, template(128, kind), rtol=0, atol=1e-3)
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
    assert np.isfinite(FaceView(matrix, 128, (20, 20)).crop(np.zeros((20, 20, 3), np.uint8))).all()


def test_the_inverse_brings_points_back():
    matrix = similarity(ASTRONAUT.landmarks, 128)
    there = np.vstack([matrix, [0, 0, 1]])
    back = np.vstack([invert(matrix), [0, 0, 1]])

    np.testing.assert_allclose(back @ there, np.eye(3), rtol=0, atol=1e-9)


def test_the_region_covers_the_crop():
    view = view_of(face_at(250.0, 250.0, turn=0.4).landmarks, 128, shape=(512, 512, 3))

    x0, y0, x1, y1 = view.region

    for corner in ((0, 0), (128, 0), (0, 128), (128, 128)):
        x, y = invert(view.matrix) @ [*corner, 1]
        assert x0 <= x < x1
        assert y0 <= y < y1


@pytest.mark.parametrize("where", [(-500.0, 50.0), (900.0, 50.0), (50.0, -500.0), (50.0, 900.0)])
@pytest.mark.parametrize("lens", [None, Lens(-0.2, 0.05)])
def test_a_region_beyond_the_picture_is_still_a_part_of_it(where, lens):
    view = view_of(face_at(*where).landmarks, 128, shape=(80, 120, 3), lens=lens)

    x0, y0, x1, y1 = view.region

    assert 0 <= x0 < x1 <= 120
    assert 0 <= y0 < y1 <= 80


def test_a_crop_at_the_scale_of_the_picture_copies_it():
    picture = np.random.default_rng(1).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    matrix = np.array([[1.0, 0.0, -10.0], [0.0, 1.0, -20.0]])

    result = FaceView(matrix, 32, (64, 64)).crop(picture)

    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, picture[20:52, 10:42])


def test_a_crop_past_the_edge_is_mirrored():
    picture = np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    matrix = np.array([[1.0, 0.0, 8.0], [0.0, 1.0, 0.0]])

    result = FaceView(matrix, 32, (40, 40)).crop(picture)

    np.testing.assert_array_equal(result[:, :8], picture[:32, 7::-1])


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    # The first pixel of the crop is the mean of the first eight of the picture.
    matrix = np.array([[0.125, 0.0, -0.4375], [0.0, 0.125, -0.4375]])

    result = FaceView(matrix, 32, (256, 256)).crop(stripes)

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

    difference = np.abs(FaceView(matrix, 512, (512, 512)).crop(picture) - reference)[inside]

    # Ours interpolates with a cubic, the reference linearly: edges differ a little.
    assert difference.mean() < 3.0


def ramps(height, width):
    """A picture whose levels are its coordinates: red across, green down."""
    down, across = np.indices((height, width), np.uint16) * 100
    return np.dstack([across, down, across]).astype(np.uint16)


@pytest.mark.parametrize("eye_distance_px", [12.0, 90.0], ids=["enlarged", "reduced"])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_view_of_an_enlarged_picture_shows_the_same_face(eye_distance_px, factor):
    small = ramps(240, 300)
    # The enlarged picture's pixels lie where the small one's coordinates say.
    positions = [(np.arange(side * factor) + 0.5) / factor - 0.5 for side in (300, 240)]
    across, down = np.meshgrid(*positions)
    large = np.rint(np.dstack([across, down, across]).clip(0) * 100).astype(np.uint16)
    face = face_at(150.0, 120.0, eye_distance_px=eye_distance_px, turn=0.3)
    view = view_of(face.landmarks, 64, shape=small.shape)

    enlarged = view.enlarged(factor)

    assert enlarged.shape == (240 * factor, 300 * factor)
    assert enlarged.side_px == pytest.approx(view.side_px * factor)
    inner = np.s_[16:-16, 16:-16]
    difference = enlarged.crop(large)[inner] - view.crop(small)[inner]
    # In hundredths of a pixel; OpenCV knows a place to 1/32 of one. Half a pixel of the enlarged
    # picture is 12 to 25.
    assert np.abs(difference[..., :2]).mean() < 5.0
    assert np.abs(difference.mean(axis=(0, 1))[:2]).max() < 1.5


@pytest.mark.parametrize("lens", [None, Lens(-0.1)])
def test_a_view_of_another_size_is_that_of_the_larger_template(lens):
    landmarks = face_at(150.0, 120.0, turn=0.3).landmarks

    larger = view_of(landmarks, 128, shape=(240, 300), lens=lens).sized(512)

    expected = view_of(landmarks, 512, shape=(240, 300), lens=lens)
    np.testing.assert_allclose(larger.matrix, expected.matrix, rtol=0, atol=1e-9)
    assert larger.size == 512
    assert larger.lens is lens


@pytest.mark.parametrize("lens", [None, Lens(-0.15, 0.02), Lens(0.1)])
@pytest.mark.parametrize("eye_distance_px", [15.0, 60.0])
def test_what_is_cut_out_comes_back_to_its_place(lens, eye_distance_px):
    picture = ramps(240, 300)
    face = face_at(210.0, 80.0, eye_distance_px=eye_distance_px, turn=-0.4)
    view = view_of(face.landmarks, 256, shape=picture.shape, lens=lens)
    region = view.region_of((96, 96, 160, 160))

    back = view.bring_back(view.crop(picture), region)

    x0, y0, x1, y1 = region
    # In hundredths of a pixel; OpenCV knows a place to 1/32 of one.
    difference = back[..., :2] - picture[y0:y1, x0:x1, :2]
    assert np.abs(difference).mean() < 5.0
    assert np.abs(difference.mean(axis=(0, 1))).max() < 1.5


@pytest.mark.parametrize("lens", [Lens(-0.2, 0.03), Lens(0.15)])
def test_straight_lines_that_a_lens_bent_are_straight_in_the_crop(lens):
    shape = (600, 800)
    marks = distorted(np.array(face_at(600.0, 155.0).landmarks), lens, shape)
    landmarks = [tuple(mark) for mark in marks]
    picture = photographed_grid(lens, shape, pitch_px=32)

    seen = view_of(landmarks, 256, shape=shape, lens=lens).crop(picture)[..., 0]
    ignored = view_of(landmarks, 256, shape=shape).crop(picture)[..., 0]

    assert bend_px(seen) < 0.3
    assert bend_px(ignored) > 0.75


def photographed_grid(lens, shape, *, pitch_px):
    """What a lens shows of upright lines: each row has its lines where the model puts them."""
    height, width = shape
    picture = np.zeros((height, width), np.uint8)
    for x in range(0, width, pitch_px):
        down = np.linspace(0, height - 1, 4 * height)
        line = distorted(np.stack([np.full_like(down, x), down], axis=-1), lens, shape)
        points = np.rint(line * 16).astype(np.int32)
        cv2.polylines(picture, [points], False, 255, 2, cv2.LINE_AA, shift=4)
    return np.repeat(picture[..., None], 3, axis=2)


def bend_px(crop):
    """How far, at most, the brightest line near the middle departs from a straight one."""
    middle = len(crop) // 2
    column = middle - 22 + int(np.argmax(crop[middle, middle - 22 : middle + 23]))
    window = crop[20:-20, column - 16 : column + 17]
    places = (window * np.arange(33)).sum(axis=1) / window.sum(axis=1)
    rows = np.arange(len(places))
    return np.abs(places - np.polyval(np.polyfit(rows, places, 1), rows)).max()
