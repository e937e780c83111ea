"""Fetch known weights: an entry of the registry goes in, a verified file in a folder comes out.

The file comes in as `NAME.part`, which a later call goes on with, and takes its name only once its
size and hash are those of the registry.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

import httpx

from gpen_engine import terms
from gpen_engine.errors import (
    CheckpointCorrupt,
    CheckpointError,
    WeightsUnavailable,
)
from gpen_engine.files import digest_of, set_aside, settle, unwritable
from gpen_engine.registry import KnownWeights
from gpen_engine.weights import find_in

Progress = Callable[[int, int], None]
"""Told of the bytes that are here, and of all there will be."""

PART = ".part"
_ATTEMPTS = 5  # in a row, without a byte more than ever before
_TIMEOUT_S = 30.0  # without a byte
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class _BrokenOffError(Exception):
    """The server stopped, or asks to be asked again."""


def fetch(
    known: KnownWeights,
    folder: Path,
    *,
    accept_terms: bool = False,
    progress: Progress = lambda _done, _total: None,
    client: httpx.Client | None = None,
    wait_s: Callable[[float], None] = time.sleep,
) -> Path:
    """Fetch known weights into a folder, unless they are there; return their file.

    What an earlier call left behind is gone on with. A file of the same name that isn't the
    published one is renamed to `NAME.replaced` when the right one has come.

    Args:
        known: what to fetch.
        folder: where to; made if it isn't there.
        accept_terms: True if the user accepts the weights' terms; it is recorded in the folder.
        progress: called as bytes come in.
        client: how to reach the network; by default as the environment's proxies say.
        wait_s: called with seconds to pass before the next attempt.

    Raises:
        TermsNotAccepted: the weights have terms that nobody has accepted for this folder.
        CheckpointCorrupt: what came isn't what is published; nothing of it stays.
        CheckpointError: there is no address, the address doesn't answer, or the folder can't be
            written; what came so far stays, and the next call goes on from there.
    """
    if known.address is None:
        raise CheckpointError(f"{known.name} comes with {known.shipped_with}: nothing to fetch")
    terms.require(folder, known, accept_terms=accept_terms)
    before = find_in(folder, known)
    if before and digest_of(before) == known.sha256:
        return before
    path = folder / known.files[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _partial(path) as (file, part), _session(client) as session:
            source = _Source(session, known, known.address, progress, wait_s)
            source.fill(file, part)
            if before:
                set_aside(before)
            settle(file, part, path)
    except OSError as error:
        raise unwritable(path, error) from error
    return path


@contextmanager
def _partial(path: Path) -> Iterator[tuple[BufferedRandom, Path]]:
    """Open what there is of a file, for this process alone."""
    part = path.with_name(path.name + PART)
    with part.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(file.fileno()), part.stat())
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:  # locked, or finished and renamed in between
            raise CheckpointError(f"{path.name} is being fetched by another program right now")
        yield file, part


@contextmanager
def _session(client: httpx.Client | None) -> Iterator[httpx.Client]:
    """Give the client that was handed in, or one of our own that is closed in the end."""
    if client:
        yield client
        return
    try:
        own = httpx.Client(timeout=_TIMEOUT_S)
    except (
        ImportError,
        ValueError,
        httpx.InvalidURL,
    ) as error:  # a missing SOCKS, a strange scheme
        raise WeightsUnavailable(f"the environment's proxy can't be used: {error}") from error
    with own:
        yield own


@dataclass(frozen=True, slots=True)
class _Source:
    """One address, and how what it gives comes into a file."""

    session: httpx.Client
    known: KnownWeights
    address: str
    progress: Progress
    wait_s: Callable[[float], None]

    def fill(self, file: BufferedRandom, part: Path) -> None:
        """Fetch what the file lacks, and make sure that it is the published one."""
        resumed = _length(file) > 0
        self._complete(file)
        if resumed and not self._is_right(file):  # what was there may have been something else
            file.truncate(0)
            self._complete(file)
        if not self._is_right(file):
            part.unlink()
            raise CheckpointCorrupt(
                f"{self.address} gives another file than the one published: "
                f"its sha256 isn't {self.known.sha256}"
            )

    def _is_right(self, file: BufferedRandom) -> bool:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest() == self.known.sha256

    def _complete(self, file: BufferedRandom) -> None:
        best, failures = _length(file), 0
        while True:
            try:
                self._receive(file)
            except (httpx.RequestError, _BrokenOffError) as error:
                failures = 1 if _length(file) > best else failures + 1
                best = max(best, _length(file))
                if failures == _ATTEMPTS:
                    what = str(error) or type(error).__name__
                    raise WeightsUnavailable(f"{self.address} can't be fetched: {what}") from error
                self.wait_s(2.0 ** (failures - 1))
            else:
                return

    def _receive(self, file: BufferedRandom) -> None:
        """Ask for what the file lacks, once."""
        total, have = self.known.size_bytes, _length(file)
        if have == total:
            return
        _make_sure_of_room(Path(file.name), total - have)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self.session.stream(
            "GET", self.address, headers=headers, follow_redirects=True
        ) as response:
            begins = self._first_byte(response)
            if begins != have:
                file.truncate(0)
            if begins not in {0, have}:
                raise _BrokenOffError("it gives another part than was asked for")
            self._write(response, file)
        if _length(file) < total:
            raise _BrokenOffError(f"it broke off after {_length(file)} of {total} bytes")

    def _write(self, response: httpx.Response, file: BufferedRandom) -> None:
        total = self.known.size_bytes
        self.progress(_length(file), total)
        for chunk in response.iter_bytes():
            file.write(chunk)
            here = _length(file)
            if here > total:
                file.truncate(0)
                raise self._of_another_size(f"more than {total}")
            self.progress(here, total)

    def _first_byte(self, response: httpx.Response) -> int | None:
        """Return which byte of the file an answer begins with; None if it can't be used.

        Raises:
            _BrokenOffError: the next answer may be better.
            CheckpointError: no other answer can be expected.
        """
        total, status = str(self.known.size_bytes), response.status_code
        if status == httpx.codes.PARTIAL_CONTENT:
            given = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if given and given[2] not in {"*", total}:
                raise self._of_another_size(given[2])
            return int(given[1]) if given else None
        if status == httpx.codes.OK:
            announced = response.headers.get("Content-Length", total)
            if announced != total and "Content-Encoding" not in response.headers:
                raise self._of_another_size(announced)
            return 0
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        answer = f"it answers {status} {response.reason_phrase}".rstrip()
        if status in _PASSING:
            raise _BrokenOffError(answer)
        raise WeightsUnavailable(f"{self.address} can't be fetched: {answer}")

    def _of_another_size(self, found: str) -> CheckpointCorrupt:
        return CheckpointCorrupt(
            f"{self.address} gives another file than the one published: {found} bytes, expected "
            f"{self.known.size_bytes}"
        )


def _length(file: BufferedRandom) -> int:
    return file.seek(0, os.SEEK_END)


def _make_sure_of_room(part: Path, needed_bytes: int) -> None:
    if shutil.disk_usage(part.parent).free < needed_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
