"""What fits on a device: a measured budget, a plan made before work, and what was learned since.

In: a device, a limit, the sizes that a model states of itself. Out: a batch size, a tile size and
a precision. When a pass runs out of memory all the same, `MemoryPlanner.shrink` frees what is
unused and remembers the smaller batch for as long as the process holds the device.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from gpen_engine.devices import device_errors, free_unused
from gpen_engine.errors import OutOfMemory
from gpen_engine.networks import FaceModel, FaceNetwork
from gpen_engine.precision import Precision, choose

_log = logging.getLogger(__name__)

_MAX_BATCH = {"cuda": 16, "cpu": 4}
_RESERVE_BYTES = 192 << 20
"""Kept for the detector's tiles, the driver's workspaces and the allocator's rounding."""
_SHARE = 0.9
"""Of the free memory: what is measured now isn't all there a second later."""
_TILE_BYTES_PER_PIXEL = 2000
"""About twice what Real-ESRGAN's compact network takes at four times the size, in float32."""
_GROUP = Path("/sys/fs/cgroup")
_TILES_PX = (1024, 768, 512, 384, 256, 192, 128)


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory that may be used on a device, and how that is known."""

    free_bytes: int
    total_bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What was chosen before work."""

    precision: Precision
    batch: int
    tile_px: int


def measure_budget(device: torch.device, *, limit_bytes: int | None = None) -> Budget:
    """Return what is free on a device, never more than `limit_bytes`.

    On CUDA the driver is asked, and NVML where it is present: it sees what other programs took
    even where the driver hands out virtual memory. On the CPU the kernel's estimate counts.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        source = "CUDA"
        seen = _nvml_free_bytes(device)
        if seen is not None and seen < free:
            free, source = seen, "NVML"
    else:
        free, total = _host_bytes()
        source = "host"
    if limit_bytes is not None and limit_bytes < free:
        return Budget(limit_bytes, total, "limit")
    return Budget(free, total, source)


class MemoryPlanner:
    """Plans for one device and remembers what didn't fit there.

    Args:
        device: where the networks run.
        limit_bytes: use no more than this, whatever is free; on CUDA it is enforced.
        measure: how the budget is measured.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        limit_bytes: int | None = None,
        measure: Callable[..., Budget] = measure_budget,
    ) -> None:
        self.device = device
        self.budget = measure(device, limit_bytes=limit_bytes)
        if device.type == "cuda" and limit_bytes is not None:
            share = min(1.0, limit_bytes / self.budget.total_bytes)
            torch.cuda.set_per_process_memory_fraction(share, device)
        self._batch = 1
        self._beside_bytes = 0

    @property
    def batch(self) -> int:
        """Faces that go through one forward pass."""
        return self._batch

    def plan(
        self, model: FaceModel, wish: str = "auto", *, beside_bytes: int = 0
    ) -> tuple[FaceNetwork, Plan]:
        """Put a model on the device in the best precision that fits, and choose batch and tile.

        Args:
            model: the face network.
            wish: the precision asked for.
            beside_bytes: what else has to have room at the same time.

        Raises:
            OutOfMemory: not even one face fits, in no precision that the wish allows.
            DeviceError: the wish is no precision.
        """
        self._beside_bytes = beside_bytes
        first = choose(self.device, wish)
        # Half the bytes, where that is slower than float32 but still right.
        narrower = [Precision.FP16] if wish == "auto" and self.device.type == "cuda" else []
        needed = 0
        for precision in dict.fromkeys([first, *narrower]):
            network = self._put(model, precision)
            if network is None:
                continue
            needed = network.weights_bytes + network.activation_bytes(1)
            if needed <= self._usable_bytes:
                self._batch = self._largest_batch(network)
                plan = Plan(network.precision, self._batch, self._tile_px(network))
                fields = {
                    "device": str(self.device),
                    "precision": plan.precision.value,
                    "batch": plan.batch,
                    "tile_px": plan.tile_px,
                    "free_mb": self.budget.free_bytes // 1_000_000,
                    "source": self.budget.source,
                }
                _log.info("engine.planned", extra={"fields": fields})
                return network, plan
            del network  # two precisions at once would need room for both
            free_unused(self.device)
        what = f"{needed >> 20} MiB" if needed else "more than there is for its weights"
        raise OutOfMemory(
            f"one face of {model.size} px needs {what} on {self.device}, "
            f"{self._usable_bytes >> 20} of {self.budget.free_bytes >> 20} MiB free "
            f"({self.budget.source}) can be used"
        )

    def _put(self, model: FaceModel, precision: Precision) -> FaceNetwork | None:
        """Put a model on the device; None where not even its weights fit."""
        with suppress(OutOfMemory), device_errors(f"the weights of {model.name}"):
            return model.on(self.device, precision)
        return None

    def shrink(self, batch: int) -> bool:
        """Free what is unused and halve the batch that didn't fit; False when it was one face."""
        free_unused(self.device)
        if batch <= 1:
            return False
        self._batch = min(self._batch, batch // 2)
        fields = {"device": str(self.device), "batch": self._batch}
        _log.warning("engine.batch_shrunk", extra={"fields": fields})
        return True

    @property
    def _usable_bytes(self) -> int:
        kept = _RESERVE_BYTES + self._beside_bytes
        return max(0, int(self.budget.free_bytes * _SHARE) - kept)

    def _largest_batch(self, network: FaceNetwork) -> int:
        room = self._usable_bytes - network.weights_bytes
        batch = _MAX_BATCH[self.device.type]
        while batch > 1 and network.activation_bytes(batch) > room:
            batch //= 2
        return batch

    def _tile_px(self, network: FaceNetwork) -> int:
        room = self._usable_bytes - network.weights_bytes
        fitting = (side for side in _TILES_PX if side * side * _TILE_BYTES_PER_PIXEL <= room)
        return next(fitting, _TILES_PX[-1])


def _nvml_free_bytes(device: torch.device) -> int | None:
    """Return what NVML says is free, None where it isn't present or knows no such card."""
    import pynvml  # noqa: PLC0415 - it loads a driver library that most machines don't have

    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    except pynvml.NVMLError:
        return None


def _host_bytes() -> tuple[int, int]:
    """Return the available and the total memory of the machine, as Linux counts them."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available, total = (int(fields[name].split()[0]) << 10 for name in ("MemAvailable", "MemTotal"))
    limit, used = (_group_bytes(name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        available, total = min(available, max(0, limit - used)), min(total, limit)
    return available, total


def _group_bytes(name: str) -> int | None:
    """Return a figure of the control group that a container runs in; None where there is none."""
    try:
        return int((_GROUP / name).read_text())
    except (OSError, ValueError):  # version 1, or "max"
        return None
