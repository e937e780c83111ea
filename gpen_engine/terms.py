"""Which weights' terms were accepted: known weights in, a small record beside their file out.

A record says which weights, the terms in the words that were shown, when, and in which way; nothing
about the person. Terms that are worded anew have to be accepted anew.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from gpen_engine.errors import CheckpointCorrupt, TermsNotAccepted
from gpen_engine.files import replacing
from gpen_engine.registry import KnownWeights

SUFFIX = ".terms.json"


class How(StrEnum):
    """In which way terms were accepted."""

    TERMINAL = "terminal"
    """They were shown, and the question was answered with yes."""
    FLAG = "flag"
    """By an option of a command, or an argument of a function."""
    ENVIRONMENT = "environment"
    """By GPEN_ACCEPT_GPEN_TERMS."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A record that terms were accepted.

    Attributes:
        name: the weights' name.
        sha256: the weights' hash.
        terms: the terms, as they were shown.
        accepted_at: when, in UTC, as ISO 8601 to the second.
        how: in which way.
    """

    name: str
    sha256: str
    terms: str
    accepted_at: str
    how: How


def accept(folder: Path, known: KnownWeights, how: How) -> Acceptance:
    """Record that the terms of known weights were accepted.

    Raises:
        CheckpointError: the record can't be written.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = Acceptance(known.name, known.sha256, known.terms, now, how)
    with replacing(_record(folder, known)) as file:
        file.write(json.dumps(asdict(made), indent=2, ensure_ascii=False).encode() + b"\n")
    return made


def recorded(folder: Path | None, known: KnownWeights) -> Acceptance | None:
    """Return the record of these weights in a folder, if there is one of these very terms.

    Raises:
        CheckpointCorrupt: there is one that can't be read.
    """
    if folder is None:
        return None
    path = _record(folder, known)
    try:
        fields = json.loads(path.read_bytes())
        found = Acceptance(**{**fields, "how": How(fields["how"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise CheckpointCorrupt(
            f"{path} can't be read: remove it, and accept the terms of {known.name} again"
        ) from error
    return found if (found.sha256, found.terms) == (known.sha256, known.terms) else None


def terms_accepted(folder: Path | None, known: KnownWeights) -> bool:
    """Say whether known weights may be used: their terms ask for nothing, or were accepted here.

    Raises:
        CheckpointCorrupt: the record can't be read.
    """
    return not known.ask or recorded(folder, known) is not None


def refusal(known: KnownWeights) -> TermsNotAccepted:
    """Return the error to raise when weights' terms weren't accepted."""
    return TermsNotAccepted(f"the terms of {known.name} haven't been accepted: {known.terms}")


def require(folder: Path, known: KnownWeights, *, accept_terms: bool) -> None:
    """Make sure that weights about to be put into a folder may be used; record a new acceptance.

    Raises:
        TermsNotAccepted: their terms have to be accepted first.
        CheckpointError: the record can't be read or written.
    """
    if terms_accepted(folder, known):
        return
    if not accept_terms:
        raise refusal(known)
    accept(folder, known, How.FLAG)


def _record(folder: Path, known: KnownWeights) -> Path:
    return folder / f"{known.name}{SUFFIX}"
