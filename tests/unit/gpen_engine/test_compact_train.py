"""How gpen-compact learns: what the losses ask for, a step of the optimiser, a resumable run."""

import csv
import re
from dataclasses import replace

import pytest
import torch
from skimage.metrics import structural_similarity

from gpen_engine.checkpoint import hash_file, load_generator
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
    assert pixel_loss(output, target, everywhere) > 1
    assert colour_loss(output, target, everywhere) > 0
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


def test_a_flat_face_can_still_learn_to_be_sharp():
    truth = torch.rand(1, 3, 32, 32)
    flat = torch.full_like(truth, 0.5, requires_grad=True)

    (sharpness_loss(flat, truth, torch.ones(1, 1, 32, 32), ONE) + 0 * flat.sum()).backward()

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


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    """A run interrupted after two steps, and taken up again for one more, the critic's first."""
    folder = tmp_path_factory.mktemp("run")
    plan = Plan(size=32, steps=2, batch=1, save_every=100, score_every=2)
    Trainer(faces, folder, plan).fit()
    halfway = torch.load(folder / "last.pt", weights_only=True)
    second = Trainer(faces, folder, replace(plan, steps=3, critic_from=2))
    taken_up = second.step
    second.fit()
    return folder, halfway, taken_up, second


def test_an_interrupted_run_goes_on_where_it_stopped(run):
    folder, halfway, taken_up, second = run

    assert (halfway["step"], taken_up, second.step) == (2, 2, 3)
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


def test_the_critic_learns_from_its_first_step_on(run):
    folder, halfway, *_ = run
    after = torch.load(folder / "last.pt", weights_only=True)

    assert halfway["d_optim"]["state"] == {}
    assert any(not torch.equal(halfway["d"][key], value) for key, value in after["d"].items())


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
