"""The harness itself: every wrong that a night could leave is found, and every fault is real."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import pytest

from benchmarks.chaos.audit import Findings, Runs, check_objects, check_photos
from benchmarks.chaos.clock import set_clock
from benchmarks.chaos.faults import Fault, Kind, draw_faults
from benchmarks.chaos.gate import Gate
from benchmarks.chaos.night import Night
from benchmarks.chaos.photos import Nature, make_photos, read_marks
from benchmarks.chaos.places import Folder
from benchmarks.chaos.report import Report
from benchmarks.chaos.site import LEASE_S
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


def test_every_plan_has_a_stall_that_outlasts_a_lease():
    for seed in range(9):
        plan = draw_faults(len(Kind), workers=["one"], draw=seeded(seed))
        stalls = [fault for fault in plan if fault.kind is Kind.CUT_WORKER]
        assert stalls
        assert all(stall.seconds >= LEASE_S for stall in stalls)


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
    runs = Runs(killers=frozenset({2}))
    runs.read(LOG)
    assert runs.redone == 2
    assert runs.wasted == {"death of the worker": 1, "StoreUnavailable": 1}
    assert runs.deaths_by_photos == 1
    assert runs.taken == {11: 1}


def test_what_a_worker_gave_back_at_its_end_died_of_no_photo():
    given_back = LOG.replace(
        "INFO worker.ready", "WARNING worker.gives_back photos=1\n0 INFO worker.ready"
    )
    runs = Runs(killers=frozenset({2}))
    runs.read(given_back)
    assert runs.wasted == {"given back at the worker's end": 1, "StoreUnavailable": 1}
    assert runs.deaths_by_photos == 0


def test_a_photo_that_was_restored_twice_for_no_reason_is_found():
    runs = Runs()
    for _ in ("one worker", "another"):
        runs.read('0 INFO engine.began photo=1\n0 INFO photo.done key="box 00/scan 00001.png"\n')
    assert runs.wasted == {"nothing that a log tells": 1}


def a_fault(kind):
    return Fault(kind, "somewhere", seconds=1.0)


def a_report(*plan, wasted=(), ends=(), kills=0):
    """A night of three workers of two lanes."""
    report = Report(seed=1, photos=9, workers=3, lanes=2, stub_s=0.1)
    report.wasted.update(dict(wasted))
    report.ends["worker-1"] = Counter(dict(ends))
    report.allow(plan, kills=kills)
    return report


COSTS = {
    Kind.KILL_WORKER: {"death of the worker": 2},
    Kind.FREEZE_WORKER: {"ClaimLost": 2},
    Kind.CUT_WORKER: {"ClaimLost": 2},
    Kind.KILL_DATABASE: {"ClaimLost": 6},
    Kind.STALL_DATABASE: {"ClaimLost": 6},
    Kind.KILL_STORE: {"StoreUnavailable": 12},
    Kind.STALL_STORE: {"StoreUnavailable": 6},
    Kind.FILL_DISK: {"StoreFull": 6, "StoreUnavailable": 6, "given back at the worker's end": 6},
}


@pytest.mark.parametrize("kind", Kind)
def test_a_fault_may_cost_each_lane_it_meets_so_many_calls_of_the_engine_and_no_more(kind):
    allowed = COSTS.get(kind, {})
    assert a_report(a_fault(kind), wasted=allowed).passed
    causes = {cause for costs in COSTS.values() for cause in costs} | {"nothing that a log tells"}
    for cause in causes:
        one_more = {**allowed, cause: allowed.get(cause, 0) + 1}
        report = a_report(a_fault(kind), wasted=one_more)
        assert not report.passed
        assert f"WRONG: {one_more[cause]} calls of the engine lost by {cause}" in report.as_text()


def test_a_death_by_a_photo_may_cost_as_much_as_one_by_a_fault():
    report = Report(seed=1, photos=9, workers=3, lanes=2, stub_s=0.1, deaths_by_photos=1)
    report.ends["worker-1"] = Counter({-9: 1})
    report.wasted["death of the worker"] = 2
    report.allow([], kills=0)
    assert report.passed


@pytest.mark.parametrize(
    ("ends", "passed"),
    [
        ({0: 1, 5: 1, -9: 2, -15: 1}, True),
        ({-9: 3}, False),
        ({1: 1}, False),
        ({-11: 1}, False),
    ],
)
def test_a_program_may_end_by_a_fault_by_a_full_disk_or_when_it_is_told_to(ends, passed):
    assert a_report(ends=ends, kills=2).passed == passed


class WorkersInNeedOfRoom:
    """A site whose workers notice a full disk one turn after the other, and end some turns later.

    The second one is killed first.
    """

    names = ("worker-1", "worker-2", "worker-3")

    def __init__(self):
        self.parts = {name: SimpleNamespace(ends=Counter()) for name in self.names}
        self.full, self.turn, self.log = False, 0, dict.fromkeys(self.names, "")

    def fill(self, *_):
        self.full = True
        return self.free

    def free(self):
        self.full = False

    def log_of(self, name):
        return self.log[name]

    def look_after(self):
        self.turn += 1
        if self.turn == 3:
            assert self.full
            for name in self.names[:2]:
                self.log[name] += "ERROR worker.stops code=store.full error=..."
        if self.turn == 5:
            self.parts["worker-2"].ends[-9] += 1
        if self.turn == 9:
            assert not self.full
            self.parts["worker-1"].ends[5] += 1

    def is_whole(self):
        return True


def test_a_disk_is_full_until_workers_notice_and_the_night_waits_for_their_end(monkeypatch):
    site = WorkersInNeedOfRoom()
    monkeypatch.setattr("benchmarks.chaos.night.begin", site.fill)
    monkeypatch.setattr("benchmarks.chaos.night._GAP_S", 0)
    night = Night(site, archives=[], ledger=None)
    assert night.live_through([a_fault(Kind.FILL_DISK)])
    assert (site.turn, night.unnoticed) == (9, 0)


def test_a_full_disk_that_no_worker_notices_is_told(monkeypatch):
    site = WorkersInNeedOfRoom()
    site.turn = 10
    monkeypatch.setattr("benchmarks.chaos.night.begin", site.fill)
    monkeypatch.setattr("benchmarks.chaos.night._NOTICED_S", 0.1)
    night = Night(site, archives=[], ledger=None)
    night.live_through([a_fault(Kind.FILL_DISK)])
    assert night.unnoticed == 1


def test_a_report_passes_only_where_nothing_is_wrong():
    report = a_report()
    report.faults["disk full"] += 1
    assert report.passed
    wrong = replace(report, wrong={"lost": ["a.png"]})
    assert not wrong.passed
    assert json.loads(json.dumps(report.as_json()))["passed"]
    assert "WRONG, lost: a.png" in wrong.as_text()


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
