"""What the engine asks of a face network, whichever it is: GPEN itself or a plug-in.

A `FaceModel` is what a weights file holds, on the CPU in float32. A `FaceNetwork` is that model on
one device in one precision: aligned faces in, restored faces out.
"""

from typing import Protocol

import torch
from torch import Tensor

from gpen_engine.checkpoint import LoadedGenerator
from gpen_engine.faces import Template
from gpen_engine.inference import PreparedGenerator
from gpen_engine.precision import Precision


class FaceNetwork(Protocol):
    """One network on one device in one precision."""

    @property
    def input_size(self) -> int:
        """Side of the aligned face that goes in, in pixels."""
        ...

    @property
    def size(self) -> int:
        """Side of the face that comes out, in pixels."""
        ...

    @property
    def precision(self) -> Precision:
        """What it computes in; not what was asked for, where it can't do that."""
        ...

    @property
    def weights_bytes(self) -> int:
        """Memory that the weights take on the device."""
        ...

    def activation_bytes(self, batch: int) -> int:
        """Return an upper bound of the memory that a forward pass takes above the weights."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Restore `(B, 3, input_size, input_size) float32 in [-1, 1] RGB` on the network's device.

        Returns:
            `(B, 3, size, size) float32`, not clipped. Samples don't influence each other.
        """
        ...


class FaceModel(Protocol):
    """What a weights file holds."""

    @property
    def name(self) -> str:
        """Name of the weights, for sidecars and sheets."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of the file."""
        ...

    @property
    def template(self) -> Template:
        """Where the network wants the landmarks."""
        ...

    @property
    def input_size(self) -> int:
        """Side of the aligned face that goes in, in pixels."""
        ...

    @property
    def size(self) -> int:
        """Side of the face that comes out, in pixels."""
        ...

    def on(self, device: torch.device, precision: Precision) -> FaceNetwork:
        """Return the network on a device, ready to run."""
        ...


class GpenModel:
    """A GPEN generator as a `FaceModel`."""

    template = Template.GPEN

    def __init__(self, generator: LoadedGenerator, *, name: str) -> None:
        self._generator = generator
        self.name = name
        self.sha256 = generator.sha256

    @property
    def input_size(self) -> int:
        """Side of the aligned face that goes in, in pixels."""
        return self._generator.model.config.input_size

    @property
    def size(self) -> int:
        """Side of the face that comes out, in pixels."""
        return self._generator.model.config.size

    def on(self, device: torch.device, precision: Precision) -> PreparedGenerator:
        """Return the network on a device, ready to run."""
        return PreparedGenerator(self._generator.model, device=device, precision=precision)
