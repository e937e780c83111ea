"""The engine: a picture in, a `Restoration` out. Detect, align, forward, paste.

In: `(H, W, 3) uint8|uint16 RGB`, upright. Out: the same shape and dtype. Torch's door is
`restore_faces`.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpen_engine.align import crop, similarity
from gpen_engine.blend import Patch, make_patch, paste
from gpen_engine.checkpoint import LoadedGenerator
from gpen_engine.detect import Detector, DetectorIdentity
from gpen_engine.errors import DeviceError, ImageError, OutOfMemory
from gpen_engine.faces import Face, FaceOutcome, FacePolicy, Pixels, Reason, Restoration
from gpen_engine.mask import soft_face_mask
from gpen_engine.precision import Precision, is_sound, running

_BATCH = 8
_DOUBTFUL = 0.8
"""Finds down to this share of the policy's score are listed, with a reason, but not restored."""


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Everything about an engine that decides pixels, for the sidecar."""

    weights: str
    weights_sha256: str
    size: int
    detector: DetectorIdentity
    device: str
    precision: Precision


class Restorer:
    """One network and one detector on one device; threads may share it."""

    def __init__(
        self,
        *,
        generator: LoadedGenerator,
        detector: Detector,
        device: torch.device,
        precision: Precision,
        name: str,
    ) -> None:
        with _device_errors(f"the weights on {device}"):
            self._model = generator.model.to(device)
        self._detector = detector
        self._device = device
        self._precision = precision
        self._mask = soft_face_mask(self.size)
        self._lock = threading.Lock()
        self.identity = EngineIdentity(
            weights=name,
            weights_sha256=generator.sha256,
            size=self.size,
            detector=detector.identity,
            device=_device_name(device),
            precision=precision,
        )

    @property
    def size(self) -> int:
        """Side of an aligned face in pixels."""
        return self._model.config.size

    def restore(self, image: Pixels, policy: FacePolicy | None = None) -> Restoration:
        """Restore every face of a picture that the policy lets through.

        Args:
            image: `(H, W, 3) uint8|uint16 RGB`, upright; it isn't changed.
            policy: which faces, how strongly.

        Raises:
            ImageError: the array isn't such a picture.
            OutOfMemory: a single face doesn't fit on the device.
        """
        _check(image)
        policy = policy or FacePolicy()
        timings: dict[str, float] = {}
        with _timed(timings, "detect"):
            outcomes = _refusals(self._detect(image, policy.min_score * _DOUBTFUL), policy)
        chosen = [face for face, reason in outcomes.items() if reason is None]
        with _timed(timings, "align"):
            crops = [_aligned(image, face, self._input_size) for face in chosen]
        with _timed(timings, "forward"):
            restored, redone = self._forward_pixels(crops, float(np.iinfo(image.dtype).max))
        with _timed(timings, "paste"):
            patches = self._patches(image, chosen, crops, restored, policy.strength)
            result = paste(image, [patch for patch in patches if patch is not None])
        done = {
            face: FaceOutcome(face, restored=False, reason=Reason.BAD_OUTPUT)
            if patch is None
            else FaceOutcome(
                face,
                restored=True,
                region=patch.region,
                detail=patch.detail,
                redone_in_float32=again,
            )
            for face, patch, again in zip(chosen, patches, redone, strict=True)
        }
        faces = tuple(
            done.get(face) or FaceOutcome(face, restored=False, reason=reason)
            for face, reason in outcomes.items()
        )
        return Restoration(result, faces, timings)

    def restore_faces(self, x: Tensor) -> Tensor:
        """Run the network on aligned faces.

        Args:
            x: `(B, 3, S, S) float in [-1, 1] RGB`, on any device.

        Returns:
            `(B, 3, S, S) float32` on the engine's device, clipped to [-1, 1]; results don't depend
            on the grouping.

        Raises:
            ImageError: another shape or an integer tensor.
            OutOfMemory: a single face doesn't fit on the device.
        """
        side = self._input_size
        if x.ndim != 4 or x.shape[1:] != (3, side, side) or not x.is_floating_point():
            raise ImageError(
                f"aligned faces are (B, 3, {side}, {side}) float, not {tuple(x.shape)} {x.dtype}"
            )
        if not len(x):
            return x.new_zeros((0, 3, self.size, self.size), dtype=torch.float32)
        return torch.cat([output.clamp(-1, 1) for output, _ in self._forward(x)])

    @property
    def _input_size(self) -> int:
        return self._model.config.input_size

    def _detect(self, image: Pixels, min_score: float) -> list[Face]:
        with _device_errors(f"the face detector on {self._device}"), self._lock:
            return self._detector.detect(image, min_score=min_score)

    def _forward_pixels(
        self, crops: Sequence[NDArray[np.float32]], top: float
    ) -> tuple[list[NDArray[np.float32] | None], list[bool]]:
        """Restore crops given in levels 0 to `top`; None stands for an unusable output."""
        if not crops:
            return [], []
        stack = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        restored: list[NDArray[np.float32] | None] = []
        redone: list[bool] = []
        for output, again in self._forward(stack * (2.0 / top) - 1.0):
            levels = (output.clamp(-1, 1) + 1.0) * (top / 2.0)
            pixels = levels.permute(0, 2, 3, 1).cpu().numpy()
            sound = is_sound(output).tolist()
            restored += [face if good else None for face, good in zip(pixels, sound, strict=True)]
            redone += again
        return restored, redone

    def _forward(self, x: Tensor) -> Iterator[tuple[Tensor, list[bool]]]:
        """Yield outputs batch by batch, in order, and which samples were redone in float32.

        A batch that doesn't fit is halved, down to single faces.
        """
        start, batch = 0, _BATCH
        while start < len(x):
            part = x[start : start + batch].to(self._device, torch.float32)
            try:
                where = f"one face of {self.size} px on {self._device}"
                with _device_errors(where), self._lock, torch.inference_mode():
                    result = self._checked(part)
            except OutOfMemory:
                if batch == 1:
                    raise
                batch //= 2
                continue
            yield result
            start += len(part)

    def _checked(self, x: Tensor) -> tuple[Tensor, list[bool]]:
        with running(self._precision, self._device):
            output = self._model(x).float()
        redo = ~is_sound(output)
        if self._precision is Precision.FP32 or not redo.any():
            return output, [False] * len(x)
        output[redo] = self._model(x[redo])
        return output, redo.tolist()

    def _patches(
        self,
        image: Pixels,
        faces: Sequence[Face],
        crops: Sequence[NDArray[np.float32]],
        restored: Sequence[NDArray[np.float32] | None],
        strength: float,
    ) -> list[Patch | None]:
        mask = self._mask * np.float32(strength)
        patches: list[Patch | None] = []
        for face, before, after in zip(faces, crops, restored, strict=True):
            if after is None:
                patches.append(None)
                continue
            # The super-resolution variant answers at another size than it was asked.
            own = before if before.shape == after.shape else _aligned(image, face, self.size)
            matrix = similarity(face.landmarks, self.size)
            patches.append(make_patch(image, own, after, mask, matrix))
        return patches


def _check(image: object) -> None:
    if not isinstance(image, np.ndarray):
        raise ImageError(f"expected a (H, W, 3) array, found {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"expected a (H, W, 3) array, found shape {image.shape}")
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"expected uint8 or uint16, found {image.dtype}")


def _aligned(image: Pixels, face: Face, size: int) -> NDArray[np.float32]:
    return crop(image, similarity(face.landmarks, size), size)


def _refusals(found: Sequence[Face], policy: FacePolicy) -> dict[Face, Reason | None]:
    """Say of each face, the most certain first, why it is left alone; None when it isn't."""
    refusals: dict[Face, Reason | None] = {}
    room = policy.max_faces
    for face in found:
        if face.score < policy.min_score:
            refusals[face] = Reason.LOW_SCORE
        elif face.eye_distance_px < policy.min_eye_distance_px:
            refusals[face] = Reason.TOO_SMALL
        elif room <= 0:
            refusals[face] = Reason.OVER_LIMIT
        else:
            refusals[face] = None
            room -= 1
    return refusals


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


@contextmanager
def _device_errors(what: str) -> Iterator[None]:
    """Translate what CUDA says: no room is worth another try, anything else poisons the process."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"no room for {what}") from error
    except torch.AcceleratorError as error:
        raise DeviceError(f"the device failed at {what}: {str(error).splitlines()[0]}") from error


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[step] = time.perf_counter() - start
