"""A training of gpen-compact: what it learns from, what it keeps, how it is taken up again."""

import copy
import csv
import json
import re
from dataclasses import replace

import pytest
import torch

from gpen_engine.checkpoint import load_generator
from gpen_engine.compact import train
from gpen_engine.compact.critic import deception_loss
from gpen_engine.compact.export import export
from gpen_engine.compact.identity import FaceNet
from gpen_engine.compact.losses import (
    colour_loss,
    pixel_loss,
    sharpness_loss,
    structure_loss,
)
from gpen_engine.compact.train import Plan, Trainer
from tests.unit.gpen_engine.portraits import names, write_faces


def test_the_rate_rises_stays_and_then_falls_to_a_fiftieth():
    plan = Plan(steps=100, warmup=10, decay_from=0.75)

    assert [plan.factor_at(step) for step in (0, 9, 75)] == pytest.approx([0.1, 1.0, 1.0])
    assert plan.factor_at(100) == pytest.approx(0.02)
    assert 0.02 < plan.factor_at(90) < 1.0
    assert replace(plan, warmup=0).factor_at(0) == 1.0


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of four crops to train on and two to score on."""
    files = [*names("train", 4), *names("validation", 2)]
    return write_faces(tmp_path_factory.mktemp("faces"), {f"made/{name}": "" for name in files})


PLAN = Plan(size=32, steps=2, batch=1, identity_from=None, critic_from=1, score_every=2)


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    """A run interrupted after two steps, the critic's first included, and resumed for one more.

    The last has two faces.
    """
    folder = tmp_path_factory.mktemp("run")
    Trainer(faces, folder, PLAN).fit()
    halfway = torch.load(folder / "last.pt", weights_only=True)
    second = Trainer(faces, folder, replace(PLAN, steps=3, batch=2, sharpness_weight=2.0))
    taken_up = copy.deepcopy(second._state())
    second.fit()
    return folder, halfway, taken_up, second


def _assert_same(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        for pair in zip(one, other, strict=True):
            _assert_same(*pair)
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("part", ["g", "g_ema", "g_optim", "d", "d_optim", "step", "samples"])
def test_an_interrupted_run_takes_up_all_that_it_saved(run, part):
    _, halfway, taken_up, _ = run

    _assert_same(taken_up[part], halfway[part])


def test_an_interrupted_run_goes_on_where_it_stopped(run):
    folder, halfway, _, second = run

    assert (halfway["step"], second.step) == (2, 3)
    assert torch.load(folder / "last.pt", weights_only=True)["step"] == 3
    moments = second.optimiser.adam.state_dict()["state"]
    assert {int(moment["step"]) for moment in moments.values()} == {3}


def test_training_changes_the_weights_and_their_mean_follows(run):
    folder, halfway, _, second = run
    after = torch.load(folder / "last.pt", weights_only=True)
    key = "generator.convs.0.conv.weight"

    assert not torch.equal(halfway["g"][key], after["g"][key])
    assert not torch.equal(after["g"][key], after["g_ema"][key])
    assert torch.equal(second.mean[key], after["g_ema"][key])


def test_the_mean_keeps_four_thirteenths_at_the_third_step(run):
    folder, halfway, *_ = run
    after = torch.load(folder / "last.pt", weights_only=True)

    for key, value in after["g_ema"].items():
        expected = (4 * halfway["g_ema"][key] + 9 * after["g"][key]) / 13
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_the_critic_learns_from_its_first_step_on(run):
    folder, halfway, *_ = run
    after = torch.load(folder / "last.pt", weights_only=True)

    for state, steps in ((halfway, 1), (after, 2)):
        assert {int(each["step"]) for each in state["d_optim"]["state"].values()} == {steps}
    assert any(not torch.equal(halfway["d"][key], value) for key, value in after["d"].items())


def test_a_resumption_with_other_weights_leaves_a_trace(run):
    folder, *_ = run
    first, second = map(json.loads, (folder / "plans.jsonl").read_text().splitlines())

    assert (first["step"], first["sharpness_weight"]) == (0, Plan().sharpness_weight)
    assert (second["step"], second["sharpness_weight"]) == (2, 2.0)
    assert first["identity_from"] is None


def test_the_mean_of_each_scoring_and_of_the_end_is_kept_for_the_export(run, tmp_path):
    folder, halfway, *_ = run
    kept = {path.name: path for path in folder.glob("mean-*")}

    export([kept["mean-00002.pt"]], tmp_path / "out.safetensors")

    assert kept.keys() == {"mean-00002.pt", "mean-00003.pt"}
    mean = load_generator(tmp_path / "out.safetensors").model.state_dict()
    for key, value in halfway["g_ema"].items():
        assert torch.equal(mean[key], value.half().float()), key


@pytest.mark.parametrize(
    ("lost", "samples"), [({"samples"}, 2), ({"samples", "plan"}, 8)], ids=["samples", "plan too"]
)
def test_an_older_checkpoint_is_taken_up(run, faces, tmp_path, lost, samples):
    _, halfway, *_ = run
    torch.save({key: halfway[key] for key in halfway.keys() - lost}, tmp_path / "last.pt")

    trainer = Trainer(faces, tmp_path, replace(PLAN, batch=4))

    assert (trainer.step, trainer.samples) == (2, samples)


def test_the_count_of_faces_outlives_a_change_of_the_batch(run, faces):
    folder, *_ = run

    assert Trainer(faces, folder, PLAN).samples == 4


def test_a_run_is_not_taken_up_in_another_size(run, faces):
    folder, *_ = run

    with pytest.raises(ValueError, match="faces of 32 px, not 64: resume it with --size 32"):
        Trainer(faces, folder, replace(PLAN, size=64))


@pytest.mark.parametrize(
    "spoil",
    [lambda output, *_: output.sum() * torch.inf, lambda output, *_: (0 * output).sum().sqrt()],
    ids=["loss", "gradient"],
)
def test_what_is_not_finite_stops_the_run_before_it_is_saved(faces, tmp_path, spoil):
    trainer = Trainer(faces, tmp_path, replace(PLAN, critic_from=None, save_every=1))
    trainer.plan = replace(trainer.plan, identity_from=1)
    trainer.identity = spoil

    with pytest.raises(FloatingPointError, match="step 1 has a loss of"):
        trainer.fit()

    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 1


def test_a_step_that_is_not_finite_teaches_the_critic_nothing(faces, tmp_path):
    trainer = Trainer(faces, tmp_path, replace(PLAN, critic_from=0))
    trainer.plan = replace(trainer.plan, identity_from=0)
    trainer.identity = lambda output, *_: output.sum() * torch.inf
    before = [each.clone() for each in trainer.critic.parameters()]

    with pytest.raises(FloatingPointError):
        trainer.fit()

    _assert_same(list(trainer.critic.parameters()), before)


def test_a_run_killed_while_it_is_scored_comes_to_its_scores_again(faces, tmp_path):
    plan = replace(PLAN, save_every=1, critic_from=None)
    trainer = Trainer(faces, tmp_path, plan)

    def killed():
        raise KeyboardInterrupt

    trainer._score = killed
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    Trainer(faces, tmp_path, plan).fit()

    (row,) = csv.DictReader((tmp_path / "log.csv").read_text().splitlines())
    assert row["step"] == "2"


def test_the_loss_is_the_weighted_sum_of_its_parts(faces, tmp_path):
    trainer = Trainer(faces, tmp_path, PLAN)
    trainer.plan = Plan(
        pixel_weight=2.0,
        colour_weight=3.0,
        structure_weight=5.0,
        sharpness_weight=7.0,
        identity_from=4,
        identity_weight=11.0,
        critic_from=4,
        critic_weight=13.0,
    )
    trainer.identity = lambda *seen: sum(each.mean() for each in seen)
    trainer.step = 4
    trainer.critic.eval()  # its spectral norms would be other ones at the second look
    output, damaged, target = torch.rand(3, 2, 3, 64, 64)
    output, valid, resolved = 0.5 * output, torch.ones(2, 1, 64, 64), torch.tensor([1.0, 0.0])
    valid[..., :16] = 0

    total = trainer._loss(output, damaged, target, valid, resolved)

    parts = [
        2 * pixel_loss(output, target, valid),
        3 * colour_loss(output, target, valid),
        5 * structure_loss(output, target, valid),
        7 * sharpness_loss(output, target, valid, resolved),
        11 * trainer.identity(output, damaged, target, valid),
        13 * deception_loss(trainer.critic, output * valid + target * (1 - valid)),
    ]
    assert all(parts)
    torch.testing.assert_close(total, sum(parts))


def test_the_scores_of_a_run_are_logged(run):
    folder, *_ = run
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))

    assert [(row["step"], row["samples"]) for row in rows] == [("2", "2"), ("3", "4")]
    measured = ("loss", "psnr", "input_ssim", "gradient_energy")
    assert all(re.fullmatch(r"-?\d+\.\d+", row[name]) for row in rows for name in measured)
    assert {row[name] for row in rows for name in ("identity_ratio", "moved_away")} == {""}
    assert not (folder / "last.pt.part").exists()


def test_a_run_with_the_recognition_network_logs_likeness(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_face_net", lambda: FaceNet().eval().requires_grad_(False))
    plan = replace(PLAN, steps=1, identity_from=1, critic_from=None)

    Trainer(faces, tmp_path, plan).fit()

    (row,) = csv.DictReader((tmp_path / "log.csv").read_text().splitlines())
    assert float(row["identity_ratio"]) > 0
    assert 0 <= float(row["moved_away"]) <= 1


# The command.


@pytest.fixture
def plans(monkeypatch):
    """What is to be trained, which isn't."""
    seen = []

    class Idle:
        def __init__(self, faces, run, plan):
            seen.append(plan)

        def fit(self):
            pass

    monkeypatch.setattr(train, "Trainer", Idle)
    return seen


@pytest.mark.parametrize(
    ("flags", "start"), [([], 0), (["--identity-from", "9"], 9), (["--no-identity"], None)], ids=str
)
def test_likeness_is_learned_unless_it_is_left_out(plans, tmp_path, flags, start):
    code = train.main(["faces", str(tmp_path), *flags])

    assert code == 0
    assert plans == [Plan(identity_from=start)]


def test_the_rates_of_a_run_can_be_asked_for(plans, tmp_path):
    rates = ["--decay-from", "0.5", "--warmup", "0", "--ema", "0.9", "--batch", "3"]

    train.main(["faces", str(tmp_path), *rates, "--colour-weight", "2"])

    assert plans == [Plan(decay_from=0.5, warmup=0, ema=0.9, batch=3, colour_weight=2.0)]


@pytest.mark.parametrize(
    ("folder", "flags", "told"),
    [
        ("absent", [], r"there is no .*absent/MANIFEST\.csv"),
        ("faces", ["--size", "100"], "a power of two .* not 100"),
    ],
    ids=["absent faces", "no size"],
)
def test_what_can_not_be_trained_is_told_in_a_sentence(
    faces, tmp_path, capsys, folder, flags, told
):
    folder = faces if folder == "faces" else tmp_path / folder

    code = train.main([str(folder), str(tmp_path / "run"), "--no-identity", *flags])

    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(told, line)
    assert not (tmp_path / "run").exists()
