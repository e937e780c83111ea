"""What training minimises: `(B, 3, S, S) float32 in [-1, 1] RGB` and its truth -> one number.

`valid` is `(B, 1, S, S) float32 in [0, 1]`: 0 where the photograph ended and the crop was mirrored,
which counts neither way.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its customary name

from gpen_engine.compact.identity import FaceNet

_WINDOW = 16
_ENOUGH = 0.82
"""Of the true face's gradients (RMS): two thirds of their energy."""
_FLAT = 1e-3
"""Added to the mean square of a window's differences: the root has a slope in flat windows too."""


def pixel_loss(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """L1, plus the L1 of the image gradients at three scales."""
    difference = (output - target) * valid
    loss = difference.abs().mean()
    for _ in range(3):
        across, down = _gradients(difference)
        loss = loss + (across.abs().mean() + down.abs().mean()) / 3
        difference = F.avg_pool2d(difference, 2)
    return loss


def sharpness_loss(output: Tensor, target: Tensor, valid: Tensor, resolved: Tensor) -> Tensor:
    """By how much the gradients in each window of 16 pixels are weaker than they should be (RMS).

    The loss of pixels alone is smallest for a picture that is too smooth: where the network is in
    doubt it draws the mean of what could be. This part doesn't ask where an edge is, only that
    there is nearly as much of it as in the true face; the rest would be paid for in fidelity, and
    so would sharpness where the damage left nothing to go by: `resolved` is `(B,)`, 0 for these.
    """
    have, want = _strength(output, valid), _ENOUGH * _strength(target, valid)
    return (F.relu(want - have).mean(dim=(1, 2, 3)) * resolved).mean()


def _strength(picture: Tensor, valid: Tensor) -> Tensor:
    across, down = _gradients(picture * valid)
    power = across[..., :-1, :].square() + down[..., :, :-1].square()
    windows = F.avg_pool2d(power.mean(dim=1, keepdim=True), _WINDOW, ceil_mode=True)
    return (windows + _FLAT**2).sqrt()


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    across = picture[..., :, 1:] - picture[..., :, :-1]
    down = picture[..., 1:, :] - picture[..., :-1, :]
    return across, down


class IdentityLoss:
    """How far the restored face is from the true one for a face recognition network.

    The distance of the descriptors, plus the mean distance of the maps at every depth relative to
    the size of the true one's (a feature loss in the manner of Johnson et al. 2016, with a network
    that looks at faces).
    """

    def __init__(self, net: FaceNet) -> None:
        self._net = net

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Compare; pixels that aren't valid are the truth's in both."""
        mixed = output * valid + target * (1 - valid)
        with torch.no_grad():
            *maps, descriptor = self._net.features(target)
        *own_maps, own = self._net.features(mixed)
        loss: Tensor = (own.float() - descriptor.float()).norm(dim=1).mean()
        for have, want in zip(own_maps, maps, strict=True):
            loss = loss + (have - want).abs().float().mean() / want.float().abs().mean() / len(maps)
        return loss
