import errno
import io
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from jobs.errors import (
    DestinationUnusable,
    OutputConflict,
    PhotoMissing,
    SourceMissing,
    StoreFull,
    StoreUnavailable,
    UnsafeKey,
)
from jobs.storage import DirectoryStore, PutResult


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "store"
    root.mkdir()
    return root


@pytest.fixture
def store(root):
    return DirectoryStore(root)


def put(store, key, data=b"pixels"):
    return store.put_once(key, data, content_type="image/png")


def keys(store):
    return [found.key for found in store.list()]


def break_with(monkeypatch, function, number):
    def broken(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, broken)


# Names


def test_the_address_is_absolute_and_without_links(tmp_path, root, monkeypatch):
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    assert DirectoryStore(tmp_path / "link").url == str(root)
    assert DirectoryStore(tmp_path / "x/../store").url == str(root)


def test_files_come_in_the_order_of_their_keys(store):
    names = ["Z.jpg", "a b.jpg", "a-1/x.jpg", "a-1.jpg", "a.jpg", "a/b.jpg", "a0.jpg", "é/x.jpg"]
    for name in names:
        put(store, name)
    assert keys(store) == sorted(names)


def test_a_folder_of_very_many_files_is_listed_in_little_memory(root, store):
    files = 50_000
    for number in range(files):
        os.close(os.open(root / f"scan-{number:07}.jpg", os.O_CREAT))
    tracemalloc.start()
    try:
        assert sum(1 for _ in store.list()) == files
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / files < 120  # bytes: a name and little more, so a million take 110 MiB


@pytest.fixture
def deepest(root):
    """The last of very many folders, each in the one before: more than programs can walk back."""
    folders = [root]
    for _ in range(1100):
        folders.append(folders[-1] / "a")
        folders[-1].mkdir()
    yield folders[-1]
    for folder in reversed(folders[1:]):
        for file in folder.glob("*.jpg"):
            file.unlink()
        folder.rmdir()


def test_a_file_in_a_thousand_nested_folders_is_listed(store, deepest):
    (deepest / "b.jpg").write_bytes(b"found")
    assert keys(store) == ["a/" * 1100 + "b.jpg"]


def test_a_name_in_another_encoding_is_listed_and_can_be_shown_but_not_read(root, store):
    (root / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    [key] = keys(store)
    with pytest.raises(UnsafeKey, match="caf") as caught:
        store.get(key)
    str(caught.value).encode()


def test_a_name_too_long_for_the_file_system_is_refused(store):
    with pytest.raises(UnsafeKey, match="too long"):
        put(store, "a" * 300)


# Links


def test_a_link_to_a_file_inside_is_a_file(root, store):
    put(store, "a.jpg", b"inside")
    (root / "b.jpg").symlink_to("a.jpg")
    assert keys(store) == ["a.jpg", "b.jpg"]
    assert store.get("b.jpg") == b"inside"
    assert store.read("b.jpg", 2, 3) == b"sid"


def test_a_link_that_leaves_the_root_is_skipped_and_said_so(tmp_path, root, store, caplog):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    assert keys(store) == []
    assert "store.link_skipped" in caplog.text
    with pytest.raises(UnsafeKey):
        store.get("a.jpg")
    with pytest.raises(UnsafeKey):
        store.read("a.jpg", 0, 6)
    with pytest.raises(UnsafeKey):
        store.fetch("a.jpg", io.BytesIO())


def test_a_linked_folder_is_neither_followed_nor_a_way_out(tmp_path, root, store):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"secret")
    (root / "album").symlink_to(outside)
    (root / "loop").symlink_to(root)
    assert keys(store) == []
    with pytest.raises(UnsafeKey):
        store.get("album/a.jpg")
    with pytest.raises(UnsafeKey):
        store.read("album/a.jpg", 0, 6)
    with pytest.raises(UnsafeKey):
        put(store, "album/new/b.jpg")
    assert [path.name for path in outside.iterdir()] == ["a.jpg"]


def test_a_link_to_itself_harms_nobody(root, store):
    (root / "a.jpg").symlink_to("a.jpg")
    assert keys(store) == []
    with pytest.raises(UnsafeKey):
        store.get("a.jpg")


def test_what_is_no_file_is_not_listed(root, store):
    os.mkfifo(root / "pipe.jpg")
    (root / "dangling.jpg").symlink_to("nothing")
    assert keys(store) == []


# Writing


def test_the_folders_of_a_key_and_of_the_store_are_made(tmp_path):
    store = DirectoryStore(tmp_path / "new/store")
    assert put(store, "a/b/c.png") is PutResult.CREATED
    assert keys(store) == ["a/b/c.png"]


def test_files_get_the_mode_that_the_user_chose(root, store):
    before = os.umask(0o027)
    try:
        put(store, "a.png")
    finally:
        os.umask(before)
    assert (root / "a.png").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported_and_nothing_stays_behind(root, store, monkeypatch, number):
    break_with(monkeypatch, "fsync", number)
    with pytest.raises(StoreFull):
        put(store, "a.png")
    assert list(root.iterdir()) == []


def test_a_disk_error_is_reported_and_nothing_stays_behind(root, store, monkeypatch):
    break_with(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(StoreUnavailable):
        put(store, "a.png")
    assert list(root.iterdir()) == []


class TornFile(io.BytesIO):
    """A file whose disk fails while it is read."""

    def read(self, size=-1):
        if self.tell() > 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing_behind(root, store):
    with pytest.raises(StoreUnavailable):
        put(store, "a.tif", TornFile(bytes(3_000_000)))
    assert list(root.iterdir()) == []


def test_a_file_system_without_hard_links_will_do(store, monkeypatch):
    break_with(monkeypatch, "link", errno.EPERM)
    assert put(store, "a.png", b"first") is PutResult.CREATED
    assert put(store, "a.png", b"first") is PutResult.SAME
    with pytest.raises(OutputConflict):
        put(store, "a.png", b"other")
    assert store.get("a.png") == b"first"


def test_a_file_in_the_place_of_a_folder_is_a_conflict(store):
    put(store, "a")
    with pytest.raises(OutputConflict):
        put(store, "a/b.png")


def test_a_folder_in_the_place_of_a_file_is_a_conflict(root, store):
    (root / "a.png").mkdir()
    with pytest.raises(OutputConflict):
        put(store, "a.png")
    assert list(root.iterdir()) == [root / "a.png"]
    with pytest.raises(PhotoMissing):
        store.get("a.png")


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from jobs.storage import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]))
number = 0
while True:
    store.put_once(f"{number}.png", bytes([number % 256]) * 1_000_000, content_type="image/png")
    number += 1
"""


def test_a_writer_that_is_killed_leaves_complete_files_only(root, store):
    writer = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(root)])
    deadline = time.monotonic() + 30
    while len(keys(store)) < 5 and time.monotonic() < deadline:
        assert writer.poll() is None
    writer.kill()
    writer.wait()
    sizes = {found.size_bytes for found in store.list()}
    assert sizes == {1_000_000}


# Checks


def test_a_source_that_does_not_exist_is_refused(tmp_path):
    store = DirectoryStore(tmp_path / "nothing")
    with pytest.raises(SourceMissing, match="nothing"):
        store.check_readable()
    with pytest.raises(SourceMissing, match="nothing"):
        list(store.list())


def test_a_source_that_is_a_file_is_refused_with_a_hint_at_the_command_for_it(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(SourceMissing, match=r"a file, not a folder; .* gpen-archive restore"):
        DirectoryStore(tmp_path / "a.jpg").check_readable()


def test_a_destination_that_can_be_made_is_accepted_and_not_made_yet(tmp_path):
    DirectoryStore(tmp_path / "new/store").check_writable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_destination_in_the_place_of_a_file_is_refused(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DestinationUnusable):
        DirectoryStore(tmp_path / name).check_writable()


def test_a_folder_that_takes_no_files_is_refused():
    # Even root can't make files there.
    with pytest.raises(DestinationUnusable, match="/proc"):
        DirectoryStore(Path("/proc")).check_writable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_stops_the_listing(root, store):
    (root / "closed").mkdir(mode=0)
    with pytest.raises(SourceMissing, match="closed"):
        keys(store)
