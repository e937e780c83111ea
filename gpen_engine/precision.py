"""Numeric precision of a forward pass: chosen by device, checked by output.

In: a device and a wish. Out: a `Precision`, the context to run under, and a check of what came
out. Layers are never converted with `.half()`: autocast keeps what overflows in float32.
"""

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum

import torch
from torch import Tensor

from gpen_engine.errors import DeviceError

_FAST_FP16 = (7, 0)
"""First CUDA capability with fast float16 (Volta); Pascal's is slower than its float32."""


class Precision(StrEnum):
    """What the network computes in."""

    FP32 = "fp32"
    FP16 = "fp16"


def choose(device: torch.device, wish: str = "auto") -> Precision:
    """Return the precision for a device: float16 autocast on CUDA from Volta on, else float32.

    Raises:
        DeviceError: `wish` is none of auto, fp32, fp16.
    """
    if wish != "auto":
        if wish not in set(Precision):
            raise DeviceError(f"the precision {wish!r} isn't one of auto, {', '.join(Precision)}")
        return Precision(wish)
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FAST_FP16:
        return Precision.FP16
    return Precision.FP32


def running(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context to run a forward pass under."""
    if precision is Precision.FP16:
        return torch.autocast(device.type, torch.float16)
    return nullcontext()


def is_sound(output: Tensor) -> Tensor:
    """Say for each sample of `(B, ...)` whether it is finite and not one constant: `(B,) bool`."""
    flat = output.float().flatten(1)
    finite = flat.isfinite().all(dim=1)
    return finite & (flat.amax(dim=1) > flat.amin(dim=1))
