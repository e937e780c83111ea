"""A bag after RFC 8493 (BagIt 1.0): files go in one after the other, a whole bag comes out.

Each file is hashed as it passes and its line is written to the manifests at once, so that nothing
grows with the number of files and nothing is read twice. (`bagit.make_bag` moves what it packs,
changes the process's folder, reads everything again, and writes version 0.97.) The Library of
Congress's `bagit` checks what was written: it shares no line with the writer.

Both hashes because each has its use: sidecars and PREMIS speak sha256, and RFC 8493 asks for
sha512.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

import bagit

from jobs.errors import DestinationExists, DestinationUnusable, StoreFull
from jobs.objects import pieces_of
from worker.codec.stored import Stored, open_stored
from worker.export.errors import BagInvalid

ALGORITHMS = ("sha256", "sha512")
_DECLARATION = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_LONGEST_MESSAGE = 2000  # of very many damaged files, some will do
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class BagWriter:
    """Writes one bag. Names are relative to its `data` folder and need no escape (`Names`).

    Args:
        folder: an empty one.

    Raises:
        DestinationUnusable: by every method, when the folder can't be written.
        StoreFull: likewise, when it has no room.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = 0
        self.size_bytes = 0
        self._open = ExitStack()
        with _translated(folder):
            (folder / "data").mkdir()
            self._manifests = {
                algorithm: self._open.enter_context(
                    (folder / f"manifest-{algorithm}.txt").open("w", encoding="utf-8")
                )
                for algorithm in ALGORITHMS
            }

    def add(self, name: str, data: Stored) -> str:
        """Add a file; return its sha256."""
        path = self.folder / "data" / name
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                hashes = _hashes_of(_copied(pieces_of(open_stored(data)), file))
            self._enter(name, hashes, len(data))
        return hashes["sha256"]

    @contextmanager
    def growing(self, name: str) -> Iterator[TextIO]:
        """Add a text file that the caller writes bit by bit, while other files are added."""
        path = self.folder / "data" / name
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="") as file:
                yield file
            self._enter(name, _hashes_of_file(path), path.stat().st_size)

    def finish(self, info: Mapping[str, str]) -> None:
        """Complete the bag; `info` is for bag-info.txt, which gets the Payload-Oxum too."""
        tags = {**info, "Payload-Oxum": f"{self.size_bytes}.{self.files}"}
        lines = "".join(f"{tag}: {' '.join(value.split())}\n" for tag, value in tags.items())
        with _translated(self.folder):
            self._open.close()
            (self.folder / "bag-info.txt").write_text(lines, encoding="utf-8")
            (self.folder / "bagit.txt").write_text(_DECLARATION, encoding="utf-8")
            for algorithm, manifest in self._tag_manifests().items():
                path = self.folder / f"tagmanifest-{algorithm}.txt"
                path.write_text(manifest, encoding="utf-8")

    def close(self) -> None:
        """Let go of all files."""
        self._open.close()

    def _enter(self, name: str, hashes: Mapping[str, str], size_bytes: int) -> None:
        for algorithm, digest in hashes.items():
            self._manifests[algorithm].write(f"{digest}  data/{name}\n")
        self.files += 1
        self.size_bytes += size_bytes

    def _tag_manifests(self) -> dict[str, str]:
        tag_files = sorted(self.folder.glob("*.txt"))
        hashes = {path.name: _hashes_of_file(path) for path in tag_files}
        return {
            algorithm: "".join(f"{found[algorithm]}  {name}\n" for name, found in hashes.items())
            for algorithm in ALGORITHMS
        }


@contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """Give a folder to write into that gets the name `target` when all went well, else vanishes.

    Raises:
        DestinationUnusable: `target` exists and isn't empty, or can't be made.
    """
    part = target.with_name(f"{target.name}.part")
    _require_free(target)
    try:
        part.mkdir()
    except FileExistsError as error:
        raise DestinationExists(
            f"{part} is there: an export is writing it, or was cut off; if so, remove it"
        ) from error
    except OSError as error:
        raise DestinationUnusable(f"can't make {part}: {error.strerror}") from error
    try:
        yield part
        os.sync()  # the name says that it is whole, after a power failure too
        with _translated(target):
            part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def validate(folder: Path) -> None:
    """Have every file of a bag hashed again, by another program than the one that wrote it.

    Raises:
        BagInvalid: something isn't as its manifests say.
    """
    try:
        bagit.Bag(str(folder)).validate()
    except bagit.BagError as error:
        raise BagInvalid(f"{folder}: {str(error)[:_LONGEST_MESSAGE]}") from error


def _require_free(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if os.path.lexists(target):
        raise DestinationExists(f"{target} exists and isn't an empty folder; nothing is replaced")


def _copied(pieces: Iterable[bytes], file: BinaryIO) -> Iterator[bytes]:
    """Write pieces to a file as they pass."""
    for piece in pieces:
        file.write(piece)
        yield piece


def _hashes_of_file(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        return _hashes_of(pieces_of(file))


def _hashes_of(pieces: Iterable[bytes]) -> dict[str, str]:
    running = [hashlib.new(algorithm) for algorithm in ALGORITHMS]
    for piece in pieces:
        for one in running:
            one.update(piece)
    return {one.name: one.hexdigest() for one in running}


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StoreFull if error.errno in _NO_ROOM else DestinationUnusable
        raise kind(f"can't write {path}: {error.strerror}") from error
