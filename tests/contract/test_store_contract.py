"""What every object store promises: in memory, in a directory, in S3."""

import errno
import hashlib
import io
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.errors import OutputConflict, PhotoMissing, UnsafeKey
from jobs.s3 import S3Store
from jobs.settings import JobSettings
from jobs.storage import ObjectInfo, PutResult, open_store
from jobs.testing import MemoryStore

AWKWARD_KEYS = ["Z.jpg", "a b/ü+%&?#.jpg", "a-1.jpg", "a.jpg", "a/b.jpg", "a/b/c.jpg", "é/'é\".png"]
SMALLEST_PART_BYTES = 5 * 1024**2
LARGE = hashlib.sha256(b"large").digest() * 200_000  # of more than one piece, or part


S3_STORES = [pytest.param(name, marks=pytest.mark.services) for name in ("s3", "s3 in parts")]


@pytest.fixture(scope="module")
def bucket(s3):
    # One for all tests, each with a prefix of its own: every bucket takes room of the server's.
    return s3.make_bucket()


@pytest.fixture(params=["memory", "directory", *S3_STORES])
def store(request, tmp_path):
    if request.param == "memory":
        return MemoryStore()
    if request.param == "directory":
        (tmp_path / "store").mkdir()
        return open_store(str(tmp_path / "store"), JobSettings())
    s3 = request.getfixturevalue("s3")
    settings = JobSettings(
        s3_endpoint_url=s3.endpoint_url,
        s3_access_key_id=s3.access_key,
        s3_secret_access_key=s3.secret_key,
    )
    url = f"s3://{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}/prefix"
    if request.param == "s3":
        return open_store(url, settings)
    return S3Store(url, settings, whole_bytes=1, part_bytes=SMALLEST_PART_BYTES)


def put(store, key, data=b"pixels"):
    return store.put_once(key, data, content_type="image/png")


class Unplugged(Exception):
    """A disk is gone."""


class TornFile(io.BytesIO):
    """A file whose disk is unplugged while it is read."""

    def read(self, size=-1):
        if size < 0 or self.tell() + size > 2_000_000:
            raise Unplugged
        return super().read(size)


def test_what_is_put_can_be_got(store):
    data = bytes(range(256)) * 10_000
    assert put(store, "album/a.png", data) is PutResult.CREATED
    assert store.get("album/a.png") == data
    assert store.head("album/a.png") == ObjectInfo("album/a.png", len(data))


def test_an_empty_object_is_an_object(store):
    put(store, "empty.jpg", b"")
    assert store.get("empty.jpg") == b""
    assert store.head("empty.jpg") == ObjectInfo("empty.jpg", 0)


@pytest.mark.parametrize(
    ("start", "size", "expected"),
    [
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (8, 100, b"89"),
        (0, 10, b"0123456789"),
        (10, 5, b""),
        (11, 5, b""),
        (4, 0, b""),
        (0, 0, b""),
    ],
)
def test_a_part_of_an_object_can_be_read_and_is_shorter_at_its_end(store, start, size, expected):
    put(store, "album/a.png", b"0123456789")
    assert store.read("album/a.png", start, size) == expected


def test_a_part_of_an_empty_object_is_empty(store):
    put(store, "empty.jpg", b"")
    assert store.read("empty.jpg", 0, 100) == b""


def test_a_part_far_inside_a_large_object_is_that_part(store):
    put(store, "large.tif", LARGE)
    assert store.read("large.tif", 5_000_007, 70_000) == LARGE[5_000_007:5_070_007]


# Files


@pytest.mark.parametrize("data", [b"", b"pixels", LARGE], ids=["empty", "small", "large"])
def test_an_object_is_fetched_into_an_open_file(store, tmp_path, data):
    put(store, "album/a.tif", data)
    with (tmp_path / "a.tif").open("xb") as file:
        assert store.fetch("album/a.tif", file) == len(data)
        assert (tmp_path / "a.tif").read_bytes() == data  # whoever reads it by name finds all of it


def test_an_object_is_fetched_to_where_the_file_stands(store):
    put(store, "a.png", b"pixels")
    file = io.BytesIO(b"before and after")
    file.seek(7)
    store.fetch("a.png", file)
    assert file.getvalue() == b"before pixelster"


def test_where_there_is_no_room_for_what_is_fetched_the_file_says_so(store):
    put(store, "small.png", b"pixels")
    put(store, "large.tif", LARGE)
    for key in ("small.png", "large.tif"):
        with (
            suppress(OSError),  # it tries again when it is closed
            Path("/dev/full").open("wb") as full,
            pytest.raises(OSError, match="No space left") as caught,
        ):
            store.fetch(key, full)
        assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("data", [b"", b"pixels", LARGE], ids=["empty", "small", "large"])
def test_a_file_is_stored_from_its_start_to_its_end_wherever_it_stands(store, data):
    file = io.BytesIO(data)
    file.seek(3)
    assert put(store, "album/a.tif", file) is PutResult.CREATED
    assert store.get("album/a.tif") == data
    assert put(store, "album/a.tif", file) is PutResult.SAME
    assert put(store, "album/a.tif", data) is PutResult.SAME


@pytest.mark.parametrize(
    "other",
    [LARGE[:-1] + b"x", LARGE[:-1], LARGE[: 2 * 1024**2], LARGE + b"x"],
    ids=["last byte", "shorter", "shorter by pieces", "longer"],
)
def test_a_file_that_differs_far_from_its_start_is_refused_and_changes_nothing(store, other):
    put(store, "a.tif", io.BytesIO(LARGE))
    with pytest.raises(OutputConflict, match=r"a\.tif"):
        put(store, "a.tif", io.BytesIO(other))
    assert store.get("a.tif") == LARGE


def test_a_file_that_cannot_be_read_to_its_end_is_not_stored_at_all(store):
    with pytest.raises(Unplugged):
        put(store, "a.tif", TornFile(LARGE))
    assert store.head("a.tif") is None
    assert put(store, "a.tif", io.BytesIO(LARGE)) is PutResult.CREATED


@pytest.mark.parametrize("store", ["directory", *S3_STORES], indirect=True)
def test_objects_are_put_compared_and_fetched_without_being_held_in_memory(store, tmp_path):
    size = 100_000_000
    put(store, "small.png")  # a client is made at the first use, and is large
    with (tmp_path / "in.tif").open("xb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        with (tmp_path / "in.tif").open("rb") as file:
            assert put(store, "a.tif", file) is PutResult.CREATED
            assert put(store, "a.tif", file) is PutResult.SAME
        with (tmp_path / "out.tif").open("xb") as file:
            assert store.fetch("a.tif", file) == size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * SMALLEST_PART_BYTES


# Writing once


def test_putting_the_same_again_is_harmless(store):
    put(store, "a.png")
    assert put(store, "a.png") is PutResult.SAME


def test_another_content_under_the_same_key_is_refused_and_changes_nothing(store):
    put(store, "a.png", b"first")
    with pytest.raises(OutputConflict, match=r"a\.png"):
        put(store, "a.png", b"other")
    assert store.get("a.png") == b"first"


@pytest.mark.parametrize("store", ["memory", "directory", S3_STORES[0]], indirect=True)
def test_of_many_that_put_under_one_key_one_creates_it(store):
    contents = [hashlib.sha256(bytes([number])).digest() for number in range(8)]

    def try_to_put(data):
        try:
            return put(store, "race/a.png", data), data
        except OutputConflict:
            return None

    with ThreadPoolExecutor(8) as threads:
        won = [result for result in threads.map(try_to_put, contents) if result]
    assert won == [(PutResult.CREATED, store.get("race/a.png"))]


def test_all_objects_are_listed_with_their_sizes_at_every_depth(store):
    for key in AWKWARD_KEYS:
        put(store, key, key.encode())
    expected = [ObjectInfo(key, len(key.encode())) for key in AWKWARD_KEYS]
    assert sorted(store.list(), key=lambda found: found.key) == expected


def test_an_awkward_key_leads_back_to_its_object(store):
    for key in AWKWARD_KEYS:
        put(store, key, key.encode())
    assert [store.get(key).decode() for key in AWKWARD_KEYS] == AWKWARD_KEYS


def test_hidden_objects_are_not_listed(store):
    for key in (".DS_Store", "album/.thumbs/a.jpg", "album/a.jpg", "album/.b.partial"):
        put(store, key)
    assert [found.key for found in store.list()] == ["album/a.jpg"]


def test_an_empty_store_lists_nothing(store):
    assert list(store.list()) == []


def test_what_is_not_there_has_no_head_and_cannot_be_got(store):
    put(store, "album/a.png")
    for absent in ("nothing.png", "album", "album/a.png/b.png"):
        assert store.head(absent) is None
        with pytest.raises(PhotoMissing):
            store.get(absent)
        target = io.BytesIO()
        with pytest.raises(PhotoMissing):
            store.fetch(absent, target)
        assert target.getvalue() == b""
        for size in (0, 10):
            with pytest.raises(PhotoMissing):
                store.read(absent, 0, size)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a\0b", "a\\b"])
def test_a_key_that_could_lead_outside_is_refused_by_every_method(store, key):
    with pytest.raises(UnsafeKey):
        put(store, key)
    with pytest.raises(UnsafeKey):
        store.get(key)
    with pytest.raises(UnsafeKey):
        store.read(key, 0, 1)
    with pytest.raises(UnsafeKey):
        store.fetch(key, io.BytesIO())
    with pytest.raises(UnsafeKey):
        store.head(key)


def test_checking_that_a_store_can_be_written_leaves_nothing_behind(store):
    put(store, "a.png")
    store.check_writable()
    assert [found.key for found in store.list()] == ["a.png"]


def test_a_store_with_objects_passes_the_check_for_readers(store):
    put(store, "a.png")
    store.check_readable()
