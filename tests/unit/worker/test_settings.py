import os
import socket

import pytest

import worker.settings
from gpen_engine.memory import Budget
from jobs.errors import SettingsInvalid
from worker.codec import Limits
from worker.decoding import Budget as DecodeBudget
from worker.settings import WorkerSettings


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPEN_DEVICE", "cuda:1")
    monkeypatch.setenv("GPEN_LANES", "4")
    monkeypatch.setenv("GPEN_MAX_MEGAPIXELS", "1.5")
    settings = WorkerSettings.from_environment()
    assert (settings.device, settings.lanes, settings.limits.max_pixels) == ("cuda:1", 4, 1_500_000)


def test_the_limits_of_a_file_come_from_the_environment(monkeypatch):
    for name, value in zip(LIMITS, ("2", "3MB", "4", "5", "6", "7GB"), strict=True):
        monkeypatch.setenv(name, value)
    settings = WorkerSettings.from_environment()
    assert settings.limits == Limits(2_000_000, 3_000_000, 4, 5.0)
    assert settings.decode_budget == DecodeBudget(6.0, 7 * 10**9)


def test_the_limits_are_those_of_the_codec_where_nothing_is_said():
    assert WorkerSettings().limits == Limits()
    assert WorkerSettings().decode_budget == DecodeBudget()


@pytest.mark.parametrize(
    ("cores", "memory_gib", "lanes"), [(1, 16, 3), (2, 16, 4), (2, 3, 3), (2, 0, 1), (64, 256, 8)]
)
def test_lanes_keep_cores_and_engine_busy_as_far_as_there_is_memory(
    monkeypatch, cores, memory_gib, lanes
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    machine = Budget(0, memory_gib << 30, "test")
    monkeypatch.setattr(worker.settings, "measure_budget", lambda _: machine)
    assert WorkerSettings().lanes == lanes


def test_lanes_are_no_more_than_a_container_has_memory_for(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("gpen_engine.memory._GROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    (tmp_path / "memory.current").write_text("0\n")
    assert WorkerSettings().lanes == 1


def test_two_workers_of_one_machine_have_different_names():
    assert str(os.getpid()) in WorkerSettings().worker_name


def test_workers_of_containers_with_one_process_id_have_different_names():
    assert WorkerSettings().worker_name != WorkerSettings().worker_name
    assert WorkerSettings().worker_name.startswith(socket.gethostname())  # the health check


LIMITS = (
    "GPEN_MAX_MEGAPIXELS",
    "GPEN_MAX_BYTES",
    "GPEN_MAX_PAGES",
    "GPEN_MAX_RATIO",
    "GPEN_DECODE_S",
    "GPEN_DECODE_MEMORY",
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GPEN_LANES", "0"),
        ("GPEN_PRECISION", "int8"),
        ("GPEN_LANES", "many"),
        *((name, value) for name in LIMITS for value in ("0", "-1", "nan", "")),
        *(("GPEN_GRACE_S", value) for value in ("-1", "nan", "inf", "")),
        ("GPEN_MAX_MEGAPIXELS", "inf"),
        ("GPEN_MAX_RATIO", "inf"),
        ("GPEN_DECODE_S", "inf"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=name):
        WorkerSettings.from_environment()


def test_what_is_given_comes_before_the_environment_and_none_does_not(monkeypatch):
    monkeypatch.setenv("GPEN_DEVICE", "cuda:1")
    monkeypatch.setenv("GPEN_WEIGHTS", "mine.pth")

    settings = WorkerSettings.from_environment(device="cpu", weights=None)

    assert (settings.device, settings.weights) == ("cpu", "mine.pth")


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("2GiB", 2 << 30), ("100", 100)])
def test_a_size_may_have_a_unit(monkeypatch, text, size):
    monkeypatch.setenv("GPEN_VRAM_LIMIT", text)

    assert WorkerSettings.from_environment().vram_limit == size


@pytest.mark.parametrize("text", ["0", "-1", "a lot"])
def test_a_size_that_makes_no_sense_is_named(monkeypatch, text):
    monkeypatch.setenv("GPEN_VRAM_LIMIT", text)

    with pytest.raises(SettingsInvalid, match="GPEN_VRAM_LIMIT"):
        WorkerSettings.from_environment()
