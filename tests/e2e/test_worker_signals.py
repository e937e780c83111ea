"""Real workers around a stub engine, real dispatch and a real broker: how a worker ends.

A worker is told to, or killed, or loses its broker, with a photo in hand; afterwards every photo is
delivered once, and what it cost is in the ledger.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.server import Program, Server
from deploy.valkey import Valkey
from jobs.schema import PhotoState
from tests.e2e.stub_site import SOON_S, Album, Site, both_files, running_site, wait_until

FOR_EVER_S = "3600"


@pytest.fixture
def broker(start_service: Callable[[Server], None], tmp_path: Path) -> Valkey:
    """A broker of the test's own, which it may kill."""
    server = Valkey(tmp_path / "valkey")
    start_service(server)
    return server


@pytest.fixture
def site(broker: Valkey, tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path, broker_url=broker.url) as site:
        yield site


@pytest.fixture
def album(site: Site) -> Album:
    return site.album("album")


def test_a_worker_that_is_told_to_end_finishes_the_photo_in_hand_and_begins_no_other(
    site: Site, album: Album
) -> None:
    album.enter("a.png", "b.png", "c.png")
    worker = site.worker("one", GPEN_STUB_S="2")
    wait_until(album.in_hand)

    assert worker.stop(signal.SIGTERM, deadline_s=SOON_S) == 0

    [done] = (photo for photo in album.photos().values() if photo.state is PhotoState.DONE)
    assert album.delivered() == both_files(done.key)
    assert album.number_of(PhotoState.CLAIMED) == 0


def test_a_photo_that_is_not_finished_in_the_grace_is_another_workers_at_once(
    site: Site, album: Album
) -> None:
    album.enter("a.png")
    worker = site.worker("slow", GPEN_STUB_S=FOR_EVER_S, GPEN_GRACE_S="1")
    wait_until(album.in_hand)

    assert worker.stop(signal.SIGTERM, deadline_s=SOON_S) == 0

    assert album.number_of(PhotoState.CLAIMED) == 0
    assert album.photos()["a.png"].attempts == 0
    site.worker("two")
    wait_until(lambda: album.number_of(PhotoState.DONE))
    assert album.delivered() == both_files("a.png")
    assert album.photos()["a.png"].attempts == 1


def test_a_second_word_gives_the_photo_in_hand_back_at_once(site: Site, album: Album) -> None:
    album.enter("a.png")
    worker = site.worker("slow", GPEN_STUB_S=FOR_EVER_S, GPEN_GRACE_S=FOR_EVER_S)
    wait_until(album.in_hand)

    os.kill(worker.pid, signal.SIGINT)
    assert worker.stop(signal.SIGTERM, deadline_s=SOON_S) == 0

    assert album.photos()["a.png"].state is not PhotoState.CLAIMED
    assert album.photos()["a.png"].attempts == 0
    assert album.delivered() == []


def test_a_worker_that_is_killed_costs_one_lease_and_the_other_photos_nothing(
    site: Site, album: Album
) -> None:
    album.enter("a.png")
    worker = site.worker("slow", GPEN_STUB_S=FOR_EVER_S, GPEN_LEASE_S="3")
    wait_until(album.in_hand)

    worker.stop(signal.SIGKILL, deadline_s=SOON_S)
    album.enter("b.png")
    site.worker("two")

    wait_until(lambda: album.number_of(PhotoState.DONE) == 2)
    attempts = {key: photo.attempts for key, photo in album.photos().items()}
    assert attempts == {"a.png": 2, "b.png": 1}
    assert album.delivered() == both_files("a.png", "b.png")


def test_a_broker_that_dies_and_comes_back_empty_costs_no_photo_anything(
    site: Site, album: Album, broker: Valkey
) -> None:
    album.enter("a.png", "b.png")
    worker = site.worker("one", GPEN_STUB_S="3")
    wait_until(album.in_hand)

    broker.stop(signal.SIGKILL)
    wait_until(lambda: album.number_of(PhotoState.DONE) == 1)
    for file in (broker.folder / "appendonlydir").iterdir():
        file.unlink()
    broker.start()

    wait_until(lambda: album.number_of(PhotoState.DONE) == 2)
    assert [photo.attempts for photo in album.photos().values()] == [1, 1]
    assert album.delivered() == both_files("a.png", "b.png")
    assert worker.stop(signal.SIGTERM, deadline_s=SOON_S) == 0


def test_a_worker_with_bad_weights_ends_with_5_and_leaves_its_photos_to_others(
    site: Site, album: Album, tmp_path: Path
) -> None:
    album.enter("a.png")
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"no weights")
    settings = site.settings | {"GPEN_WEIGHTS": str(bad)}
    unfit = Program(tmp_path / "unfit", (sys.executable, "-m", "worker"), environment=settings)
    process = site.running.enter_context(unfit).process
    wait_until(lambda: process.exit_code is not None)

    assert process.exit_code == 5
    assert album.photos()["a.png"].attempts == 0
    site.worker("two")
    wait_until(lambda: album.number_of(PhotoState.DONE))
