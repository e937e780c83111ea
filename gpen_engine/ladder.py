"""A network with the step it falls back to: every answer is checked, a failing face is redone.

In: a batch of aligned faces. Out: an `Answer` a face. The lower precisions are faster and smaller,
and on some faces and cards they overflow: such a face is redone in float32, alone, by a network
that is built for it and dropped again, since a small card has no room for both.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gpen_engine.batch import Answer
from gpen_engine.devices import device_errors
from gpen_engine.networks import FaceNetwork
from gpen_engine.precision import Precision, is_sound


class PrecisionLadder:
    """One network in its chosen precision, above float32.

    Args:
        network: the network as planned.
        precision: what it computes in.
        device: where it runs.
        in_float32: builds the same network in float32 on the same device.
    """

    def __init__(
        self,
        network: FaceNetwork,
        precision: Precision,
        *,
        device: torch.device,
        in_float32: Callable[[], FaceNetwork],
    ) -> None:
        self._network = network
        self._precision = precision
        self._device = device
        self._in_float32 = in_float32

    def __call__(self, faces: Tensor) -> list[Answer]:
        """Restore `(B, 3, s, s) float32 in [-1, 1]`.

        Raises:
            OutOfMemory: the batch doesn't fit.
        """
        count = "one face" if len(faces) == 1 else f"{len(faces)} faces"
        what = f"{count} of {self._network.size} px on {self._device}"
        with device_errors(what), torch.inference_mode():
            faces = faces.to(self._device)
            output = self._network(faces)
            sound = is_sound(output).tolist()
            answers = [
                Answer(face, self._precision) if good else Answer(None, self._precision)
                for face, good in zip(output.cpu(), sound, strict=True)
            ]
            failed = [index for index, good in enumerate(sound) if not good]
            if failed and self._precision is not Precision.FP32:
                again = self._in_float32()
                for index in failed:
                    answers[index] = _redo(again, faces[index : index + 1])
        return answers


def _redo(network: FaceNetwork, face: Tensor) -> Answer:
    output = network(face)
    good = bool(is_sound(output).all())
    return Answer(output[0].cpu() if good else None, Precision.FP32)
