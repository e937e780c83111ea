import os

import pytest

from jobs.errors import SettingsInvalid
from worker.settings import WorkerSettings


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPEN_DEVICE", "cuda:1")
    monkeypatch.setenv("GPEN_LANES", "4")
    monkeypatch.setenv("GPEN_MAX_MEGAPIXELS", "1.5")
    settings = WorkerSettings.from_environment()
    assert (settings.device, settings.lanes, settings.max_pixels) == ("cuda:1", 4, 1_500_000)


def test_two_workers_of_one_machine_have_different_names():
    assert str(os.getpid()) in WorkerSettings().worker_name


@pytest.mark.parametrize(
    ("name", "value"), [("GPEN_LANES", "0"), ("GPEN_PRECISION", "int8"), ("GPEN_LANES", "many")]
)
def test_a_setting_that_makes_no_sense_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=name):
        WorkerSettings.from_environment()
