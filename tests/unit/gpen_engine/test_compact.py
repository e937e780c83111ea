"""What gpen-compact is trained on: damage that is seeded, a split that is honest."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from gpen_engine.compact.data import Crop, ManifestError, TrainingFaces, cut, load_crops
from gpen_engine.compact.degrade import FIXED, Degradation, draw
from gpen_engine.compact.origins import read_origins
from tests.golden.recipe import SHARED
from tests.unit.gpen_engine.portraits import names, portrait, write_faces

FACES = SHARED.parents[1] / "faces_train"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of four crops to train on and two to score on."""
    files = [*names("train", 4), *names("validation", 2)]
    return write_faces(tmp_path_factory.mktemp("faces"), {f"made/{name}": "" for name in files})


def write_crop(root, corners, *, side=200, inner=160):
    path = root / "one.png"
    cv2.imwrite(str(path), portrait(side, 1)[:, :, ::-1])
    return Crop(path, "made", inner, np.array(corners, np.float32).reshape(4, 2))


def manifest(files, *, inner_px=160, corners="0 0 1 0 1 1 0 1"):
    lines = ["file,inner_px,photo_corners", *(f"{file},{inner_px},{corners}" for file in files)]
    return "\n".join(lines)


WHOLE = [0, 0, 200, 0, 200, 200, 0, 200]


# Damage.


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_damage_is_the_same_each_time_and_keeps_the_size(name):
    face = portrait(64, 3)
    before = face.copy()

    first = FIXED[name].apply(face, np.random.default_rng(5))
    second = FIXED[name].apply(face, np.random.default_rng(5))

    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(face, before)
    assert (first.shape, first.dtype) == (face.shape, np.uint8)
    assert (first != face).any()


def test_damage_is_in_parts_of_the_face():
    face = portrait(256, 3)
    small = cv2.resize(face, (128, 128), interpolation=cv2.INTER_AREA)
    damage = Degradation(blur=6.0, motion=20, motion_deg=90)

    damaged = cv2.resize(
        damage.apply(face, np.random.default_rng(1)), (128, 128), interpolation=cv2.INTER_AREA
    )

    twin = damage.apply(small, np.random.default_rng(1))
    assert np.abs(damaged.astype(int) - twin).mean() < 1.5
    assert np.abs(damaged.astype(int) - small).mean() > 3


@pytest.mark.parametrize(
    ("damage", "resolved"),
    [
        (Degradation(), True),
        (FIXED["blur_down4_noise_jpeg"], True),
        (FIXED["down8"], False),
        (FIXED["motion"], False),
    ],
)
def test_sharpness_is_asked_for_where_the_damage_left_something_to_go_by(damage, resolved):
    assert damage.resolved is resolved


def test_a_faded_face_is_gray_and_pale_in_the_truth_too():
    face = portrait(64, 3)
    damage = replace(FIXED["old_photo"], noise=0, scratches=0, blur=0, reduce=1)

    faded = damage.tone(face)

    assert (faded[..., 0] == faded[..., 1]).all()
    assert (faded[..., 0] == faded[..., 2]).all()
    assert np.ptp(faded) < np.ptp(face)
    np.testing.assert_array_equal(damage.apply(face, np.random.default_rng(1)), faded)


@pytest.mark.parametrize("grain_px", [0.0, 1.0])
def test_grain_is_as_strong_as_asked_for_and_as_coarse(grain_px):
    flat = np.full((128, 128, 3), 128, np.uint8)
    damage = Degradation(noise=10.0, grain=True, grain_px=grain_px)

    grain = damage.apply(flat, np.random.default_rng(1))[..., 0].astype(float) - 128

    assert grain.std() == pytest.approx(10.0, rel=0.1)
    alike = np.corrcoef(grain[:, 1:].ravel(), grain[:, :-1].ravel())[0, 1]
    assert alike > 0.6 if grain_px else abs(alike) < 0.1


def test_no_damage_is_none():
    face = portrait(64, 3)

    np.testing.assert_array_equal(Degradation().apply(face, np.random.default_rng(1)), face)


def test_the_drawn_damage_depends_on_the_seed_alone():
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return [draw(rng) for _ in range(20)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.fixture(scope="module")
def drawn():
    """Damage of ten thousand faces."""
    rng = np.random.default_rng(1)
    return [draw(rng) for _ in range(10_000)]


def test_two_fifths_of_the_drawn_damage_are_that_of_small_faces(drawn):
    small = [
        damage
        for damage in drawn
        if damage.motion == 0
        and damage.blur >= 1.5
        and 3 <= damage.reduce <= 5
        and damage.noise >= 3
        and 65 <= damage.jpeg < 96
    ]

    # 0.95 * 0.88 * 0.5 are drawn as such, a few others happen to be; three standard deviations.
    assert len(small) / len(drawn) == pytest.approx(0.424, abs=0.015)
    assert all(damage.resolved for damage in small)


def test_a_ninth_of_the_drawn_damage_is_that_of_tiny_faces_in_a_good_scan(drawn):
    tiny = [
        damage
        for damage in drawn
        if damage == Degradation(reduce=damage.reduce, noise=damage.noise, jpeg=damage.jpeg)
        and 5 <= damage.reduce <= 9
        and damage.noise <= 3
        and (damage.jpeg == 0 or damage.jpeg >= 80)
    ]

    # 0.95 * 0.12; three standard deviations.
    assert len(tiny) / len(drawn) == pytest.approx(0.114, abs=0.01)
    assert np.median([damage.reduce for damage in tiny]) == pytest.approx(7, abs=0.2)


def test_every_drawn_damage_can_be_applied():
    rng = np.random.default_rng(8)
    face = portrait(32, 1)

    kinds = [draw(rng) for _ in range(200)]

    for damage in kinds:
        assert damage.apply(face, rng).shape == face.shape
    assert any(damage.scratches for damage in kinds)
    assert any(damage.motion for damage in kinds)
    assert Degradation() in kinds


def test_damage_does_not_move_the_face():
    face = portrait(128, 3)

    damaged = Degradation(reduce=4).apply(face, np.random.default_rng(1))

    shift, _ = cv2.phaseCorrelate(face.mean(axis=2), damaged.mean(axis=2))
    np.testing.assert_allclose(shift, (0, 0), atol=0.1)


# Crops.


def test_the_split_is_whole_and_keeps_the_order(faces):
    learning, validation = load_crops(faces, "train"), load_crops(faces, "validation")

    assert [crop.path.name for crop in learning] == names("train", 4)
    assert [crop.path.name for crop in validation] == names("validation", 2)
    assert {crop.source for crop in learning} == {"made"}


@pytest.mark.skipif(not FACES.is_dir(), reason="../shared/faces_train isn't beside the project")
def test_both_portraits_of_a_londoner_are_on_one_side_of_the_real_split():
    origins = read_origins(FACES)

    def people(split):
        london = [crop for crop in load_crops(FACES, split) if crop.source == "london"]
        # They were published as PERSON_POSE.jpg.
        return Counter(origins[crop.path].source_file.split("_")[0] for crop in london)

    learning, validation = people("train"), people("validation")

    assert learning
    assert validation
    assert not learning.keys() & validation.keys()
    assert set((learning + validation).values()) == {2}


@pytest.mark.skipif(not FACES.is_dir(), reason="../shared/faces_train isn't beside the project")
def test_a_small_part_of_the_real_faces_is_kept_to_score_on():
    learning, validation = load_crops(FACES, "train"), load_crops(FACES, "validation")

    assert 0.03 < len(validation) / len(learning + validation) < 0.10


def test_two_portraits_of_one_person_go_to_the_same_side(tmp_path):
    rows = [f"london/{kind}_{index:03}.jpg" for index in range(200) for kind in "ns"]
    (tmp_path / "MANIFEST.csv").write_text(manifest(rows))

    sides = {
        split: {crop.path.name[2:] for crop in load_crops(tmp_path, split)}
        for split in ("train", "validation")
    }

    assert sides["validation"]
    assert not sides["train"] & sides["validation"]
    assert len(sides["train"] | sides["validation"]) == 200


def test_the_split_stays_as_it_was_when_the_shipped_network_was_trained(tmp_path):
    rows = [f"made/p{index}.jpg" for index in range(100)]
    (tmp_path / "MANIFEST.csv").write_text(manifest(rows))

    validation = [crop.path.stem for crop in load_crops(tmp_path, "validation")]

    assert validation == ["p2", "p18", "p59", "p61", "p69", "p75", "p77", "p87"]
    assert "p10" in [crop.path.stem for crop in load_crops(tmp_path, "train")]


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_a_folder_without_a_manifest_is_told_what_it_has_to_hold(tmp_path, folder):
    (tmp_path / "empty").mkdir()

    with pytest.raises(FileNotFoundError, match=rf"{folder}/MANIFEST\.csv: .* aligned crops"):
        load_crops(tmp_path / folder, "train")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column file, inner_px, photo_corners"),
        ("file,inner_px\nmade/p1.jpg,160\n", "line 1: there is no column photo_corners"),
        (manifest(["made/p1.jpg"], corners="0 0 1"), "line 2: made/p1.jpg .* eight numbers"),
        (manifest(["made/p1.jpg"], corners="0 0 1 0 1 1 0 nan"), "line 2: .* eight numbers"),
        (manifest(["made/p1.jpg"], corners="0 0 1 0 1 1 0 x"), "line 2: .*'x'"),
        (manifest(["made/p1.jpg"], corners=""), "line 2: .* eight numbers"),
        (manifest(["made/p1.jpg", "p3.jpg"]), "line 3: .*'p3.jpg'"),
        (manifest(["made/p1.jpg"]) + "\nmade/p3.jpg", "line 3: the row has fewer or more fields"),
        (manifest(["made/p1.jpg,0"]), "line 2: the row has fewer or more fields"),
        (manifest(["made/p1.jpg"], inner_px=0), "line 2: made/p1.jpg needs an inner_px above 0"),
        (manifest(["made/p2.jpg"]), "no crops of the train part"),
        (manifest([]), "no crops of the train part"),
    ],
)
def test_a_manifest_that_can_not_be_used_is_named_with_the_line(tmp_path, text, told):
    (tmp_path / "MANIFEST.csv").write_text(text)

    with pytest.raises(ManifestError, match=rf"MANIFEST\.csv.*{told}"):
        load_crops(tmp_path, "train")


def test_a_row_cut_short_is_no_origin(tmp_path):
    (tmp_path / "MANIFEST.csv").write_text("file,source_file,licence\nsfhq/1.jpg\n")

    with pytest.raises(ManifestError, match=r"MANIFEST\.csv, line 2: the row has fewer"):
        read_origins(tmp_path)


def test_a_manifest_that_is_no_text_is_named(tmp_path):
    (tmp_path / "MANIFEST.csv").write_bytes(b"file\xff")

    with pytest.raises(ManifestError, match=r"MANIFEST\.csv"):
        load_crops(tmp_path, "train")


def test_a_cut_without_jitter_is_the_middle_of_the_crop(tmp_path):
    crop = write_crop(tmp_path, WHOLE)

    face, valid = cut(crop, 160)

    np.testing.assert_array_equal(face, portrait(200, 1)[20:180, 20:180])
    assert (valid == 1).all()


def test_a_cut_knows_where_the_photograph_ended(tmp_path):
    crop = write_crop(tmp_path, [100, 0, 200, 0, 200, 200, 100, 200])

    _, valid = cut(crop, 80)

    assert (valid[:, :39] == 0).all()
    assert (valid[:, 41:] == 1).all()


def test_a_jittered_cut_depends_on_the_seed_alone(tmp_path):
    crop = write_crop(tmp_path, WHOLE)

    first, again, other = (cut(crop, 64, np.random.default_rng(seed))[0] for seed in (3, 3, 4))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_crop_that_can_not_be_read_is_named(tmp_path):
    crop = replace(write_crop(tmp_path, WHOLE), path=tmp_path / "absent.jpg")

    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        cut(crop, 64)


def test_the_stream_of_training_faces_depends_on_the_seed_alone(faces):
    crops = load_crops(faces, "train")

    def stream(seed):
        return list(islice(TrainingFaces(crops, size=64, seed=seed), 4))

    first, again, other = stream(1), stream(1), stream(2)

    for one, two in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(one[1], two[1]) for one, two in zip(first, other, strict=True))
    damaged, target, valid, resolved = first[0]
    assert damaged.shape == target.shape == (3, 64, 64)
    assert valid.shape == (1, 64, 64)
    assert resolved in (0, 1)
    assert min(damaged.min(), target.min()) >= -1
    assert max(damaged.max(), target.max()) <= 1
