"""Faces of several photos through one forward pass.

Threads hand in aligned faces and wait. Whichever thread gets the device works for all: it takes
the oldest faces that wait, as many as fit, and hands out the answers. There is no thread of its
own and no timer, so a lone photo is never held up, and under load the batches fill by themselves.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from gpen_engine.errors import OutOfMemory
from gpen_engine.precision import Precision


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network made of one face.

    Attributes:
        face: `(3, S, S) float32` on the CPU, not clipped; None when no precision gave a usable one.
        precision: the precision of the answer.
        note: what had to give way for it, for the sidecar; empty when nothing had to.
    """

    face: Tensor | None
    precision: Precision
    note: str = ""


@dataclass(eq=False, slots=True)
class _Request:
    face: Tensor
    answer: Answer | None = None
    error: BaseException | None = None
    note: str = ""

    @property
    def is_open(self) -> bool:
        return self.answer is None and self.error is None


class FaceBatcher:
    """Gathers faces from all threads.

    Args:
        forward: restores `(B, 3, s, s)`, an answer a face.
        limit: how many faces fit at present.
        shrink: told that so many didn't fit; False when fewer are no use.
        device: held while a batch runs; whoever else needs the device holds it too.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Sequence[Answer]],
        *,
        limit: Callable[[], int],
        shrink: Callable[[int], bool],
        device: threading.Lock,
    ) -> None:
        self._forward = forward
        self._limit = limit
        self._shrink = shrink
        self._device = device
        self._waiting: deque[_Request] = deque()

    def restore(self, faces: Sequence[Tensor]) -> list[Answer]:
        """Restore aligned faces `(3, s, s)`; other threads' faces may share the passes.

        Raises:
            OutOfMemory: a single face doesn't fit on the device.
        """
        requests = [_Request(face) for face in faces]
        self._waiting.extend(requests)
        for request in requests:
            while request.is_open:
                with self._device:
                    if request.is_open:
                        self._run_batch()
            if request.error is not None:
                with self._device:
                    self._withdraw(requests)
                raise request.error
        return [request.answer for request in requests if request.answer is not None]

    def _withdraw(self, requests: Sequence[_Request]) -> None:
        """Take back what waits and nobody wants any more; the device is held."""
        for request in requests:
            with suppress(ValueError):
                self._waiting.remove(request)

    def _run_batch(self) -> None:
        """Answer the oldest faces that wait; the device is held."""
        limit = self._limit()
        batch = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        lack = self._attempt(batch)
        # Only here is the error gone, and with it what the failed pass still held.
        if lack is None:
            return
        if not self._shrink(len(batch)):
            _fail(batch, OutOfMemory(lack))
            return
        for request in reversed(batch):
            request.note = f"out of memory with {len(batch)} faces at a time: fewer were taken"
            self._waiting.appendleft(request)

    def _attempt(self, batch: Sequence[_Request]) -> str | None:
        """Run a batch and hand out what comes of it; return what was said of a lack of memory."""
        try:
            answers = self._forward(torch.stack([request.face for request in batch]))
            for request, answer in zip(batch, answers, strict=True):
                note = "; ".join(filter(None, (request.note, answer.note)))
                request.answer = Answer(answer.face, answer.precision, note)
        except OutOfMemory as error:
            return str(error)
        except BaseException as error:  # noqa: BLE001 - whoever waits for these faces raises it
            _fail(batch, error)
        return None


def _fail(batch: Sequence[_Request], error: BaseException) -> None:
    for request in batch:
        request.error = error
