"""The reference-compatible mode, step by step; the pictures as a whole are in tests/golden."""

import tracemalloc
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from gpen_engine import reference
from gpen_engine.align import invert, similarity, template
from gpen_engine.errors import ImageError
from gpen_engine.faces import Face
from gpen_engine.reference import restore_compatibly, working_picture
from tests.golden.recipe import HERE
from tests.unit.gpen_engine.fakes import face_at

GOLDEN = np.load(HERE / "pipeline.npz")
_FMA3 = 12  # OpenCV's number for it, which its Python module doesn't name
FMA = pytest.mark.skipif(
    not cv2.checkHardwareSupport(_FMA3), reason="OpenCV rounds otherwise on a CPU without FMA"
)


def centred(size: int = 512, *, box_px: float = 200.0) -> Face:
    """Return a face that lies in a picture of `size` pixels just as the template wants it."""
    points = [(float(x), float(y)) for x, y in template(size)]
    return Face((0.0, 0.0, box_px, box_px), tuple(points), 0.99)


def answering(levels: np.ndarray) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a network that answers every face with these levels, `(S, S, 3)`, 0 to 255."""
    # A hundredth more, or float32 puts some of them just under their level, to be cut off.
    values = (levels.astype(np.float32) + 0.01) / 255.0 * 2.0 - 1.0
    answer = torch.from_numpy(values).permute(2, 0, 1)
    return lambda _x: answer[None]


def negative(x: torch.Tensor) -> torch.Tensor:
    return -x


def everything(x: torch.Tensor) -> np.ndarray:
    return np.ones((len(x), 512, 512), np.bool_)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_the_network_sees_red_first_between_minus_one_and_one():
    picture = np.zeros((512, 512, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 255, 51
    seen = []

    def network(x):
        seen.append(x)
        return x

    restore_compatibly(picture, [centred()], network, size=512)

    (x,) = seen
    assert (x.shape, x.dtype) == ((1, 3, 512, 512), torch.float32)
    for channel, value in enumerate((1.0, -0.6, -1.0)):
        torch.testing.assert_close(x[0, channel], torch.full((512, 512), value))


def test_the_network_answers_red_first():
    levels = np.zeros((512, 512, 3))
    levels[..., 0], levels[..., 1] = 255.0, 51.5

    result, _ = restore_compatibly(noise(512, 512), [centred()], answering(levels), size=512)

    assert result[256, 256].tolist() == [255, 51, 0]


def test_what_lies_between_two_levels_is_cut_off():
    levels = np.full((512, 512, 3), 99.9)
    levels[0, 0] = 0.0

    result, _ = restore_compatibly(
        np.full((512, 512, 3), 99, np.uint8), [centred()], answering(levels), size=512
    )

    assert (result == 99).all()


@pytest.mark.parametrize(("level", "expected"), [(-40.0, 0), (300.0, 255)])
def test_what_lies_beyond_black_and_white_is_black_or_white(level, expected):
    levels = np.full((512, 512, 3), level)
    levels[0, 0] = 100.0

    result, _ = restore_compatibly(noise(512, 512), [centred()], answering(levels), size=512)

    assert (result[200:300, 200:300] == expected).all()


def white_mask(parser) -> np.ndarray:
    """Return the mask as a picture: white pasted onto black."""
    levels = np.full((512, 512, 3), 255.0)
    levels[0, 0] = 0.0
    black = np.zeros((512, 512, 3), np.uint8)
    result, _ = restore_compatibly(black, [centred()], answering(levels), size=512, parser=parser)
    return result[..., 1]


def test_without_a_parser_the_mask_is_the_published_rectangle():
    expected = GOLDEN["mask512_rect_stride4"] * 255.0

    assert np.abs(white_mask(None)[::4, ::4] - expected).max() <= 1.0


def test_the_parsed_mask_ends_26_px_from_the_border_and_is_blurred():
    def ellipse(x):
        assert x.shape == (1, 3, 512, 512)
        down, across = np.mgrid[0:512, 0:512]
        inside = ((across - 256) / 215) ** 2 + ((down - 270) / 240) ** 2 <= 1
        return (inside & (down >= 90))[None]

    expected = GOLDEN["mask512_stride4"] * 255.0

    assert np.abs(white_mask(ellipse)[::4, ::4] - expected).max() <= 1.0


def test_the_parser_sees_the_restored_face_at_512_px():
    seen = []

    def parser(x):
        seen.append(x)
        return everything(x)

    levels = np.zeros((128, 128, 3))
    levels[:, 64:] = 255.0
    restore_compatibly(noise(128, 128), [centred(128)], answering(levels), size=128, parser=parser)

    (x,) = seen
    assert x.shape == (1, 3, 512, 512)
    assert (x[..., :250] == -1.0).all()
    assert (x[..., 262:] == 1.0).all()


@pytest.mark.parametrize(("box_px", "smoothed"), [(99.0, True), (100.0, False)])
def test_a_face_with_a_box_under_100_px_is_smoothed(box_px, smoothed):
    levels = np.zeros((512, 512, 3))
    levels[:, ::2] = 255.0

    result, _ = restore_compatibly(
        noise(512, 512), [centred(box_px=box_px)], answering(levels), size=512
    )

    # The kernel gives a row of stripes the mean of white and black; half a level is rounded.
    expected = {127, 128} if smoothed else {0, 255}
    assert set(np.unique(result[200:300, 200:300]).tolist()) <= expected


def test_strength_mixes_the_restored_face_with_the_crop():
    levels = np.full((512, 512, 3), 200.0)
    levels[0, 0] = 0.0
    picture = np.full((512, 512, 3), 100, np.uint8)

    result, _ = restore_compatibly(picture, [centred()], answering(levels), size=512, strength=0.25)

    assert (result[200:300, 200:300] == 125).all()


def test_past_the_edge_a_crop_is_black():
    seen = []

    def network(x):
        seen.append(x)
        return -x

    restore_compatibly(np.full((80, 80, 3), 255, np.uint8), [face_at(0.0, 0.0)], network, size=64)

    assert (seen[0][0, :, :8, :8] == -1.0).all()


def test_no_face_gives_the_same_picture():
    picture = noise(40, 50)

    result, regions = restore_compatibly(picture, [], negative, size=64)

    assert regions == []
    np.testing.assert_array_equal(result, picture)
    assert result is not picture


@pytest.mark.parametrize("where", [(120.0, 90.0), (0.0, 0.0), (239.0, 179.0)])
def test_outside_its_region_a_face_changes_nothing(where):
    picture = noise(180, 240)
    kept = picture.copy()

    result, (region,) = restore_compatibly(picture, [face_at(*where, turn=0.5)], negative, size=64)

    x0, y0, x1, y1 = region
    inside = np.zeros((180, 240), np.bool_)
    inside[y0:y1, x0:x1] = True
    assert (result[~inside] == picture[~inside]).all()
    assert (result != picture).any()
    np.testing.assert_array_equal(picture, kept)


def test_the_region_is_that_of_the_changed_pixels():
    picture = noise(1000, 1000)
    face = face_at(500.0, 500.0, eye_distance_px=150.0)

    result, (region,) = restore_compatibly(picture, [face], answering(noise(64, 64)), size=64)

    changed = (result != picture).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    tight = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert np.abs(np.subtract(region, tight)).max() <= 10


@pytest.mark.parametrize("where", [(-900.0, 50.0), (50.0, 9000.0)])
def test_a_face_beyond_the_picture_changes_nothing(where):
    picture = noise(60, 60)

    result, (region,) = restore_compatibly(
        picture, [face_at(*where)], answering(noise(64, 64)), size=64
    )

    x0, y0, x1, y1 = region
    assert 0 <= x0 < x1 <= 60
    assert 0 <= y0 < y1 <= 60
    np.testing.assert_array_equal(result, picture)


def test_a_parser_that_sees_no_face_leaves_the_picture():
    picture = noise(512, 512)

    result, (region,) = restore_compatibly(
        picture,
        [centred()],
        negative,
        size=512,
        parser=lambda x: np.zeros((len(x), 512, 512), np.bool_),
    )

    np.testing.assert_array_equal(result, picture)
    assert region is not None


def test_an_unusable_answer_leaves_the_face_and_says_so():
    picture = noise(200, 200)

    def fails_on_the_first(x):
        answers.append(x)
        return torch.full_like(x, torch.nan) if len(answers) == 1 else -x

    answers = []
    faces = [face_at(60.0, 60.0, eye_distance_px=15.0), face_at(140.0, 140.0, eye_distance_px=15.0)]
    result, (first, second) = restore_compatibly(picture, faces, fails_on_the_first, size=64)

    assert first is None
    assert second is not None
    assert (result[:100, :100] == picture[:100, :100]).all()
    assert (result[130:150, 130:150] != picture[130:150, 130:150]).any()


def test_of_two_equal_faces_the_first_is_shown():
    first, second = np.full((64, 64, 3), 10.0), np.full((64, 64, 3), 240.0)
    first[0, 0] = second[0, 0] = 128.0
    networks = iter([answering(first), answering(second)])

    def network(x):
        return next(networks)(x)

    result, _ = restore_compatibly(noise(200, 200), [face_at(100.0, 100.0)] * 2, network, size=64)

    assert result[100, 100].tolist() == [10, 10, 10]


def test_a_network_that_answers_at_another_size_is_brought_back():
    levels = np.zeros((128, 128, 3))
    levels[64:] = 200.0

    result, _ = restore_compatibly(noise(64, 64), [centred(64)], answering(levels), size=64)

    assert (result[20:30, 20:44] == 0).all()
    assert (result[34:44, 20:44] == 200).all()


def test_a_restored_face_is_pasted_onto_the_background():
    picture = np.full((128, 128, 3), 40, np.uint8)
    picture[:, 64:] = 60
    background = np.full((256, 256, 3), 200, np.uint8)

    result, _ = restore_compatibly(
        picture, [centred(256)], negative, size=256, background=background
    )

    assert result.shape == background.shape
    assert (result[:4] == 200).all()
    assert (abs(result[100:150, 100:126].astype(int) - 215) <= 1).all()
    assert (abs(result[100:150, 130:150].astype(int) - 195) <= 1).all()
    assert (background == 200).all()


def test_faces_are_looked_for_in_the_photograph_at_the_size_of_the_background():
    picture, background = noise(30, 40), noise(60, 80, seed=1)

    view = working_picture(picture, background)

    np.testing.assert_array_equal(view, cv2.resize(picture, (80, 60)))
    np.testing.assert_array_equal(working_picture(picture, None), picture)
    np.testing.assert_array_equal(working_picture(picture, noise(30, 40, seed=2)), picture)


def test_a_picture_of_16_bits_is_refused():
    with pytest.raises(ImageError, match="8 bits, and the picture is uint16"):
        restore_compatibly(np.zeros((8, 8, 3), np.uint16), [], negative, size=64)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_a_picture_of_another_shape_is_refused(shape):
    with pytest.raises(ImageError, match="expected a"):
        restore_compatibly(np.zeros(shape, np.uint8), [], negative, size=64)


@pytest.mark.parametrize("side", [8, 16])
def test_a_background_of_16_bits_is_refused(side):
    background = np.zeros((side, side, 3), np.uint16)

    with pytest.raises(ImageError, match="uint16"):
        restore_compatibly(
            np.zeros((8, 8, 3), np.uint8), [], negative, size=64, background=background
        )


def whole_picture(picture, faces, network, size) -> np.ndarray:
    """Do it the expensive way: every face and every mask warped onto the whole picture."""
    height, width = picture.shape[:2]
    best, shown = np.zeros((height, width), np.float32), np.zeros_like(picture)
    mask = np.zeros((512, 512))
    mask[26:487, 26:487] = 1.0
    for _ in range(2):
        mask = cv2.GaussianBlur(mask, (101, 101), 4.0)
    mask = cv2.resize(mask.astype(np.float32), (size, size))
    for face in faces:
        matrix = similarity(face.landmarks, size)
        crop = cv2.warpAffine(picture, matrix, (size, size))
        answer = network(torch.from_numpy(crop / np.float32(127.5) - 1.0).permute(2, 0, 1)[None])
        after = (answer * 0.5 + 0.5)[0].permute(1, 2, 0).numpy() * 255.0
        back, extent = invert(matrix), (width, height)
        here = cv2.warpAffine(mask, back, extent)
        pixels = cv2.warpAffine(after.astype(np.uint8), back, extent)
        wins = here > best
        best[wins], shown[wins] = here[wins], pixels[wins]
    share = best[:, :, None]
    return np.rint(picture * (1 - share) + shown * share).astype(np.uint8)


GROUPS = {
    "one": [face_at(500.0, 400.0, turn=0.3)],
    "overlapping": [face_at(700.0, 300.0), face_at(760.0, 340.0, turn=-0.4), face_at(720.0, 390.0)],
    "cut by the edge": [face_at(20.0, 700.0, turn=2.0), face_at(1190.0, 10.0)],
    "large": [face_at(600.0, 450.0, eye_distance_px=260.0, turn=0.1), face_at(800.0, 400.0)],
}


@FMA
@pytest.mark.parametrize("band_pixels", [1 << 18, 3000])
@pytest.mark.parametrize("faces", GROUPS.values(), ids=GROUPS)
def test_working_on_regions_gives_the_picture_of_working_on_the_whole(
    monkeypatch, faces, band_pixels
):
    monkeypatch.setattr(reference, "_BAND_PIXELS", band_pixels)
    picture = noise(900, 1200)
    levels = noise(128, 128, seed=3) + np.float32(0.5)
    network = answering(levels)
    large = [Face((0.0, 0.0, 500.0, 500.0), face.landmarks, face.score) for face in faces]

    result, _ = restore_compatibly(picture, large, network, size=128)

    np.testing.assert_array_equal(result, whole_picture(picture, large, network, 128))


def test_memory_grows_neither_with_the_picture_nor_with_a_face():
    picture = np.full((3000, 4000, 3), 100, np.uint8)
    faces = [face_at(3500.0, 200.0), face_at(1200.0, 1500.0, eye_distance_px=400.0)]

    tracemalloc.start()
    restore_compatibly(picture, faces, answering(noise(128, 128)), size=128)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # A mask of the whole picture in float32 would take 48 MB, the large face's pixels as much.
    assert peak - picture.nbytes < 30_000_000
