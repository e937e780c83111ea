"""The primitive operations against formulas written out plainly."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - its customary name

from gpen_engine.ops import (
    EqualConv2d,
    EqualLinear,
    ModulatedConv2d,
    PixelNorm,
    blur,
    blur_kernel,
    fused_leaky_relu,
    upsample,
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(5)


def upfirdn(x, kernel, *, up=1, pad=(0, 0)):
    """Insert zeros after each sample, pad, and convolve with the flipped kernel: loops only."""
    batch, channels, height, width = x.shape
    spread = np.zeros((batch, channels, height * up, width * up))
    spread[:, :, ::up, ::up] = x.numpy()
    spread = np.pad(spread, ((0, 0), (0, 0), pad, pad))
    flipped = kernel.numpy()[::-1, ::-1]
    rows, columns = spread.shape[2] - 3, spread.shape[3] - 3
    result = np.zeros((batch, channels, rows, columns))
    for row in range(rows):
        for column in range(columns):
            window = spread[:, :, row : row + 4, column : column + 4]
            result[:, :, row, column] = (window * flipped).sum(axis=(2, 3))
    return torch.from_numpy(result).float()


def test_the_kernel_is_the_binomial_of_three():
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])

    assert torch.equal(blur_kernel(), torch.outer(taps, taps) / 64)
    assert blur_kernel(4.0).sum() == 4.0


@pytest.mark.parametrize("pad", [(2, 2), (1, 1), (2, 1), (0, 1)])
def test_blur_pads_with_zeros_and_convolves(pad):
    x = torch.randn(2, 3, 6, 7)
    # An asymmetric kernel would be flipped; all the network's are symmetric.
    expected = upfirdn(x, blur_kernel(), pad=pad)

    torch.testing.assert_close(blur(x, blur_kernel(), pad=pad), expected, rtol=0, atol=1e-6)


def test_upsampling_inserts_zeros_and_convolves():
    x = torch.randn(2, 3, 5, 6)
    expected = upfirdn(x, blur_kernel(4.0), up=2, pad=(2, 1))

    result = upsample(x, blur_kernel(4.0))

    assert result.shape == (2, 3, 10, 12)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


def test_upsampling_keeps_a_constant_away_from_the_border():
    result = upsample(torch.full((1, 1, 8, 8), 0.7), blur_kernel(4.0))

    torch.testing.assert_close(result[..., 2:-2, 2:-2], torch.full((1, 1, 12, 12), 0.7))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3, 3)])
def test_the_activation_adds_a_bias_per_channel_and_keeps_the_variance(shape):
    x, bias = torch.randn(shape), torch.randn(4)
    biased = x + bias.reshape(-1, *[1] * (len(shape) - 2))
    expected = torch.where(biased > 0, biased, 0.2 * biased) * math.sqrt(2)

    torch.testing.assert_close(fused_leaky_relu(x, bias), expected)


def test_pixel_norm_gives_every_sample_unit_mean_square():
    x = torch.randn(3, 512) * torch.tensor([[0.1], [1.0], [40.0]])

    torch.testing.assert_close(
        PixelNorm()(x).square().mean(dim=1), torch.ones(3), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("activate", [False, True])
def test_a_linear_layer_scales_its_weight_and_bias_when_used(activate):
    layer = EqualLinear(6, 4, lr_mul=0.01, bias_init=2.0, activate=activate)
    x = torch.randn(3, 6)
    sums = x @ (layer.weight * 0.01 / math.sqrt(6)).T + 0.01 * layer.bias
    expected = F.leaky_relu(sums, 0.2) * math.sqrt(2) if activate else sums

    torch.testing.assert_close(layer(x), expected)
    assert torch.equal(layer.bias, torch.full((4,), 2.0))


def test_a_convolution_scales_its_weight_when_used():
    layer = EqualConv2d(3, 5, 3, stride=2)
    x = torch.randn(2, 3, 9, 9)

    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight / math.sqrt(27), stride=2))


def modulated(layer, x, style, *, demodulate, upsample):
    """The published form: a weight of its own for each sample."""
    kernel = layer.weight.shape[-1]
    outputs = []
    for sample, one in zip(x, style, strict=True):
        scale = layer.modulation(one[None])[0]
        weight = layer.weight[0] / math.sqrt(x.shape[1] * kernel**2) * scale[None, :, None, None]
        if demodulate:
            weight = weight / torch.sqrt(weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        if upsample:
            wide = F.conv_transpose2d(sample[None], weight.transpose(0, 1), stride=2)
            outputs.append(upfirdn(wide.detach(), blur_kernel(4.0), pad=(1, 1)))
        else:
            outputs.append(F.conv2d(sample[None], weight, padding=kernel // 2))
    return torch.cat(outputs)


@pytest.mark.parametrize(
    ("kernel", "demodulate", "upsample"), [(3, True, False), (3, True, True), (1, False, False)]
)
def test_a_shared_weight_gives_what_a_weight_per_sample_gives(kernel, demodulate, upsample):
    layer = ModulatedConv2d(6, 4, kernel, 16, demodulate=demodulate, upsample=upsample)
    x, style = torch.randn(3, 6, 5, 5), torch.randn(3, 16)
    expected = modulated(layer, x, style, demodulate=demodulate, upsample=upsample)

    with torch.no_grad():
        result = layer(x, style)

    assert result.shape[-1] == (10 if upsample else 5)
    torch.testing.assert_close(result, expected.detach(), rtol=1e-5, atol=1e-5)


def test_an_untrained_modulation_changes_nothing():
    layer = ModulatedConv2d(6, 4, 3, 16)

    assert torch.equal(layer.modulation(torch.zeros(1, 16)), torch.ones(1, 6))


@pytest.mark.parametrize("strength", [1e-4, 1.0, 300.0])
def test_demodulation_survives_float16(strength):
    layer = ModulatedConv2d(64, 32, 3, 16).requires_grad_(requires_grad=False)
    layer.modulation.bias.fill_(strength)
    x, style = torch.randn(1, 64, 8, 8), torch.zeros(1, 16)
    expected = layer(x, style)

    with torch.autocast("cpu", torch.float16):
        result = layer(x, style)

    torch.testing.assert_close(result.float(), expected, rtol=0.02, atol=0.02)
