"""Files that appear whole or not at all."""

import errno
import os

import pytest

from gpen_engine.errors import CheckpointError
from gpen_engine.files import digest_of, replacing, set_aside


def write(path, content, *, failing=None):
    with replacing(path) as file:
        file.write(content)
        if failing:
            raise failing


def test_a_file_is_there_once_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.pth"

    with replacing(path) as file:
        file.write(b"tens")
        assert not path.exists()
        file.write(b"ors")

    assert path.read_bytes() == b"tensors"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.pth"]


def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        write(tmp_path / "a.pth", b"tensors")
    finally:
        os.umask(before)

    assert (tmp_path / "a.pth").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("failure", "raised", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), CheckpointError, "no room left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), CheckpointError, "no room left"),
        (OSError(errno.EROFS, "Read-only file system"), CheckpointError, "Read-only file system"),
        (KeyboardInterrupt("Ctrl-C"), KeyboardInterrupt, "Ctrl-C"),
    ],
)
def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, failure, raised, said):
    (tmp_path / "a.pth").write_bytes(b"before")

    with pytest.raises(raised, match=said):
        write(tmp_path / "a.pth", b"half", failing=failure)

    assert (tmp_path / "a.pth").read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pth"]


def test_a_file_put_aside_never_takes_the_place_of_another(tmp_path):
    for content in (b"1", b"2", b"3"):
        (tmp_path / "a.pth").write_bytes(content)
        assert set_aside(tmp_path / "a.pth").read_bytes() == content

    assert sorted(entry.read_bytes() for entry in tmp_path.iterdir()) == [b"1", b"2", b"3"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.pth can't be read: No such file"):
        digest_of(tmp_path / "a.pth")
