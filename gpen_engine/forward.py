"""Aligned faces in, restored faces out: what is cached isn't run, the rest goes in batches.

The batch is the planner's, the precision the ladder's. Threads may share it.
"""

import threading
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from gpen_engine.batch import Answer, FaceBatcher
from gpen_engine.cache import CacheFolder, FaceCache
from gpen_engine.ladder import PrecisionLadder
from gpen_engine.memory import MemoryPlanner
from gpen_engine.networks import FaceModel
from gpen_engine.precision import Precision
from gpen_engine.tiling import run_tiled


class FaceForward:
    """A face network ready for work.

    Args:
        model: the network.
        planner: plans for the device it will run on.
        wish: the precision asked for, "auto" for the best that fits.
        turn: held while the device works.
        cache: where restored faces are kept; None keeps none.
        beside_bytes: what else has to have room on the device at the same time.
    """

    def __init__(
        self,
        model: FaceModel,
        planner: MemoryPlanner,
        *,
        wish: str = "auto",
        turn: threading.Lock,
        cache: CacheFolder | None = None,
        beside_bytes: int = 0,
    ) -> None:
        self.model = model
        network, self.plan = planner.plan(model, wish, beside_bytes=beside_bytes)
        ladder = PrecisionLadder(
            network,
            device=planner.device,
            in_float32=lambda device: model.on(device, Precision.FP32),
        )
        self._batcher = FaceBatcher(
            ladder, limit=lambda: planner.batch, shrink=planner.shrink, device=turn
        )
        key = (
            version("gpen-archive"),
            model.name,
            model.sha256,
            self.plan.precision.value,
            planner.device.type,
        )
        self._cache = FaceCache(cache, network=key) if cache is not None else None

    def __call__(self, faces: Sequence[Tensor]) -> list[Answer]:
        """Restore aligned faces `(3, s, s) float32 in [-1, 1]` on the CPU, an answer each.

        Raises:
            OutOfMemory: a single face doesn't fit on the device.
        """
        if self._cache is None:
            return self._batcher.restore(faces)
        kept = [self._cache.get(face) for face in faces]
        missing = [face for face, hit in zip(faces, kept, strict=True) if hit is None]
        fresh = iter(self._batcher.restore(missing))
        answers = []
        for face, hit in zip(faces, kept, strict=True):
            answer = Answer(hit, self.plan.precision) if hit is not None else next(fresh)
            # A face that had to be redone is redone again: the sidecar shall go on saying so.
            if hit is None and answer.face is not None and answer.precision is self.plan.precision:
                self._cache.put(face, answer.face)
            answers.append(answer)
        return answers

    def in_tiles(self, face: Tensor) -> Answer:
        """Restore an aligned face that is larger than the network's, `(3, t, t)`, in tiles.

        The network sees each part as if it were a face: that suits networks that restore what is
        near, such as gpen-compact, and faces of which the parts are soft.

        Raises:
            OutOfMemory: a single tile doesn't fit on the device.
        """
        notes: list[Answer] = []

        def restore(tile: Tensor) -> Tensor:
            (answer,) = self([tile[0]])
            notes.append(answer)
            if answer.face is None:
                side = self.model.size
                return torch.full((1, 3, side, side), torch.nan)
            return answer.face[None]

        side = self.model.input_size
        restored = run_tiled(
            restore,
            face.permute(1, 2, 0).numpy(),
            device=torch.device("cpu"),
            scale=self.model.size // side,
            tile_px=side,
            overlap_px=side // 4,
            fixed=True,
        )
        usable = bool(np.isfinite(restored).all())
        slowest = (
            Precision.FP32
            if any(one.precision is Precision.FP32 for one in notes)
            else self.plan.precision
        )
        return Answer(
            torch.from_numpy(restored).permute(2, 0, 1) if usable else None,
            slowest,
            "; ".join(dict.fromkeys(one.note for one in notes if one.note)),
        )
