"""A picture in, a restoration out; the policy, the bookkeeping, and what goes wrong."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gpen_engine import (
    DeviceError,
    FacePolicy,
    Finish,
    ImageError,
    LargeFaces,
    MaskKind,
    OutOfMemory,
    Reason,
    Treatment,
)
from gpen_engine.cache import CacheFolder
from gpen_engine.checkpoint import LoadedGenerator
from gpen_engine.compact.degrade import FIXED
from gpen_engine.errors import WeightsNotHere
from gpen_engine.faces import Detail, ModelIdentity
from gpen_engine.model import GpenConfig, GpenGenerator
from gpen_engine.networks import GpenModel
from gpen_engine.precision import Precision
from gpen_engine.reference import restore_compatibly
from tests.unit.gpen_engine.fakes import (
    ASTRONAUT,
    FakeDetector,
    Negative,
    OutOfMemoryAbove,
    Overflowing,
    face_at,
    make_restorer,
)

GRID = [face_at(60.0 + 100 * column, 60.0 + 100 * row) for row in range(5) for column in range(5)]


@pytest.fixture
def picture():
    return np.random.default_rng(2).integers(0, 256, (512, 512, 3)).astype(np.uint8)


def outside(restoration):
    mask = np.ones(restoration.image.shape[:2], bool)
    for outcome in restoration.faces:
        if outcome.region is not None:
            x0, y0, x1, y1 = outcome.region
            mask[y0:y1, x0:x1] = False
    return mask


# The engine as it ships, on the portrait.


def test_the_portrait_keeps_its_shape_and_depth(restored, astronaut):
    assert restored.image.shape == astronaut.shape
    assert restored.image.dtype == np.uint8


def test_the_portraits_one_face_is_restored(restored):
    (outcome,) = restored.faces

    assert outcome.restored
    assert outcome.reason is None
    np.testing.assert_allclose(outcome.face.landmarks, ASTRONAUT.landmarks, rtol=0, atol=4.0)
    x0, y0, x1, y1 = outcome.region
    for x, y in outcome.face.landmarks:
        assert x0 < x < x1
        assert y0 < y < y1


def test_only_the_recorded_region_of_the_portrait_changes(restored, astronaut):
    same = outside(restored)

    np.testing.assert_array_equal(restored.image[same], astronaut[same])
    assert (restored.image != astronaut).any()
    assert same.mean() > 0.85


def test_the_change_is_a_restoration_not_another_picture(restored, astronaut):
    x0, y0, x1, y1 = restored.faces[0].region
    part = np.s_[y0:y1, x0:x1]
    change = np.abs(restored.image[part].astype(int) - astronaut[part])

    assert change.mean() < 12


def test_a_16_bit_portrait_is_restored_in_16_bits(engine, astronaut, restored):
    head = astronaut[:220, 100:340]

    result = engine.restore(head.astype(np.uint16) * 257)

    assert result.image.dtype == np.uint16
    assert result.faces[0].restored
    x0, y0, x1, y1 = result.faces[0].region
    deep = result.image[y0:y1, x0:x1]
    assert (deep % 257 != 0).mean() > 0.3
    near = restored.image[y0:y1, x0 + 100 : x1 + 100] * 257.0
    assert np.abs(deep - near).mean() < 3 * 257


def test_a_damaged_portrait_comes_nearer_to_the_true_one(engine, astronaut):
    head = np.ascontiguousarray(astronaut[:240, 100:340])
    damaged = FIXED["blur_down4_noise_jpeg"].apply(head, np.random.default_rng(1))
    truth = head.astype(float)

    result = engine.restore(damaged)

    x0, y0, x1, y1 = result.faces[0].region
    part = np.s_[y0:y1, x0:x1]
    before = np.square(damaged[part] - truth[part]).mean()
    after = np.square(result.image[part] - truth[part]).mean()
    assert after < before


def test_the_time_of_every_step_is_recorded(restored):
    assert list(restored.timings_s) == ["detect", "align", "forward", "paste"]
    assert all(seconds >= 0 for seconds in restored.timings_s.values())


def test_the_engine_says_what_decides_its_pixels(engine):
    identity = engine.identity

    assert (identity.weights, identity.size, engine.size) == ("compact", 256, 256)
    assert (identity.device, identity.precision) == ("cpu", Precision.FP32)
    assert len(identity.weights_sha256) == 64


def test_threads_may_share_one_engine(engine, astronaut, restored):
    results = []

    def work():
        results.append(engine.restore(astronaut).image)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 3
    for image in results:
        np.testing.assert_array_equal(image, restored.image)


def test_aligned_faces_do_not_depend_on_their_grouping(engine):
    x = torch.rand(10, 3, 256, 256, generator=torch.Generator().manual_seed(3)) * 2 - 1
    alone = torch.cat([engine.restore_faces(face[None]) for face in x[:2]])

    together = engine.restore_faces(x)

    assert together.shape == (10, 3, 256, 256)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together[:2], alone, rtol=0, atol=1e-5)
    assert together.abs().max() <= 1


# Fakes from here on.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_input_is_not_changed(dtype):
    image = np.random.default_rng(1).integers(0, 200, (300, 300, 3)).astype(dtype)
    before = image.copy()

    result = make_restorer(Negative(), face_at(150.0, 150.0)).restore(image)

    np.testing.assert_array_equal(image, before)
    assert result.image.dtype == dtype
    assert (result.image != before).any()


def test_a_view_into_a_larger_picture_is_restored_and_the_rest_untouched(picture):
    before = picture.copy()

    make_restorer(Negative(), face_at(100.0, 100.0)).restore(picture[50:350:1, ::-1])

    np.testing.assert_array_equal(picture, before)


def test_a_picture_without_faces_comes_back_as_it_was(picture):
    result = make_restorer(Negative()).restore(picture)

    np.testing.assert_array_equal(result.image, picture)
    assert result.faces == ()
    assert list(result.timings_s) == ["detect", "align", "forward", "paste"]


def test_every_reason_to_leave_a_face_alone_is_given(picture):
    sure = face_at(100.0, 100.0, score=0.99)
    second = face_at(300.0, 100.0, score=0.98)
    small = face_at(200.0, 300.0, eye_distance_px=5.0, score=0.97)
    doubtful = face_at(400.0, 400.0, score=0.85)
    hopeless = face_at(100.0, 400.0, score=0.5)
    restorer = make_restorer(Negative(), sure, second, small, doubtful, hopeless)

    result = restorer.restore(picture, Treatment(FacePolicy(max_faces=1)))

    assert [(outcome.face, outcome.restored, outcome.reason) for outcome in result.faces] == [
        (sure, True, None),
        (second, False, Reason.OVER_LIMIT),
        (small, False, Reason.TOO_SMALL),
        (doubtful, False, Reason.LOW_SCORE),
    ]
    assert [outcome.region is None for outcome in result.faces] == [False, True, True, True]


def test_a_face_that_is_left_alone_keeps_every_bit(picture):
    result = make_restorer(Negative(), face_at(99.0, 99.0, score=0.8)).restore(picture)

    np.testing.assert_array_equal(result.image, picture)


def test_faces_too_small_to_restore_do_not_use_up_the_limit(picture):
    small = face_at(200.0, 300.0, eye_distance_px=5.0, score=0.99)
    other = face_at(100.0, 100.0, score=0.95)

    result = make_restorer(Negative(), small, other).restore(
        picture, Treatment(FacePolicy(max_faces=1))
    )

    assert [outcome.reason for outcome in result.faces] == [Reason.TOO_SMALL, None]


@pytest.mark.parametrize(
    ("policy", "restored"),
    [
        (FacePolicy(min_score=0.95), False),
        (FacePolicy(min_score=0.94), True),
        (FacePolicy(min_eye_distance_px=39.9), True),
        (FacePolicy(min_eye_distance_px=40.1), False),
        (FacePolicy(max_faces=0), False),
    ],
    ids=repr,
)
def test_the_policy_decides(picture, policy, restored):
    restorer = make_restorer(Negative(), face_at(100.0, 100.0, score=0.945))

    assert restorer.restore(picture, Treatment(policy)).faces[0].restored is restored


@pytest.mark.parametrize("eye_distance_px", [8.0, 40.0])
def test_no_strength_changes_nothing(picture, eye_distance_px):
    restorer = make_restorer(Negative(), face_at(200.0, 200.0, eye_distance_px=eye_distance_px))

    result = restorer.restore(picture, Treatment(finish=Finish(strength=0.0)))

    np.testing.assert_array_equal(result.image, picture)


def test_half_the_strength_goes_half_the_way(picture):
    restorer = make_restorer(Negative(), face_at(200.0, 200.0))

    whole = restorer.restore(picture).image.astype(int) - picture
    half = (
        restorer.restore(picture, Treatment(finish=Finish(strength=0.5))).image.astype(int)
        - picture
    )

    # The levels of this picture are cut at both ends of the range, which no half way shows.
    np.testing.assert_allclose(half, np.clip(half, *sorted_pair(whole)), atol=1)
    assert 0.4 < np.abs(half).sum() / np.abs(whole).sum() < 0.7


def sorted_pair(change):
    return np.minimum(change, 0), np.maximum(change, 0)


def test_the_source_of_the_detail_is_recorded(picture):
    small = face_at(100.0, 100.0, eye_distance_px=7.0)
    large = face_at(300.0, 300.0, eye_distance_px=60.0)

    result = make_restorer(Negative(64), small, large).restore(picture)

    details = {outcome.face: outcome.detail for outcome in result.faces}
    assert details == {small: Detail.NETWORK, large: Detail.PHOTOGRAPH}


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "NoneType"),
        ([[[0, 0, 0]]], "list"),
        (np.zeros((9, 9), np.uint8), r"\(9, 9\)"),
        (np.zeros((9, 9, 4), np.uint8), r"\(9, 9, 4\)"),
        (np.zeros((9, 9, 1), np.uint8), r"\(9, 9, 1\)"),
        (np.zeros((1, 9, 9, 3), np.uint8), r"\(1, 9, 9, 3\)"),
        (np.zeros((0, 9, 3), np.uint8), r"\(0, 9, 3\)"),
        (np.zeros((9, 9, 3), np.float32), "float32"),
        (np.zeros((9, 9, 3), np.int16), "int16"),
        (np.zeros((9, 9, 3), bool), "bool"),
        (np.zeros((9, 9, 3), object), "object"),
    ],
)
def test_what_is_no_picture_is_refused_saying_what_was_found(image, said):
    with pytest.raises(ImageError, match=said):
        make_restorer(Negative()).restore(image)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(3, 32, 32),
        torch.zeros(1, 3, 31, 32),
        torch.zeros(1, 1, 32, 32),
        torch.zeros(1, 32, 32, 3),
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
    ],
)
def test_what_is_no_aligned_face_is_refused(x):
    with pytest.raises(ImageError, match=r"\(B, 3, 32, 32\) float"):
        make_restorer(Negative()).restore_faces(x)


def test_no_aligned_faces_give_none():
    result = make_restorer(Negative()).restore_faces(torch.zeros(0, 3, 32, 32))

    assert result.shape == (0, 3, 32, 32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_aligned_faces_of_other_float_types_are_taken(dtype):
    x = torch.linspace(-3, 3, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).to(dtype)

    result = make_restorer(Negative()).restore_faces(x)

    assert result.dtype == torch.float32
    torch.testing.assert_close(result, -x.float().clamp(-1, 1), rtol=0, atol=2e-3)


def test_an_aligned_face_without_a_usable_answer_is_nan():
    x = torch.rand(2, 3, 32, 32)
    x[1] -= 1

    result = make_restorer(Overflowing(always=True)).restore_faces(x)

    assert result[0].isnan().all()
    torch.testing.assert_close(result[1], -x[1])


def test_a_batch_that_does_not_fit_is_halved_until_it_does(picture):
    network = OutOfMemoryAbove(3)
    roomy = make_restorer(Negative(), *GRID).restore(picture)

    result = make_restorer(network, *GRID).restore(picture)

    assert network.batches[:3] == [-8, -4, 2]
    assert sum(size for size in network.batches if size > 0) == len(GRID)
    np.testing.assert_array_equal(result.image, roomy.image)


def test_what_did_not_fit_is_remembered_for_the_next_picture_and_noted_once(picture):
    network = OutOfMemoryAbove(3)
    restorer = make_restorer(network, *GRID)
    first = restorer.restore(picture)
    network.batches.clear()

    second = restorer.restore(picture)

    assert set(network.batches) == {2, 1}
    assert any("out of memory with 8 faces" in note for note in first.notes)
    assert second.notes == ()


def test_a_single_face_that_does_not_fit_is_out_of_memory(picture):
    network = OutOfMemoryAbove(0)

    with pytest.raises(OutOfMemory, match="no room for one face of 32 px on cpu"):
        make_restorer(network, *GRID).restore(picture)

    assert network.batches == [-8, -4, -2, -1]


def test_aligned_faces_that_do_not_fit_are_halved_too():
    x = torch.rand(5, 3, 32, 32)

    torch.testing.assert_close(make_restorer(OutOfMemoryAbove(1)).restore_faces(x), -x)
    with pytest.raises(OutOfMemory):
        make_restorer(OutOfMemoryAbove(0)).restore_faces(x)


def test_a_detector_that_does_not_fit_is_out_of_memory_too(picture):
    restorer = make_restorer(Negative(), detector=FakeDetector(room=False))

    with pytest.raises(OutOfMemory, match="the face detector on cpu"):
        restorer.restore(picture)


def test_a_detector_that_does_not_fit_on_the_card_moves_to_the_cpu_and_that_is_noted(picture):
    face = face_at(100.0, 100.0)
    crowded = FakeDetector(face, device=torch.device("cuda", 0), room=False)
    restorer = make_restorer(Negative(), detector=crowded)

    first, second = restorer.restore(picture), restorer.restore(picture)

    assert [outcome.face for outcome in first.faces] == [face]
    np.testing.assert_array_equal(
        first.image, make_restorer(Negative(), face).restore(picture).image
    )
    assert first.notes == second.notes
    assert "the detector is on the CPU" in first.notes[0]


def test_a_device_that_fails_is_not_taken_for_a_bad_photo(picture):
    class Broken(Negative):
        def answer(self, x, precision):
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    restorer = make_restorer(Broken(), face_at(256.0, 256.0))

    with pytest.raises(DeviceError, match="illegal memory access"):
        restorer.restore(picture)


def bright_and_dark(picture):
    """Return a picture with a bright left and a dark right half, and a face in each."""
    image = picture // 4
    image[:, :256] += 180
    return image, face_at(128.0, 256.0, score=0.99), face_at(384.0, 256.0, score=0.98)


def test_a_face_that_overflows_in_float16_is_redone_in_float32(picture):
    image, bright, dark = bright_and_dark(picture)
    network = Overflowing()

    result = make_restorer(network, bright, dark, precision="fp16").restore(image)

    assert network.precisions == [Precision.FP16, Precision.FP32]
    assert network.batches == [2, 1]
    assert [outcome.restored for outcome in result.faces] == [True, True]
    assert [outcome.redone_in_float32 for outcome in result.faces] == [True, False]
    exact = make_restorer(Negative(), bright, dark).restore(image)
    np.testing.assert_array_equal(result.image, exact.image)


def test_a_face_that_fails_in_float32_too_is_left_alone_and_said(picture):
    image, bright, dark = bright_and_dark(picture)
    restorer = make_restorer(Overflowing(always=True), bright, dark, precision="fp16")

    result = restorer.restore(image)

    assert [outcome.reason for outcome in result.faces] == [Reason.BAD_OUTPUT, None]
    same = outside(result)
    assert same[:, :256].all()
    np.testing.assert_array_equal(result.image[same], image[same])


def test_a_network_that_answers_with_one_constant_changes_nothing(picture):
    class Constant(Negative):
        def answer(self, x, precision):
            return torch.zeros_like(x)

    result = make_restorer(Constant(), face_at(200.0, 200.0)).restore(picture)

    assert result.faces[0].reason is Reason.BAD_OUTPUT
    np.testing.assert_array_equal(result.image, picture)


@pytest.mark.parametrize("eye_distance_px", [3.0 * 8, 60.0])
def test_a_super_resolution_network_restores_faces_where_they_are(picture, eye_distance_px):
    class Doubling(Negative):
        def answer(self, x, precision):
            return torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")

    smooth = cv2.GaussianBlur(picture, (0, 0), 12)
    face = face_at(200.0, 200.0, eye_distance_px=eye_distance_px)

    result = make_restorer(Doubling(64, input_size=32), face).restore(smooth)

    assert result.faces[0].restored
    x0, y0, x1, y1 = result.faces[0].region
    assert x0 < 200 < x1
    assert y0 < 200 < y1
    # The network changes nothing, so the picture hardly does.
    assert np.abs(result.image.astype(int) - smooth).mean() < 3


def test_a_real_network_with_random_weights_goes_all_the_way(picture):
    torch.manual_seed(1)
    model = GpenGenerator(GpenConfig(32, 1, 0.03)).eval().requires_grad_(requires_grad=False)

    gpen = GpenModel(LoadedGenerator(model, "0" * 64, Path("random.pth")), name="random")

    result = make_restorer(gpen, *GRID[:9]).restore(picture)

    assert all(outcome.restored for outcome in result.faces)
    same = outside(result)
    np.testing.assert_array_equal(result.image[same], picture[same])


# Several pictures, and everything that a treatment can ask for.


def test_pictures_restored_together_share_their_passes_and_come_out_as_alone(picture):
    network = Negative()
    others = [picture, picture[::-1].copy(), picture // 2]
    restorer = make_restorer(network, face_at(100.0, 100.0), face_at(300.0, 300.0))
    alone = [restorer.restore(image) for image in others]
    network.batches.clear()

    together = restorer.restore_many(others)

    assert network.batches == [6]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.faces == other.faces


def test_no_pictures_give_no_restorations():
    assert make_restorer(Negative()).restore_many([]) == []


def test_a_redo_at_another_strength_or_without_a_face_costs_no_pass(picture, tmp_path):
    network = Negative()
    cache = CacheFolder(tmp_path)
    faces = face_at(100.0, 100.0), face_at(300.0, 300.0)
    make_restorer(network, *faces, cache=cache).restore(picture)
    network.batches.clear()
    again = make_restorer(network, *faces, cache=cache)
    fresh = make_restorer(Negative(), *faces)
    leave = Treatment(FacePolicy(leave=((100.0, 100.0),)))
    half = Treatment(finish=Finish(strength=0.5))

    for treatment in (half, leave, Treatment()):
        kept, new = again.restore(picture, treatment), fresh.restore(picture, treatment)
        np.testing.assert_array_equal(kept.image, new.image)
        assert kept.faces == new.faces

    assert network.batches == []


def test_a_face_that_had_to_be_redone_says_so_at_every_redo(picture, tmp_path):
    image, bright, dark = bright_and_dark(picture)
    network = Overflowing()
    for _ in range(2):
        restorer = make_restorer(
            network, bright, dark, precision="fp16", cache=CacheFolder(tmp_path)
        )
        result = restorer.restore(image)
        assert [outcome.redone_in_float32 for outcome in result.faces] == [True, False]
    assert network.batches == [2, 1, 1, 1]


def test_a_face_that_is_named_is_left_alone(picture):
    named, other = face_at(100.0, 100.0), face_at(300.0, 300.0)

    result = make_restorer(Negative(), named, other).restore(
        picture, Treatment(FacePolicy(leave=((101.0, 99.0),)))
    )

    reasons = {outcome.face: outcome.reason for outcome in result.faces}
    assert reasons == {named: Reason.SWITCHED_OFF, other: None}
    np.testing.assert_array_equal(result.image[:200, :200], picture[:200, :200])


def test_protected_areas_keep_every_bit(picture):
    protected = np.zeros(picture.shape[:2], bool)
    protected[:, 200:260] = True

    result = make_restorer(Negative(), face_at(200.0, 200.0)).restore(picture, protected=protected)

    np.testing.assert_array_equal(result.image[protected], picture[protected])
    assert (result.image[:, :200] != picture[:, :200]).any()


@pytest.mark.parametrize(
    "protected", [np.zeros((512, 511), bool), np.zeros((512, 512), np.uint8), [[True]]]
)
def test_protected_areas_of_another_shape_or_kind_are_refused(picture, protected):
    with pytest.raises(ImageError, match="protected areas"):
        make_restorer(Negative()).restore(picture, protected=protected)


def test_rotations_are_asked_of_the_detector(picture):
    detector = FakeDetector()
    restorer = make_restorer(Negative(), detector=detector)

    restorer.restore(picture)
    restorer.restore(picture, Treatment(FacePolicy(rotations=True)))

    assert detector.rotations == [False, True]


def test_a_large_face_is_restored_in_tiles_when_the_policy_says_so(picture):
    class Brighter(Negative):
        def answer(self, x, precision):
            super().answer(x, precision)
            return x * 0.5 + 0.4

    face = face_at(256.0, 256.0, eye_distance_px=25.0)
    network = Brighter(64)
    whole = make_restorer(network, face).restore(picture)
    passes = len(network.batches)

    tiled = make_restorer(network, face).restore(
        picture, Treatment(FacePolicy(large=LargeFaces.TILE))
    )

    assert passes == 1
    assert len(network.batches) - passes > 4
    assert tiled.faces[0].restored
    x0, y0, x1, y1 = tiled.faces[0].region
    part = np.s_[y0 + 25 : y1 - 25, x0 + 25 : x1 - 25]
    # The tiles see the noise that the single pass never saw, and take half of it away.
    assert tiled.image[part].std() < 0.9 * whole.image[part].std()


def test_a_close_up_with_an_unusable_tile_is_left_alone(picture):
    face = face_at(256.0, 256.0, eye_distance_px=60.0)
    image = picture // 8
    image[250:, 250:] += 200

    result = make_restorer(Overflowing(always=True), face).restore(
        image, Treatment(FacePolicy(large=LargeFaces.TILE))
    )

    assert result.faces[0].reason is Reason.BAD_OUTPUT
    np.testing.assert_array_equal(result.image, image)


class StubParser:
    """Bounds a face by its left half."""

    identity = ModelIdentity("stub", "1" * 64)

    def masks(self, faces):
        masks = np.zeros((len(faces), *faces.shape[-2:]), np.float32)
        masks[:, 8:24, 8:16] = 1.0
        return masks

    def face_area(self, faces):
        return np.ones((len(faces), 512, 512), bool)


@pytest.mark.parametrize("kind", [MaskKind.AUTO, MaskKind.PARSED])
def test_a_parser_bounds_what_is_pasted(picture, kind):
    restorer = make_restorer(Negative(), face_at(256.0, 256.0), parser=StubParser())

    result = restorer.restore(picture, Treatment(finish=Finish(mask=kind)))

    changed = (result.image != picture).any(axis=(0, 2))
    assert changed[:256].any()
    assert not changed[262:].any()
    assert restorer.identity.parser == StubParser.identity


def test_the_soft_mask_can_be_asked_for_beside_a_parser(picture):
    with_parser = make_restorer(Negative(), face_at(256.0, 256.0), parser=StubParser())
    without = make_restorer(Negative(), face_at(256.0, 256.0))

    soft = with_parser.restore(picture, Treatment(finish=Finish(mask=MaskKind.SOFT)))

    np.testing.assert_array_equal(soft.image, without.restore(picture).image)


def test_a_parsed_mask_without_a_parser_is_refused(picture):
    with pytest.raises(WeightsNotHere, match="parsenet"):
        make_restorer(Negative(), face_at(99.0, 99.0)).restore(
            picture, Treatment(finish=Finish(mask=MaskKind.PARSED))
        )


class StubBackground:
    """Enlarges, darkens, and tells what had to give way."""

    precision = Precision.FP32
    identity = ModelIdentity("stub", "2" * 64)

    def enhance(self, image, scale, *, colour, on_shrink, on_float32):
        assert colour is None
        on_shrink(256)
        on_float32()
        on_float32()
        return np.repeat(np.repeat(image, scale, axis=0), scale, axis=1) // 2


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_faces_go_onto_the_restored_background_where_they_belong(picture, scale):
    class Unchanged(Negative):
        def answer(self, x, precision):
            return x

    face = face_at(200.0, 200.0)
    restorer = make_restorer(Unchanged(), face, background=StubBackground())
    smooth = cv2.GaussianBlur(picture, (0, 0), 12)

    result = restorer.restore(smooth, Treatment(background_scale=scale))

    assert result.image.shape == (512 * scale, 512 * scale, 3)
    same = outside(result)
    canvas = np.repeat(np.repeat(smooth, scale, axis=0), scale, axis=1)
    np.testing.assert_array_equal(result.image[same], canvas[same] // 2)
    x0, y0, x1, y1 = result.faces[0].region
    assert x0 < 200 * scale < x1
    assert y0 < 200 * scale < y1
    # The face as the network gave it, not darkened as its surroundings.
    middle = np.s_[195 * scale : 205 * scale, 195 * scale : 205 * scale]
    assert np.abs(result.image[middle].astype(int) - canvas[middle]).mean() < 8
    assert [note.split(":")[0] for note in result.notes] == [
        "out of memory",
        "parts of the background were redone in float32",
    ]
    assert "background" in result.timings_s


def test_a_background_without_weights_is_refused(picture):
    with pytest.raises(WeightsNotHere, match="background"):
        make_restorer(Negative()).restore(picture, Treatment(background_scale=2))


def test_the_compatible_way_is_that_of_the_published_pipeline(picture):
    face = face_at(200.0, 200.0, eye_distance_px=60.0)
    restorer = make_restorer(Negative(), face, parser=StubParser())

    result = restorer.restore(picture, Treatment(compatible=True))

    expected, regions = restore_compatibly(
        picture, [face], lambda x: -x, size=32, parser=StubParser().face_area
    )
    np.testing.assert_array_equal(result.image, expected)
    assert result.faces[0].region == regions[0]


def test_the_compatible_way_leaves_an_unusable_answer_out(picture):
    image, bright, dark = bright_and_dark(picture)

    result = make_restorer(Overflowing(always=True), bright, dark).restore(
        image, Treatment(compatible=True)
    )

    assert [outcome.reason for outcome in result.faces] == [Reason.BAD_OUTPUT, None]


def test_the_compatible_way_knows_no_protected_areas(picture):
    with pytest.raises(ImageError, match="protected"):
        make_restorer(Negative()).restore(
            picture, Treatment(compatible=True), protected=np.zeros((512, 512), bool)
        )


def test_the_compatible_way_on_an_enlarged_background_keeps_faces_in_the_photographs_pixels(
    picture,
):
    face = face_at(200.0, 200.0, eye_distance_px=60.0)
    restorer = make_restorer(Negative(), face, background=StubBackground())

    result = restorer.restore(picture, Treatment(compatible=True, background_scale=2))

    assert result.image.shape == (1024, 1024, 3)
    assert result.faces[0].face == face
    x0, y0, x1, y1 = result.faces[0].region
    assert (abs((x0 + x1) / 2 - 400) < 20, abs((y0 + y1) / 2 - 400) < 60) == (True, True)


def test_the_compatible_way_is_in_8_bits(picture):
    with pytest.raises(ImageError, match="8"):
        make_restorer(Negative()).restore(
            picture.astype(np.uint16) * 257, Treatment(compatible=True)
        )


def test_the_compatible_way_tells_what_was_redone_and_what_gave_way(picture):
    image, bright, dark = bright_and_dark(picture)

    result = make_restorer(Overflowing(), bright, dark, precision="fp16").restore(
        image, Treatment(compatible=True)
    )

    assert [outcome.redone_in_float32 for outcome in result.faces] == [True, False]
    assert any("lost detail" in note for note in result.notes)


def test_a_close_up_in_tiles_is_noted(picture):
    face = face_at(256.0, 256.0, eye_distance_px=25.0)

    result = make_restorer(Negative(64), face).restore(
        picture, Treatment(FacePolicy(large=LargeFaces.TILE))
    )

    assert result.notes == ("a face was restored in tiles, at 2 times the network's picture",)
