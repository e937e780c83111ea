"""`gpen-archive run` as a user meets it: real broker, real worker, real engine."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

PATIENCE_S = 240


def wait_until(condition, *, timeout_s=PATIENCE_S):
    """Poll until `condition()` holds; its value is returned."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not so within {timeout_s} s")


class Runner:
    """Starts `gpen-archive`; knows every process of it by a mark in the environment."""

    def __init__(self):
        self._mark = f"GPEN_TEST_MARK={uuid.uuid4().hex}"

    def start(self, *arguments):
        name, value = self._mark.split("=")
        return subprocess.Popen(
            [sys.executable, "-m", "producer", *map(str, arguments)],
            env=os.environ | {name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, *arguments):
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output

    def processes(self, *words):
        """Process ids of everything started, whose command line has all the given words."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                ours = self._mark.encode() in (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if ours and command and all(word in command for word in words):
                found.append(int(folder.name))
        return found


@pytest.fixture
def gpen_archive():
    runner = Runner()
    yield runner
    for pid in runner.processes():
        os.kill(pid, signal.SIGKILL)


def make_scans(folder, count):
    """Small pictures of one face each, all different."""
    folder.mkdir(parents=True)
    portrait = Image.fromarray(data.astronaut())
    for index in range(count):
        side = 160 + 4 * index
        portrait.resize((side, side)).save(folder / f"scan_{index:02}.png")
    return folder


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".gpen-archive" not in path.parts
    }


def test_a_folder_comes_back_restored_with_the_bad_file_named_and_the_masters_untouched(
    tmp_path, gpen_archive
):
    source, target = make_scans(tmp_path / "in" / "box 1", 2).parent, tmp_path / "out"
    (source / "empty.jpg").write_bytes(b"")
    (source / "notes.txt").write_text("not a photo")
    before = contents(source)

    code, output = gpen_archive("run", source, target)

    assert code == 3, output
    assert "photo.empty" in output
    assert contents(source) == before
    assert set(contents(target)) == {
        f"box 1/scan_{index:02}.restored.png{suffix}"
        for index in (0, 1)
        for suffix in ("", ".json")
    }
    assert not gpen_archive.processes()
    sidecar = json.loads((target / "box 1/scan_00.restored.png.json").read_text())
    face = sidecar["faces"][0]
    assert face["restored"] is True
    master = pixels_of(source / "box 1/scan_00.png")
    derivative = pixels_of(target / "box 1/scan_00.restored.png")
    changed = (master != derivative).any(axis=2)
    x0, y0, x1, y1 = face["region"]
    assert changed[y0:y1, x0:x1].mean() > 0.3
    changed[y0:y1, x0:x1] = False
    assert not changed.any()


def test_a_second_run_does_no_work(tmp_path, gpen_archive):
    source, target = make_scans(tmp_path / "in", 1), tmp_path / "out"
    assert gpen_archive("run", source, target)[0] == 0
    first = contents(target)
    stamps = {path: path.stat().st_mtime_ns for path in target.glob("*.restored.*")}
    code, output = gpen_archive("run", source, target)
    assert code == 0, output
    assert contents(target) == first
    assert stamps == {path: path.stat().st_mtime_ns for path in target.glob("*.restored.*")}


def test_sigterm_ends_with_130_leaves_nothing_running_and_the_next_run_goes_on(
    tmp_path, gpen_archive
):
    source, target = make_scans(tmp_path / "in", 12), tmp_path / "out"
    process = gpen_archive.start("run", source, target)
    wait_until(lambda: list(target.glob("*.restored.png.json")))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert not gpen_archive.processes()
    delivered = contents(target)
    assert 0 < len(delivered) < 24
    code, output = gpen_archive("run", source, target)
    assert code == 0, output
    after = contents(target)
    assert len(after) == 24
    assert {key: after[key] for key in delivered} == delivered


def test_a_worker_that_is_killed_loses_no_photo(tmp_path, gpen_archive):
    source, target = make_scans(tmp_path / "in", 10), tmp_path / "out"
    process = gpen_archive.start("run", source, target)
    wait_until(lambda: list(target.glob("*.restored.png.json")))
    for pid in gpen_archive.processes("-m worker"):
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert len(contents(target)) == 20
    assert not gpen_archive.processes()


def test_killing_the_command_itself_leaves_nothing_running_and_the_next_run_goes_on(
    tmp_path, gpen_archive
):
    source, target = make_scans(tmp_path / "in", 8), tmp_path / "out"
    process = gpen_archive.start("run", source, target)
    wait_until(lambda: list(target.glob("*.restored.png.json")))
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not gpen_archive.processes(), timeout_s=30)
    code, output = gpen_archive("run", source, target)
    assert code == 0, output
    assert len(contents(target)) == 16


def test_wrong_weights_end_with_5_and_nothing_is_written(tmp_path, gpen_archive):
    source, target = make_scans(tmp_path / "in", 1), tmp_path / "out"
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"these are no weights")
    code, output = gpen_archive("run", source, target, "--weights", wrong)
    assert code == 5
    assert "weights.corrupt" in output
    assert "Traceback" not in output
    assert not target.exists() or not contents(target)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [("nowhere", "out", 2), ("in", "in/out", 2), ("in", "in", 2)],
)
def test_places_that_make_no_sense_are_refused_before_anything_is_written(
    tmp_path, gpen_archive, source, target, expected
):
    make_scans(tmp_path / "in", 1)
    before = contents(tmp_path)
    code, output = gpen_archive("run", tmp_path / source, tmp_path / target)
    assert code == expected, output
    assert "Traceback" not in output
    assert contents(tmp_path) == before


def test_one_picture_is_restored_without_a_queue_and_nothing_is_overwritten(tmp_path, gpen_archive):
    source = make_scans(tmp_path / "in", 1) / "scan_00.png"
    code, output = gpen_archive("restore", source, tmp_path / "one.tif")
    assert code == 0, output
    assert json.loads((tmp_path / "one.tif.json").read_text())["faces"][0]["restored"] is True
    stored = (tmp_path / "one.tif").read_bytes()
    code, output = gpen_archive("restore", source, tmp_path / "one.tif")
    assert code == 2, output
    assert "[destination.exists]" in output
    assert (tmp_path / "one.tif").read_bytes() == stored


def test_doctor_names_weights_device_and_detector(gpen_archive):
    code, output = gpen_archive("doctor")
    assert code == 0, output
    for word in ("compact", "retinaface", "device", "torch"):
        assert word in output
