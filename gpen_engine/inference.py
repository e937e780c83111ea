"""The GPEN forward pass, prepared once for one device and one precision.

In: a `GpenGenerator`, which stays as it is. Out: the same function, faster and in less memory.
`model.py` is the plain description; here everything constant is folded into the weights
beforehand, and every level works in buffers that are already there:

* The scale of the equalised learning rate is part of the weights, and so is the gain sqrt(2): the
  leaky ReLU is homogeneous, `a·lrelu(x) = lrelu(a·x)` for a > 0.
* A modulated convolution is "scale the input, convolve with shared weights, scale the output"
  (Karras et al. 2020, section 2.2): a batch needs no weights per sample.
* Output scale, bias and the concatenation of the noise are one pass into the level's buffer of 2C
  channels; a layer that keeps the shape writes back into the buffer that it has read.
* A feature of the encoder is freed after its last use. Everything is channels-last.

Below float32, only convolutions and what they read and write are converted, as autocast would, but
once: the style network, the demodulation and the running picture stay float32, where they neither
overflow nor lose what they sum up. What a convolution reads and writes is kept far from float16's
limits: a style is divided by its largest value, a filter by its norm, and the demodulation
multiplies by both again. The function stays the same.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its customary name

from gpen_engine.model import MLP_LAYERS, GpenGenerator, draw_noise
from gpen_engine.ops import SQRT2, blur_kernel
from gpen_engine.precision import Precision

_EPSILON = 1e-8
_MLP_LR_MUL = 0.01
_SCRATCH_BYTES = 80 << 20
"""What the libraries take for themselves, code included: measured with oneDNN at 512 px."""


class PreparedGenerator:
    """A GPEN network ready to run on one device in one precision: a `FaceNetwork`."""

    def __init__(self, model: GpenGenerator, *, device: torch.device, precision: Precision) -> None:
        """Prepare the weights; `model` isn't changed, and not needed any more afterwards."""
        self._config = config = model.config
        self._device = device
        self._precision = precision
        self._dtype = precision.dtype
        weights = _Weights(model, device=device, dtype=precision.dtype)
        with torch.no_grad():
            self._encoder = [
                _EncoderLevel(weights, f"ecd{index}")
                for index, _ in enumerate(_sides(config.input_size))
            ]
            self._levels = [_Level(weights, index) for index, _ in enumerate(_sides(config.size))]
            names = [name for level in self._levels for name in level.names]
            self._styles = _Styles(weights, names)
            self._constant = weights.fast(weights["generator.input.input"])
            self._drawn = [
                weights.fast(draw_noise(config.channels(side), side))
                for side in reversed(_sides(config.size))
                if side > config.input_size
            ]
        self._weights_bytes = weights.kept_bytes

    @property
    def input_size(self) -> int:
        """Side of the aligned face that goes in, in pixels."""
        return self._config.input_size

    @property
    def size(self) -> int:
        """Side of the face that comes out, in pixels."""
        return self._config.size

    @property
    def precision(self) -> Precision:
        """What its convolutions compute in."""
        return self._precision

    @property
    def weights_bytes(self) -> int:
        """Memory that the weights take on the device."""
        return self._weights_bytes

    def activation_bytes(self, batch: int) -> int:
        """Return an upper bound of the memory that a forward pass takes above the weights.

        It counts every tensor alive at the worst moment. At a level those are the features that are
        still needed, the coarser picture, and three buffers, or two and the level's picture twice.
        """
        config, item = self._config, self._dtype.itemsize
        # A transposed convolution's output has a row and a column more than its level.
        buffers = {
            side: config.channels(side) * (side + 1) ** 2 * item for side in _sides(config.size)
        }
        features = {side: buffers[side] for side in _sides(config.input_size)}
        encoding = sum(features.values()) + buffers[config.input_size]
        generating = 0
        for side, buffer in buffers.items():
            picture = 3 * side**2 * torch.float32.itemsize
            kept = sum(feature for other, feature in features.items() if other >= side)
            work = max(3 * buffer, 2 * buffer + 2 * picture) + picture // 4
            generating = max(generating, kept + work)
        at_once = self._at_once(batch)
        sample = max(encoding, generating) + self._styles.activation_bytes
        answers = 2 * batch * picture if at_once < batch else 0
        return at_once * sample + answers + _SCRATCH_BYTES

    def __call__(self, x: Tensor) -> Tensor:
        """Restore aligned faces.

        Args:
            x: `(B, 3, input_size, input_size) float32 in [-1, 1] RGB` on the network's device.

        Returns:
            `(B, 3, size, size) float32`, not clipped. Samples don't influence each other.
        """
        with torch.inference_mode(), _exact_cudnn():
            parts = [self._forward(part) for part in torch.split(x, self._at_once(len(x)))]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _at_once(self, batch: int) -> int:
        """Return how many faces of a batch go through together.

        On a CPU it is one: more gain nothing there and take their memory, and one by one the bits
        don't depend on the grouping.
        """
        return 1 if self._device.type == "cpu" else max(1, batch)

    def _forward(self, x: Tensor) -> Tensor:
        batch = len(x)
        x = x.to(self._dtype, memory_format=torch.channels_last)
        features = [noise.expand(batch, -1, -1, -1) for noise in self._drawn]
        for encode in self._encoder:
            x = encode(x)
            features.append(x)
        styles = iter(self._styles(x))
        x = self._constant.expand(batch, -1, -1, -1).clone(memory_format=torch.channels_last)
        # Nothing, enlarged, is nothing: the first level needs no case of its own.
        picture = torch.zeros(batch, 2, 2, 3, device=x.device).permute(0, 3, 1, 2)
        for level in self._levels:
            feature = features.pop()
            for conv in level.convs:
                scale, demodulation = conv.modulate(next(styles))
                buffer = x if conv.keeps_shape else None
                x = conv.convolve(x, scale)
                x = conv.activate(x, demodulation, feature, buffer)
            picture = level.to_rgb(x, next(styles), picture)
        return picture


class _Weights:
    """A network's tensors: read by their names in checkpoints, kept on the device, counted."""

    def __init__(self, model: GpenGenerator, *, device: torch.device, dtype: torch.dtype) -> None:
        self._tensors: Mapping[str, Tensor] = model.state_dict()
        self._device = device
        self._dtype = dtype
        self.kept_bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor as it is stored, in float32."""
        return self._tensors[name].float()

    def fast(self, tensor: Tensor) -> Tensor:
        """Keep a tensor in the running precision."""
        return self._keep(tensor, self._dtype)

    def exact(self, tensor: Tensor) -> Tensor:
        """Keep a tensor in float32."""
        return self._keep(tensor, torch.float32)

    def _keep(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        kept = tensor.to(self._device, dtype, copy=True).contiguous(memory_format=layout)
        self.kept_bytes += kept.nbytes
        return kept


class _EncoderLevel:
    """Blur and strided 3×3 convolution (at the first level a 1×1 one), bias, activation."""

    def __init__(self, weights: _Weights, name: str) -> None:
        kernel = f"{name}.0.0.kernel"
        self._downsample = kernel in weights
        first = int(self._downsample)
        weight = _equalised(weights[f"{name}.0.{first}.weight"])
        self._weight = weights.fast(weight * SQRT2)
        self._bias = weights.fast(weights[f"{name}.0.{first + 1}.bias"] * SQRT2)
        if self._downsample:
            self._blur = weights.fast(weights[kernel].expand(weight.shape[1], 1, -1, -1))

    def __call__(self, x: Tensor) -> Tensor:
        """Map `(B, Cin, H, W)` to `(B, Cout, H/2, W/2)`, at the first level to `(…, H, W)`."""
        if not self._downsample:
            return _activate_(F.conv2d(x, self._weight, self._bias))
        x = F.conv2d(x, self._blur, padding=2, groups=x.shape[1])
        return _activate_(F.conv2d(x, self._weight, self._bias, stride=2))


class _Styles:
    """From the deepest feature to the style of every layer, in float32.

    The layers' modulations are one matrix, so that they are one product.
    """

    def __init__(self, weights: _Weights, layers: list[str]) -> None:
        self._first = _Linear(weights, "final_linear.0")
        self._others = [
            _Linear(weights, f"generator.style.{index}", lr_mul=_MLP_LR_MUL)
            for index in range(1, MLP_LAYERS + 1)
        ]
        matrices = [weights[f"{layer}.conv.modulation.weight"] for layer in layers]
        biases = [weights[f"{layer}.conv.modulation.bias"] for layer in layers]
        self._widths = [len(matrix) for matrix in matrices]
        self._modulation = weights.exact(_equalised(torch.cat(matrices)))
        self._bias = weights.exact(torch.cat(biases))

    @property
    def activation_bytes(self) -> int:
        """Upper bound of what one sample's styles, and what is made of them, take."""
        return 4 * self._bias.nbytes

    def __call__(self, feature: Tensor) -> tuple[Tensor, ...]:
        """Map `(B, C, 4, 4)` to each layer's `(B, Cin)`."""
        z = self._first(feature.float().flatten(1))
        z = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + _EPSILON)
        for linear in self._others:
            z = linear(z)
        styles: tuple[Tensor, ...] = torch.split(
            F.linear(z, self._modulation, self._bias), self._widths, dim=1
        )
        return styles


class _Linear:
    """Linear layer and activation, in float32."""

    def __init__(self, weights: _Weights, name: str, *, lr_mul: float = 1.0) -> None:
        gain = lr_mul * SQRT2
        self._weight = weights.exact(_equalised(weights[f"{name}.weight"]) * gain)
        self._bias = weights.exact(weights[f"{name}.bias"] * gain)

    def __call__(self, x: Tensor) -> Tensor:
        """Map `(B, in)` to `(B, out)`."""
        return _activate_(F.linear(x, self._weight, self._bias))


class _Level:
    """The layers of one resolution: one convolution at 4 px, two at every other, and a picture."""

    def __init__(self, weights: _Weights, index: int) -> None:
        names = ["conv1", "to_rgb1"]
        if index:
            names = [f"convs.{2 * index - 2}", f"convs.{2 * index - 1}", f"to_rgbs.{index - 1}"]
        self.names = [f"generator.{name}" for name in names]
        self.convs = [_StyledConv(weights, name) for name in self.names[:-1]]
        self.to_rgb = _ToRgb(weights, self.names[-1])


class _StyledConv:
    """Modulated 3×3 convolution, concatenated noise, activation: `2·Cout` channels come out."""

    def __init__(self, weights: _Weights, name: str) -> None:
        kernel = f"{name}.conv.blur.kernel"
        self._upsample = kernel in weights
        weight = _equalised(weights[f"{name}.conv.weight"][0])
        power = weight.square().sum(dim=(2, 3))
        norm = power.sum(dim=1).sqrt()
        norm = torch.where(norm > 0, norm, 1.0)
        weight = weight / norm[:, None, None, None]
        self.keeps_shape = not self._upsample and weight.shape[1] == 2 * weight.shape[0]
        self._power = weights.exact(power)
        self._gain = weights.exact(norm * SQRT2)
        self._weight = weights.fast(weight.transpose(0, 1) if self._upsample else weight)
        if self._upsample:
            self._blur = weights.fast(weights[kernel].expand(len(weight), 1, -1, -1))
        bias = weights[f"{name}.activate.bias"] * SQRT2
        self._bias, self._noise_bias = weights.fast(bias[None, :, None, None]).chunk(2, dim=1)
        self._noise_weight = weights.fast(weights[f"{name}.noise.weight"] * SQRT2)

    def modulate(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """Turn a style `(B, Cin)` into the convolution's input scale and its output scale."""
        largest = style.abs().amax(dim=1, keepdim=True).clamp_min(_EPSILON)
        power = F.linear(style.square(), self._power)
        return style / largest, torch.rsqrt(power + _EPSILON) * self._gain * largest

    def convolve(self, x: Tensor, scale: Tensor) -> Tensor:
        """Map `(B, Cin, H, W)`, which is overwritten, to `(B, Cout, H or 2H, W or 2W)`."""
        x.mul_(scale.to(x.dtype)[:, :, None, None])
        if not self._upsample:
            return F.conv2d(x, self._weight, padding=1)
        x = F.conv_transpose2d(x, self._weight, stride=2)
        return F.conv2d(x, self._blur, padding=1, groups=x.shape[1])

    def activate(self, x: Tensor, scale: Tensor, noise: Tensor, buffer: Tensor | None) -> Tensor:
        """Scale, concatenate the noise, activate.

        Args:
            x: `(B, C, H, W)`, what `convolve` has returned.
            scale: `(B, C)`, the output scale.
            noise: `(B, C, H, W)`.
            buffer: `(B, 2C, H, W)` to write the result to; None for a new one.
        """
        if buffer is None:
            batch, channels, height, width = x.shape
            buffer = x.new_empty(batch, height, width, 2 * channels).permute(0, 3, 1, 2)
        half, noise_half = buffer.chunk(2, dim=1)
        torch.addcmul(self._bias, x, scale.to(x.dtype)[:, :, None, None], out=half)
        torch.addcmul(self._noise_bias, noise, self._noise_weight, out=noise_half)
        return _activate_(buffer)


class _ToRgb:
    """Adds one level's picture to the running picture, which is float32."""

    def __init__(self, weights: _Weights, name: str) -> None:
        stored = f"{name}.upsample.kernel"
        kernel = weights[stored] if stored in weights else blur_kernel(4.0)
        self._kernel = weights.exact(kernel.expand(3, 1, -1, -1))
        self._weight = weights.exact(_equalised(weights[f"{name}.conv.weight"][0]).flatten(1))
        self._bias = weights.exact(weights[f"{name}.bias"].flatten())

    def __call__(self, x: Tensor, style: Tensor, picture: Tensor) -> Tensor:
        """Return `(B, 3, H, W)` for the level's `(B, 2C, H, W)` and the coarser `(B, 3, H/2, W/2)`.

        Three rows a sample are so few that the style goes into the weights here, not into `x`.
        """
        weight = (self._weight * style[:, None]).to(x.dtype)
        pixels = x.permute(0, 2, 3, 1)
        rgb = torch.matmul(pixels.flatten(1, 2), weight.mT).view(*pixels.shape[:3], 3)
        finer = F.conv_transpose2d(picture, self._kernel, self._bias, stride=2, padding=1, groups=3)
        return finer.add_(rgb.permute(0, 3, 1, 2))


def _exact_cudnn() -> AbstractContextManager[None]:
    """Return the context in which cuDNN gives the same bits each time, and float32 is no TF32."""
    return torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    )


def _sides(size: int) -> list[int]:
    """Return the levels' resolutions in pixels, 4 to `size`."""
    return [4 << level for level in range(int(math.log2(size)) - 1)]


def _equalised(weight: Tensor) -> Tensor:
    """Fold in the equalised learning rate: one over the root of how many values are summed up."""
    return weight / math.sqrt(weight[0].numel())


def _activate_(x: Tensor) -> Tensor:
    """Apply the leaky ReLU in place; its gain is part of the weights."""
    return F.leaky_relu_(x, 0.2)
