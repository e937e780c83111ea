"""The discriminator of the last part of training: does a patch look like a photograph?

In: faces `(B, 3, S, S) float in [-1, 1] RGB`. Out: a map of scores `(B, 1, S / 16, S / 16)`, above
0 for a photograph. In the manner of PatchGAN (Isola et al. 2017) with spectral normalisation and
the hinge loss (Miyato et al. 2018); it is thrown away after training.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its customary name
from torch.nn.utils.parametrizations import spectral_norm

_WIDTHS = (3, 32, 64, 128, 128)


class Critic(nn.Module):
    """Four strided convolutions and a last one."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(_WIDTHS):
            layers += [
                spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(_WIDTHS[-1], 1, 3, padding=1)))

    def forward(self, faces: Tensor) -> Tensor:
        """Score every patch."""
        scores: Tensor = self.layers(faces)
        return scores


def critic_loss(critic: Critic, output: Tensor, target: Tensor) -> Tensor:
    """Return the critic's own hinge loss; `output` is taken as it is, without its history."""
    fake, real = critic(output.detach()).float(), critic(target).float()
    loss: Tensor = (F.relu(1 + fake) + F.relu(1 - real)).mean() / 2
    return loss


def deception_loss(critic: Critic, output: Tensor) -> Tensor:
    """Return what the generator minimises: how surely the critic sees through it."""
    verdict: Tensor = critic(output).float().mean()
    return -verdict
