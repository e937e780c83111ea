"""What a forward pass costs beside its convolutions, and what a batch gains.

    python -m benchmarks.forward [--sizes 256 512] [--precisions fp32 bf16] [--json PATH]

Two ratios for each size, device and precision, each from calls taken in turns:

* a face to the 3x3 convolutions alone: the same shapes, channels-last, weights and inputs ready;
* a batch of four to four faces one by one.

A machine that others use stretches whatever waits for several threads, and a whole pass waits more
often than its convolutions: set OMP_NUM_THREADS=1 there.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its customary name

from benchmarks.measure import CONFIGS, Times, devices, faces, in_turns, prepare, write_json
from gpen_engine.model import GpenConfig
from gpen_engine.precision import Precision

BATCH = 4


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one network."""

    size: int
    device: str
    precision: str
    threads: int
    forward: Times
    convolutions: Times
    ratio: float
    batch: Times
    batch_ratio: float


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and keep the numbers where it is asked for."""
    parser = argparse.ArgumentParser(description="Forward pass against its convolutions.")
    parser.add_argument("--sizes", type=int, nargs="+", choices=CONFIGS, default=[256, 512])
    parser.add_argument(
        "--precisions", type=Precision, nargs="+", help="by default what each device is fast in"
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    sys.stdout.write(f"{'':28}{'face':>16}{'3x3 alone':>16}{'ratio':>7}{'batch of 4':>19}\n")
    rows = []
    for device in devices():
        for size in asked.sizes:
            for precision in asked.precisions or fast_in(device):
                rows.append(measure(size, device, precision, repeats=asked.repeats))
                sys.stdout.write(line(rows[-1]) + "\n")
                sys.stdout.flush()
    write_json(asked.json, [asdict(row) for row in rows])


def fast_in(device: torch.device) -> list[Precision]:
    """Return the precisions that a device computes in by itself, not by way of another."""
    if device.type == "cuda":
        lower = [Precision.FP16, Precision.BF16]
        newer = torch.cuda.get_device_capability(device) >= (8, 0)
        return [Precision.FP32, *lower] if newer else [Precision.FP32, Precision.FP16]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return [Precision.FP32, Precision.BF16]
    return [Precision.FP32]


def measure(size: int, device: torch.device, precision: Precision, *, repeats: int) -> Row:
    """Take both ratios of one network."""
    network = prepare(size, device, precision)
    alone = convolutions(CONFIGS[size], device, precision.dtype)
    one, four = faces(size, 1, device), faces(size, BATCH, device)
    with torch.inference_mode():
        times = in_turns(
            {"forward": lambda: network(one), "convolutions": lambda: [conv() for conv in alone]},
            repeats=repeats,
            device=device,
        )
        several = in_turns(
            {
                "batch": lambda: network(four),
                "one by one": lambda: [network(face) for face in torch.split(four, 1)],
            },
            repeats=max(3, repeats // 2),
            device=device,
        )
    return Row(
        size=size,
        device=str(device),
        precision=precision,
        threads=torch.get_num_threads(),
        forward=times["forward"],
        convolutions=times["convolutions"],
        ratio=times["forward"].minimum_s / times["convolutions"].minimum_s,
        batch=several["batch"],
        batch_ratio=several["batch"].minimum_s / several["one by one"].minimum_s,
    )


def convolutions(
    config: GpenConfig, device: torch.device, dtype: torch.dtype
) -> list[Callable[[], Tensor]]:
    """Return the network's 3x3 convolutions as calls, each on an input of its own."""

    def drawn(*shape: int) -> Tensor:
        tensor = torch.randn(shape, dtype=dtype, device=device)
        return tensor.contiguous(memory_format=torch.channels_last)

    def same(width: int, out: int, side: int) -> Callable[[], Tensor]:
        x, weight = drawn(1, width, side, side), drawn(out, width, 3, 3)
        return lambda: F.conv2d(x, weight, padding=1)

    def down(width: int, out: int, side: int) -> Callable[[], Tensor]:
        # The blur before it has made a row and a column more.
        x, weight = drawn(1, width, side + 1, side + 1), drawn(out, width, 3, 3)
        return lambda: F.conv2d(x, weight, stride=2)

    def up(width: int, out: int, side: int) -> Callable[[], Tensor]:
        x, weight = drawn(1, width, side, side), drawn(width, out, 3, 3)
        return lambda: F.conv_transpose2d(x, weight, stride=2)

    calls = [same(config.channels(4), config.channels(4), 4)]
    side = 8
    while side <= config.size:
        coarse, fine = config.channels(side // 2), config.channels(side)
        calls += [up(2 * coarse, fine, side // 2), same(2 * fine, fine, side)]
        if side <= config.input_size:
            calls.append(down(fine, coarse, side))
        side *= 2
    return calls


def line(row: Row) -> str:
    """Return a row as it is printed: minimum and median in milliseconds."""
    forward, alone, batch = (
        f"{times.minimum_s * 1e3:8.1f}{times.median_s * 1e3:8.1f}"
        for times in (row.forward, row.convolutions, row.batch)
    )
    where = f"{row.size} px, {row.device}, {row.precision}"
    return f"{where:28}{forward}{alone}{row.ratio:7.2f}{batch}  x{row.batch_ratio:.2f}"


if __name__ == "__main__":
    main()
