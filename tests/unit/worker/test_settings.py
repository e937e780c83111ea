import os

import pytest

from jobs.errors import SettingsInvalid
from worker.settings import WorkerSettings


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPEN_DEVICE", "cuda:1")
    monkeypatch.setenv("GPEN_LANES", "4")
    monkeypatch.setenv("GPEN_MAX_MEGAPIXELS", "1.5")
    settings = WorkerSettings.from_environment()
    assert (settings.device, settings.lanes, settings.limits.max_pixels) == ("cuda:1", 4, 1_500_000)


def test_two_workers_of_one_machine_have_different_names():
    assert str(os.getpid()) in WorkerSettings().worker_name


@pytest.mark.parametrize(
    ("name", "value"), [("GPEN_LANES", "0"), ("GPEN_PRECISION", "int8"), ("GPEN_LANES", "many")]
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
