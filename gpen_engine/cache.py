"""Restored faces kept on disk, so that a redo at another strength costs no forward pass.

A face is found again by its content: the aligned crop as the network saw it, the network and the
precision. Nothing has to be told when a photo, a policy or a checkpoint changes.
"""

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpen_engine.errors import CheckpointError
from gpen_engine.files import replacing


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """Where restored faces are kept; the folder grows no larger than `max_bytes` and one face."""

    path: Path
    max_bytes: int = 4 << 30


class FaceCache:
    """A folder of restored faces, the longest unused of which make room for new ones.

    Args:
        folder: made when it isn't there.
        network: what decides an answer beside the crop: the weights' hash, the precision and the
            kind of device.
    """

    def __init__(self, folder: CacheFolder, *, network: Sequence[str]) -> None:
        folder.path.mkdir(parents=True, exist_ok=True)
        self._folder = folder.path
        self._max_bytes = folder.max_bytes
        self._network = "\n".join(network).encode()
        self._lock = threading.Lock()
        self._bytes = sum(size for _, size, _ in self._kept())

    def get(self, crop: Tensor) -> Tensor | None:
        """Return the restored face of a crop `(3, s, s) float32`, if it is kept."""
        path = self._path(crop)
        try:
            face = np.load(path, allow_pickle=False)
            os.utime(path)
        except (OSError, ValueError, EOFError):  # not there, or cut short by a full disk
            return None
        return torch.from_numpy(face)

    def put(self, crop: Tensor, face: Tensor) -> None:
        """Keep a restored face `(3, S, S) float32`; a full disk is no error here."""
        path = self._path(crop)
        with suppress(CheckpointError), replacing(path) as file:
            np.save(file, face.numpy(), allow_pickle=False)
            size = file.tell()
            with self._lock:
                self._bytes += size
        with self._lock:
            if self._bytes > self._max_bytes:
                self._make_room()

    def _path(self, crop: Tensor) -> Path:
        digest = hashlib.sha256(self._network)
        digest.update(crop.contiguous().numpy().data)
        return self._folder / f"{digest.hexdigest()}.npy"

    def _make_room(self) -> None:
        """Remove the longest unused faces, down to nine tenths of the limit."""
        kept = sorted(self._kept())
        self._bytes = sum(size for _, size, _ in kept)
        for _, size, path in kept:
            if self._bytes <= 0.9 * self._max_bytes:
                break
            path.unlink(missing_ok=True)
            self._bytes -= size

    def _kept(self) -> list[tuple[float, int, Path]]:
        """Return when each face was used last, its size and its file."""
        kept = []
        for path in self._folder.glob("*.npy"):
            with suppress(FileNotFoundError):  # another worker may have made room just now
                status = path.stat()
                kept.append((status.st_mtime, status.st_size, path))
        return kept
