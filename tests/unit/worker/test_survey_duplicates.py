import hashlib

import numpy as np
import pytest

from jobs.errors import SourceMissing, StoreUnavailable
from jobs.schema import Candidate
from jobs.testing import MemoryStore
from worker.survey.duplicates import find_duplicates


def noise(seed, size=300_000):
    return np.random.default_rng(seed).bytes(size)


class CountingStore(MemoryStore):
    """Counts the bytes that are read, and fails where it is told to."""

    bytes_read = 0
    failing = frozenset()
    gone = False

    def read(self, key, start, size):
        if key in self.failing:
            raise StoreUnavailable(f"can't read {key}")
        piece = super().read(key, start, size)
        self.bytes_read += len(piece)
        return piece

    def check_readable(self):
        if self.gone:
            raise SourceMissing("it is gone")


def compare(store):
    return find_duplicates(store, [Candidate(one.key, one.size_bytes) for one in store.list()])


def test_equal_files_are_a_group_with_their_hash_the_largest_waste_first():
    small, large = noise(1, 100), noise(2, 9_000_000)
    store = CountingStore(
        {"b.jpg": small, "a/a.jpg": small, "c.jpg": small, "e.tif": large, "d.tif": large}
    )
    first, second = compare(store).groups
    assert (first.keys, first.spare_bytes) == (("d.tif", "e.tif"), 9_000_000)
    assert (second.keys, second.spare_bytes) == (("a/a.jpg", "b.jpg", "c.jpg"), 200)
    assert first.sha256 == hashlib.sha256(large).hexdigest()


def test_files_of_different_sizes_are_not_read():
    store = CountingStore({"a.jpg": noise(1, 1000), "b.jpg": noise(1, 1001)})
    assert compare(store).groups == ()
    assert store.bytes_read == 0


def test_files_of_one_size_that_differ_are_read_in_a_small_part_only():
    store = CountingStore({f"{seed}.tif": noise(seed) for seed in range(20)})
    assert compare(store).groups == ()
    assert store.bytes_read < 20 * 70_000


@pytest.mark.parametrize("at", [0, 20_000_000 - 1, 12_345_678])
def test_one_byte_anywhere_makes_another_file(at):
    data = bytearray(20_000_000)
    data[at] = 1
    assert compare(CountingStore({"a.tif": bytes(20_000_000), "b.tif": bytes(data)})).groups == ()


def test_what_was_read_is_counted():
    store = CountingStore({"a.tif": noise(1), "b.tif": noise(1), "c.tif": noise(2), "d.tif": b"d"})
    assert compare(store).bytes_read == store.bytes_read == 3 * 65_536 + 2 * 300_000


def test_empty_files_are_no_duplicates():
    assert compare(CountingStore({"a.jpg": b"", "b.jpg": b""})).groups == ()


def test_a_file_that_cannot_be_read_is_left_out():
    store = CountingStore({key: noise(1) for key in ("a.tif", "b.tif", "c.tif")})
    store.failing = {"b.tif"}
    candidates = [Candidate(key, 300_000) for key in ("a.tif", "b.tif", "c.tif", "missing.tif")]
    (group,) = find_duplicates(store, candidates).groups
    assert group.keys == ("a.tif", "c.tif")


def test_a_store_that_is_gone_ends_it():
    store = CountingStore({"a.tif": noise(1), "b.tif": noise(1)})
    store.failing, store.gone = {"b.tif"}, True
    with pytest.raises(SourceMissing):
        compare(store)
