"""The harness itself: every wrong that a night could leave is found, and every fault is real."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from hashlib import sha256

import pytest

from benchmarks.chaos.audit import Findings, Runs, check_objects, check_photos
from benchmarks.chaos.clock import set_clock
from benchmarks.chaos.faults import Kind, draw_faults
from benchmarks.chaos.gate import Gate
from benchmarks.chaos.photos import Nature, make_photos, read_marks
from benchmarks.chaos.places import Folder
from benchmarks.chaos.report import Report
from deploy.processes import LOOPBACK
from jobs.schema import Failure, PhotoState
from jobs.schema import Photo as Row
from worker.codec import Limits, decode

CAP = 3


def seeded(seed):
    return random.Random(seed)  # noqa: S311 - the same again each time


@pytest.fixture(scope="module")
def photos():
    drawn = make_photos(12, killers=1, slow=1, torn=1, draw=seeded(3))
    return {photo.key: photo for photo in drawn}


@pytest.fixture
def rows(photos):
    """What the ledger says after a faultless night."""
    return [row_of(number, photo) for number, photo in enumerate(photos.values())]


def row_of(number, photo):
    codes = {Nature.KILLER: "photo.crashes_worker", Nature.TORN: "photo.truncated"}
    if photo.nature not in codes:
        names = {"derivative_key": f"{photo.key}.png", "sidecar_key": f"{photo.key}.png.json"}
        return Row(number, photo.key, PhotoState.DONE, 1, **names)
    code = codes[photo.nature]
    attempts = CAP if photo.nature is Nature.KILLER else 1
    failure = Failure(photo.key, code, "it is so", "look", "worker", attempts, 0.0)
    return Row(number, photo.key, PhotoState.FAILED, attempts, failure=failure)


@pytest.fixture
def delivered(tmp_path, photos, rows):
    """The destination after a faultless night."""
    for row in rows:
        if row.state is PhotoState.DONE:
            deliver(tmp_path, photos[row.key], row.derivative_key)
    return tmp_path


def deliver(folder, photo, key, *, picture=None):
    """Store a derivative, of the master's own picture if no other is given, and its sidecar."""
    derivative = photo.data if picture is None else picture
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(derivative)
    told = {
        "master": {"sha256": sha256(photo.data).hexdigest()},
        "derivative": {"sha256": sha256(derivative).hexdigest(), "key": key},
    }
    (folder / f"{key}.json").write_text(json.dumps(told))


def audit(photos, rows, folder):
    """Return what is wrong, by the kinds of wrong that were found."""
    found = Findings()
    check_photos(found, photos, rows, cap=CAP)
    check_objects(found, photos, rows, place=Folder(folder))
    return {kind for kind in ("lost", "missing", "foreign", "damaged") if getattr(found, kind)}


def first_done(rows):
    return next(row for row in rows if row.state is PhotoState.DONE)


def test_the_same_seed_makes_the_same_night():
    nights = [
        (
            make_photos(9, killers=1, slow=2, torn=1, draw=draw),
            draw_faults(30, workers=["one", "two"], draw=draw),
        )
        for draw in (seeded(5), seeded(5), seeded(6))
    ]
    assert nights[0] == nights[1] != nights[2]


def test_a_plan_has_every_kind_of_fault(monkeypatch):
    monkeypatch.setattr("benchmarks.chaos.faults.can_mount", lambda: True)
    plan = draw_faults(len(Kind), workers=["one"], draw=seeded(1))
    assert {fault.kind for fault in plan} == set(Kind)


def test_a_photo_tells_its_number_and_nature_in_every_format(photos):
    whole = [photo for photo in photos.values() if photo.nature is not Nature.TORN]
    assert {photo.key.rpartition(".")[2] for photo in whole} == {"png", "jpg", "tif"}
    for photo in whole:
        (page,) = decode(photo.data, limits=Limits(10**6, 10**6, 1, 1000)).pages
        assert read_marks(page.pixels) == (photo.number, photo.nature)


def test_a_faultless_night_is_found_faultless(photos, rows, delivered):
    assert audit(photos, rows, delivered) == set()


@pytest.mark.parametrize("state", [PhotoState.PENDING, PhotoState.CLAIMED, PhotoState.FAILED])
def test_a_photo_that_came_to_no_good_end_is_lost(photos, rows, delivered, state):
    victim = first_done(rows)
    others = [row for row in rows if row is not victim]
    failure = Failure(victim.key, "photo.unexpected", "why", "look", "store", 3, 0.0)
    ended = Row(victim.id, victim.key, state, 3, failure=failure if state == "failed" else None)
    assert audit(photos, [*others, ended], delivered) == {"lost", "foreign"}


def test_a_photo_that_the_ledger_forgot_is_lost(photos, rows, delivered):
    assert audit(photos, [row for row in rows if row is not rows[0]], delivered) >= {"lost"}


def test_a_killer_that_was_given_up_before_its_cap_is_wrong(photos, rows, delivered):
    early = [replace(row, attempts=min(row.attempts, CAP - 1)) for row in rows]
    assert audit(photos, early, delivered) == {"lost"}


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_a_derivative_or_sidecar_that_is_not_there_is_missed(photos, rows, delivered, suffix):
    (delivered / f"{first_done(rows).derivative_key}{suffix}").unlink()
    assert "missing" in audit(photos, rows, delivered)


@pytest.mark.parametrize("name", ["again.png", "box 00/.0123456789abcdef.partial"])
def test_whatever_else_lies_there_is_found(photos, rows, delivered, name):
    (delivered / name).write_bytes(b"")
    assert audit(photos, rows, delivered) == {"foreign"}


def test_a_partial_derivative_is_found(photos, rows, delivered):
    path = delivered / first_done(rows).derivative_key
    path.write_bytes(path.read_bytes()[:-100])
    assert audit(photos, rows, delivered) == {"damaged"}


def test_a_derivative_of_another_master_is_found(photos, rows, delivered):
    one, other = [row for row in rows if row.state is PhotoState.DONE][:2]
    deliver(delivered, photos[other.key], one.derivative_key)
    assert audit(photos, rows, delivered) == {"damaged"}


def test_another_photos_picture_under_the_right_name_and_hashes_is_found(photos, rows, delivered):
    one, other = [row for row in rows if row.state is PhotoState.DONE][:2]
    for picture in (photos[other.key].data, b"no picture"):
        deliver(delivered, photos[one.key], one.derivative_key, picture=picture)
        assert audit(photos, rows, delivered) == {"damaged"}


LOG = """\
2026-11-22T13:00:00.000Z INFO worker.ready weights=stub
2026-11-22T13:00:01.000Z INFO engine.began photo=1
2026-11-22T13:00:01.000Z INFO engine.began photo=2
2026-11-22T13:00:02.000Z INFO photo.done photo_id=11 key="box 00/scan 00001.png" faces=1
2026-11-22T13:00:09.000Z INFO worker.ready weights=stub
2026-11-22T13:00:10.000Z INFO engine.began photo=2
2026-11-22T13:00:11.000Z WARNING photo.error photo_id=12 key="box 00/scan 00002.png" \
error="StoreUnavailable: can't write"
2026-11-22T13:00:12.000Z INFO photo.taken photo_id=11
2026-11-22T13:00:12.000Z INFO engine.began photo=2
2026-11-22T13:00:13.000Z INFO photo.done photo_id=12 key="box 00/scan 00002.png" faces=1
"""


def test_the_logs_tell_what_was_done_again_and_why():
    runs = Runs()
    runs.read(LOG)
    assert runs.redone == 2
    assert runs.wasted == {"death of the worker": 1, "StoreUnavailable": 1}
    assert runs.most_at_a_death == 1
    assert runs.taken == {11: 1}


def test_a_report_passes_only_where_nothing_is_wrong_and_little_was_done_again():
    report = Report(seed=1, photos=9, workers=3, lanes=2, redone=4, redone_at_most=4)
    report.faults["disk full"] += 1
    assert report.passed
    assert not replace(report, wrong={"lost": ["a.png"]}).passed
    assert not replace(report, redone=5).passed
    assert not replace(report, most_at_a_death=3).passed
    assert json.loads(json.dumps(report.as_json()))["passed"]
    assert "WRONG, lost: a.png" in replace(report, wrong={"lost": ["a.png"]}).as_text()


def test_a_program_follows_the_clock_that_is_set_for_it(tmp_path):
    file = tmp_path / "clock"
    (tmp_path / "now.py").write_text("from time import time\nprint(time())\n")
    command = [sys.executable, "-m", "benchmarks.chaos.clock", str(file), "now"]

    def ask() -> float:
        done = subprocess.run(
            command,
            env={"PYTHONPATH": f"{tmp_path}:."},
            capture_output=True,
            check=True,
            text=True,
        )
        return float(done.stdout) - time.time()

    assert abs(ask()) < 60
    set_clock(file, -7200)
    assert abs(ask() + 7200) < 60


@pytest.fixture
def echo():
    """The port of a server that says everything again."""
    with closing(socket.create_server((LOOPBACK, 0))) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while heard := connection.recv(100):
                    connection.sendall(heard)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def test_a_closed_gate_holds_every_byte_back_and_loses_none(echo):
    with Gate(echo) as gate, socket.create_connection((LOOPBACK, gate.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"one")
        assert connection.recv(100) == b"one"
        gate.close()
        connection.sendall(b"two")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        gate.open()
        connection.settimeout(10)
        assert connection.recv(100) == b"two"


def test_a_gate_before_a_server_that_died_breaks_the_connection():
    with closing(socket.create_server((LOOPBACK, 0))) as nobody:
        port = nobody.getsockname()[1]
    with Gate(port) as gate, socket.create_connection((LOOPBACK, gate.port)) as connection:
        connection.settimeout(10)
        assert connection.recv(100) == b""
