import ctypes
from pathlib import Path

import pytest

from worker.heap import Heap

PIECE_BYTES, PIECES = 64 * 1024, 2000  # too small to be mapped apart


def resident_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_memory_that_lies_between_what_is_in_use_goes_back_to_the_system_now_and_then():
    seldom, always = Heap(every_s=3600), Heap(every_s=0)
    seldom.trim()
    pieces = [bytearray(PIECE_BYTES) for _ in range(PIECES)]
    kept = pieces[::20]
    del pieces
    before = resident_bytes()
    seldom.trim()
    assert resident_bytes() > before - PIECE_BYTES
    always.trim()
    assert before - resident_bytes() > 0.8 * PIECE_BYTES * PIECES
    assert kept


def test_the_c_library_is_not_looked_for_before_it_is_time(monkeypatch):
    heap, looked = Heap(every_s=3600), []
    monkeypatch.setattr(ctypes, "CDLL", looked.append)
    for _ in range(3):
        heap.trim()
    assert len(looked) == 1
