"""What several benchmarks share: networks to measure, times taken in turns, tensors alive.

In: calls. Out: their times; bytes. A machine that others use too slows everything down for a
while: so what is compared runs in turns, and the minimum counts, beside the median.
"""

import ctypes
import json
import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpen_engine.inference import PreparedGenerator
from gpen_engine.model import GpenConfig, GpenGenerator
from gpen_engine.precision import Precision

CONFIGS = {
    256: GpenConfig(256, channel_multiplier=1, narrow=0.5),
    512: GpenConfig(512),
    1024: GpenConfig(1024),
    2048: GpenConfig(2048),
}
"""The published networks by their size."""
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a call took."""

    minimum_s: float
    median_s: float


def devices() -> list[torch.device]:
    """Return the CPU and, where there is one, the first CUDA device."""
    names = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [torch.device(name) for name in names]


def prepare(size: int, device: torch.device, precision: Precision) -> PreparedGenerator:
    """Return the published network of a size with random weights, always the same ones."""
    torch.manual_seed(0)
    return PreparedGenerator(GpenGenerator(CONFIGS[size]), device=device, precision=precision)


def faces(size: int, batch: int, device: torch.device) -> torch.Tensor:
    """Return `(batch, 3, size, size) float32 in [-1, 1]`, always the same."""
    drawn = torch.rand((batch, 3, size, size), generator=torch.Generator().manual_seed(0))
    return (drawn * 2 - 1).to(device)


def in_turns(
    calls: Mapping[str, Callable[[], object]], *, repeats: int, device: torch.device
) -> dict[str, Times]:
    """Time calls one after the other, again and again, after one run that doesn't count."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            wait_for(device)
            start = time.perf_counter()
            call()
            wait_for(device)
            if repeat:
                taken[name].append(time.perf_counter() - start)
    return {name: Times(min(each), statistics.median(each)) for name, each in taken.items()}


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_beside(work: Callable[[], object]) -> int:
    """Return how much memory work took at its peak, its result included (Linux, glibc)."""
    ctypes.CDLL(None).malloc_trim(0)  # or what was freed before would hide it
    _RESET.write_text("5")  # the kernel begins a new peak (proc(5))
    before = _kibibytes("VmRSS")
    work()
    return (_kibibytes("VmHWM") - before) * 1024


def _kibibytes(field: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, while it is entered, the memory of the tensors that operations return.

    The count is exact and the same on every machine; what a library takes for itself within an
    operation isn't in it, nor are tensors that were there before.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operation returns
        given = {id(leaf.untyped_storage()) for leaf in _tensors([args, kwargs])}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if id(storage) not in self._alive | given:
                self._alive.add(id(storage))
                self._now += storage.nbytes()
                weakref.finalize(storage, self._freed, id(storage), storage.nbytes())
        self.peak = max(self.peak, self._now)
        return result

    def _freed(self, storage: int, nbytes: int) -> None:
        self._alive.discard(storage)
        self._now -= nbytes


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def write_json(path: Path | None, numbers: object) -> None:
    """Keep the numbers where it is asked for."""
    if path is not None:
        path.write_text(json.dumps(numbers, indent=2) + "\n")
