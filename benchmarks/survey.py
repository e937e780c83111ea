"""How long `gpen-archive plan` takes over the headers of an archive: 10,000 mixed files.

    python -m benchmarks.survey [--files N] [--json PATH]

Makes small photographs of every common kind in a temporary folder, each with bytes of its own, and
reads their headers as `plan` does. Beside it stands what it takes to list the folder and to read
the first 32 KiB of each file, which no program gets around: the ratio is between the two. Seconds
of the processor are told too, for they are the same on a machine that others use.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measure import write_json
from jobs.recipe import Recipe
from jobs.storage import DirectoryStore
from worker.codec.limits import Limits
from worker.survey.plan import survey

FILES = 10_000
LIMIT_S = 60.0
_HEAD_BYTES = 32 * 1024
_MAX_PIXELS = 300_000_000

Picture = NDArray[Any]


def _pillow(kind: str, **options: Any) -> Callable[[Picture], bytes]:  # noqa: ANN401 - Pillow's
    def encode(picture: Picture) -> bytes:
        out = io.BytesIO()
        Image.fromarray(picture).save(out, kind, **options)
        return out.getvalue()

    return encode


def _tiff(**options: Any) -> Callable[[Picture], bytes]:  # noqa: ANN401 - tifffile's
    def encode(picture: Picture) -> bytes:
        out = io.BytesIO()
        tifffile.imwrite(out, picture, photometric="rgb", **options)
        return out.getvalue()

    return encode


def _exif() -> bytes:
    block = Image.Exif()
    block[274], block[271], block[306] = 6, "Scanner", "1999:12:31 23:59:59"
    return block.tobytes()


KINDS: tuple[tuple[str, Callable[[Picture], bytes]], ...] = (
    (".jpg", _pillow("JPEG", quality=90, exif=_exif(), dpi=(300, 300))),
    (".jpg", _pillow("JPEG", quality=80, progressive=True)),
    (".png", _pillow("PNG", dpi=(600, 600))),
    (".tif", _tiff(compression="zlib", predictor=True, resolution=(600, 600))),
    (".tif", _tiff(rowsperstrip=8)),
    (".tif", _tiff(compression="lzw", tile=(64, 64), bigtiff=True)),
    (".webp", _pillow("WEBP", quality=80)),
    (".jp2", _pillow("JPEG2000")),
    (".bmp", _pillow("BMP")),
    (".gif", _pillow("GIF")),
)


def make_archive(folder: Path, files: int) -> None:
    """Write so many small photographs, a hundred a folder."""
    rng = np.random.default_rng(0)
    for number in range(files):
        suffix, encode = KINDS[number % len(KINDS)]
        width, height = (int(side) for side in rng.integers(64, 128, 2))
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
        path = folder / f"box {number // 100:03}" / f"{number:05}{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(picture))


def read_heads(store: DirectoryStore) -> None:
    """List a folder and read the start of every file."""
    for found in store.list():
        store.read(found.key, 0, _HEAD_BYTES)


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Return the seconds that work takes, of the clock and of the processor."""
    wall_s, processor_s = time.perf_counter(), time.process_time()
    work()
    return {
        "elapsed_s": time.perf_counter() - wall_s,
        "processor_s": time.process_time() - processor_s,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and keep the numbers where it is asked for."""
    parser = argparse.ArgumentParser(description="What reading headers takes.")
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        make_archive(Path(folder), asked.files)
        store = DirectoryStore(Path(folder))
        heads = timed(lambda: read_heads(store))
        headers = timed(lambda: survey(store, recipe=Recipe(), limits=Limits(_MAX_PIXELS)))
    numbers = {
        "files": asked.files,
        "heads alone": heads,
        "headers": headers,
        "headers a second": asked.files / headers["elapsed_s"],
        "ratio": headers["elapsed_s"] / heads["elapsed_s"],
    }
    sys.stdout.write(
        f"{asked.files:,} files: headers in {headers['elapsed_s']:.1f} s "
        f"({headers['processor_s']:.1f} s of the processor), "
        f"{numbers['headers a second']:,.0f} a second; their first 32 KiB alone in "
        f"{heads['elapsed_s']:.1f} s: ratio {numbers['ratio']:.1f} "
        f"(wanted: 10,000 in {LIMIT_S:.0f} s)\n"
    )
    write_json(asked.json, numbers)


if __name__ == "__main__":
    main()
