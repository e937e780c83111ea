"""Scratch: small things lie in memory, large ones on the disk, and nothing stays behind."""

import errno
import os
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from jobs.errors import ScratchFull
from worker.scratch import Scratch, bands, writing

MIB = 1 << 20


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def files_of(folder):
    """Which of our open files and maps lie in a folder, named or not."""
    held = [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    held += Path("/proc/self/maps").read_text().split()
    return [name for name in held if name.startswith(str(folder))]


def wait_until(condition, within_s=20):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_large_array_lies_in_a_file_without_a_name_and_is_gone_with_its_holder(tmp_path):
    scratch = Scratch(tmp_path, memory_bytes=MIB)
    array = scratch.empty((1024, 1025), np.uint8)
    assert files_of(tmp_path)
    assert not list(tmp_path.iterdir())
    del array
    assert not files_of(tmp_path)


def test_small_things_need_no_disk(tmp_path):
    scratch = Scratch(tmp_path, memory_bytes=MIB)
    array, file = scratch.empty((1024, 512), np.uint8), scratch.file(MIB // 2)
    array[:] = 1
    file.write(b"x")
    assert not files_of(tmp_path)


def test_memory_is_shared_by_all_and_given_back(tmp_path):
    scratch = Scratch(tmp_path, memory_bytes=MIB)
    first = scratch.empty((1024, 768), np.uint8)
    view = first[1:]
    del first
    second = scratch.empty((1024, 768), np.uint8)
    assert files_of(tmp_path)
    del second, view
    third, file = scratch.empty((1024, 512), np.uint8), scratch.file(MIB // 2)
    assert not files_of(tmp_path)
    del third
    file.close()
    del file
    assert scratch.empty((1024, 1024), np.uint8).size
    assert not files_of(tmp_path)


def test_who_walks_over_a_large_array_holds_little_of_it(tmp_path):
    scratch = Scratch(tmp_path, memory_bytes=MIB)
    array = scratch.empty((256, MIB), np.uint8)
    before = highest = resident_bytes()
    for rows in bands(array):
        array[rows] = rows.start % 251
        highest = max(highest, resident_bytes())
        time.sleep(0.003)
    assert highest - before < 160 * MIB
    wait_until(lambda: resident_bytes() - before < 32 * MIB)
    assert all((array[rows] == rows.start % 251).all() for rows in bands(array))


def test_nothing_is_swept_when_nothing_is_left(tmp_path):
    scratch = Scratch(tmp_path, memory_bytes=0)
    array = scratch.empty((4, 4), np.uint8)
    assert "scratch" in [thread.name for thread in threading.enumerate()]
    del array
    wait_until(lambda: "scratch" not in [thread.name for thread in threading.enumerate()])
    again = scratch.empty((4, 4), np.uint8)
    assert "scratch" in [thread.name for thread in threading.enumerate()]
    assert again.size


def test_arrays_may_be_made_while_somebody_walks(tmp_path, monkeypatch):
    scratch = Scratch(tmp_path, memory_bytes=0)
    broken = []
    monkeypatch.setattr(threading, "excepthook", broken.append)

    def make():
        for _ in range(600):
            scratch.empty((4, 4), np.uint8)

    makers = [threading.Thread(target=make) for _ in range(2)]
    held = [scratch.empty((4, 4), np.uint8) for _ in range(50)]
    array = scratch.empty((64, MIB), np.uint8)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    try:
        for maker in makers:
            maker.start()
        while any(maker.is_alive() for maker in makers):
            assert sum(1 for _ in bands(array)) == 32
    finally:
        sys.setswitchinterval(interval_s)
        for maker in makers:
            maker.join()
    assert not broken
    assert len(held) == 50


def test_an_array_needs_no_thread_and_the_next_one_tries_again(tmp_path, monkeypatch):
    wait_until(lambda: "scratch" not in [thread.name for thread in threading.enumerate()])
    scratch = Scratch(tmp_path, memory_bytes=0)

    def no_room(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", no_room)
        array = scratch.empty((128, MIB), np.uint8)
    before = resident_bytes()
    for rows in bands(array):
        array[rows] = 1
    assert resident_bytes() - before < 64 * MIB
    assert "scratch" not in [thread.name for thread in threading.enumerate()]

    again = scratch.empty((4, 4), np.uint8)
    assert "scratch" in [thread.name for thread in threading.enumerate()]
    assert again.size


def test_what_cannot_be_made_takes_no_room(tmp_path, monkeypatch):
    def too_many(_):
        raise OSError(errno.EMFILE, "Too many open files")

    scratch = Scratch(tmp_path, memory_bytes=2 << 60)
    half = scratch.file(1 << 60)
    with pytest.raises(MemoryError):
        scratch.empty((1 << 60,), np.uint8)
    with monkeypatch.context() as full:
        full.setattr(os, "memfd_create", too_many)
        with pytest.raises(ScratchFull, match="Too many open files"):
            scratch.file(1 << 60)
    file = scratch.file(1 << 60)
    assert not files_of(tmp_path)
    file.close()
    half.close()


def test_one_thing_takes_half_of_the_memory_at_most(tmp_path):
    scratch = Scratch(tmp_path, memory_bytes=MIB)
    half = scratch.file(MIB // 2)
    assert not files_of(tmp_path)
    half.close()
    del half
    more = scratch.file(MIB // 2 + 1)
    assert files_of(tmp_path)
    more.close()


def test_a_file_may_be_written_and_read_anywhere(tmp_path):
    for memory_bytes in (0, MIB):
        file = Scratch(tmp_path, memory_bytes=memory_bytes).file(10)
        file.write(b"one two three")
        file.seek(4)
        file.write(b"TWO")
        file.seek(0)
        assert file.read() == b"one TWO three"


def test_a_folder_that_is_gone_has_a_name(tmp_path):
    scratch = Scratch(tmp_path / "gone", memory_bytes=0)
    with pytest.raises(ScratchFull, match="gone"):
        scratch.empty((4, 4), np.uint8)
    with pytest.raises(ScratchFull, match="gone"):
        scratch.file(1)


def test_a_full_disk_has_a_name_and_ends_nothing(tmp_path, monkeypatch):
    def is_full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", is_full)
    with pytest.raises(ScratchFull, match="No space"):
        Scratch(tmp_path, memory_bytes=0).empty((4, 4), np.uint8)
    assert not files_of(tmp_path)


def test_numpys_own_words_for_a_full_disk_are_known():
    def write_to_a_full_disk():
        with Path("/dev/full").open("wb") as full, writing(1 << 20):
            np.zeros(1 << 20, np.uint8).tofile(full)

    with pytest.raises(ScratchFull):
        write_to_a_full_disk()


def test_other_errors_keep_their_names():
    with pytest.raises(PermissionError), writing(1):
        raise PermissionError(errno.EACCES, "no")


def test_bands_are_all_rows_once_and_small():
    array = np.empty((1000, 10_000), np.uint16)
    slices = list(bands(array))
    assert slices[0].start == 0
    assert slices[-1].stop == 1000
    assert all(one.stop == other.start for one, other in pairwise(slices))
    assert max(array[rows].nbytes for rows in slices) <= 2 * MIB
