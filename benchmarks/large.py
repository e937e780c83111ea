"""Large pictures: how much memory a worker and its decoding child take, and where the time goes.

    python -m benchmarks.large [--megapixels 1000] [--only NAME] [--folder DIR] [--album FILE]
                               [--still]

* A 16-bit RGB TIFF of a gigapixel, with faces: at most 2 GiB of memory in all.
* An album page of 35 megapixels as JPEG and as 16-bit TIFF: at most three times its decoded size
  above what the worker had before.

Each goes through the worker's pipeline, with the shipped checkpoint on the CPU and folders for
stores, in a process of its own that has restored a small photo before. Memory is what the kernel
counts for worker and children together (RssAnon, RssFile and RssShmem), and files in memory that
none of them maps; the peak is the highest of so many looks, one about every 20 ms. "own peak" is
the worker's VmHWM, which no look can miss, but which knows nothing of children and such files. Ends
with 1 where a limit is missed. With `--still` no face is looked for, which takes most of the time:
what is left is the worker's own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from numpy.typing import NDArray
from PIL import Image

import gpen_engine
from gpen_engine import EngineIdentity, Restoration
from gpen_engine.faces import ModelIdentity, Pixels
from gpen_engine.precision import Precision
from jobs.directory import DirectoryStore
from jobs.recipe import Recipe
from jobs.schema import Claim, Job
from worker.codec import Limits
from worker.decoding import Budget, Decoder
from worker.pipeline import Engine, run
from worker.scratch import Scratch
from worker.stages import Stages

ALBUM = Path("../shared/corpus/formats/album_scan_7016x4960.jpg")
LOOK_S = 0.02
MOST_BYTES = 2 << 30
MOST_TIMES = 3.0
SIDE_PX = 512
"""Of the gigapixel's tiles."""
_RESIDENT = ("RssAnon", "RssFile", "RssShmem")
_IN_MEMORY, _BLOCK_BYTES = "/memfd:", 512


@dataclass(frozen=True)
class Master:
    """A large picture: how it is made, what it decodes to, and what may be taken for it."""

    name: str
    decoded_bytes: int
    make: Callable[[Path], None]
    most_bytes: int | None = None
    most_times: float | None = None


def masters(megapixels: float, album: Path) -> list[Master]:
    """Return what is measured."""
    height = round((megapixels * 1e6 / 1.6) ** 0.5)
    width = round(height * 1.6)
    with Image.open(album) as page:
        album_bytes = page.width * page.height * 3
    return [
        Master(
            "gigapixel.tif",
            height * width * 6,
            lambda path: write_gigapixel(path, height, width),
            most_bytes=MOST_BYTES,
        ),
        Master(
            "album.jpg",
            album_bytes,
            lambda path: copy(album, path),
            most_times=MOST_TIMES,
        ),
        Master(
            "album16.tif",
            album_bytes * 2,
            lambda path: write_album(path, album),
            most_times=MOST_TIMES,
        ),
    ]


def write_gigapixel(path: Path, height: int, width: int) -> None:
    """Write a picture of soft colours and grain, with a face in every 400th tile."""
    tifffile.imwrite(
        path,
        tiles(height, width),
        shape=(height, width, 3),
        dtype=np.uint16,
        tile=(SIDE_PX, SIDE_PX),
        photometric="rgb",
        bigtiff=True,
        metadata=None,
    )


def tiles(height: int, width: int) -> Iterator[NDArray[np.uint16]]:
    """Yield the tiles of such a picture."""
    random = np.random.default_rng(7)
    face = portrait().astype(np.uint16) * 257
    grain = random.integers(0, 2000, (SIDE_PX, SIDE_PX, 3), np.uint16)
    across, down = -(-width // SIDE_PX), -(-height // SIDE_PX)
    for number in range(across * down):
        y, x = divmod(number, across)
        plain = np.uint16(8000 + 40000 * y // down) + grain
        plain[:, :, 0] += np.uint16(8000 * x // across)
        yield face if number % 400 == 10 else plain


def portrait() -> NDArray[np.uint8]:
    """Return a photograph of 512 by 512 pixels with a face."""
    return np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]


def copy(album: Path, path: Path) -> None:
    """Write the album page as it is."""
    path.write_bytes(album.read_bytes())


def write_album(path: Path, album: Path) -> None:
    """Write the album page with 16 bits a sample, uncompressed."""
    with Image.open(album) as page:
        samples = np.asarray(page.convert("RGB")).astype(np.uint16) * 257
    tifffile.imwrite(path, samples, photometric="rgb", rowsperstrip=64, metadata=None)


class Still:
    """An engine that finds no face."""

    identity = EngineIdentity(
        weights="compact",
        weights_sha256="0" * 64,
        size=256,
        detector=ModelIdentity("none", "0" * 64),
        device="cpu",
        precision=Precision.FP32,
    )

    def restore(self, image: Pixels, *_: object, **__: object) -> Restoration:
        """Return the picture as it is."""
        return Restoration(image, (), {})


def work(folder: Path, name: str, *, still: bool) -> None:
    """Be a worker: restore a small photo, say so, and at a line of input restore the large one."""
    scratch_folder = folder / "scratch"
    scratch_folder.mkdir()
    scratch = Scratch(scratch_folder)
    engine: Engine = Still() if still else gpen_engine.load("compact", device="cpu")
    limits = Limits(max_pixels=2_000_000_000, max_bytes=16 << 30)

    def restore(key: str, decode: Decoder) -> Stages:
        job = Job("large", source="masters", destination="derivatives", recipe=Recipe())
        stages = Stages()
        outcome = run(
            Claim(0, key, token="", attempt=1, worker="large", job=job),
            masters=DirectoryStore(folder / "masters"),
            derivatives=DirectoryStore(folder / "derivatives"),
            engine=engine,
            decode=decode,
            limits=limits,
            stages=stages,
            scratch=scratch,
        )
        faces.append(outcome.faces_restored)
        return stages

    faces: list[int] = []
    with Decoder(Budget(3600, 16 << 30), scratch=scratch) as decode:
        restore("small.png", decode)
        print("ready", flush=True)
        sys.stdin.readline()
        stages = restore(name, decode)
        print(json.dumps({"stages": stages.timings_s(), "faces": faces[-1]}), flush=True)


def measure(master: Master, folder: Path, *, still: bool) -> bool:
    """Run one, print a line of the table, and tell whether it kept to its limit."""
    (folder / "masters").mkdir()
    Image.fromarray(portrait()).save(folder / "masters/small.png")
    master.make(folder / "masters" / master.name)
    command = [sys.executable, "-m", "benchmarks.large", "--work", str(folder), master.name]
    command += ["--still"] if still else []
    with subprocess.Popen(  # noqa: S603 - the command is ours
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        before = resident_bytes(worker.pid)
        worker.stdin.write("go\n")
        worker.stdin.flush()
        peak = highest = looks = 0
        while worker.poll() is None:
            looks += 1
            peak = max(peak, resident_bytes(worker.pid))
            highest = max(highest, status_of(worker.pid).get("VmHWM", 0))
            time.sleep(LOOK_S)
        told = json.loads(worker.stdout.readline())
    above, times = peak - before, (peak - before) / master.decoded_bytes
    is_kept = peak <= (master.most_bytes or peak) and times <= (master.most_times or times)
    seconds = ", ".join(f"{stage} {taken_s:.0f}" for stage, taken_s in told["stages"].items())
    print(
        f"| {master.name} | {mib(master.decoded_bytes)} | {mib(before)} | {mib(peak)} | "
        f"{looks} | {mib(above)} | {times:.2f} | {mib(highest)} | {told['faces']} | {seconds} | "
        f"{'kept' if is_kept else 'MISSED'} |",
        flush=True,
    )
    return is_kept


@dataclass(frozen=True)
class Held:
    """What one process holds of memory; files that have no place but memory by their inodes."""

    mapped_bytes: int
    file_bytes: dict[int, int]
    mapped_files: set[int]

    @classmethod
    def by(cls, pid: int) -> "Held":
        """Look at a process; one that ends meanwhile holds nothing."""
        status = status_of(pid)
        files: dict[int, int] = {}
        mapped: set[int] = set()
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            mapped = {int(line.split()[4]) for line in lines if _IN_MEMORY in line}
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):  # it was closed
                    if str(link.readlink()).startswith(_IN_MEMORY):
                        files[link.stat().st_ino] = link.stat().st_blocks * _BLOCK_BYTES
        return cls(sum(status.get(part, 0) for part in _RESIDENT), files, mapped)


def resident_bytes(pid: int) -> int:
    """Return what a process and its children hold of memory.

    A file in memory that one of them maps counts with its pages, one that nobody maps once.
    """
    held = [Held.by(one) for one in (pid, *children_of(pid))]
    mapped = set().union(*(one.mapped_files for one in held))
    files = {inode: size for one in held for inode, size in one.file_bytes.items()}
    unmapped = sum(size for inode, size in files.items() if inode not in mapped)
    return sum(one.mapped_bytes for one in held) + unmapped


def children_of(pid: int) -> list[int]:
    """Return a process's children.

    One that isn't another program yet shares its parent's memory, and is left out.
    """
    found: list[int] = []
    with suppress(OSError):
        program = Path(f"/proc/{pid}/cmdline").read_bytes()
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                with suppress(OSError):  # it ended
                    if Path(f"/proc/{child}/cmdline").read_bytes() != program:
                        found.append(child)
    return found


def status_of(pid: int) -> dict[str, int]:
    """Return a process's memory in bytes, by the kernel's names; nothing where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {field[0].rstrip(":"): int(field[1]) << 10 for field in fields if field[-1] == "kB"}


def mib(size_bytes: int) -> str:
    """Return a size in words."""
    return f"{size_bytes / 2**20:.0f}"


def main() -> None:
    """Measure all of them, or one; or be the worker of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=1000.0)
    parser.add_argument("--only")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--album", type=Path, default=ALBUM)
    parser.add_argument("--still", action="store_true")
    parser.add_argument("--work", nargs=2)
    options = parser.parse_args()
    if options.work:
        work(Path(options.work[0]), options.work[1], still=options.still)
        return
    print("| master | decoded MiB | before | peak | looks | above | times | own peak ", end="")
    print("| faces | seconds | |\n" + "|---" * 11 + "|", flush=True)
    kept = []
    for master in masters(options.megapixels, options.album):
        if options.only in {None, master.name}:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                kept.append(measure(master, Path(folder), still=options.still))
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
