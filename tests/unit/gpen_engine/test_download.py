"""Fetching weights over real HTTP, from servers that do well and servers that don't."""

import fcntl
import shutil
import socket
from dataclasses import replace
from functools import partial

import httpx
import pytest

from gpen_engine import download
from gpen_engine.errors import CheckpointCorrupt, CheckpointError, TermsNotAccepted
from gpen_engine.registry import COMPACT
from gpen_engine.terms import How, recorded
from tests.unit.gpen_engine.publisher import (
    CONTENT,
    broken_off_after,
    elsewhere,
    endless,
    page,
    publishing,
    send,
    silently_ended_after,
    status,
    without_ranges,
)

HALF = len(CONTENT) // 2


@pytest.fixture
def publisher():
    with publishing() as running:
        yield running


@pytest.fixture
def waits():
    """Seconds that would have passed between attempts."""
    return []


@pytest.fixture
def fetch(waits):
    return partial(download.fetch, wait_s=waits.append)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_under_its_published_name(fetch, publisher, tmp_path):
    path = fetch(publisher.known(), tmp_path / "new" / "folder")

    assert path == tmp_path / "new" / "folder" / "fake.pth"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["fake.pth"]


def test_progress_is_told_in_bytes_up_to_the_last(fetch, publisher, tmp_path):
    told = []

    fetch(publisher.known(), tmp_path, progress=lambda done, total: told.append((done, total)))

    done = [here for here, _ in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, len(CONTENT))
    assert {total for _, total in told} == {len(CONTENT)}


def test_a_verified_file_is_left_alone_and_nobody_is_asked(fetch, publisher, tmp_path):
    (tmp_path / "old-fake.pth").write_bytes(CONTENT)

    assert fetch(publisher.known(), tmp_path) == tmp_path / "old-fake.pth"
    assert publisher.ranges == []
    assert names(tmp_path) == ["old-fake.pth"]


def test_a_file_that_only_bears_the_name_is_put_aside_and_kept(fetch, publisher, tmp_path):
    (tmp_path / "fake.pth").write_bytes(b"my own training")
    (tmp_path / "fake.pth.replaced").write_bytes(b"an earlier one")

    fetch(publisher.known(), tmp_path)

    assert (tmp_path / "fake.pth").read_bytes() == CONTENT
    assert (tmp_path / "fake.pth.replaced").read_bytes() == b"an earlier one"
    assert (tmp_path / "fake.pth.replaced1").read_bytes() == b"my own training"


def test_a_file_that_only_bears_the_name_stays_if_no_better_one_comes(fetch, publisher, tmp_path):
    (tmp_path / "fake.pth").write_bytes(b"my own training")
    publisher.answers = [status(404)]

    with pytest.raises(CheckpointError):
        fetch(publisher.known(), tmp_path)

    assert (tmp_path / "fake.pth").read_bytes() == b"my own training"


def test_an_earlier_part_is_gone_on_with(fetch, publisher, tmp_path):
    (tmp_path / "fake.pth.part").write_bytes(CONTENT[:HALF])

    path = fetch(publisher.known(), tmp_path)

    assert publisher.ranges == [f"bytes={HALF}-"]
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["fake.pth"]


def test_a_part_that_was_complete_needs_no_network(fetch, publisher, tmp_path):
    (tmp_path / "fake.pth.part").write_bytes(CONTENT)

    assert fetch(publisher.known(), tmp_path).read_bytes() == CONTENT
    assert publisher.ranges == []


@pytest.mark.parametrize("stale", [b"x" * HALF, b"x" * len(CONTENT), b"x" * 2 * len(CONTENT)])
def test_a_part_of_something_else_is_thrown_away_once(fetch, publisher, tmp_path, stale):
    (tmp_path / "fake.pth.part").write_bytes(stale)

    assert fetch(publisher.known(), tmp_path).read_bytes() == CONTENT
    assert publisher.ranges[-1] is None


def test_a_server_without_ranges_sends_it_all_again(fetch, publisher, tmp_path):
    (tmp_path / "fake.pth.part").write_bytes(CONTENT[:HALF])
    publisher.answers = [without_ranges]

    assert fetch(publisher.known(), tmp_path).read_bytes() == CONTENT
    assert publisher.ranges == [f"bytes={HALF}-"]


def another_part(handler, content):
    send(handler, content[7:], status=206, Content_Range=f"bytes 7-{len(content)}/{len(content)}")


def nameless_part(handler, content):
    send(handler, content[HALF:], status=206)


@pytest.mark.parametrize("bad", [another_part, nameless_part, status(416)])
def test_a_range_that_is_not_the_one_asked_for_is_not_used(fetch, publisher, tmp_path, bad):
    (tmp_path / "fake.pth.part").write_bytes(CONTENT[:HALF])
    publisher.answers = [bad]

    assert fetch(publisher.known(), tmp_path).read_bytes() == CONTENT
    assert publisher.ranges == [f"bytes={HALF}-", None]


@pytest.mark.parametrize("cut", [broken_off_after, silently_ended_after])
def test_a_connection_that_breaks_off_is_gone_on_with(fetch, publisher, tmp_path, cut, waits):
    publisher.answers = [cut(HALF)]

    assert fetch(publisher.known(), tmp_path).read_bytes() == CONTENT
    assert publisher.ranges == [None, f"bytes={HALF}-"]
    assert waits == [1.0]


def test_a_line_that_keeps_breaking_off_gets_there_as_long_as_it_moves(
    fetch, publisher, tmp_path, waits
):
    publisher.answers = [broken_off_after(100_000)] * 10

    assert fetch(publisher.known(), tmp_path).read_bytes() == CONTENT
    assert waits == [1.0] * 10


def test_a_line_that_brings_nothing_new_is_given_up_and_what_came_stays(
    fetch, publisher, tmp_path, waits
):
    publisher.answers = [broken_off_after(HALF)] + [status(503)] * 20

    with pytest.raises(CheckpointError, match=r"127\.0\.0\.1.*503"):
        fetch(publisher.known(), tmp_path)

    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert names(tmp_path) == ["fake.pth.part"]
    publisher.answers = []
    assert fetch(publisher.known(), tmp_path).read_bytes() == CONTENT
    assert publisher.ranges[-1] == f"bytes={HALF}-"


def test_a_server_without_ranges_that_keeps_breaking_off_is_given_up(fetch, publisher, tmp_path):
    publisher.answers = [silently_ended_after(HALF), silently_ended_after(HALF - 1)] * 20

    with pytest.raises(CheckpointError, match="broke off"):
        fetch(publisher.known(), tmp_path)


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_a_server_that_is_busy_twice_is_asked_a_third_time(fetch, publisher, tmp_path, code, waits):
    publisher.answers = [status(code), status(code)]

    assert fetch(publisher.known(), tmp_path).read_bytes() == CONTENT
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_server_that_says_no_is_asked_once(fetch, publisher, tmp_path, code, waits):
    publisher.answers = [status(code)]

    with pytest.raises(CheckpointError, match=str(code)):
        fetch(publisher.known(), tmp_path)

    assert waits == []
    assert len(publisher.ranges) == 1


def test_a_redirect_is_followed(fetch, publisher, tmp_path):
    publisher.answers = [elsewhere]

    assert fetch(publisher.known(), tmp_path).read_bytes() == CONTENT


def test_nobody_listening_is_an_error_with_the_address(fetch, publisher, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/fake.pth"

        with pytest.raises(CheckpointError, match=address):
            fetch(publisher.known(address=address), tmp_path)


def test_wrong_bytes_of_the_right_size_are_refused_and_removed(fetch, publisher, tmp_path):
    publisher.content = bytes(len(CONTENT))

    with pytest.raises(CheckpointCorrupt, match="sha256"):
        fetch(publisher.known(), tmp_path)

    assert names(tmp_path) == []


def test_a_sign_in_page_is_refused_and_an_earlier_part_survives_it(fetch, publisher, tmp_path):
    (tmp_path / "fake.pth.part").write_bytes(CONTENT[:HALF])
    publisher.answers = [page]

    with pytest.raises(CheckpointCorrupt, match=f"27 bytes, expected {len(CONTENT)}"):
        fetch(publisher.known(), tmp_path)

    assert (tmp_path / "fake.pth.part").read_bytes() == CONTENT[:HALF]


def test_a_part_of_a_file_of_another_size_is_refused(fetch, publisher, tmp_path):
    (tmp_path / "fake.pth.part").write_bytes(CONTENT[:HALF])
    publisher.content = CONTENT + b"and more"

    with pytest.raises(CheckpointCorrupt, match=f"{len(CONTENT) + 8} bytes"):
        fetch(publisher.known(), tmp_path)


def test_a_file_that_does_not_end_fills_no_disk(fetch, publisher, tmp_path):
    publisher.answers = [endless]

    with pytest.raises(CheckpointCorrupt, match="more than"):
        fetch(publisher.known(), tmp_path)

    assert (tmp_path / "fake.pth.part").stat().st_size == 0


def test_a_disk_without_room_is_said_before_the_download(fetch, publisher, tmp_path):
    room = shutil.disk_usage(tmp_path).total + 1

    with pytest.raises(CheckpointError, match="no room left"):
        fetch(publisher.known(size_bytes=room), tmp_path)

    assert publisher.ranges == []


def test_a_disk_that_fills_up_meanwhile_is_said_too(fetch, publisher, tmp_path):
    (tmp_path / "fake.pth.part").symlink_to("/dev/full")

    with pytest.raises(CheckpointError, match="no room left"):
        fetch(publisher.known(), tmp_path)

    assert not (tmp_path / "fake.pth").exists()


def test_a_folder_that_is_none_is_named(fetch, publisher, tmp_path):
    (tmp_path / "weights").write_text("a file")

    with pytest.raises(CheckpointError, match="weights isn't a folder"):
        fetch(publisher.known(), tmp_path / "weights")


def test_two_fetches_at_once_do_not_mix_their_bytes(fetch, publisher, tmp_path):
    part = tmp_path / "fake.pth.part"
    part.write_bytes(CONTENT[:HALF])

    with part.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another program"):
            fetch(publisher.known(), tmp_path)

    assert part.read_bytes() == CONTENT[:HALF]


def test_a_client_that_is_handed_in_is_used_and_left_open(fetch, publisher, tmp_path):
    with httpx.Client(headers={"User-Agent": "mine"}) as client:
        fetch(publisher.known(), tmp_path, client=client)

        assert not client.is_closed


def test_a_proxy_that_makes_no_sense_is_said(fetch, publisher, tmp_path, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:9")

    with pytest.raises(CheckpointError, match="proxy"):
        fetch(publisher.known(), tmp_path)


def test_what_comes_with_the_installation_is_not_fetched(fetch, tmp_path):
    with pytest.raises(CheckpointError, match="comes with gpen-archive"):
        fetch(COMPACT, tmp_path)


def test_terms_that_nobody_accepted_keep_the_file_out(fetch, publisher, tmp_path):
    known = publisher.known(ask=True, terms="for nobody's use")

    with pytest.raises(TermsNotAccepted, match="for nobody's use"):
        fetch(known, tmp_path)

    assert publisher.ranges == []
    assert names(tmp_path) == []


def test_terms_accepted_with_the_call_are_recorded_for_the_next(fetch, publisher, tmp_path):
    known = publisher.known(ask=True)

    fetch(known, tmp_path, accept_terms=True)
    (tmp_path / "fake.pth").unlink()
    fetch(known, tmp_path)

    assert recorded(tmp_path, known).how is How.FLAG
    assert recorded(tmp_path, replace(known, terms="other words")) is None
