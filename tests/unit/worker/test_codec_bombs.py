"""Small files that would unfold to much work or memory: what is done for them stays bounded."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from jobs.errors import PhotoTooLarge
from jobs.schema import Claim
from worker.codec import decode, exif, ifd, photoshop, png_metadata, read_header, tiff_reader
from worker.codec.ifd import Layout
from worker.codec.limits import Limits
from worker.pipeline import run
from worker.stages import Stages

LITTLE = Layout("<")
MEBIBYTE = 2**20


class Counted(bytes):
    """Bytes that count how many of them were looked at."""

    looked_at = 0

    def __getitem__(self, part):
        found = super().__getitem__(part)
        type(self).looked_at += len(found)
        return found


def counted(data):
    return type("Fresh", (Counted,), {})(data)


def entry(code, kind, count, value):
    return struct.pack("<HHII", code, kind, count, value)


def directory(entries, link=0):
    return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", link)


HEADER = b"II*\0" + struct.pack("<I", 8)


@pytest.mark.parametrize("codes", [[ifd.EXIF] * 20, [ifd.EXIF, ifd.GPS, ifd.INTEROPERABILITY]])
def test_a_directory_that_points_to_itself_is_read_once(codes):
    data = counted(HEADER + directory([entry(code, 4, 1, 8) for code in codes]))
    table = ifd.unpack(data, 8, LITTLE)
    assert table.fields == {}
    assert table.skipped == set(codes)
    assert data.looked_at < 2 * len(data)


def test_an_exif_block_whose_pointers_all_lead_to_itself_takes_work_in_its_own_size():
    data = counted(HEADER + directory([entry(ifd.EXIF, 4, 1, 8)] * 60))
    assert exif.read(data).damaged
    assert data.looked_at < 2 * len(data)


def test_pointers_to_directories_that_overlap_read_no_more_than_the_room():
    codes = (ifd.EXIF, ifd.GPS, ifd.INTEROPERABILITY)
    one = directory([entry(code, 4, 1, 8) for code in codes])
    many = directory([entry(n, 7, 4000, 8) for n in range(400)])
    data = counted(HEADER + one + many)
    table = ifd.unpack(data, 8 + len(one), LITTLE)
    held = sum(len(field.value) for field in table.fields.values())
    assert held <= 2 * len(data)
    assert table.skipped


def test_a_field_and_another_that_share_a_value_are_both_read():
    values_at = 8 + 2 + 2 * 12 + 4
    fields = [entry(code, 5, 1, values_at) for code in (282, 283)]
    block = HEADER + directory(fields) + struct.pack("<II", 300, 1)
    table = ifd.unpack(block, 8, LITTLE)
    assert set(table.fields) == {282, 283}


def chain(pages, shared):
    """A chain of directories that all have the same long field."""
    size = 2 + 12 + 4
    values_at = 8 + pages * size
    parts = [
        directory([entry(34675, 7, shared, values_at)], 8 + n * size if n < pages else 0)
        for n in range(1, pages + 1)
    ]
    return HEADER + b"".join(parts) + bytes(shared)


def test_pages_that_share_a_field_hold_it_only_so_often():
    data = chain(500, 300_000)
    _, tables = tiff_reader._read_directories(data, limits=Limits())
    held = sum(len(field.value) for table in tables for field in table.fields.values())
    assert len(tables) == 500
    assert 300_000 * 10 < held <= 2 * len(data) + 16 * MEBIBYTE


@pytest.mark.parametrize("reading", [decode, read_header])
def test_a_file_of_too_many_pages_is_too_large(reading):
    with pytest.raises(PhotoTooLarge, match="pages"):
        reading(chain(21, 8), limits=Limits(max_pages=20))


# Each took hours; a limit on the processor's time, generous for one go, ends it and the test.
_SLOW = {
    "profile": "photoshop.read_raw_profile(b' \\n' * 200_000)",
    "thumbnails": "xmp_packet.change(b'<xmp:Thumbnails>' * 200_000, {}, [], dropped=['a'])",
}


@pytest.mark.parametrize("call", _SLOW.values(), ids=_SLOW)
def test_texts_that_nearly_match_are_read_in_one_go(call):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (60, 60))"
    imports = "from worker.codec import photoshop, xmp_packet"
    subprocess.run([sys.executable, "-c", f"{limit}\n{imports}\n{call}"], check=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\nexif\n      3\n414243\n", b"ABC"),
        (b"iptc\n 3 \n41\n4243", b"ABC"),
        (b"\n  exif\n\n 2\n4142", b"AB"),
        (b"exif\n", None),
        (b"exif\n3", None),
        (b"exif\nx3\n414243", None),
        (b"exif\n3\n4142zz", None),
        (b"", None),
    ],
)
def test_a_raw_profile_is_read_by_its_lines(text, expected):
    assert photoshop.read_raw_profile(text) == expected


def long_text(text):
    return b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0" + zlib.compress(text)


@pytest.fixture
def inflated(monkeypatch):
    """The sizes of all that is inflated."""
    sizes = []
    make = zlib.decompressobj

    class Inflater:
        def __init__(self):
            self.inner = make()

        def decompress(self, packed, limit):
            assert limit > 0
            unpacked = self.inner.decompress(packed, limit)
            sizes.append(len(unpacked))
            return unpacked

        @property
        def eof(self):
            return self.inner.eof

    monkeypatch.setattr(png_metadata.zlib, "decompressobj", Inflater)
    return sizes


def test_of_compressed_texts_only_the_first_is_inflated(inflated):
    chunks = [long_text(bytes([48 + n]) * MEBIBYTE) for n in range(5)]
    metadata = png_metadata.read_metadata(chunks, [])
    assert metadata.xmp == b"0" * MEBIBYTE
    assert inflated == [MEBIBYTE]


def test_all_compressed_chunks_share_one_room(inflated):
    bomb = zlib.compress(b"\n" * 24 * MEBIBYTE)
    chunks = [(b"zTXt", b"Raw profile type exif\0\0" + bomb)] * 6
    metadata = png_metadata.read_metadata(chunks, [])
    assert sum(inflated) <= 64 * MEBIBYTE
    assert metadata.exif is None
    assert len(metadata.chunks) == 6


def test_damaged_streams_take_from_the_room_too(monkeypatch):
    broken = zlib.compress(bytes(MEBIBYTE))[:-4] + b"\0\0\0\1"
    rooms = []
    inflate = png_metadata._inflate

    def watched(packed, found):
        rooms.append(found.room)
        return inflate(packed, found)

    monkeypatch.setattr(png_metadata, "_inflate", watched)
    chunks = [(b"zTXt", b"Raw profile type exif\0\0" + broken)] * 100
    png_metadata.read_metadata(chunks, [])
    assert rooms[-1] == 0
    assert sum(room > 0 for room in rooms) <= 64


def test_a_damaged_profile_leaves_room_for_the_texts():
    chunks = [(b"iCCP", b"icc\0\0" + b"no zlib at all"), long_text(b"<x/>")]
    notes = []
    metadata = png_metadata.read_metadata(chunks, notes)
    assert (metadata.icc, metadata.xmp) == (None, b"<x/>")
    assert notes == ["the ICC profile is damaged and was left out"]


def test_a_small_page_with_large_tiles_is_restored(bench):
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    options = {"tile": (2048, 2048), "compression": "zlib", "photometric": "rgb"}
    tifffile.imwrite(out, pixels, **options)
    bench.masters.objects["a.tif"] = out.getvalue()
    outcome = run(
        Claim(photo_id=1, key="a.tif", token="t", attempt=1, worker="w1", job=bench.job),
        masters=bench.masters,
        derivatives=bench.derivatives,
        engine=bench.engine,
        decode=decode,
        limits=Limits(5_000_000),
        stages=Stages(),
    )
    derivative = io.BytesIO(bench.derivatives.objects[outcome.derivative_key])
    restored = np.asarray(Image.open(derivative))
    assert restored.shape == pixels.shape
    assert (restored[50:] == pixels[50:]).all()
