"""GFPGAN and CodeFormer as face models; their networks come from spandrel and its extra package.

In: a weights file. Out: a `FaceModel`. Both take faces of 512 px, aligned to FFHQ's template, in
[-1, 1], and answer in the same range, as their authors' programs feed and read them. spandrel's
own call isn't used: it clips the answer to [0, 1], which cuts the darker half off, and it draws
GFPGAN's noise anew at every call.
"""

import copy
import dataclasses
import importlib
import textwrap
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from gpen_engine.checkpoint import read_tensors, unwrap
from gpen_engine.errors import CheckpointMismatch, CheckpointUnknown, RestorerUnavailable
from gpen_engine.faces import Template
from gpen_engine.precision import Precision
from gpen_engine.restorers import WeightsFile
from gpen_engine.spandrel_shim import precisions_of, spandrel_module

_SIZE_PX = 512
FIDELITY = 0.7
"""CodeFormer's weight between its codebook (0) and the photograph (1).

Its authors' README gives 0.5 for aligned faces and 0.7 for whole photographs; an archive wants
the likeness.
"""
_ACTIVATION_BYTES = 850 << 20
"""Above the weights, for one face.

The tensors alive at once take 538 MiB (GFPGAN) and 561 MiB (CodeFormer), counted over a pass on
the meta device. With the workspaces of convolutions the CPU took 792 MiB for GFPGAN.
"""
_SHOWN_CHARACTERS = 200

Call = Callable[[nn.Module, Tensor], Tensor]
"""Runs a network on `(1, 3, S, S) float in [-1, 1]` and returns the same of what comes out."""


class SpandrelNetwork:
    """One of spandrel's face networks on a device.

    Faces go through one at a time: at 512 px a batch would gain little and take 540 MiB more a
    face, and this way no face's answer depends on its neighbours' to the last bit.
    """

    def __init__(
        self,
        module: nn.Module,
        call: Call,
        *,
        size: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self._module = module
        self._call = call
        self._device = device
        self.precision = precision
        self.input_size = self.size = size

    @property
    def weights_bytes(self) -> int:
        """Memory that the weights take on the device."""
        held = (*self._module.parameters(), *self._module.buffers())
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def activation_bytes(self, batch: int) -> int:
        """Return an upper bound of the memory that a forward pass takes above the weights."""
        faces = 2 * batch * 3 * self.size * self.size * 4
        return faces + _ACTIVATION_BYTES * self.size * self.size // _SIZE_PX**2

    def __call__(self, x: Tensor) -> Tensor:
        """Restore `(B, 3, size, size) float32 in [-1, 1] RGB` on the network's device.

        Returns:
            `(B, 3, size, size) float32`, not clipped.
        """
        with torch.inference_mode(), self._computing():
            restored = [
                self._call(self._module, x[index : index + 1]).float() for index in range(len(x))
            ]
        return torch.cat(restored) if restored else x.new_zeros(x.shape)

    def _computing(self) -> AbstractContextManager[object]:
        if self.precision is Precision.FP32:
            return nullcontext()
        return torch.autocast(self._device.type, self.precision.dtype)


class SpandrelModel:
    """A face network of spandrel's, with what a weights file holds.

    Args:
        module: the network, float32 on the CPU.
        call: how it is run.
        weights: the file that it was read from.
        precisions: what it computes in without overflowing; anything else becomes float32.
        size: side of its faces in pixels.
    """

    template = Template.FFHQ

    def __init__(
        self,
        module: nn.Module,
        call: Call,
        weights: WeightsFile,
        *,
        precisions: frozenset[Precision] = frozenset({Precision.FP32}),
        size: int = _SIZE_PX,
    ) -> None:
        self._module = module.eval().requires_grad_(requires_grad=False)
        self._call = call
        self._precisions = precisions
        # The networks of one device share their weights: autocast works on float32's.
        self._placed: weakref.WeakValueDictionary[torch.device, nn.Module] = (
            weakref.WeakValueDictionary()
        )
        self.name = weights.name
        self.sha256 = weights.sha256
        self.input_size = self.size = size

    def on(self, device: torch.device, precision: Precision) -> SpandrelNetwork:
        """Return the network on a device, ready to run."""
        module = self._module if device.type == "cpu" else self._placed.get(device)
        if module is None:
            module = copy.deepcopy(self._module).to(device)
            self._placed[device] = module
        usable = precision if precision in self._precisions else Precision.FP32
        return SpandrelNetwork(module, self._call, size=self.size, device=device, precision=usable)


def gfpgan(weights: WeightsFile) -> SpandrelModel:
    """Load GFPGAN, version 1.2 to 1.4.

    Raises:
        CheckpointCorrupt: the file can't be read.
        CheckpointUnknown: it isn't GFPGAN's.
        CheckpointMismatch: tensors are missing, too many, or of other shapes.
    """
    return _load(weights, spandrel_module().MAIN_REGISTRY["GFPGAN"].architecture, run_gfpgan)


def codeformer(weights: WeightsFile, *, fidelity: float = FIDELITY) -> SpandrelModel:
    """Load CodeFormer.

    Args:
        weights: the file.
        fidelity: 0 trusts the network's own idea of a face, 1 the photograph. Another one than
            usual becomes part of the model's name, for it decides pixels.

    Raises:
        RestorerUnavailable: `spandrel_extra_arches` isn't installed.
        CheckpointCorrupt: the file can't be read.
        CheckpointUnknown: it isn't CodeFormer's.
        CheckpointMismatch: tensors are missing, too many, or of other shapes.
    """
    architecture = _extra_architectures().EXTRA_REGISTRY["CodeFormer"].architecture

    def run(module: nn.Module, face: Tensor) -> Tensor:
        return run_codeformer(module, face, fidelity)

    if fidelity != FIDELITY:
        weights = dataclasses.replace(weights, name=f"{weights.name} fidelity {fidelity:g}")
    return _load(weights, architecture, run)


def run_gfpgan(module: nn.Module, face: Tensor) -> Tensor:
    """Run GFPGAN with the noise that its file holds, not a new one: the same face, the same answer.

    The pictures that it could make on the way, of its levels, are left out.
    """
    restored: Tensor = module(face, return_rgb=False, randomize_noise=False)[0]
    return restored


def run_codeformer(module: nn.Module, face: Tensor, fidelity: float) -> Tensor:
    """Run CodeFormer; `weight` is what spandrel calls the fidelity."""
    restored: Tensor = module(face, weight=fidelity)[0]
    return restored


def _extra_architectures() -> ModuleType:
    spandrel_module()  # the extra package imports spandrel by itself, which fails where ours works
    try:
        with warnings.catch_warnings():
            # Its networks use what torch means to do away with; that concerns its authors.
            warnings.simplefilter("ignore")
            return importlib.import_module("spandrel_extra_arches")
    except ImportError as error:
        raise RestorerUnavailable(
            "CodeFormer's network isn't installed; it is under the S-Lab licence, for "
            "non-commercial use only: pip install '.[codeformer]' in a checkout of gpen-archive"
        ) from error


def _load(weights: WeightsFile, architecture: Any, call: Call) -> SpandrelModel:  # noqa: ANN401
    tensors = unwrap(read_tensors(weights.path), name=weights.path.name)
    tensors = {key: tensor.float() for key, tensor in tensors.items()}
    if not architecture.detect(tensors):
        shown = ", ".join(sorted(tensors)[:3])
        raise CheckpointUnknown(
            f"{weights.path.name} holds no {architecture.name}: "
            f"found {len(tensors)} tensors such as {shown}"
        )
    try:
        with torch.device("meta"), warnings.catch_warnings():
            # The network is built without its 350 MB of random weights; spandrel's own load then
            # copies nothing, says so, and still compares all names and shapes.
            warnings.simplefilter("ignore")
            descriptor = architecture.load(tensors)
        descriptor.model.load_state_dict(tensors, assign=True)
    except (RuntimeError, KeyError, IndexError) as error:
        raise CheckpointMismatch(
            f"{weights.path.name} looks like {architecture.name} and doesn't fit: {_first(error)}"
        ) from error
    return SpandrelModel(descriptor.model, call, weights, precisions=precisions_of(descriptor))


def _first(error: Exception) -> str:
    """Return the fault itself: torch puts the network's class before it, and may list every key."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return textwrap.shorten(lines[1] if len(lines) > 1 else lines[0], _SHOWN_CHARACTERS)
