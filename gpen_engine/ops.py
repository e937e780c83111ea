"""The network's primitive operations, in plain PyTorch.

In: tensors `(B, C, H, W)` or `(B, D)`, any float dtype. Out: the same. Every function is the maths
of the StyleGAN2 paper (Karras et al. 2020, "Analyzing and Improving the Image Quality of
StyleGAN"), written from `docs/gpen-network.md`. Modulated convolution is computed as "scale the
input, convolve with shared weights, scale the output", so that a batch needs no weights of its own
per sample.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its customary name

SQRT2 = math.sqrt(2.0)
_TAPS = (1.0, 3.0, 3.0, 1.0)


def blur_kernel(gain: float = 1.0) -> Tensor:
    """Return the `(4, 4)` float32 binomial kernel, summing to `gain`."""
    taps = torch.tensor(_TAPS)
    kernel = torch.outer(taps, taps)
    return kernel / kernel.sum() * gain


def blur(x: Tensor, kernel: Tensor, *, pad: tuple[int, int]) -> Tensor:
    """Filter every channel after padding `pad = (before, after)` zeros on both axes."""
    channels = x.shape[1]
    before, after = pad
    if before != after:
        x = F.pad(x, (before, after, before, after))
        before = 0
    weight = kernel.to(x.dtype).expand(channels, 1, -1, -1)
    return F.conv2d(x, weight, padding=before, groups=channels)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Double the size of `(B, C, H, W)`: zeros between samples, then a kernel that sums to 4.

    A transposed convolution of stride 2 inserts the same zeros; cropping one row and column at
    each side leaves the padding (2, 1) of the published operation.
    """
    channels = x.shape[1]
    weight = kernel.to(x.dtype).expand(channels, 1, -1, -1)
    return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


def fused_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
    """Return `sqrt(2) * leaky_relu(x + bias, 0.2)`, the bias being per channel (dimension 1)."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return F.leaky_relu(x + bias.to(x.dtype).view(shape), 0.2) * SQRT2


class PixelNorm(nn.Module):
    """Scale each sample's feature vector to unit mean square."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(B, D)` over D."""
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class FusedLeakyReLU(nn.Module):
    """Bias and leaky ReLU with the gain that keeps the variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Activate `(B, C, ...)`."""
        return fused_leaky_relu(x, self.bias)


class EqualLinear(nn.Module):
    """Linear layer with an equalised learning rate: the weight is scaled when it is used."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        lr_mul: float = 1.0,
        bias_init: float = 0.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_dim,), bias_init))
        self._scale = lr_mul / math.sqrt(in_dim)
        self._lr_mul = lr_mul
        self._activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_dim)` to `(B, out_dim)`."""
        bias = self.bias * self._lr_mul
        if self._activate:
            return fused_leaky_relu(F.linear(x, self.weight * self._scale), bias)
        return F.linear(x, self.weight * self._scale, bias)


class EqualConv2d(nn.Module):
    """Convolution with an equalised learning rate and no bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self._scale = 1.0 / math.sqrt(in_channels * kernel * kernel)
        self._stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Convolve without padding: the blur before a strided convolution has padded already."""
        return F.conv2d(x, self.weight * self._scale, stride=self._stride)


class Blur(nn.Module):
    """The binomial blur as a layer, its kernel stored as the checkpoints store it."""

    kernel: Tensor

    def __init__(self, *, pad: tuple[int, int], gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", blur_kernel(gain))
        self._pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """Blur `(B, C, H, W)`."""
        return blur(x, self.kernel, pad=self._pad)


class Upsample(nn.Module):
    """Double the size of an image with the binomial kernel."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", blur_kernel(4.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, 2H, 2W)`."""
        return upsample(x, self.kernel)


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels a style scales; the output is renormalised."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        style_dim: int,
        *,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, kernel, kernel))
        self.blur = Blur(pad=(1, 1), gain=4.0) if upsample else None
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)
        self._scale = 1.0 / math.sqrt(in_channels * kernel * kernel)
        self._padding = kernel // 2
        self._demodulate = demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Convolve `(B, Cin, H, W)` under `(B, style_dim)` to `(B, Cout, H or 2H, W or 2W)`."""
        weight = self.weight[0] * self._scale
        scale = self.modulation(style)
        x = x * scale.to(x.dtype)[:, :, None, None]
        if self.blur is None:
            x = F.conv2d(x, weight, padding=self._padding)
        else:
            x = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        if self._demodulate:
            # Autocast would turn this product back into float16, which under- and overflows.
            with torch.autocast(x.device.type, enabled=False):
                power = F.linear(scale.float().square(), weight.float().square().sum(dim=(2, 3)))
            x = x * torch.rsqrt(power + 1e-8).to(x.dtype)[:, :, None, None]
        return x
