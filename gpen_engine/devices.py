"""The device a network runs on: picked by a wish, named for the sidecar, its errors translated."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gpen_engine.errors import DeviceError, OutOfMemory

_DEVICES = ("cpu", "cuda")


def pick_device(device: str) -> torch.device:
    """Turn a wish into a device that works: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        DeviceError: the wish makes no sense or the device isn't there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.partition(":")[0] not in _DEVICES:
        raise DeviceError(f"the device {device!r} can't be used: choose auto, cpu, cuda or cuda:N")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DeviceError(f"the device {device!r} can't be used: {first}") from error
    return chosen


def device_name(device: torch.device) -> str:
    """Return the device with the card's name, as written into sidecars."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def threads_of(device: torch.device) -> int | None:
    """Return how many threads share the work on a CPU; None for a card, where none do."""
    return torch.get_num_threads() if device.type == "cpu" else None


def use_threads(count: int) -> None:
    """Have so many threads share all work on the CPU, in this whole process."""
    torch.set_num_threads(count)


def instructions_of(device: torch.device) -> str | None:
    """Return the vector instructions that torch chose for this CPU; None for a card."""
    return torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else None


def free_unused(device: torch.device) -> None:
    """Hand memory that the allocator keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def device_errors(what: str) -> Iterator[None]:
    """Translate what torch says: no room is worth another try, other faults poison the process.

    Raises:
        OutOfMemory: there was no room for `what`.
        DeviceError: the device failed.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"no room for {what}") from error
    except torch.AcceleratorError as error:
        raise DeviceError(f"the device failed at {what}: {str(error).splitlines()[0]}") from error
    except RuntimeError as error:
        # torch's allocator for the CPU has no exception of its own.
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfMemory(f"no room for {what}") from error
