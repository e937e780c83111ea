"""What the benchmarks of soak and queue make of what they measured."""

import json
import sys
from contextlib import nullcontext

import pytest
from PIL import Image

from benchmarks import detection, soak
from benchmarks.queue import __main__ as queue


@pytest.mark.parametrize("photos", [1, 100, 150])
def test_a_soak_of_a_hundred_photos_has_no_growth_and_no_error(photos):
    looks = [soak.Look(number, worker_bytes=1 << 20, all_bytes=2 << 20) for number in range(photos)]
    numbers = soak.of_hundreds(looks)
    assert numbers["worker_growth"] == numbers["all_growth"] == 1.0


def test_the_growth_of_a_soak_is_the_last_hundred_over_the_second():
    sizes = [9, 2, 5, 3]
    looks = [soak.Look(100 * place, size << 20, size << 20) for place, size in enumerate(sizes)]
    assert soak.of_hundreds(looks)["worker_growth"] == 1.5


def test_each_part_of_the_queue_keeps_the_load_of_its_own_run(tmp_path, monkeypatch):
    target = tmp_path / "queue.json"
    loads = iter(range(1, 5))
    monkeypatch.setattr("os.getloadavg", lambda: (next(loads), 0, 0))
    monkeypatch.setattr(queue, "site", nullcontext)
    monkeypatch.setattr(queue, "_MEASURES", dict.fromkeys(["one", "two"], lambda _: {"ms": 8.0}))
    for name in ("one", "two"):
        monkeypatch.setattr(sys, "argv", ["queue", name, f"--json={target}"])
        queue.main()
    kept = json.loads(target.read_text())
    assert kept["one"] == {"load_before": 1, "ms": 8.0, "load_after": 2}
    assert kept["two"] == {"load_before": 3, "ms": 8.0, "load_after": 4}


def test_no_face_is_counted_on_a_page_that_no_worker_looks_at(tmp_path):
    Image.new("1", (8, 8)).save(tmp_path / "halftone.tif")
    Image.new("L", (8, 8)).save(tmp_path / "photo.tif")
    assert detection.pages(tmp_path / "halftone.tif") == []
    assert len(detection.pages(tmp_path / "photo.tif")) == 1
