"""A network with the step it falls back to: every answer is checked, a failing face is redone.

In: a batch of aligned faces. Out: an `Answer` a face. The lower precisions are faster and smaller,
and on some faces and cards they overflow: such a face is redone in float32, alone, by a network
that is built for it and dropped again; a small card has no room for both.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gpen_engine.batch import Answer
from gpen_engine.devices import device_errors, free_unused, pick_device
from gpen_engine.errors import OutOfMemory
from gpen_engine.networks import FaceNetwork
from gpen_engine.precision import Precision, is_sound


class PrecisionLadder:
    """One network in its chosen precision, above float32.

    Args:
        network: the network as planned.
        device: where it runs.
        in_float32: builds the same network in float32 on a device.
    """

    def __init__(
        self,
        network: FaceNetwork,
        *,
        device: torch.device,
        in_float32: Callable[[torch.device], FaceNetwork],
    ) -> None:
        self._network = network
        self._device = device
        self._in_float32 = in_float32

    def __call__(self, faces: Tensor) -> list[Answer]:
        """Restore `(B, 3, s, s) float32 in [-1, 1]`.

        Raises:
            OutOfMemory: the batch doesn't fit.
        """
        precision = self._network.precision
        output, sound = self._run(self._network, faces, self._device)
        answers = [
            Answer(face if good else None, precision)
            for face, good in zip(output, sound, strict=True)
        ]
        if precision is not Precision.FP32:
            for index in [index for index, good in enumerate(sound) if not good]:
                answers[index] = self._redo(faces[index : index + 1])
        return answers

    def _redo(self, face: Tensor) -> Answer:
        """Restore one face in float32: on the device, or on the CPU where that has no room."""
        note = ""
        try:
            output, sound = self._in_float32_on(self._device, face)
        except OutOfMemory:
            if self._device.type == "cpu":
                raise
            note = "out of memory while a face was redone in float32: the CPU did it"
        if note:
            free_unused(self._device)
            output, sound = self._in_float32_on(pick_device("cpu"), face)
        return Answer(output[0] if sound[0] else None, Precision.FP32, note)

    def _in_float32_on(self, device: torch.device, face: Tensor) -> tuple[Tensor, list[bool]]:
        with device_errors(f"the network in float32 on {device}"):
            network = self._in_float32(device)
        return self._run(network, face, device)

    @staticmethod
    def _run(
        network: FaceNetwork, faces: Tensor, device: torch.device
    ) -> tuple[Tensor, list[bool]]:
        """Return the answers on the CPU, and which of them are finite and not constant."""
        count = "one face" if len(faces) == 1 else f"{len(faces)} faces"
        what = f"{count} of {network.size} px on {device}"
        with device_errors(what), torch.inference_mode():
            output = network(faces.to(device))
            return output.cpu(), is_sound(output).tolist()
