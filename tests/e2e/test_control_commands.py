"""What an operator says to a running job: real dispatch, a stub worker with two lanes.

A command has two seconds to be heard; here only that it is, for the machine may be busy. Each test
has a job of its own; `witness` is a later one, which shows that everything else went on meanwhile.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from jobs.schema import PhotoState
from producer.cli import main
from tests.e2e.stub_site import (
    Album,
    Site,
    both_files,
    running_site,
    wait_until,
    write_photo,
)

MANY = [f"{number:03}.png" for number in range(400)]
FEW = ("a.png", "b.png", "c.png")


@pytest.fixture(scope="module")
def site(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("control")
    with running_site(folder, broker_url=valkey_url, GPEN_WINDOW="20") as site:
        site.worker("one", GPEN_STUB_S="0.2", GPEN_LANES="2")
        yield site


@pytest.fixture
def call(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Give a command of `gpen-archive`; return its exit code."""
    for name, value in site.settings.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        return int(end.value.code or 0)

    return call


@pytest.fixture
def album(site: Site, request: pytest.FixtureRequest) -> Iterator[Album]:
    """A job that would keep the worker busy for a minute."""
    album = site.album(request.node.name)
    album.enter(*MANY)
    yield album
    site.ledger.cancel(album.job.id)
    wait_until(lambda: rests(album))


@pytest.fixture
def witness(site: Site, request: pytest.FixtureRequest) -> Album:
    return site.album(f"{request.node.name} witness")


def rests(album: Album) -> bool:
    return album.number_of(PhotoState.PUBLISHED, PhotoState.CLAIMED) == 0


def finished(album: Album) -> int:
    return album.ledger.counts(album.job.id).finished


def expect_rest(album: Album, witness: Album) -> None:
    """Make sure that what was in hand is finished, and that nothing begins while others go on."""
    wait_until(lambda: rests(album))
    done = album.number_of(PhotoState.DONE)
    witness.enter(*FEW)
    wait_until(witness.is_over)
    assert album.number_of(PhotoState.DONE) == done < len(MANY)
    left = [photo for photo in album.photos().values() if photo.state is PhotoState.PENDING]
    assert len(left) == len(MANY) - done
    assert {photo.attempts for photo in left} == {0}


def expect_motion(album: Album) -> None:
    before = finished(album)
    wait_until(lambda: finished(album) > before + 2)


@pytest.mark.parametrize("command", ["pause", "cancel"])
def test_a_job_that_is_paused_or_cancelled_rests_until_it_is_resumed(
    album: Album, witness: Album, call: Callable[..., int], command: str
) -> None:
    expect_motion(album)
    assert call(command, album.job.id) == 0
    expect_rest(album, witness)
    assert album.is_over() == (command == "cancel")

    assert call("resume", album.job.id) == 0
    expect_motion(album)


def test_a_job_begins_with_its_hours_and_drains_at_their_end(
    album: Album, witness: Album, call: Callable[..., int]
) -> None:
    expect_motion(album)
    assert call("window", album.job.id, hours(begin_h=10)) == 0
    expect_rest(album, witness)

    assert call("window", album.job.id, hours(begin_h=-1)) == 0
    expect_motion(album)


def test_an_urgent_job_overtakes_one_that_runs(
    album: Album, witness: Album, call: Callable[..., int]
) -> None:
    expect_motion(album)
    witness.enter(*FEW)
    assert call("priority", witness.job.id, "10") == 0
    wait_until(witness.is_over)
    assert not album.is_over()


def test_only_the_photos_with_the_given_code_are_tried_again(
    site: Site, call: Callable[..., int]
) -> None:
    album = site.album("two codes")
    (album.masters / "torn.png").write_bytes(b"This is no picture.")
    album.enter_keys(["missing.png", "torn.png"])
    album.enter("fine.png")
    wait_until(album.is_over)
    codes = {key: photo.failure and photo.failure.code for key, photo in album.photos().items()}
    assert codes == {
        "missing.png": "photo.missing", "torn.png": "photo.unsupported", "fine.png": None,
    }  # fmt: skip

    write_photo(album.masters / "missing.png")
    write_photo(album.masters / "torn.png")
    assert call("retry", album.job.id, "--code", "photo.missing") == 0
    wait_until(album.is_over)
    assert album.delivered() == both_files("fine.png", "missing.png")
    assert album.photos()["torn.png"].state is PhotoState.FAILED

    assert call("retry", album.job.id) == 0
    wait_until(album.is_over)
    assert album.delivered() == both_files("fine.png", "missing.png", "torn.png")


def hours(*, begin_h: int) -> str:
    """Return four hours that begin so many hours from now."""
    begin = datetime.now().astimezone() + timedelta(hours=begin_h)
    return f"{begin:%H:%M}-{begin + timedelta(hours=4):%H:%M}"
