import os

import pytest

from jobs.candidates import SUFFIXES
from jobs.storage import DirectoryStore
from jobs.testing import MemoryStore
from producer.scan import Tally, scan


def keys_of(store, tally=None) -> list[str]:
    return [candidate.key for candidate in scan(store, tally or Tally())]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_known_suffix_makes_a_candidate_in_either_case(suffix):
    lower, upper = f"a{suffix}", f"b{suffix.upper()}"
    assert keys_of(MemoryStore({lower: b"1", upper: b"2"})) == [lower, upper]


def test_the_suffixes_are_those_of_the_manual():
    assert " ".join(SUFFIXES) == (
        ".jpg .jpeg .jpe .jfif .png .tif .tiff .webp .bmp .gif .jp2 .j2k .avif .heic .heif"
    )


def test_photos_in_folders_keep_their_way_there():
    assert keys_of(MemoryStore({"1920/June/a.tif": b"x"})) == ["1920/June/a.tif"]


def test_an_empty_photo_is_a_candidate_so_that_it_fails_under_its_name():
    (candidate,) = scan(MemoryStore({"empty.jpg": b""}), Tally())
    assert (candidate.key, candidate.size_bytes) == ("empty.jpg", 0)


def test_other_files_are_counted_as_ignored():
    tally = Tally()
    assert keys_of(MemoryStore({"notes.txt": b"", "Thumbs.db": b"", "README": b""}), tally) == []
    assert tally.ignored == 3


def test_what_an_earlier_run_delivered_is_no_master():
    tally = Tally()
    ours = {"a.restored.tif": b"", "a.restored.tif.json": b"", "b.RESTORED.jpg.png": b""}
    assert keys_of(MemoryStore(ours | {"restored.jpg": b""}), tally) == ["restored.jpg"]
    assert tally.ours == 3


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    (tmp_path / ".cache").mkdir()
    for name in ("._a.jpg", ".cache/b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    assert keys_of(DirectoryStore(tmp_path)) == ["c.jpg"]


def test_hidden_files_are_counted_where_a_store_lists_them():
    class OpenStore(MemoryStore):
        def list(self):
            return (self.head(key) for key in sorted(self.objects))

    tally = Tally()
    assert keys_of(OpenStore({".a/b.jpg": b"", "a/.b/c.jpg": b"", "a/.c.jpg": b""}), tally) == []
    assert tally.hidden == 3


def test_a_name_that_no_ledger_can_hold_is_named_and_stops_nothing(tmp_path):
    (tmp_path / "a\\b.jpg").touch()
    (tmp_path / "c.jpg").touch()
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    tally = Tally()
    assert keys_of(DirectoryStore(tmp_path), tally) == ["c.jpg"]
    assert len(tally.unsafe) == 2


def test_photos_are_counted_while_they_are_yielded():
    tally = Tally()
    found = scan(MemoryStore({"a.jpg": b"", "b.jpg": b""}), tally)
    next(found)
    assert tally.photos == 1
