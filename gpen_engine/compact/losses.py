"""What training minimises: `(B, 3, S, S) float32 in [-1, 1] RGB` and its truth -> one number.

`valid` is `(B, 1, S, S) float32 in [0, 1]`: 0 where the photograph ended and the crop was mirrored.
What is drawn there changes no loss. The means divide by all pixels, though: the invalid ones count
as perfect, and a face at the photograph's edge counts less than one that is whole.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its customary name

from gpen_engine.compact.identity import FaceNet

_C1, _C2 = 0.02**2, 0.06**2
"""The constants of SSIM for samples from -1 to 1."""
_WINDOW = 64
_ENOUGH = 0.82
"""Of the true face's gradients (RMS): two thirds of their energy."""
_USUAL_DISTANCE, _LEAST_DISTANCE = 0.45, 0.2
"""Of the descriptors of a damaged face and the true one."""
_NEARLY_ALL = 0.9
_HARDLY_NEARER = 8.0
"""How often a share beyond it counts again."""
_LUMA = (0.299, 0.587, 0.114)
_SPOT = 4
_FLAT = 1e-3
"""Its square is added to the mean square of a window's differences: the root's slope stays finite
in a flat window. The gradient is 0 there: other losses have to draw the first edge."""


def pixel_loss(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """L1, plus the L1 of the image gradients at three scales."""
    difference = (output - target) * valid
    loss = difference.abs().mean()
    for _ in range(3):
        across, down = _gradients(difference)
        loss = loss + (across.abs().mean() + down.abs().mean()) / 3
        difference = F.avg_pool2d(difference, 2)
    return loss


def colour_loss(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean square of what isn't luma, of pixels and of the means of spots of 4 by 4.

    The square, because a wrong colour shows in few pixels: irises and teeth.
    """
    difference = (output - target) * valid
    colour = difference - _luma(difference)
    return colour.square().mean() + F.avg_pool2d(colour, _SPOT).square().mean()


def _luma(picture: Tensor) -> Tensor:
    weights = picture.new_tensor(_LUMA).view(1, 3, 1, 1)
    return (picture * weights).sum(dim=1, keepdim=True)


def structure_loss(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """How far the mean SSIM (Wang et al. 2004) of windows of 5 pixels, two apart, is from 1."""
    shown, true = output * valid, target * valid
    mean, true_mean = _means(shown), _means(true)
    variance = _means(shown.square()) - mean.square()
    true_variance = _means(true.square()) - true_mean.square()
    covariance = _means(shown * true) - mean * true_mean
    light = (2 * mean * true_mean + _C1) / (mean.square() + true_mean.square() + _C1)
    structure = (2 * covariance + _C2) / (variance + true_variance + _C2)
    return 1 - (light * structure).mean()


def _means(picture: Tensor) -> Tensor:
    return F.avg_pool2d(picture, 5, stride=2)


def sharpness_loss(output: Tensor, target: Tensor, valid: Tensor, resolved: Tensor) -> Tensor:
    """By how much luma's gradients in windows of 64 pixels are weaker than they should be (RMS).

    The loss of pixels alone is smallest for a picture that is too smooth: where the network is in
    doubt it draws the mean of what could be. This part doesn't ask where an edge is, only that
    there is nearly as much of it as in the true face; the rest would be paid for in fidelity, and
    so would sharpness where the damage left nothing to go by: `resolved` is `(B,)`, 0 for these.
    """
    have, want = _strength(output, valid), _ENOUGH * _strength(target, valid)
    return (F.relu(want - have).mean(dim=(1, 2, 3)) * resolved).mean()


def _strength(picture: Tensor, valid: Tensor) -> Tensor:
    across, down = _gradients(_luma(picture))
    across = across * valid[..., :, 1:] * valid[..., :, :-1]
    down = down * valid[..., 1:, :] * valid[..., :-1, :]
    power = across[..., :-1, :].square() + down[..., :, :-1].square()
    windows = F.avg_pool2d(power, _WINDOW, ceil_mode=True)
    return (windows + _FLAT**2).sqrt()


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    across = picture[..., :, 1:] - picture[..., :, :-1]
    down = picture[..., 1:, :] - picture[..., :-1, :]
    return across, down


class IdentityLoss:
    """How far the restored face is from the true one for a face recognition network.

    The distance of the descriptors in shares of the damaged face's own, so that a face that is
    still easy to know counts as much as one that is beyond knowing, and `_HARDLY_NEARER` times
    more where the restored one is hardly nearer than the damaged one; plus the mean distance of the
    maps at every depth relative to the size of the true one's (a feature loss in the manner of
    Johnson et al. 2016, with a network that looks at faces). All with the true face's colours: left
    to itself this loss paints dark irises violet.
    """

    def __init__(self, net: FaceNet) -> None:
        self._net = net

    def __call__(self, output: Tensor, damaged: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Compare luma; pixels that aren't valid are the truth's in all of them."""

        def seen(picture: Tensor) -> Tensor:
            return target + _luma(picture - target) * valid

        with torch.no_grad():
            *maps, truth = self._net.features(target)
            given = (self._net(seen(damaged)).float() - truth.float()).norm(dim=1)
        *own_maps, own = self._net.features(seen(output))
        distance = (own.float() - truth.float()).norm(dim=1)
        share = distance / given.clamp_min(_LEAST_DISTANCE)
        tail = F.relu(share - _NEARLY_ALL)
        loss: Tensor = _USUAL_DISTANCE * (share + _HARDLY_NEARER * tail).mean()
        for have, want in zip(own_maps, maps, strict=True):
            loss = loss + (have - want).abs().float().mean() / want.float().abs().mean() / len(maps)
        return loss
