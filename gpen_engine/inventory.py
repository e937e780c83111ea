"""The weights folder: what is there and whether it is what it should be, and how files get in.

A file counts by its hash. Nothing is fetched here, and nothing in a file is run or loaded.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gpen_engine import terms
from gpen_engine.download import PART
from gpen_engine.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointUnknown,
    WeightsFolderUnusable,
)
from gpen_engine.files import digest_of, replacing, set_aside
from gpen_engine.registry import KNOWN, KnownWeights
from gpen_engine.weights import find_in, known_by_hash


class Whereabouts(StrEnum):
    """Where known weights are."""

    HERE = "here"
    SHIPPED = "shipped"
    """They come with an installation."""
    FETCHABLE = "fetchable"
    BY_HAND = "by_hand"
    """No address is known: the user has to get the file and import it."""


class Verdict(StrEnum):
    """What a file in the weights folder turned out to be."""

    OK = "ok"
    DAMAGED = "damaged"
    """It bears the name of known weights and isn't their file."""
    UNKNOWN = "unknown"
    """A file of the user's own: it is used by its path."""
    INCOMPLETE = "incomplete"
    """A fetch that broke off; the next one goes on with it."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Verified:
    """One file of the weights folder.

    Attributes:
        path: the file.
        verdict: what it turned out to be.
        known: the weights that it is, or that it bears the name of.
        sha256: its hash; None where it wasn't taken.
    """

    path: Path
    verdict: Verdict
    known: KnownWeights | None = None
    sha256: str | None = None


def whereabouts(known: KnownWeights, folder: Path | None) -> Whereabouts:
    """Say where known weights are, without looking into their file."""
    if known.shipped_with:
        return Whereabouts.SHIPPED
    if find_in(folder, known):
        return Whereabouts.HERE
    return Whereabouts.FETCHABLE if known.address else Whereabouts.BY_HAND


def verify(folder: Path) -> Iterator[Verified]:
    """Hash every file of a folder again, in the order of their names; none if it isn't there.

    Raises:
        CheckpointError: the folder can't be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise WeightsFolderUnusable(f"{folder} can't be read: {error.strerror}") from error
    for path in paths:
        if not path.name.startswith(".") and not path.name.endswith(terms.SUFFIX):
            yield _verify_file(path)


def _verify_file(path: Path) -> Verified:
    named = _known_by_file(path.name.removesuffix(PART))
    if path.suffix == PART:
        return Verified(path, Verdict.INCOMPLETE, named)
    try:
        sha256 = digest_of(path)
    except CheckpointError:
        return Verified(path, Verdict.UNREADABLE, named)
    if named:
        right = sha256 == named.sha256
        return Verified(path, Verdict.OK if right else Verdict.DAMAGED, named, sha256)
    known = known_by_hash(sha256)
    return Verified(path, Verdict.OK if known else Verdict.UNKNOWN, known, sha256)


def recognize(file: Path) -> KnownWeights:
    """Return what a file is by its hash, whatever its name.

    Raises:
        WeightsFolderUnusable: it can't be read.
        CheckpointUnknown: it is none of the known weights.
    """
    sha256 = digest_of(file)
    known = known_by_hash(sha256)
    if known is None:
        names = ", ".join(entry.name for entry in KNOWN if not entry.shipped_with)
        raise CheckpointUnknown(
            f"{file.name} is none of the known weights ({names}): its sha256 is {sha256}. "
            f"Weights of your own need no import, give their path: --weights {file}"
        )
    return known


def adopt(file: Path, folder: Path, *, accept_terms: bool = False) -> Path:
    """Copy known weights that the user has into a folder, under the name they are looked for by.

    A file of that name that isn't the published one is renamed to `NAME.replaced`.

    Args:
        file: the file, under any name; it stays as it is.
        folder: where to; made if it isn't there.
        accept_terms: True if the user accepts the weights' terms; it is recorded in the folder.

    Raises:
        TermsNotAccepted: the weights have terms that nobody has accepted for this folder.
        CheckpointCorrupt: the file changed while it was copied.
        CheckpointError: the file can't be read or is none of the known weights, or the folder
            can't be written.
    """
    known = recognize(file)
    if known.shipped_with:
        raise CheckpointError(f"{known.name} comes with {known.shipped_with}: nothing to import")
    terms.require(folder, known, accept_terms=accept_terms)
    before = find_in(folder, known)
    if before and digest_of(before) == known.sha256:
        return before
    path = folder / known.files[0]
    with file.open("rb") as source, replacing(path) as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        if digest_of(Path(copy.name)) != known.sha256:
            raise CheckpointCorrupt(f"{file} changed while it was copied: try again")
        if before:
            set_aside(before)
    return path


def _known_by_file(name: str) -> KnownWeights | None:
    return next((entry for entry in KNOWN if name in entry.files), None)
