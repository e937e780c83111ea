"""Numeric precision of a forward pass: chosen by device, checked by output.

In: a device and a wish. Out: a `Precision`, and a check of what came out.
"""

from enum import StrEnum

import torch
from torch import Tensor

from gpen_engine.errors import DeviceError

_FAST_FP16 = (7, 0)
"""First CUDA capability with fast float16 (Volta); Pascal's is slower than its float32."""


class Precision(StrEnum):
    """What the network's convolutions compute in."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    @property
    def dtype(self) -> torch.dtype:
        """The tensors' type."""
        return _DTYPES[self]


_DTYPES = {
    Precision.FP32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}


def choose(device: torch.device, wish: str = "auto") -> Precision:
    """Return the precision for a device: float16 on CUDA from Volta on, else float32.

    bfloat16 is only taken when it is asked for. Cards that have it have float16 as well, which is
    as fast and keeps three more bits: with the compact network on real crops float16 differs from
    float32 by 77 dB or more, bfloat16 by 58 dB. On a CPU with AVX512-BF16 or AMX it takes about
    half the time of float32, but one or two grey levels would then depend on the machine.

    Raises:
        DeviceError: `wish` is none of auto, fp32, fp16, bf16.
    """
    if wish != "auto":
        if wish not in set(Precision):
            raise DeviceError(f"the precision {wish!r} isn't one of auto, {', '.join(Precision)}")
        return Precision(wish)
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FAST_FP16:
        return Precision.FP16
    return Precision.FP32


def is_sound(output: Tensor) -> Tensor:
    """Say for each sample of `(B, ...)` whether it is finite and not one constant: `(B,) bool`."""
    flat = output.float().flatten(1)
    finite = flat.isfinite().all(dim=1)
    return finite & (flat.amax(dim=1) > flat.amin(dim=1))
