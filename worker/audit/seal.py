"""The seal: the sha256 of a sidecar's own bytes, taken with zeros in the seal's place. Pure.

In: a sidecar's bytes. Out: the same bytes sealed, or what became of their seal. A seal finds any
damage without a database. It is no signature: whoever changes a sidecar on purpose can seal it.
"""

import hashlib
import re
from enum import StrEnum

BLANK = "0" * 64
"""What stands in the seal's place until it is known, and while it is checked."""

_AFTER = b'"\n}\n'
_END = re.compile(rb'"seal": "([0-9a-f]{64})' + re.escape(_AFTER))
_END_BYTES = len(b'"seal": "') + len(BLANK) + len(_AFTER)


class Seal(StrEnum):
    """What became of a seal."""

    INTACT = "intact"
    BROKEN = "broken"
    MISSING = "missing"
    """The file doesn't end as a sealed sidecar does."""


def seal(blank: bytes) -> bytes:
    """Return a sidecar, whose last field is a blank seal, sealed.

    Raises:
        ValueError: it doesn't end with a blank seal.
    """
    if _sealed_with(blank) != BLANK.encode():
        raise ValueError("there is no blank seal at the end")
    return _with(blank, hashlib.sha256(blank).hexdigest().encode())


def check(sidecar: bytes) -> Seal:
    """Say what became of a sidecar's seal."""
    found = _sealed_with(sidecar)
    if found is None:
        return Seal.MISSING
    expected = hashlib.sha256(_with(sidecar, BLANK.encode())).hexdigest().encode()
    return Seal.INTACT if found == expected else Seal.BROKEN


def _sealed_with(sidecar: bytes) -> bytes | None:
    end = _END.fullmatch(sidecar[-_END_BYTES:])
    return end[1] if end else None


def _with(sidecar: bytes, digits: bytes) -> bytes:
    return sidecar[: -len(digits + _AFTER)] + digits + _AFTER
