"""Pictures that are larger than the memory held for them go through a worker all the same."""

import io
import json
import mmap
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from benchmarks.large import resident_bytes
from gpen_engine import Restoration
from tests.unit.worker.whole import encode
from worker import codec
from worker.audit.untouched import prove
from worker.codec import Limits, decode
from worker.decoding import Budget, Decoder
from worker.scratch import Scratch

MIB = 1 << 20
WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from gpen_engine import Restoration
from gpen_engine.blend import Piece
from jobs.directory import DirectoryStore
from jobs.recipe import Recipe
from jobs.schema import Claim, Job
from tests.unit.worker.conftest import REGION, StubEngine
from worker.codec import Limits
from worker.decoding import Budget, Decoder
from worker.pipeline import run
from worker.scratch import Scratch
from worker.stages import Stages

folder = Path(sys.argv[1])
scratch = Scratch(folder, memory_bytes=16 << 20)

class Engine(StubEngine):
    def restore(self, image, treatment=None, **_):
        x0, y0, x1, y1 = REGION
        found = super().restore(image[:64].copy())
        piece = Piece(REGION, found.image[y0:y1, x0:x1])
        return Restoration(image, found.faces, {}, pieces=(piece,))

def restore(key):
    job = Job("large", source="in", destination="out", recipe=Recipe())
    return run(
        Claim(0, key, token="", attempt=1, worker="w", job=job),
        masters=DirectoryStore(folder / "in"),
        derivatives=DirectoryStore(folder / "out"),
        engine=Engine(),
        decode=decode,
        limits=Limits(),
        stages=Stages(),
        scratch=scratch,
    )

with Decoder(Budget(300, 2 << 30), scratch=scratch) as decode:
    restore("small.tif")
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(restore("large.tif").faces_restored), flush=True)
"""


def write(path, height, width, **options):
    """Write a 16-bit picture, a few rows at a time."""
    grain = np.random.default_rng(7).integers(0, 65536, (64, width, 3), np.uint16)
    rows = (np.roll(grain, top, axis=1) for top in range(0, height, 64))
    tifffile.imwrite(
        path,
        rows,
        shape=(height, width, 3),
        dtype=np.uint16,
        rowsperstrip=height,
        photometric="rgb",
        metadata=None,
        **options,
    )


TURNS = {1: np.asarray, 5: lambda array: array.swapaxes(0, 1), 6: lambda array: np.rot90(array, -1)}


@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_of_sixty_megapixels_takes_a_part_of_its_size(tmp_path, orientation):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in/small.tif", 128, 128)
    write(tmp_path / "in/large.tif", 6016, 10_000, extratags=[(274, 3, 1, orientation, True)])
    decoded_bytes = 6016 * 10_000 * 6
    with subprocess.Popen(
        [sys.executable, "-P", "-c", WORKER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout.readline() == "ready\n"
        before = peak = resident_bytes(worker.pid)
        worker.stdin.write("go\n")
        worker.stdin.flush()
        while worker.poll() is None:
            peak = max(peak, resident_bytes(worker.pid))
            time.sleep(0.02)
        assert json.loads(worker.stdout.readline()) == 1
    assert peak - before < 0.4 * decoded_bytes
    stored, made = (tifffile.memmap(tmp_path / name, mode="r") for name in NAMES)
    master = TURNS[orientation](stored)
    assert (made[64:] == master[64:]).all()
    assert (made[:64] != master[:64]).any()
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_a_file_in_memory_counts_though_nobody_maps_it(tmp_path):
    before = resident_bytes(os.getpid())
    file = Scratch(tmp_path).file(40 * MIB)
    for _ in range(40):
        file.write(bytes(MIB))
    file.flush()
    assert 39 * MIB < resident_bytes(os.getpid()) - before < 60 * MIB
    with mmap.mmap(file.fileno(), 40 * MIB) as mapped:
        assert not any(mapped[:: 1 << 12])
        assert resident_bytes(os.getpid()) - before < 60 * MIB
    file.close()


NAMES = ("in/large.tif", "out/large.restored.tif")


@pytest.fixture
def disk(tmp_path):
    """Scratch that holds nothing in memory."""
    return Scratch(tmp_path, memory_bytes=0)


KINDS = {
    "tiles": {"tile": (64, 48), "compression": "zlib"},
    "strips": {"rowsperstrip": 7, "compression": "lzw", "predictor": 2},
    "plain big-endian": {"byteorder": ">"},
    "channels apart": {"planarconfig": "separate"},
    "turned": {"extratags": [(274, 3, 1, 6, True)]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_on_the_disk_is_the_same_as_one_in_memory(tmp_path, disk, kind):
    options = dict(KINDS[kind])
    file_options = {"byteorder": options.pop("byteorder", "<")}
    array = np.random.default_rng(3).integers(0, 65536, (700, 610, 3), np.uint16)
    if kind == "channels apart":
        array = np.moveaxis(array, 2, 0)
    with tifffile.TiffWriter(tmp_path / "a.tif", **file_options) as file:
        file.write(array, photometric="rgb", metadata=None, **options)
    data = (tmp_path / "a.tif").read_bytes()
    (page,) = decode(data, limits=Limits()).pages
    photographs = [decode(data, limits=Limits(), space=disk)]
    for scratch in (disk, Scratch(tmp_path)):
        with Decoder(Budget(60, 1 << 30), scratch=scratch) as decoder:
            photographs += [decoder(data, limits=Limits()) for _ in range(2)]
    expected = encode(photographs[0], [page.pixels], output="same", jpeg_quality=95, software="x")
    for photograph in photographs:
        np.testing.assert_array_equal(photograph.pages[0].pixels, page.pixels)
        restoration = Restoration(photograph.pages[0].pixels, (), {})
        encoded = codec.encode(
            photograph,
            [restoration],
            output="same",
            jpeg_quality=95,
            software="x",
            scratch=disk,
        )
        assert encoded.data == expected.data
        proof = prove(photograph, [restoration], encoded, background=False, scratch=disk)
        assert proof.samples_compared == array.size


def test_a_child_that_used_the_disk_is_followed_by_another(disk):
    data = tiff_of(np.zeros((600, 800, 3), np.uint16))
    with Decoder(Budget(60, 1 << 30), scratch=disk) as decoder:
        first = decoder(data, limits=Limits()).pages[0]
        second = decoder(data, limits=Limits()).pages[0]
        first.pixels[:] = 1
        assert (second.pixels == 0).all()
        assert (first.pixels == 1).all()


def test_a_compressed_strip_of_the_whole_page_is_cut_and_that_is_said(monkeypatch):
    monkeypatch.setattr("worker.codec.tiff_storage._LONGEST_STRIP_BYTES", 10_000)
    array = np.random.default_rng(3).integers(0, 65536, (150, 130), np.uint16)
    for options, is_cut in (({"compression": "zlib"}, True), ({}, False)):
        photograph = decode(tiff_of(array, rowsperstrip=150, **options), limits=Limits())
        pixels = [photograph.pages[0].pixels]
        encoded = encode(photograph, pixels, output="same", jpeg_quality=95, software="x")
        with tifffile.TiffFile(io.BytesIO(encoded.data)) as file:
            assert (file.pages[0].rowsperstrip == 38) == is_cut
            np.testing.assert_array_equal(file.pages[0].asarray(), array)
        assert any("cut" in note for note in encoded.notes) == is_cut


def tiff_of(array, **options):
    """A TIFF file's bytes."""
    out = io.BytesIO()
    tifffile.imwrite(out, array, metadata=None, **options)
    return out.getvalue()
