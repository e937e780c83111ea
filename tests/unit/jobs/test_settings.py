import pytest

from jobs.errors import SettingsInvalid
from jobs.memory import MemoryClass
from jobs.settings import JobSettings

SECRETS = {
    "GPEN_DATABASE_URL": "postgresql://me:hunter2@db/archive",
    "GPEN_BROKER_URL": "redis://:hunter2@broker/0",
    "GPEN_S3_ACCESS_KEY_ID": "hunter2",
    "GPEN_S3_SECRET_ACCESS_KEY": "hunter2",
}


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPEN_LEASE_S", "12.5")
    monkeypatch.setenv("GPEN_S3_ENDPOINT_URL", "http://127.0.0.1:8333")
    settings = JobSettings.from_environment()
    assert settings.lease_s == 12.5
    assert settings.s3_endpoint_url == "http://127.0.0.1:8333"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GPEN_LEASE_S", "hunter2"),
        ("GPEN_LEASE_S", "0"),
        ("GPEN_WINDOW", "0"),
        ("GPEN_MAX_ATTEMPTS", "many hunter2"),
        ("GPEN_LOG_FORMAT", "hunter2"),
        ("GPEN_QUEUES", "small,hunter2"),
        ("GPEN_QUEUES", ""),
    ],
)
def test_a_wrong_value_is_reported_by_its_name_and_never_shown(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=name) as caught:
        JobSettings.from_environment()
    assert "hunter2" not in str(caught.value)


def test_queues_are_named_with_commas_between(monkeypatch):
    monkeypatch.setenv("GPEN_QUEUES", "small, medium")
    settings = JobSettings.from_environment()
    assert settings.queues == (MemoryClass.SMALL, MemoryClass.MEDIUM)


def test_printing_the_settings_shows_no_secret(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    settings = JobSettings.from_environment()
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()
    assert settings.s3_access_key_id.get_secret_value() == "hunter2"
