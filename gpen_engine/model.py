"""The GPEN network: an encoder whose features steer a StyleGAN2 generator at every level.

In: aligned faces `(B, 3, S, S) float in [-1, 1] RGB`. Out: the same shape, nominally in [-1, 1],
unbounded. Written from the project's own description of the network (`docs/gpen-network.md`; Yang
et al., CVPR 2021, "GAN Prior Embedded Network for Blind Face Restoration in the Wild"). Tensor
names and order are those of the published checkpoints.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpen_engine.ops import (
    Blur,
    EqualConv2d,
    EqualLinear,
    FusedLeakyReLU,
    ModulatedConv2d,
    PixelNorm,
    Upsample,
    fused_leaky_relu,
)

STYLE_DIM = 512
MLP_LAYERS = 8
MIN_SIZE = 8
_NOISE_SEED = 0


@dataclass(frozen=True, slots=True)
class GpenConfig:
    """Everything that decides the network's shape.

    Attributes:
        size: side of the output in pixels, a power of two.
        channel_multiplier: widens the levels from 64 px up (2 in GPEN-BFR-512, 1 in GPEN-BFR-256).
        narrow: scales every level's width (1 in GPEN-BFR-512, 0.5 in GPEN-BFR-256).
        in_size: side of the input; smaller than `size` for the super-resolution variant, None for
            the same.
    """

    size: int
    channel_multiplier: float = 2
    narrow: float = 1.0
    in_size: int | None = None

    def __post_init__(self) -> None:
        for side in (self.size, self.input_size):
            if side < MIN_SIZE or side & (side - 1):
                raise ValueError(
                    f"a GPEN size is a power of two of at least {MIN_SIZE}, not {side}"
                )
        if self.input_size > self.size:
            raise ValueError(f"in_size {self.input_size} is larger than size {self.size}")
        if min(self.channels(4), self.channels(self.size)) < 1:
            raise ValueError(
                f"channel_multiplier {self.channel_multiplier} and narrow {self.narrow} leave "
                "a level without a channel"
            )

    @property
    def input_size(self) -> int:
        """Side of the input in pixels."""
        return self.in_size or self.size

    def channels(self, resolution: int) -> int:
        """Width of the level at `resolution` pixels."""
        width = 512.0 if resolution <= 32 else 16384 / resolution * self.channel_multiplier
        # The tolerance keeps a width that was inferred from a checkpoint from falling one short.
        return int(width * self.narrow + 1e-6)


def draw_noise(channels: int, side: int) -> Tensor:
    """Draw what stands in for a feature where the encoder has none: `(1, C, side, side)`.

    It is the same at every call, so that one input always gives one output.
    """
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    return torch.randn((1, channels, side, side), generator=generator)


class NoiseInjection(nn.Module):
    """Holds the one weight by which the second half of a level (the "noise") is scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Concatenate `(B, C, H, W)` with the scaled noise of the same shape: `(B, 2C, H, W)`."""
        return torch.cat([x, self.weight.to(x.dtype) * noise.to(x.dtype)], dim=1)


class StyledConv(nn.Module):
    """Modulated convolution, concatenated noise, activation; twice as many channels come out."""

    def __init__(self, in_channels: int, out_channels: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, STYLE_DIM, upsample=upsample)
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(2 * out_channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """Map `(B, Cin, H, W)` to `(B, 2·Cout, H', W')`; without a feature the noise is drawn.

        The drawn noise is the same for every call and every sample, so that one input always gives
        one output.
        """
        x = self.conv(x, style)
        if noise is None:
            noise = draw_noise(x.shape[1], x.shape[-1]).to(x).expand_as(x)
        return fused_leaky_relu(self.noise(x, noise), self.activate.bias)


class ToRgb(nn.Module):
    """Adds one level's picture to the running picture of the coarser levels."""

    def __init__(self, in_channels: int, *, upsample: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Upsample() if upsample else None
        self.conv = ModulatedConv2d(in_channels, 3, 1, STYLE_DIM, demodulate=False)

    def forward(self, x: Tensor, style: Tensor, picture: Tensor | None) -> Tensor:
        """Return `(B, 3, H, W)`; `picture` is the coarser level's `(B, 3, H/2, W/2)`."""
        rgb: Tensor = self.conv(x, style) + self.bias.to(x.dtype)
        if picture is None or self.upsample is None:
            return rgb
        coarser: Tensor = self.upsample(picture)
        return rgb + coarser.to(rgb.dtype)


class ConstantInput(nn.Module):
    """The learned 4×4 start of the generator."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        """Return `(batch, C, 4, 4)`."""
        return self.input.expand(batch, -1, -1, -1)


class StyleGenerator(nn.Module):
    """The StyleGAN2 half: a style and one encoder feature a level in, a picture out."""

    def __init__(self, config: GpenConfig) -> None:
        super().__init__()
        style = [
            EqualLinear(STYLE_DIM, STYLE_DIM, lr_mul=0.01, activate=True) for _ in range(MLP_LAYERS)
        ]
        self.style = nn.Sequential(PixelNorm(), *style)
        width = config.channels(4)
        self.input = ConstantInput(width)
        self.conv1 = StyledConv(width, width)
        self.to_rgb1 = ToRgb(2 * width, upsample=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for level in range(3, int(math.log2(config.size)) + 1):
            previous, width = width, config.channels(2**level)
            self.convs.append(StyledConv(2 * previous, width, upsample=True))
            self.convs.append(StyledConv(2 * width, width))
            self.to_rgbs.append(ToRgb(2 * width, upsample=True))

    def forward(self, z: Tensor, features: list[Tensor]) -> Tensor:
        """Generate `(B, 3, S, S)` from `(B, 512)` and the encoder's features, finest first.

        The list is emptied from its end, so that each feature is freed after its last use.
        """
        style = self.style(z)
        feature = features.pop()
        x = self.conv1(self.input(z.shape[0]).to(feature.dtype), style, feature)
        picture: Tensor = self.to_rgb1(x, style, None)
        for level, to_rgb in enumerate(self.to_rgbs):
            noise = features.pop() if features else None
            x = self.convs[2 * level](x, style, noise)
            x = self.convs[2 * level + 1](x, style, noise)
            picture = to_rgb(x, style, picture)
        return picture


class GpenGenerator(nn.Module):
    """The whole network, any size of the family, the super-resolution variant included."""

    def __init__(self, config: GpenConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = StyleGenerator(config)
        size = config.input_size
        self._levels = int(math.log2(size)) - 1
        width = config.channels(size)
        self.ecd0 = nn.Sequential(
            nn.Sequential(EqualConv2d(3, width, 1, stride=1), FusedLeakyReLU(width))
        )
        for level in range(1, self._levels):
            previous, width = width, config.channels(size >> level)
            layer = nn.Sequential(
                Blur(pad=(2, 2)), EqualConv2d(previous, width, 3, stride=2), FusedLeakyReLU(width)
            )
            self.add_module(f"ecd{level}", nn.Sequential(layer))
        self.final_linear = nn.Sequential(EqualLinear(width * 16, STYLE_DIM, activate=True))

    def forward(self, x: Tensor) -> Tensor:
        """Restore aligned faces.

        Args:
            x: `(B, 3, in_size, in_size) float in [-1, 1] RGB`.

        Returns:
            `(B, 3, size, size)`, not clipped. Samples don't influence each other.
        """
        features = []
        for level in range(self._levels):
            x = self.get_submodule(f"ecd{level}")(x)
            features.append(x)
        z = self.final_linear(x.flatten(1))
        picture: Tensor = self.generator(z, features)
        return picture
