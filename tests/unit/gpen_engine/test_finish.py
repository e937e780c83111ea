"""A restored face keeps the tone, the texture and the grain of its photograph."""

import cv2
import numpy as np
import pytest

from gpen_engine.align import view_of
from gpen_engine.blend import make_patch
from gpen_engine.faces import Finish
from gpen_engine.finish import Grain, grain_between, grain_of, lost_texture, luma, tone_of
from gpen_engine.mask import soft_face_mask
from tests.unit.gpen_engine.fakes import ASTRONAUT, paste

DTYPES = [np.uint8, np.uint16]
SIZE = 128
EVERYWHERE = np.ones((200, 200), bool)


def restore(image, network, finish=None, *, size=SIZE):
    """Paste the astronaut's face as a network makes it; return the picture and the patch."""
    top = float(np.iinfo(image.dtype).max)
    view = view_of(ASTRONAUT.landmarks, size, shape=image.shape)
    crop = view.crop(image)
    answer = network(crop / np.float32(top)).clip(0, 1) * np.float32(top)
    patch = make_patch(image, view, crop, answer, soft_face_mask(size), finish=finish)
    return paste(image, [patch]), patch


def face_of(image, patch, *, least=0.5):
    """The pixels of the pasted face, `(n, 3)`."""
    x0, y0, x1, y1 = patch.region
    return image[y0:y1, x0:x1][patch.weight > least]


def mean_lab(pixels, dtype):
    shares = (pixels / np.iinfo(dtype).max).astype(np.float32)
    return cv2.cvtColor(shares[None], cv2.COLOR_RGB2LAB)[0].mean(axis=0)


def at_depth(picture, dtype):
    return (picture.clip(0, 255) * (np.iinfo(dtype).max / 255.0)).round().astype(dtype)


def sepia_print(astronaut, dtype):
    """The astronaut on a brown print: scanner noise in each channel, then JPEG's chroma."""
    gray = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)[..., None] / 255.0
    paper, ink = np.array([238.0, 222.0, 190.0]), np.array([44.0, 30.0, 22.0])
    toned = ink + (paper - ink) * gray**0.9
    noisy = toned + np.random.default_rng(3).normal(0, 3, toned.shape)
    if dtype == np.uint16:
        return at_depth(noisy, dtype)
    _, file = cv2.imencode(".jpg", at_depth(noisy, dtype), [cv2.IMWRITE_JPEG_QUALITY, 75])
    return cv2.imdecode(file, cv2.IMREAD_COLOR)


NETWORKS = {
    "a cast": lambda crop: crop * np.float32([1.2, 1.0, 0.7]) + np.float32([0.06, 0.02, -0.04]),
    "a blue cast and a blur": lambda crop: (
        cv2.GaussianBlur(crop, (0, 0), 2) * np.float32([1, 1, 1.5])
    ),
    "more light": lambda crop: crop + 0.15,
    "less light": lambda crop: crop * 0.65,
    "no colour": lambda crop: np.repeat(crop.mean(axis=2, keepdims=True), 3, axis=2),
}


# --- tone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_toned_print_keeps_its_tone_inside_the_face(astronaut, dtype, network):
    image = sepia_print(astronaut, dtype)

    result, patch = restore(image, NETWORKS[network])

    before = mean_lab(face_of(image, patch), dtype)
    after = mean_lab(face_of(result, patch), dtype)
    assert np.hypot(*before[1:]) > 8.0
    assert np.hypot(*(after - before)[1:]) < 2.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_toned_print_gets_the_light_of_the_restored_face(astronaut, dtype):
    image = sepia_print(astronaut, dtype)

    result, patch = restore(image, lambda crop: crop * np.float32([0.9, 0.6, 0.4]))

    before = mean_lab(face_of(image, patch, least=0.99), dtype)
    after = mean_lab(face_of(result, patch, least=0.99), dtype)
    assert after[0] < before[0] - 10.0


def test_a_scratch_taken_out_of_a_toned_print_gets_the_tone_of_what_is_under_it(astronaut):
    whole = sepia_print(astronaut, np.uint16)
    scratched = whole.copy()
    # White scratches show the paper, which has nearly no colour.
    scratched[60:160, 222:226] = at_depth(np.array([250.0, 246.0, 238.0]), np.uint16)
    view = view_of(ASTRONAUT.landmarks, 512, shape=whole.shape)
    crop, answer = view.crop(scratched), view.crop(whole)

    patch = make_patch(scratched, view, crop, answer, soft_face_mask(512))
    result = paste(scratched, [patch])

    healed, true = result[105:130, 222:226], whole[105:130, 222:226]
    difference = mean_lab(healed.reshape(-1, 3), np.uint16) - mean_lab(
        true.reshape(-1, 3), np.uint16
    )
    assert np.abs(difference).max() < 4.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_gray_photograph_stays_exactly_gray(astronaut, dtype, network):
    gray = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    image = at_depth(np.repeat(gray[..., None], 3, axis=2), dtype)
    image[30:40, 150:162] = (200, 30, 30)  # a stamp beside the head, in the region's corner

    result, patch = restore(image, NETWORKS[network], Finish(texture=0.5, grain=True))

    face = face_of(result, patch, least=0.0)
    np.testing.assert_array_equal(face[:, 0], face[:, 1])
    np.testing.assert_array_equal(face[:, 1], face[:, 2])
    assert patch.change.shape[2] == 1
    assert (result != image).any() == (network != "no colour")


def test_a_photograph_in_colour_is_not_taken_for_a_print(astronaut):
    crop = view_of(ASTRONAUT.landmarks, SIZE, shape=astronaut.shape).crop(astronaut)
    faded = 90 + 0.35 * crop

    assert tone_of(crop, 255.0) is None
    assert tone_of(faded.astype(np.float32), 255.0) is None


def test_a_photograph_in_colour_gets_the_colours_of_the_restored_face(astronaut):
    result, patch = restore(astronaut, lambda crop: crop * np.float32([0.8, 1.0, 1.0]))

    before, after = face_of(astronaut, patch, least=0.99), face_of(result, patch, least=0.99)
    np.testing.assert_allclose(after[:, 0].mean(), 0.8 * before[:, 0].mean(), rtol=0.02)
    np.testing.assert_allclose(after[:, 1:].mean(), before[:, 1:].mean(), rtol=0.02)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_network_leaves_alone_on_a_toned_print_keeps_every_bit(astronaut, dtype):
    image = sepia_print(astronaut, dtype)

    result, _ = restore(image, lambda crop: crop)

    # The stub goes through shares of the range and back: half a level at most.
    assert np.abs(result.astype(int) - image).max() <= np.iinfo(dtype).max // 255 // 100


def test_a_blank_face_has_a_tone_too():
    blank = np.full((SIZE, SIZE, 3), (200.0, 190.0, 170.0), np.float32)

    tone = tone_of(blank, 255.0)

    assert tone is not None
    change = tone.change(blank, blank + 20, soft_face_mask(SIZE), 255.0)
    assert np.isfinite(change).all()


# --- texture ---------------------------------------------------------------------------------


def freckled(astronaut):
    spots = np.random.default_rng(5).normal(0, 6, astronaut.shape[:2])[..., None]
    return at_depth(astronaut + spots, np.uint8)


def plastic(crop):
    return cv2.GaussianBlur(crop, (0, 0), 3)


def fineness(image, patch):
    x0, y0, x1, y1 = patch.region
    light = luma(image[y0:y1, x0:x1].astype(np.float32))[..., 0]
    return (light - cv2.GaussianBlur(light, (0, 0), 1.2))[patch.weight > 0.99].std()


def test_texture_brings_back_the_skin_that_the_network_smoothed_away(astronaut):
    image = freckled(astronaut)
    smooth, patch = restore(image, plastic)
    half, _ = restore(image, plastic, Finish(texture=0.5))
    whole, _ = restore(image, plastic, Finish(texture=1.0))

    assert fineness(smooth, patch) < 0.75 * fineness(image, patch)
    assert fineness(smooth, patch) < fineness(half, patch) < fineness(whole, patch)
    assert fineness(whole, patch) == pytest.approx(fineness(image, patch), rel=0.15)


def test_texture_keeps_what_the_network_changed_on_a_large_scale(astronaut):
    lighter, patch = restore(astronaut, lambda crop: crop + 0.1)
    textured, _ = restore(astronaut, lambda crop: crop + 0.1, Finish(texture=1.0))

    difference = face_of(textured, patch).astype(int) - face_of(lighter, patch)
    assert abs(difference.mean()) < 0.5


def test_no_texture_is_as_before_bit_for_bit(astronaut):
    plain, _ = restore(astronaut, plastic)
    none, _ = restore(astronaut, plastic, Finish(texture=0.0))

    np.testing.assert_array_equal(none, plain)


def test_only_detail_that_is_lost_comes_back():
    rng = np.random.default_rng(0)
    own = rng.normal(100, 20, (64, 64, 1)).astype(np.float32)
    fine = own - cv2.GaussianBlur(own, (0, 0), 2.0)[..., None]

    assert np.abs(lost_texture(own, 0.8 * fine, 2.0)).max() < 25.0
    assert np.abs(lost_texture(own, 0.8 * fine, 2.0)).mean() < 0.1 * np.abs(fine).mean()
    sharpened = lost_texture(own, -fine, 2.0)
    np.testing.assert_allclose(sharpened.std(), fine.std(), rtol=0.1)


# --- grain -----------------------------------------------------------------------------------


def grainy(base, sigma, radius_px, seed=0):
    noise = np.random.default_rng(seed).standard_normal(base.shape[:2]).astype(np.float32)
    if radius_px:
        noise = cv2.GaussianBlur(noise, (0, 0), radius_px)
    return base + (sigma * noise / noise.std())[..., None]


@pytest.mark.parametrize("radius_px", [0.5, 0.8, 1.2])
@pytest.mark.parametrize("sigma", [2.0, 8.0])
def test_grain_is_measured_beside_edges_slopes_and_patterns(sigma, radius_px):
    base = np.full((200, 200, 1), 60.0, np.float32)
    base[:, 120:] = 190.0
    base[:60] += np.linspace(0, 40, 200, dtype=np.float32)[None, :, None]
    base[80:] += 10.0 * np.sin(np.arange(200, dtype=np.float32) / 2.0)[None, :, None]

    grain = grain_of(grainy(base, sigma, radius_px).astype(np.float32), EVERYWHERE, 255.0)

    flat = grain_of(
        grainy(np.full_like(base, 128), sigma, radius_px).astype(np.float32), EVERYWHERE, 255.0
    )
    assert grain.sigma == pytest.approx(flat.sigma, rel=0.4)
    assert grain.radius_px == pytest.approx(radius_px, rel=0.25)


def test_grain_made_is_the_grain_that_was_measured():
    wanted = grain_of(
        grainy(np.full((200, 200, 1), 128.0), 6.0, 0.9).astype(np.float32), EVERYWHERE, 255.0
    )

    made = grain_between(wanted, Grain(0.0, 0.0), (200, 200), (1, 2, 3, 4))
    again = grain_of(made + np.float32(128.0), EVERYWHERE, 255.0)

    assert again.sigma == pytest.approx(wanted.sigma, rel=0.1)
    assert again.radius_px == pytest.approx(wanted.radius_px, rel=0.15)


def test_what_is_cut_off_or_too_small_tells_nothing_about_grain():
    burnt = np.full((200, 200, 1), 254.0, np.float32)
    few = np.zeros((200, 200), bool)
    few[:10, :10] = True

    assert grain_of(burnt, EVERYWHERE, 255.0) is None
    assert grain_of(np.full((200, 200, 1), 128.0, np.float32), few, 255.0) is None


@pytest.mark.parametrize(
    ("wanted", "there"),
    [(None, Grain(1.0, 0.0)), (Grain(5.0, 1.0), None), (Grain(2.0, 0.5), Grain(3.0, 0.5))],
)
def test_no_grain_is_made_where_there_is_as_much_or_nobody_knows(wanted, there):
    assert grain_between(wanted, there, (8, 8), (0,)) is None


def enlarged(astronaut):
    """A film scan: smooth at the pixel's scale, but for its grain."""
    return cv2.GaussianBlur(astronaut, (0, 0), 1.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_face_gets_the_grain_of_its_surroundings(astronaut, dtype):
    image = at_depth(grainy(enlarged(astronaut).astype(np.float32), 7.0, 1.0), dtype)
    top = float(np.iinfo(dtype).max)

    def porcelain(crop):
        return cv2.GaussianBlur(crop, (0, 0), 8)

    def grain_in_face(picture, patch):
        x0, y0, x1, y1 = patch.region
        light = luma(picture[y0:y1, x0:x1].astype(np.float32))
        return grain_of(light, patch.weight > 0.9, top).sigma

    smooth, patch = restore(image, porcelain, size=512)
    matched, _ = restore(image, porcelain, Finish(grain=True), size=512)

    around = grain_of(luma(image[:200, 300:500].astype(np.float32)), EVERYWHERE, top).sigma
    assert grain_in_face(smooth, patch) < 0.7 * around
    assert grain_in_face(matched, patch) == pytest.approx(around, rel=0.2)


def test_a_face_that_was_smooth_before_gets_the_grain_around_it():
    base = np.full((512, 512, 3), (128.0, 150.0, 110.0), np.float32)
    _, patch = restore(at_depth(base, np.uint8), lambda crop: crop)
    x0, y0, x1, y1 = patch.region
    inside = np.zeros((512, 512, 1), bool)
    inside[y0:y1, x0:x1, 0] = patch.weight > 0
    image = at_depth(np.where(inside, base, grainy(base, 8.0, 0.8)), np.uint8)

    result, patch = restore(image, lambda crop: crop, Finish(grain=True))

    added = (result.astype(np.float32) - image)[y0:y1, x0:x1][patch.weight > 0.99]
    assert added.std() == pytest.approx(8.0, rel=0.1)


def test_the_grain_of_a_redo_is_the_same(astronaut):
    image = at_depth(grainy(enlarged(astronaut).astype(np.float32), 7.0, 0.7), np.uint8)

    first, _ = restore(image, plastic, Finish(grain=True))
    again, _ = restore(image, plastic, Finish(grain=True))

    np.testing.assert_array_equal(first, again)


def test_a_face_with_as_much_grain_gets_none(astronaut):
    image = at_depth(grainy(enlarged(astronaut).astype(np.float32), 7.0, 0.7), np.uint8)

    result, _ = restore(image, lambda crop: crop, Finish(grain=True))

    plain, _ = restore(image, lambda crop: crop)
    np.testing.assert_array_equal(result, plain)
