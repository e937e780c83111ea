"""How gpen-compact is trained: seeded, resumable, honest about its split."""

import csv
import hashlib
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from gpen_engine.checkpoint import hash_file, load_generator
from gpen_engine.compact.data import Crop, TrainingFaces, cut, load_crops, to_tensor
from gpen_engine.compact.degrade import FIXED, Degradation, draw
from gpen_engine.compact.evaluate import score
from gpen_engine.compact.export import export
from gpen_engine.compact.train import (
    Plan,
    Trainer,
    compact_config,
    grow_from,
    restoration_loss,
    start_from_identity,
)
from gpen_engine.model import GpenConfig, GpenGenerator
from tests.golden.recipe import SHARED

TINY = GpenConfig(32, 1, 16 / 512)
FACES = SHARED.parents[1] / "faces_train"


def portrait(side, seed):
    """Make a smooth picture with some edges, no face but enough to train on."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.uniform(0, 255, (6, 6, 3)).astype(np.float32), (side, side))
    cv2.circle(picture, (side // 2, side // 2), side // 4, (200.0, 160.0, 140.0), -1)
    return np.clip(picture, 0, 255).astype(np.uint8)


def names(side, count):
    """Return names of people that the hash puts on one side of the split."""
    found = (
        f"p{index}.jpg"
        for index in range(10_000)
        if (hashlib.sha256(f"made/p{index}.jpg".encode()).digest()[0] % 100 < 6)
        == (side == "validation")
    )
    return list(islice(found, count))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of four crops to train on and two to score on."""
    root = tmp_path_factory.mktemp("faces")
    (root / "made").mkdir()
    rows = [*names("train", 4), *names("validation", 2)]
    with (root / "MANIFEST.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "inner_px", "photo_corners"])
        for index, name in enumerate(rows):
            cv2.imwrite(str(root / "made" / name), portrait(200, index))
            table.writerow([f"made/{name}", 160, "0 0 200 0 200 200 0 200"])
    return root


def write_crop(root, corners, *, side=200, inner=160):
    path = root / "one.png"
    cv2.imwrite(str(path), portrait(side, 1)[:, :, ::-1])
    return Crop(path, "made", inner, np.array(corners, np.float32).reshape(4, 2))


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


def test_no_damage_is_none():
    face = portrait(64, 3)

    np.testing.assert_array_equal(Degradation().apply(face, np.random.default_rng(1)), face)


def test_the_drawn_damage_depends_on_the_seed_alone():
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return [draw(rng) for _ in range(20)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_every_drawn_damage_can_be_applied():
    rng = np.random.default_rng(8)
    face = portrait(32, 1)

    kinds = [draw(rng) for _ in range(200)]

    for damage in kinds:
        assert damage.apply(face, rng).shape == face.shape
    assert any(damage.scratches for damage in kinds)
    assert any(damage.motion_px for damage in kinds)
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
def test_nobody_is_on_both_sides_of_the_real_split():
    def people(split):
        crops = load_crops(FACES, split)
        # A London portrait is n_012.jpg or s_012.jpg, neutral or smiling.
        return {
            (crop.source, crop.path.name[2:] if crop.source == "london" else crop.path.name)
            for crop in crops
        }

    learning, validation = people("train"), people("validation")

    assert not learning & validation
    assert 0.03 < len(validation) / len(learning | validation) < 0.10


def test_two_portraits_of_one_person_go_to_the_same_side(tmp_path):
    rows = [f"london/{kind}_{index:03}.jpg" for index in range(200) for kind in "ns"]
    lines = ["file,inner_px,photo_corners", *(f"{row},160,0 0 1 0 1 1 0 1" for row in rows)]
    (tmp_path / "MANIFEST.csv").write_text("\n".join(lines))

    sides = {
        split: {crop.path.name[2:] for crop in load_crops(tmp_path, split)}
        for split in ("train", "validation")
    }

    assert sides["validation"]
    assert not sides["train"] & sides["validation"]
    assert len(sides["train"] | sides["validation"]) == 200


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
    damaged, target, valid = first[0]
    assert damaged.shape == target.shape == (3, 64, 64)
    assert valid.shape == (1, 64, 64)
    assert min(damaged.min(), target.min()) >= -1
    assert max(damaged.max(), target.max()) <= 1


# Training.


@pytest.mark.parametrize("config", [compact_config(128), compact_config(256), TINY], ids=str)
def test_the_network_starts_by_returning_its_input(config):
    torch.manual_seed(2)
    model = GpenGenerator(config)
    start_from_identity(model)
    x = torch.rand(2, 3, config.size, config.size) * 2 - 1

    with torch.no_grad():
        torch.testing.assert_close(model(x), x, rtol=0, atol=1e-4)


def test_a_network_grown_from_a_smaller_one_goes_on_where_that_stood(tmp_path, faces):
    torch.manual_seed(2)
    small = GpenGenerator(compact_config(16))
    start_from_identity(small)
    brighter = small.get_parameter("generator.to_rgbs.1.bias")
    with torch.no_grad():
        brighter += 0.25
    grown = GpenGenerator(compact_config(32))
    grow_from(grown, small)
    smooth = torch.nn.functional.interpolate(
        torch.rand(2, 3, 4, 4) - 0.5, size=(32, 32), mode="bicubic"
    )

    with torch.no_grad():
        difference = grown(smooth) - smooth

    # Enlarging the smaller picture darkens its outermost pixels.
    inside = difference[..., 3:-3, 3:-3]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.25), rtol=0, atol=0.02)
    file = tmp_path / "small.pth"
    torch.save(small.state_dict(), file)
    trainer = Trainer(faces, tmp_path, Plan(size=32), small=file)
    torch.testing.assert_close(trainer.model(smooth), grown(smooth))


def test_the_loss_ignores_pixels_that_the_photograph_does_not_have():
    target = torch.rand(2, 3, 16, 16)
    output = target.clone()
    valid = torch.ones(2, 1, 16, 16)
    valid[:, :, :, 10:] = 0
    output[..., 10:] += 5.0

    assert restoration_loss(output, target, valid, 1.0) == 0
    assert restoration_loss(output, target, torch.ones_like(valid), 1.0) > 1


def test_the_loss_counts_edges_besides_levels():
    target = torch.zeros(1, 1, 8, 8)
    flat = torch.full_like(target, 0.5)
    board = flat * (1 - 2 * (torch.arange(8)[:, None] + torch.arange(8)).remainder(2))
    everywhere = torch.ones_like(target)

    plain = restoration_loss(flat, target, everywhere, 1.0)
    sharp = restoration_loss(board, target, everywhere, 1.0)

    assert plain == 0.5
    # Alternating by 1 across and down at the first scale, nothing at the coarser ones.
    assert float(sharp) == pytest.approx(0.5 + 2 / 3)


def test_the_rate_is_constant_and_then_falls_to_a_twentieth():
    plan = Plan(steps=100, rate=1.0, decay_from=0.75)

    assert [plan.rate_at(step) for step in (0, 75)] == [1.0, 1.0]
    assert plan.rate_at(100) == pytest.approx(0.05)
    assert 0.05 < plan.rate_at(90) < 1.0


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    """A run interrupted after two steps, and taken up again for one more."""
    folder = tmp_path_factory.mktemp("run")
    plan = Plan(size=32, steps=2, batch=1, save_every=100, score_every=2)
    Trainer(faces, folder, plan).fit()
    halfway = torch.load(folder / "last.pt", weights_only=True)
    second = Trainer(faces, folder, replace(plan, steps=3))
    taken_up = second.step
    second.fit()
    return folder, halfway, taken_up, second


def test_an_interrupted_run_goes_on_where_it_stopped(run):
    folder, halfway, taken_up, second = run

    assert (halfway["step"], taken_up, second.step) == (2, 2, 3)
    assert torch.load(folder / "last.pt", weights_only=True)["step"] == 3
    moments = second.optimiser.state_dict()["state"]
    assert {int(moment["step"]) for moment in moments.values()} == {3}


def test_training_changes_the_weights_and_their_mean_follows(run):
    folder, halfway, _, second = run
    after = torch.load(folder / "last.pt", weights_only=True)
    key = "generator.convs.0.conv.weight"

    assert not torch.equal(halfway["g"][key], after["g"][key])
    assert not torch.equal(after["g"][key], after["g_ema"][key])
    assert torch.equal(second.mean[key], after["g_ema"][key])


def test_the_scores_of_a_run_are_logged(run):
    folder, *_ = run
    (row,) = csv.reader((folder / "log.csv").read_text().splitlines())

    assert (int(row[0]), len(row)) == (2, 7)
    assert not (folder / "last.pt.part").exists()


def test_the_exported_file_is_the_averaged_network_in_half_precision(run):
    folder, *_ = run
    target = folder / "out.safetensors"

    sha256 = export(folder / "last.pt", target)

    loaded = load_generator(target, expected_sha256=sha256)
    mean = torch.load(folder / "last.pt", weights_only=True)["g_ema"]
    assert sha256 == hash_file(target)
    assert (loaded.model.config.size, loaded.model.config.narrow) == (32, 0.125)
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, mean[key].half().float()), key


# Scores.


class Unchanging(torch.nn.Module):
    """Returns its input."""

    def __init__(self):
        super().__init__()
        self.config = GpenConfig(64)
        self.anything = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x


def test_a_network_that_changes_nothing_scores_as_its_input(faces):
    rows = score(Unchanging(), load_crops(faces, "train"), ("down8", "motion"))

    assert [row.degradation for row in rows] == ["down8", "motion"]
    for row in rows:
        assert row.faces == 4
        assert row.psnr == pytest.approx(row.input_psnr)
        assert row.ssim == pytest.approx(row.input_ssim)
        assert 10 < row.psnr < 60
        assert row.better == 0


def test_a_network_that_knows_the_truth_scores_the_highest(faces):
    crops = load_crops(faces, "train")[:1]

    class Knowing(Unchanging):
        def forward(self, x):
            return to_tensor(cut(crops[0], 64)[0])[None].to(x)

    (row,) = score(Knowing(), crops, ("down8",))

    assert row.psnr == 60.0
    assert row.ssim == pytest.approx(1.0)
    assert row.better == 1.0


def test_pixels_that_the_photograph_does_not_have_count_neither_way(tmp_path):
    crop = write_crop(tmp_path, [100, 0, 200, 0, 200, 200, 100, 200])

    class SpoilsTheLeft(Unchanging):
        def forward(self, x):
            spoilt = x.clone()
            spoilt[..., :30] = 1.0
            return spoilt

    (row,) = score(SpoilsTheLeft(), [crop], ("down8",))

    assert row.psnr == pytest.approx(row.input_psnr)
