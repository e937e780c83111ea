"""What gpen-compact is asked for: the losses, and the critic's verdict."""

import pytest
import torch
from skimage.metrics import structural_similarity

from gpen_engine.compact import losses
from gpen_engine.compact.critic import Critic, critic_loss, deception_loss
from gpen_engine.compact.identity import FaceNet
from gpen_engine.compact.losses import (
    IdentityLoss,
    colour_loss,
    pixel_loss,
    sharpness_loss,
    structure_loss,
)

ONE, ALL = torch.ones(1), torch.ones(2)


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
