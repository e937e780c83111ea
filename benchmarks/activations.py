"""How much memory a forward pass takes above the network's weights.

    python -m benchmarks.activations [--sizes 512] [--json PATH]

For each precision: the bytes of the tensors alive at the worst moment, counted; what the process
grew by at its largest, measured in a fresh process on the CPU (libraries included); and the bound
that the network states of itself. On CUDA the allocator is asked instead, weights included too.
In float16 a CPU without instructions for it unfolds every convolution, so there the count counts.
"""

import argparse
import gc
import multiprocessing
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.measure import CONFIGS, LiveBytes, devices, faces, prepare, write_json
from gpen_engine.precision import Precision

MB = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one network, in bytes."""

    size: int
    device: str
    precision: str
    weights: int
    counted: int
    measured: int
    stated: int


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and keep the numbers where it is asked for."""
    parser = argparse.ArgumentParser(description="Memory of a forward pass above the weights.")
    parser.add_argument("--sizes", type=int, nargs="+", choices=CONFIGS, default=[512])
    parser.add_argument(
        "--precisions", type=Precision, nargs="+", default=[Precision.FP32, Precision.BF16]
    )
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    rows = []
    # A process that has computed before holds memory that the next pass would use again.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        for device in devices():
            for size in asked.sizes:
                for precision in asked.precisions:
                    rows.append(fresh.apply(measure, (size, str(device), precision)))
                    sys.stdout.write(line(rows[-1]) + "\n")
                    sys.stdout.flush()
    write_json(asked.json, [asdict(row) for row in rows])


def measure(size: int, device_name: str, precision: Precision) -> Row:
    """Run one face through a network, then a second one under the counter."""
    device = torch.device(device_name)
    network = prepare(size, device, precision)
    gc.collect()
    face = faces(size, 1, device)
    before = _largest_bytes(device, restart=True)
    network(face)
    measured = _largest_bytes(device) - before
    with LiveBytes() as live:
        network(face)
    return Row(
        size=size,
        device=device_name,
        precision=precision,
        weights=network.weights_bytes,
        counted=live.peak,
        measured=measured,
        stated=network.activation_bytes(1),
    )


def _largest_bytes(device: torch.device, *, restart: bool = False) -> int:
    """Return the most memory that the process has held since the last restart of the count."""
    if device.type == "cuda":
        if restart:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    if restart:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
    return int(kibibytes) << 10


def line(row: Row) -> str:
    """Return a row as it is printed, in megabytes."""
    weights, counted, measured, stated = (
        f"{number / MB:.0f} MB" for number in (row.weights, row.counted, row.measured, row.stated)
    )
    return (
        f"{row.size} px, {row.device}, {row.precision}: above {weights} of weights "
        f"{measured} measured, {counted} counted, {stated} stated at most"
    )


if __name__ == "__main__":
    main()
