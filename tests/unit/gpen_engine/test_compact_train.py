"""How gpen-compact learns: what the losses ask for, a step of the optimiser, a resumable run."""

import copy
import csv
import json
import re
from dataclasses import replace

import pytest
import torch
from skimage.metrics import structural_similarity

from gpen_engine.checkpoint import hash_file, load_generator
from gpen_engine.compact import losses, train
from gpen_engine.compact.critic import Critic, critic_loss, deception_loss
from gpen_engine.compact.export import export
from gpen_engine.compact.identity import FaceNet
from gpen_engine.compact.losses import (
    IdentityLoss,
    colour_loss,
    pixel_loss,
    sharpness_loss,
    structure_loss,
)
from gpen_engine.compact.optimise import Optimiser
from gpen_engine.compact.start import compact_config, start_from_identity
from gpen_engine.compact.train import Plan, Trainer
from gpen_engine.errors import CheckpointMismatch
from gpen_engine.model import GpenConfig, GpenGenerator
from tests.unit.gpen_engine.portraits import names, write_faces

TINY = GpenConfig(32, 1, 16 / 512)
ONE, ALL = torch.ones(1), torch.ones(2)


# Where it starts.


@pytest.mark.parametrize("config", [compact_config(128), compact_config(256), TINY], ids=str)
def test_the_network_starts_by_returning_its_input(config):
    torch.manual_seed(2)
    model = GpenGenerator(config)
    start_from_identity(model)
    x = torch.rand(2, 3, config.size, config.size) * 2 - 1

    with torch.no_grad():
        torch.testing.assert_close(model(x), x, rtol=0, atol=1e-4)


# What it is asked for.


def test_the_losses_ignore_pixels_that_the_photograph_does_not_have():
    target = torch.rand(2, 3, 32, 32)
    output = target.clone()
    valid = torch.ones(2, 1, 32, 32)
    valid[:, :, :, 16:] = 0
    output[..., 16:] = 5.0
    everywhere = torch.ones_like(valid)
    smooth = target.clone()
    smooth[..., 16:] = 0.5

    assert pixel_loss(output, target, valid) == 0
    assert sharpness_loss(output, target, valid, ALL) == 0
    assert colour_loss(output, target, valid) == 0
    assert structure_loss(output, target, valid) < 1e-5
    assert pixel_loss(output, target, everywhere) > 1
    assert colour_loss(output, target, everywhere) > 0
    assert structure_loss(output, target, everywhere) > 0.1
    assert sharpness_loss(smooth, target, valid, ALL) == 0
    assert sharpness_loss(smooth, target, everywhere, ALL) > 0


def test_the_loss_of_pixels_counts_edges_besides_levels():
    target = torch.zeros(1, 1, 8, 8)
    flat = torch.full_like(target, 0.5)
    board = flat * (1 - 2 * (torch.arange(8)[:, None] + torch.arange(8)).remainder(2))
    everywhere = torch.ones_like(target)

    plain = pixel_loss(flat, target, everywhere)
    sharp = pixel_loss(board, target, everywhere)

    assert plain == 0.5
    # Alternating by 1 across and down at the first scale, nothing at the coarser ones.
    assert float(sharp) == pytest.approx(0.5 + 2 / 3)


def test_a_smooth_face_isn_t_sharp_enough_and_another_sharp_one_is():
    torch.manual_seed(1)
    valid = torch.ones(1, 1, 64, 64)
    truth, other = torch.rand(2, 1, 3, 64, 64)
    smooth = torch.nn.functional.avg_pool2d(truth, 3, stride=1, padding=1)

    missing = sharpness_loss(smooth, truth, valid, ONE)

    assert missing > 0.02
    assert sharpness_loss(smooth, truth, valid, torch.zeros(1)) == 0
    assert sharpness_loss(other, truth, valid, ONE) == 0
    assert sharpness_loss(0.9 * truth, truth, valid, ONE) == 0


def test_a_half_that_is_too_sharp_makes_up_for_no_soft_one():
    torch.manual_seed(1)
    valid = torch.ones(1, 1, 128, 128)
    truth = torch.rand(1, 3, 128, 128) * 2 - 1
    soft = 0.2 * truth
    mixed = torch.cat([soft[..., :64], 2 * truth[..., 64:]], dim=3)

    everywhere = float(sharpness_loss(soft, truth, valid, ONE))

    # Not quite a half: the edge between the halves is sharp.
    assert float(sharpness_loss(mixed, truth, valid, ONE)) == pytest.approx(everywhere / 2, rel=0.1)


def test_coloured_noise_of_even_brightness_is_no_sharpness():
    torch.manual_seed(1)
    valid = torch.ones(1, 1, 64, 64)
    truth = torch.rand(1, 3, 64, 64)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    coloured = truth - (truth * luma).sum(1, keepdim=True)

    missing = sharpness_loss(torch.zeros_like(truth), truth, valid, ONE)

    assert sharpness_loss(coloured, truth, valid, ONE) == pytest.approx(float(missing), rel=1e-4)


def test_a_tint_costs_colour_and_a_lighter_face_none():
    face, valid = torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    blue = face.clone()
    blue[:, 2, :8, :8] += 0.4

    assert colour_loss(face + 0.4, face, valid) < 1e-6
    assert colour_loss(blue, face, valid) > 0.004


def test_the_gradient_of_sharpness_is_finite_for_a_flat_face():
    truth = torch.rand(1, 3, 32, 32)
    flat = torch.full_like(truth, 0.5, requires_grad=True)

    sharpness_loss(flat, truth, torch.ones(1, 1, 32, 32), ONE).backward()

    assert torch.isfinite(flat.grad).all()


def test_identity_is_compared_where_the_photograph_is():
    torch.manual_seed(1)
    loss = IdentityLoss(FaceNet().eval().requires_grad_(False))
    truth = torch.rand(1, 3, 64, 64) * 2 - 1
    spoilt = truth.clone()
    spoilt[..., :24] = 1.0
    spoilt.requires_grad_(True)
    valid = torch.ones(1, 1, 64, 64)

    damaged = torch.rand(1, 3, 64, 64)

    seen = loss(spoilt, damaged, truth, valid)
    seen.backward()
    valid[..., :24] = 0

    assert seen > 0
    assert spoilt.grad.abs().sum() > 0
    assert loss(truth, damaged, truth, valid) == 0
    assert loss(spoilt, damaged, truth, valid) == 0


def test_the_same_distance_from_an_easier_face_is_worse():
    torch.manual_seed(1)
    net = FaceNet().eval().requires_grad_(False)
    list(net.parameters())[-1].mul_(20)  # untrained descriptors are too near for a share
    loss = IdentityLoss(net)
    truth = torch.rand(1, 3, 64, 64) * 2 - 1
    output, valid = truth.flip(3), torch.ones(1, 1, 64, 64)
    easy, hard = 0.9 * truth, torch.zeros_like(truth)

    assert loss(output, easy, truth, valid) > loss(output, hard, truth, valid)


class BrightnessNet:
    """A recognition network without maps, whose descriptor of a grey face is its level."""

    def __call__(self, faces):
        return faces[:, :1, 0, 0]

    def features(self, faces):
        return (self(faces),)


def _likeness(output, damaged):
    """Return the loss of a grey face whose true level is 0."""
    output, damaged = (torch.full((1, 3, 8, 8), level) for level in (output, damaged))
    truth, valid = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    return float(IdentityLoss(BrightnessNet())(output, damaged, truth, valid))


def test_what_is_hardly_nearer_than_the_damaged_face_counts_again(monkeypatch):
    monkeypatch.setattr(losses, "_NEARLY_ALL", 0.8)
    monkeypatch.setattr(losses, "_HARDLY_NEARER", 5.0)

    assert _likeness(0.5, 1.0) == pytest.approx(0.45 * 0.5)
    assert _likeness(0.8, 1.0) == pytest.approx(0.45 * 0.8)
    assert _likeness(1.0, 1.0) == pytest.approx(0.45 * (1.0 + 5 * 0.2))


def test_a_face_that_the_damage_left_alone_is_compared_with_the_least_distance():
    assert _likeness(0.1, 0.0) == pytest.approx(0.45 * 0.1 / 0.2)
    assert _likeness(0.0, 0.0) == 0


def test_identity_asks_for_no_colour():
    torch.manual_seed(1)
    loss = IdentityLoss(FaceNet().eval().requires_grad_(False))
    truth = torch.rand(1, 3, 64, 64) * 2 - 1
    output = truth.flip(3).requires_grad_(True)
    luma = torch.tensor([0.299, 0.587, 0.114])

    loss(output, torch.zeros_like(truth), truth, torch.ones(1, 1, 64, 64)).backward()

    # Each channel is asked for as much as it has of luma.
    asked = output.grad / luma.view(1, 3, 1, 1)
    assert asked.abs().max() > 0
    torch.testing.assert_close(asked, asked[:, :1].expand_as(asked))


def test_the_critic_learns_to_tell_and_the_generator_to_deceive():
    torch.manual_seed(1)
    critic = Critic()
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-3)
    sharp = torch.rand(2, 3, 64, 64) * 2 - 1
    smooth = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1).requires_grad_(True)

    first = critic_loss(critic, smooth, sharp)
    for _ in range(15):
        optimiser.zero_grad()
        critic_loss(critic, smooth, sharp).backward()
        optimiser.step()
    assert smooth.grad is None
    deception_loss(critic, smooth).backward()

    assert critic_loss(critic, smooth, sharp) < first / 2
    assert deception_loss(critic, smooth) > deception_loss(critic, sharp)
    step = smooth.detach() - 0.5 * smooth.grad / smooth.grad.abs().max()
    assert deception_loss(critic, step) < deception_loss(critic, smooth)


# How it steps.


def test_a_step_moves_every_weight_against_its_gradient():
    torch.manual_seed(3)
    model = GpenGenerator(TINY)
    start_from_identity(model)
    optimiser = Optimiser(model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    gradients = {name: torch.randn_like(value) for name, value in before.items()}
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone()

    optimiser.step(0.5)

    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        assert ((parameter - before[name]) * gradients[name]).sum() < 0, name


def test_a_step_is_as_large_for_a_convolution_whatever_its_gradient():
    torch.manual_seed(3)
    model = GpenGenerator(TINY)
    optimiser = Optimiser(model)
    weight = model.get_parameter("generator.convs.0.conv.weight")
    before = weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = 1e-4 * torch.randn_like(parameter)

    optimiser.step(1.0)

    moved = (weight.detach() - before).square().mean().sqrt()
    assert float(moved) == pytest.approx(0.01, rel=0.3)


# A run.


def test_the_rate_rises_stays_and_then_falls_to_a_fiftieth():
    plan = Plan(steps=100, warmup=10, decay_from=0.75)

    assert [plan.factor_at(step) for step in (0, 9, 75)] == pytest.approx([0.1, 1.0, 1.0])
    assert plan.factor_at(100) == pytest.approx(0.02)
    assert 0.02 < plan.factor_at(90) < 1.0


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of four crops to train on and two to score on."""
    files = [*names("train", 4), *names("validation", 2)]
    return write_faces(tmp_path_factory.mktemp("faces"), {f"made/{name}": "" for name in files})


PLAN = Plan(size=32, steps=2, batch=1, identity_from=None, critic_from=1, score_every=2)


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    """A run interrupted after two steps, the critic's first included, and resumed for one more."""
    folder = tmp_path_factory.mktemp("run")
    Trainer(faces, folder, PLAN).fit()
    halfway = torch.load(folder / "last.pt", weights_only=True)
    second = Trainer(faces, folder, replace(PLAN, steps=3, sharpness_weight=2.0))
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


@pytest.mark.parametrize("part", ["g", "g_ema", "g_optim", "d", "d_optim", "step"])
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


def test_the_mean_of_each_scoring_is_kept_for_the_export(run, tmp_path):
    folder, halfway, *_ = run
    (kept,) = folder.glob("mean-*")

    export([kept], tmp_path / "out.safetensors")

    assert kept.name == "mean-00002.pt"
    mean = load_generator(tmp_path / "out.safetensors").model.state_dict()
    for key, value in halfway["g_ema"].items():
        assert torch.equal(mean[key], value.half().float()), key


def test_a_checkpoint_without_a_plan_is_taken_up(run, faces, tmp_path):
    _, halfway, *_ = run
    torch.save({key: halfway[key] for key in halfway if key != "plan"}, tmp_path / "last.pt")

    assert Trainer(faces, tmp_path, PLAN).step == 2


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


@pytest.mark.parametrize(
    ("flags", "start"), [([], 0), (["--identity-from", "9"], 9), (["--no-identity"], None)], ids=str
)
def test_likeness_is_learned_unless_it_is_left_out(monkeypatch, tmp_path, flags, start):
    plans = []

    class Idle:
        def __init__(self, faces, run, plan):
            plans.append(plan)

        def fit(self):
            pass

    monkeypatch.setattr(train, "Trainer", Idle)
    monkeypatch.setattr("sys.argv", ["train", "faces", str(tmp_path), *flags])

    train.main()

    assert plans == [Plan(identity_from=start)]


def test_the_scores_of_a_run_are_logged(run):
    folder, *_ = run
    (row,) = csv.DictReader((folder / "log.csv").read_text().splitlines())

    assert (row["step"], row["samples"]) == ("2", "2")
    assert all(re.fullmatch(r"-?\d+\.\d+", row[name]) for name in ("loss", "psnr", "input_ssim"))
    assert not (folder / "last.pt.part").exists()


def test_the_exported_file_is_the_averaged_network_in_half_precision(run):
    folder, *_ = run
    target = folder / "out.safetensors"

    sha256 = export([folder / "last.pt"], target)

    loaded = load_generator(target, expected_sha256=sha256)
    mean = torch.load(folder / "last.pt", weights_only=True)["g_ema"]
    assert sha256 == hash_file(target)
    assert (loaded.model.config.size, loaded.model.config.narrow) == (32, 0.125)
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, mean[key].half().float()), key


def test_several_checkpoints_of_a_run_are_exported_as_their_mean(run, tmp_path):
    folder, halfway, *_ = run
    early = tmp_path / "early.pt"
    torch.save(halfway, early)

    export([early, folder / "last.pt"], tmp_path / "out.safetensors")

    late = torch.load(folder / "last.pt", weights_only=True)["g_ema"]
    mean = load_generator(tmp_path / "out.safetensors").model.state_dict()
    key = "generator.convs.0.conv.weight"
    assert not torch.equal(late[key], halfway["g_ema"][key])
    torch.testing.assert_close(
        mean[key], (late[key] + halfway["g_ema"][key]) / 2, rtol=1e-3, atol=1e-3
    )


def test_a_checkpoint_without_averaged_weights_is_not_exported(run, tmp_path):
    _, halfway, *_ = run
    torch.save({"g": halfway["g"], "step": 2}, tmp_path / "other.pt")

    with pytest.raises(ValueError, match=r"other\.pt has no averaged weights"):
        export([tmp_path / "other.pt"], tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("spoilt", "error"),
    [(torch.tensor([[7e4]]), ValueError), (torch.zeros(3, 2), CheckpointMismatch)],
    ids=["beyond float16", "misshapen"],
)
def test_a_failed_export_leaves_the_earlier_file_as_it_was(run, tmp_path, spoilt, error):
    _, halfway, *_ = run
    key = "final_linear.0.weight"
    weights = halfway["g_ema"] | {key: spoilt}
    torch.save({"g_ema": weights, "step": 2}, tmp_path / "mean.pt")
    target = tmp_path / "out.safetensors"
    target.write_text("the earlier file")

    with pytest.raises(error, match=key):
        export([tmp_path / "mean.pt"], target)

    assert target.read_text() == "the earlier file"
    assert {path.name for path in tmp_path.iterdir()} == {"mean.pt", "out.safetensors"}


def test_structure_is_what_correlates_with_the_truth():
    torch.manual_seed(1)
    truth, valid = torch.rand(1, 3, 64, 64) * 2 - 1, torch.ones(1, 1, 64, 64)
    softer = 0.5 * truth
    other = truth.flip(3)

    assert structure_loss(truth, truth, valid) < 1e-5
    assert structure_loss(softer, truth, valid) < structure_loss(other, truth, valid)


def test_structure_agrees_with_scikit_image():
    torch.manual_seed(1)
    truth = torch.rand(1, 1, 256, 256) * 2 - 1
    noisy = (truth + 0.3 * torch.randn_like(truth)).clamp(-1, 1)
    ours = 1 - float(structure_loss(noisy, truth, torch.ones(1, 1, 256, 256)))
    theirs = structural_similarity(
        noisy[0, 0].numpy(),
        truth[0, 0].numpy(),
        win_size=5,
        data_range=2.0,
        use_sample_covariance=False,
    )
    assert ours == pytest.approx(theirs, abs=0.01)
