"""The one place that imports spandrel, which reads a network off the tensors of a file.

It imports torchvision, which takes `facexlib_shim.import_torchvision` beside a CPU-only torch.
"""

import importlib
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from gpen_engine.errors import CheckpointMismatch, CheckpointUnknown
from gpen_engine.facexlib_shim import import_torchvision
from gpen_engine.precision import Precision


class ImageNetwork:
    """A network that makes a picture of a picture, as spandrel describes it.

    Args:
        descriptor: spandrel's `ImageModelDescriptor`.
        device: the network is moved there.

    Attributes:
        scale: how many times larger the picture gets.
        multiple: sides of the picture are best multiples of it.
        precisions: what it may compute in.
    """

    def __init__(self, descriptor: Any, device: torch.device) -> None:  # noqa: ANN401 - untyped
        self.scale: int = descriptor.scale
        self.multiple: int = descriptor.size_requirements.multiple_of
        self.precisions = precisions_of(descriptor)
        self._descriptor = descriptor.to(device)
        # Tiles come as channels-last; the CPU is a third faster when the weights are, too.
        descriptor.model.to(memory_format=torch.channels_last)
        descriptor.model.register_forward_hook(self._look)
        self._finite = True

    def __call__(self, picture: Tensor) -> Tensor | None:
        """Return `(1, 3, h * scale, w * scale)` in [0, 1]; None when values were no numbers."""
        answer: Tensor = self._descriptor(picture)
        return answer if self._finite else None

    def _look(self, _module: nn.Module, _input: object, output: Tensor | tuple[Tensor]) -> None:
        """Look at the answer before spandrel clips it, which makes white of infinity."""
        answer = output if isinstance(output, Tensor) else output[0]
        self._finite = bool(answer.isfinite().all())


def spandrel_module() -> ModuleType:
    """Import and return `spandrel`, usable on this machine."""
    import_torchvision()
    with warnings.catch_warnings():
        # Old calls of torch in its many networks; they concern their authors.
        warnings.simplefilter("ignore")
        return importlib.import_module("spandrel")


def precisions_of(descriptor: Any) -> frozenset[Precision]:  # noqa: ANN401 - untyped
    """Return what a network may compute in, as spandrel describes it."""
    lower = {
        Precision.FP16: descriptor.supports_half,
        Precision.BF16: descriptor.supports_bfloat16,
    }
    return frozenset({Precision.FP32, *(one for one, usable in lower.items() if usable)})


def load_network(tensors: Mapping[str, Tensor], *, name: str, device: torch.device) -> ImageNetwork:
    """Build the network that tensors belong to, in float32.

    Args:
        tensors: by name, unwrapped.
        name: the file's, for messages.
        device: where it will run.

    Raises:
        CheckpointUnknown: they are of no network that spandrel knows, or of one that doesn't turn
            an RGB picture into an RGB picture.
        CheckpointMismatch: they look like a known network's, and don't fit into it.
    """
    spandrel = spandrel_module()
    values = {key: value.float() for key, value in tensors.items()}
    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(values)
    except spandrel.UnsupportedModelError as error:
        raise CheckpointUnknown(f"{name} holds no network that spandrel knows") from error
    except (AssertionError, LookupError, RuntimeError, ValueError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointMismatch(
            f"{name} doesn't fit the network it looks like: {first}"
        ) from error
    plain = isinstance(descriptor, spandrel.ImageModelDescriptor)
    if not plain or {descriptor.input_channels, descriptor.output_channels} != {3}:
        raise CheckpointUnknown(f"{name} holds no network from RGB pictures to RGB pictures")
    descriptor.eval().model.requires_grad_(requires_grad=False)
    return ImageNetwork(descriptor, device)
