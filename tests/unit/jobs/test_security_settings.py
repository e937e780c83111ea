"""Where credentials come from, and which addresses are refused for want of them."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from jobs import broker
from jobs.errors import SettingsInvalid
from jobs.s3 import S3Store, _make_client
from jobs.schema import MESSAGE_VERSION, PhotoMessage
from jobs.settings import JobSettings

DATABASE = "postgresql://me:hunter2@db/archive"
NOBODY = 65534


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv("GPEN_SECRETS_DIR", str(folder))
    return folder


@pytest.mark.parametrize("name", ["GPEN_DATABASE_URL", "gpen_database_url"])
def test_a_secret_may_lie_in_a_file_named_like_its_variable(secrets, name):
    (secrets / name).write_text(f"{DATABASE}\n")
    (secrets / name).chmod(0o400)
    assert JobSettings.from_environment().database_url.get_secret_value() == DATABASE


def test_a_secret_may_lie_as_kubernetes_lays_it(secrets):
    (secrets / "..2026").mkdir()
    (secrets / "..data").symlink_to("..2026")
    (secrets / "..2026" / "GPEN_DATABASE_URL").write_text(DATABASE)
    (secrets / "GPEN_DATABASE_URL").symlink_to("..data/GPEN_DATABASE_URL")
    assert JobSettings.from_environment().database_url.get_secret_value() == DATABASE


def test_the_environment_comes_before_a_file(secrets, monkeypatch):
    (secrets / "GPEN_DATABASE_URL").write_text("sqlite:///of-the-file")
    monkeypatch.setenv("GPEN_DATABASE_URL", DATABASE)
    assert JobSettings.from_environment().database_url.get_secret_value() == DATABASE


def test_a_folder_of_secrets_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("GPEN_SECRETS_DIR", "/nowhere/secrets")
    with pytest.raises(SettingsInvalid, match=r"GPEN_SECRETS_DIR.*/nowhere/secrets"):
        JobSettings.from_environment()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_secret_that_may_not_be_read_is_named_and_nothing_takes_its_place(monkeypatch):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    (folder / "GPEN_DATABASE_URL").write_text(DATABASE)
    (folder / "GPEN_DATABASE_URL").chmod(0o400)
    monkeypatch.setenv("GPEN_SECRETS_DIR", str(folder))
    os.seteuid(NOBODY)
    try:
        with pytest.raises(SettingsInvalid, match=r"Permission denied.*/GPEN_DATABASE_URL"):
            JobSettings.from_environment()
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


def test_a_wrong_setting_is_not_repeated_where_a_traceback_is_printed(secrets):
    (secrets / "GPEN_LEASE_S").write_text("hunter2")
    with pytest.raises(SettingsInvalid) as caught:
        JobSettings.from_environment()
    assert "hunter2" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize("url", ["http://me:hunter2@store:8333", "https://hunter2@store"])
def test_an_object_stores_address_holds_no_key(monkeypatch, url):
    monkeypatch.setenv("GPEN_S3_ENDPOINT_URL", url)
    with pytest.raises(SettingsInvalid, match="GPEN_S3_SECRET_ACCESS_KEY") as caught:
        JobSettings.from_environment()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://key:hunter2@bucket/prefix", "s3://hunter2@bucket"])
def test_a_place_in_an_object_store_holds_no_key(url):
    with pytest.raises(SettingsInvalid, match="GPEN_S3_SECRET_ACCESS_KEY") as caught:
        S3Store(url, JobSettings())
    assert "hunter2" not in str(caught.value)


def test_without_keys_of_its_own_the_object_store_takes_those_that_boto3_finds(
    tmp_path, monkeypatch
):
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = found\naws_secret_access_key = hidden\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert credentials_of(JobSettings()) == ("found", "hidden")
    assert credentials_of(JobSettings(s3_access_key_id="", s3_secret_access_key="")) == (
        "found",
        "hidden",
    )
    own = JobSettings(s3_access_key_id="own", s3_secret_access_key="known")
    assert credentials_of(own) == ("own", "known")


def credentials_of(settings):
    client = _make_client(settings)
    found = client._request_signer._credentials.get_frozen_credentials()
    return found.access_key, found.secret_key


# The broker's address


@pytest.mark.parametrize(
    "url",
    [
        "redis://broker:6379/0",
        "redis://192.0.2.7/0",
        "redis://:@broker/0",
        "redis://me@broker/0",
        "redis://[2001:db8::1]/0",
        "rediss://broker/0",
        "rediss://broker/0?ssl_cert_reqs=required",
        "redis://127.0.0.1.example.org/0",
        "redis://0.0.0.0/0",
    ],
)
def test_a_broker_on_another_machine_has_to_have_a_password(url):
    with pytest.raises(SettingsInvalid, match=r"GPEN_BROKER_URL.*password"):
        app_at(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@broker:6379/0",
        "rediss://me:hunter2@192.0.2.7/0",
        "rediss://broker/0?ssl_certfile=/c.pem&ssl_keyfile=/c.key",
        "redis://127.0.0.1/0",
        "redis://127.9.9.9:7000/0",
        "redis://localhost/0",
        "redis://[::1]/0",
        "redis+socket:///run/valkey.sock",
    ],
)
def test_a_broker_with_a_password_a_certificate_or_on_this_machine_will_do(url):
    app_at(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1/0;redis://:hunter2@broker/0",
        "rediss://:hunter2@broker/0?ssl_cert_reqs=perhaps",
    ],
)
def test_an_address_that_kombu_would_read_otherwise_is_refused(url):
    with pytest.raises(SettingsInvalid, match="GPEN_BROKER_URL") as caught:
        app_at(url)
    assert "hunter2" not in str(caught.value)


def app_at(url):
    return broker.make_app(JobSettings(broker_url=url))


# Messages


@pytest.mark.parametrize("photo_id", ["7", 7.0, True, None, -1, 2**63, [7], {"id": 7}])
def test_a_photos_id_is_a_number_that_a_database_takes(photo_id):
    with pytest.raises(ValueError, match="photo_id"):
        PhotoMessage.model_validate({"version": MESSAGE_VERSION, "photo_id": photo_id})


def test_a_message_has_nothing_but_a_version_and_an_id():
    with pytest.raises(ValueError, match="key"):
        PhotoMessage.model_validate({"version": 1, "photo_id": 7, "key": "/etc/passwd"})
    assert set(PhotoMessage.model_fields) == {"version", "photo_id"}
