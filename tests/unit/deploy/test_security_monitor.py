"""Flower starts behind a password only: in our own launcher and in the image."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from deploy.flower import Flower
from deploy.processes import ServiceFailed

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("basic_auth", ["", "user", "user:", ":password"])
def test_flower_is_not_started_without_user_and_password(tmp_path: Path, basic_auth: str) -> None:
    with pytest.raises(ServiceFailed, match="user:password"):
        Flower(tmp_path, broker_url="redis://127.0.0.1/0", basic_auth=basic_auth)


@pytest.fixture
def start_monitor(tmp_path: Path):
    """Return what runs the image's entry point, with a `celery` that says how it was called."""
    stage = re.search(r"^FROM producer AS monitor\n(.*?)^FROM", dockerfile(), re.M | re.S)
    assert stage
    [entry_point] = re.findall(r"^ENTRYPOINT (\[.+\])$", stage[1], re.M)
    celery = tmp_path / "celery"
    celery.write_text('#!/bin/sh\necho "celery $*"\n')
    celery.chmod(0o755)

    def start(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*json.loads(entry_point), "--port=5555", "--db=/a folder"],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return start


@pytest.mark.parametrize("environment", [{}, {"FLOWER_BASIC_AUTH": ""}])
def test_the_monitors_image_ends_at_once_without_a_password(start_monitor, environment) -> None:
    ended = start_monitor(**environment)

    assert ended.returncode != 0
    assert ended.stdout == ""
    assert "FLOWER_BASIC_AUTH: set user:password" in ended.stderr


def test_the_monitors_image_runs_flower_behind_a_password(start_monitor) -> None:
    ended = start_monitor(FLOWER_BASIC_AUTH="me:hunter2")

    assert ended.stdout == "celery flower --port=5555 --db=/a folder\n"
    assert ended.returncode == 0


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()
