"""Restored faces go back where they belong, and nothing else changes."""

import tracemalloc
from itertools import permutations

import cv2
import numpy as np
import pytest

from gpen_engine.align import view_of
from gpen_engine.blend import Patch, make_patch
from gpen_engine.faces import Detail, Finish, Lens
from gpen_engine.mask import soft_face_mask
from tests.unit.gpen_engine.fakes import ASTRONAUT, face_at, paste, restoration

DTYPES = [np.uint8, np.uint16]


def noise(dtype, shape=(120, 160, 3), seed=1):
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, shape).astype(dtype)


def patch_for(
    image, *, eye_distance_px, at=(80.0, 60.0), size=64, restored=None, finish=None, protected=None
):
    face = face_at(*at, eye_distance_px=eye_distance_px)
    lens = finish.lens if finish else None
    view = view_of(face.landmarks, size, shape=image.shape, lens=lens)
    before = view.crop(image)
    after = np.iinfo(image.dtype).max - before if restored is None else restored(before)
    mask = soft_face_mask(size)
    return make_patch(image, view, before, after, mask, finish=finish, protected=protected)


def outside(image, patches):
    mask = np.ones(image.shape[:2], bool)
    for patch in patches:
        x0, y0, x1, y1 = patch.region
        mask[y0:y1, x0:x1] = False
    return mask


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("eye_distance_px", [8.0, 20.0, 40.0])
def test_pixels_outside_the_region_keep_every_bit(dtype, eye_distance_px):
    image = noise(dtype)
    patch = patch_for(image, eye_distance_px=eye_distance_px)

    result = paste(image, [patch])

    same = outside(image, [patch])
    np.testing.assert_array_equal(result[same], image[same])
    assert (result != image).any()
    assert result.dtype == dtype


@pytest.mark.parametrize("eye_distance_px", [8.0, 40.0])
def test_pixels_inside_the_region_but_without_weight_keep_every_bit(eye_distance_px):
    image = noise(np.uint16)
    patch = patch_for(image, eye_distance_px=eye_distance_px)
    x0, y0, x1, y1 = patch.region

    result = paste(image, [patch])

    same = patch.weight == 0
    assert same.any()
    np.testing.assert_array_equal(result[y0:y1, x0:x1][same], image[y0:y1, x0:x1][same])


@pytest.mark.parametrize("eye_distance_px", [8.0, 20.0, 40.0])
def test_the_region_is_tight(eye_distance_px):
    weight = patch_for(noise(np.uint8), eye_distance_px=eye_distance_px).weight

    for edge in (weight[0], weight[-1], weight[:, 0], weight[:, -1]):
        assert edge.any()


def test_the_picture_given_is_not_changed():
    image = noise(np.uint8)
    before = image.copy()

    paste(image, [patch_for(image, eye_distance_px=30.0)])

    np.testing.assert_array_equal(image, before)


def test_no_patches_give_a_copy():
    image = noise(np.uint8)

    result = paste(image, [])

    np.testing.assert_array_equal(result, image)
    assert result is not image


def test_what_the_network_leaves_alone_stays_bit_identical_at_any_size():
    image = noise(np.uint8)

    small = patch_for(image, eye_distance_px=10.0, restored=lambda before: before)
    large = patch_for(image, eye_distance_px=40.0, restored=lambda before: before)

    assert small.detail is Detail.NETWORK
    assert large.detail is Detail.PHOTOGRAPH
    np.testing.assert_array_equal(paste(image, [small]), image)
    np.testing.assert_array_equal(paste(image, [large]), image)


@pytest.mark.parametrize("eye_distance_px", [10.0, 40.0])
def test_a_change_of_the_network_reaches_the_photograph_whole(eye_distance_px):
    image = noise(np.uint8) // 4
    image[:, :80, 0] += 60  # a picture in colour, whose tone is not kept
    image[:60, :, 2] += 60

    patch = patch_for(image, eye_distance_px=eye_distance_px, restored=lambda before: before + 77.0)

    x0, y0, x1, y1 = patch.region
    whole = patch.weight == 1.0
    assert whole.any()
    change = paste(image, [patch])[y0:y1, x0:x1].astype(int) - image[y0:y1, x0:x1]
    assert (abs(change[whole] - 77) <= 1).all()


@pytest.mark.parametrize("eye_distance_px", [10.0, 40.0])
def test_a_gray_photograph_stays_gray(eye_distance_px):
    image = np.repeat(noise(np.uint16)[:, :, :1], 3, axis=2)
    tint = np.array([1.0, 0.7, 0.4], np.float32)

    result = paste(
        image,
        [patch_for(image, eye_distance_px=eye_distance_px, restored=lambda before: before * tint)],
    )

    np.testing.assert_array_equal(result[..., 0], result[..., 1])
    np.testing.assert_array_equal(result[..., 1], result[..., 2])
    assert (result != image).any()


def overlapping_patches(dtype):
    rng = np.random.default_rng(0)
    spread = np.iinfo(dtype).max / 8
    return [
        Patch(
            (x, y, x + 60, y + 60),
            rng.normal(0, spread, (60, 60, 3)).astype(np.float32),
            rng.random((60, 60)).astype(np.float32),
            Detail.NETWORK,
        )
        for x, y in ((0, 0), (20, 10), (30, 30))
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_of_three_overlapping_patches_does_not_matter(dtype):
    image = noise(dtype, (96, 96, 3), seed=0)
    patches = overlapping_patches(dtype)
    first = paste(image, patches)

    for order in permutations(patches):
        np.testing.assert_array_equal(paste(image, order), first)


def test_not_even_the_rounding_of_sums_depends_on_the_order():
    image = np.full((10, 12, 3), 100, np.uint8)
    ones = np.ones((10, 10), np.float32)

    def flat(x, change):
        return Patch(
            (x, 0, x + 10, 10), np.full((10, 10, 3), change, np.float32), ones, Detail.NETWORK
        )

    # In float32, 3 is lost beside 1e8, but not beside 1e8 - 1e8.
    patches = [flat(0, 1e8), flat(1, -1e8), flat(2, 3.0)]
    first = paste(image, patches)

    assert (first[:, 2:10] == 101).all()
    for order in permutations(patches):
        np.testing.assert_array_equal(paste(image, order), first)


def test_overlapping_patches_meet_in_their_weighted_mean():
    image = np.full((10, 10, 3), 100, np.uint8)

    def flat(change, weight, region):
        shape = (region[3] - region[1], region[2] - region[0])
        return Patch(
            region,
            np.full((*shape, 3), change, np.float32),
            np.full(shape, weight, np.float32),
            Detail.NETWORK,
        )

    patches = [flat(40, 1.0, (0, 0, 6, 10)), flat(-20, 1.0, (4, 0, 10, 10))]
    result = paste(image, patches)

    assert (result[:, :4] == 140).all()
    assert (result[:, 4:6] == 110).all()
    assert (result[:, 6:] == 80).all()
    assert (paste(image, [flat(40, 0.25, (0, 0, 6, 10))])[:, :6] == 110).all()


def test_patches_that_touch_through_others_are_each_applied_once():
    image = np.full((10, 40, 3), 100, np.uint8)
    ones = np.ones((10, 12), np.float32)
    regions = [(0, 0, 12, 10), (20, 0, 32, 10), (10, 0, 22, 10)]
    patches = [
        Patch(region, np.full((10, 12, 3), 30, np.float32), ones, Detail.NETWORK)
        for region in regions
    ]

    result = paste(image, patches)

    assert (result[:, :32] == 130).all()
    assert (result[:, 32:] == 100).all()


def test_a_crowd_from_corner_to_corner_takes_no_more_room_than_its_faces():
    image = np.zeros((2000, 2000, 3), np.uint8)
    patches = [
        Patch(
            (at, at, at + 60, at + 60),
            np.ones((60, 60, 3), np.float32),
            np.ones((60, 60), np.float32),
            Detail.NETWORK,
        )
        for at in range(0, 1940, 40)
    ]

    tracemalloc.start()
    paste(image, patches)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak - image.nbytes < 1_000_000


@pytest.mark.parametrize("dtype", DTYPES)
def test_levels_beyond_the_range_are_cut_not_wrapped(dtype):
    top = np.iinfo(dtype).max
    image = np.full((8, 8, 3), top // 2, dtype)

    def by(change):
        return Patch(
            (0, 0, 8, 8), np.full((8, 8, 3), change, np.float32), np.ones((8, 8)), Detail.NETWORK
        )

    assert (paste(image, [by(2.0 * top)]) == top).all()
    assert (paste(image, [by(-2.0 * top)]) == 0).all()


@pytest.mark.parametrize("at", [(2.0, 60.0), (158.0, 60.0), (80.0, 1.0), (80.0, 119.0)])
@pytest.mark.parametrize("eye_distance_px", [10.0, 45.0])
def test_a_face_across_the_edge_is_pasted_as_far_as_it_goes(at, eye_distance_px):
    image = noise(np.uint8)
    patch = patch_for(image, eye_distance_px=eye_distance_px, at=at)
    x0, y0, x1, y1 = patch.region

    assert 0 <= x0 < x1 <= 160
    assert 0 <= y0 < y1 <= 120
    assert (paste(image, [patch]) != image).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_strength_changes_nothing_and_half_of_it_half_as_much(dtype):
    image = noise(dtype) // 4

    def shift(strength):
        def raised(before):
            return before + 40.0

        patch = patch_for(
            image, eye_distance_px=20.0, restored=raised, finish=Finish(strength=strength)
        )
        return paste(image, [patch]).astype(int) - image

    whole, half = shift(1.0), shift(0.5)
    assert not shift(0.0).any()
    assert whole.max() == 40
    assert np.abs(half - whole / 2).max() <= 1


@pytest.mark.parametrize("eye_distance_px", [12.0, 40.0])
def test_a_protected_area_keeps_every_bit_and_has_no_hard_edge(eye_distance_px):
    image = np.full((120, 160, 3), 60, np.uint8)
    protected = np.zeros((120, 160), bool)
    protected[:, 84:] = True

    patch = patch_for(
        image, eye_distance_px=eye_distance_px, restored=lambda c: c + 100, protected=protected
    )
    result = paste(image, [patch])

    np.testing.assert_array_equal(result[protected], image[protected])
    row = result[60, :, 0].astype(int)
    assert row[70:84].max() > 70
    assert np.abs(np.diff(row)).max() < 75
    assert row[83] - row[84] < 40


def test_a_protected_area_elsewhere_changes_nothing():
    image = noise(np.uint8)
    protected = np.zeros((120, 160), bool)
    protected[:, 150:] = True

    free = paste(image, [patch_for(image, eye_distance_px=12.0)])
    guarded = paste(image, [patch_for(image, eye_distance_px=12.0, protected=protected)])

    np.testing.assert_array_equal(guarded, free)


def test_a_face_that_is_wholly_protected_stays():
    image = noise(np.uint8)

    patch = patch_for(image, eye_distance_px=20.0, protected=np.ones((120, 160), bool))

    assert patch.region[0] < patch.region[2]
    np.testing.assert_array_equal(paste(image, [patch]), image)


def test_a_mask_without_weight_changes_nothing():
    image = noise(np.uint8)
    view = view_of(face_at(80.0, 60.0).landmarks, 64, shape=image.shape)
    before = view.crop(image)

    patch = make_patch(image, view, before, before + 9, np.zeros((64, 64), np.float32))

    np.testing.assert_array_equal(paste(image, [patch]), image)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lens", [Lens(-0.2, 0.05), Lens(0.1)])
@pytest.mark.parametrize("eye_distance_px", [10.0, 40.0])
def test_no_change_through_a_lens_leaves_every_bit(dtype, lens, eye_distance_px):
    image = noise(dtype)

    patch = patch_for(
        image,
        eye_distance_px=eye_distance_px,
        restored=lambda before: before,
        finish=Finish(lens=lens),
    )

    np.testing.assert_array_equal(paste(image, [patch]), image)


@pytest.mark.parametrize("lens", [Lens(-0.06), Lens(0.1)])
def test_a_face_is_restored_where_a_bending_lens_shows_it(lens):
    image = np.full((480, 640, 3), 90, np.uint8)

    def changed_at(finish):
        patch = patch_for(
            image, eye_distance_px=30.0, at=(540.0, 400.0), restored=lambda c: c + 50, finish=finish
        )
        return np.argwhere((paste(image, [patch]) != image).any(axis=2)).mean(axis=0)

    # Without the way back through the lens it would be 15 px off or more.
    assert np.abs(changed_at(Finish(lens=lens)) - changed_at(Finish())).max() < 3.0


def steepness(picture):
    light = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.hypot(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1))


NETWORKS = {
    "brighter": lambda crop: np.clip(crop + 40, 0, 255),
    "darker": lambda crop: crop * np.float32(0.6),
    "reddish": lambda crop: np.clip(crop * np.float32([1.3, 1.0, 0.8]), 0, 255),
    "blurred": lambda crop: cv2.GaussianBlur(crop, (0, 0), 3),
    "inverted": lambda crop: 255 - crop,
    "flat": lambda crop: np.full_like(crop, 128),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [128, 512])
def test_no_rim_shows_whatever_the_network_does(astronaut, network, size):
    view = view_of(ASTRONAUT.landmarks, size, shape=astronaut.shape)
    before = view.crop(astronaut)
    patch = make_patch(astronaut, view, before, NETWORKS[network](before), soft_face_mask(size))

    result = paste(astronaut, [patch])

    x0, y0, x1, y1 = patch.region
    rim = (patch.weight > 0) & (patch.weight < 0.99)
    before_there = steepness(astronaut)[y0:y1, x0:x1][rim].mean()
    assert steepness(result)[y0:y1, x0:x1][rim].mean() <= 1.1 * before_there


def test_a_face_is_pasted_onto_an_enlarged_picture_at_its_place():
    image = np.full((120, 160, 3), 90, np.uint8)
    large = np.full((240, 320, 3), 90, np.uint8)
    view = view_of(face_at(80.0, 60.0, eye_distance_px=20.0).landmarks, 64, shape=image.shape)
    crop, mask = view.crop(image), soft_face_mask(64)

    small = paste(image, [make_patch(image, view, crop, crop + 50, mask)])
    wide = paste(large, [make_patch(large, view.enlarged(2), crop, crop + 50, mask)])

    halved = cv2.resize(wide, (160, 120), interpolation=cv2.INTER_AREA)
    assert np.abs(halved.astype(int) - small).max() <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("height", [1, 7, 50])
def test_rows_are_those_of_the_whole_picture(dtype, height):
    image = noise(dtype)
    patches = [patch_for(image, eye_distance_px=20.0, at=at) for at in [(60.0, 50.0), (90.0, 70.0)]]
    done = restoration(image, patches)
    bands = [done.rows(slice(top, top + height)) for top in range(0, len(image), height)]
    np.testing.assert_array_equal(np.concatenate(bands), done.image)
    assert (done.image != image).any()


def test_rows_are_a_copy():
    image = noise(np.uint8)
    done = restoration(image, [])
    done.rows(slice(0, 5))[:] = 0
    np.testing.assert_array_equal(done.image, image)


def test_a_gray_picture_may_have_its_one_channel_three_times_in_the_same_place():
    gray = noise(np.uint16, (120, 160, 1))
    image = np.broadcast_to(gray, (120, 160, 3))
    patch = patch_for(image, eye_distance_px=20.0)
    copied = np.ascontiguousarray(image)
    np.testing.assert_array_equal(paste(image, [patch]), paste(copied, [patch]))
