"""Checks what was delivered: a destination, and perhaps its masters, in; a verdict a check out.

Reads only, one photo at a time. What wasn't looked at is `not checked`, never `fine`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

from jobs.errors import (
    OutputDamaged,
    Permanent,
    PhotoTooLarge,
    ScratchFull,
    Transient,
    UnsafeKey,
)
from jobs.schema import sidecar_key
from jobs.storage import ObjectStore
from worker.audit import seal
from worker.audit.record import SEALED_SINCE, Record, StoredFile, read
from worker.audit.seal import Seal
from worker.audit.untouched import BACKGROUND_REASON, LOSSY, LOSSY_REASON, compare_pages
from worker.codec import Decode, FileBytes, Limits, Stored, sha256_of
from worker.copies import fetch
from worker.scratch import DEFAULT, Scratch

_Bytes = TypeVar("_Bytes", bytes, FileBytes)

_SIDECAR = ".json"
_OURS = re.compile(r"\.restored\.[^/]*\Z", re.IGNORECASE)
_PICTURE = re.compile(r"\.(png|tiff?|jpe?g|jpe|jfif|webp|jp2)\Z", re.IGNORECASE)


class Check(StrEnum):
    """What is looked at, in this order."""

    SEAL = "seal"
    RECORD = "record"
    DERIVATIVE = "derivative"
    MASTER = "master"
    PIXELS = "pixels"


class Verdict(StrEnum):
    """What came of a check."""

    FINE = "fine"
    WRONG = "wrong"
    NOT_CHECKED = "not checked"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check, and why it isn't fine."""

    check: Check
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of all checks of one photo."""

    derivative_key: str
    results: tuple[Result, ...]

    @property
    def findings(self) -> list[Result]:
        """What is wrong with it."""
        return [result for result in self.results if result.verdict is Verdict.WRONG]


def verify_all(
    derivatives: ObjectStore,
    masters: ObjectStore | None,
    *,
    decode: Decode,
    limits: Limits,
    scratch: Scratch = DEFAULT,
    quick: bool = False,
) -> Iterator[Verified]:
    """Check every photo of a destination; what isn't a derivative or sidecar is passed over.

    Args:
        derivatives: the destination.
        masters: where the masters are, None where that isn't known.
        decode: decodes what is stored, which somebody may have changed.
        limits: larger pictures aren't decoded.
        scratch: room for the files that are looked at.
        quick: compare hashes only.

    Raises:
        SourceMissing: the destination can't be listed, or one of the places can be read any more.
    """
    for found in derivatives.list():
        key = found.key.removesuffix(_SIDECAR)
        if key != found.key:
            if _is_derivative(key) or (_PICTURE.search(key) and _is_there(derivatives, key)):
                yield verify(
                    key,
                    derivatives,
                    masters,
                    decode=decode,
                    limits=limits,
                    scratch=scratch,
                    quick=quick,
                )
        elif _is_derivative(key) and not _is_there(derivatives, sidecar_key(key)):
            alone = Result(Check.RECORD, Verdict.WRONG, "the derivative has no sidecar")
            yield _unreadable(key, alone)


def verify(
    key: str,
    derivatives: ObjectStore,
    masters: ObjectStore | None,
    *,
    decode: Decode,
    limits: Limits,
    scratch: Scratch = DEFAULT,
    quick: bool = False,
) -> Verified:
    """Check one photo, by its derivative's key; the arguments are those of `verify_all`."""
    sidecar, fault = _try(derivatives, partial(derivatives.get, sidecar_key(key)))
    if sidecar is None:
        return _unreadable(key, Result(Check.RECORD, Verdict.WRONG, fault))
    try:
        record = read(sidecar)
    except OutputDamaged as error:
        unreadable = Result(Check.RECORD, Verdict.WRONG, str(error))
        return _unreadable(key, _check_seal(sidecar, SEALED_SINCE), unreadable)
    sealed = _check_seal(sidecar, record.schema_version)
    copy, of_derivative = _check_file(
        Check.DERIVATIVE, derivatives, key, record.derivative, scratch
    )
    if masters is None:
        unknown = "the place of the masters wasn't given (--masters)"
        master, of_master = None, Result(Check.MASTER, Verdict.NOT_CHECKED, unknown)
    else:
        master, of_master = _check_file(
            Check.MASTER, masters, record.master.key, record.master, scratch
        )
    if quick:
        pixels = Result(Check.PIXELS, Verdict.NOT_CHECKED, "only hashes were compared (--quick)")
    else:
        pixels = _check_pixels(master, copy, record, decode=decode, limits=limits)
    named = _check_name(derivatives, key, record)
    return Verified(key, (sealed, named, of_derivative, of_master, pixels))


def _check_seal(sidecar: bytes, version: int) -> Result:
    found = seal.check(sidecar)
    if found is Seal.INTACT:
        return Result(Check.SEAL, Verdict.FINE)
    if found is Seal.MISSING and version < SEALED_SINCE:
        why = f"sidecars of version {version} have none"
        return Result(Check.SEAL, Verdict.NOT_CHECKED, why)
    return Result(Check.SEAL, Verdict.WRONG, f"the seal is {found}: the sidecar was changed")


def _check_name(store: ObjectStore, key: str, record: Record) -> Result:
    """Compare where a sidecar was found with the derivative's name in it.

    Folders around it aren't compared further than they are recorded: `restore` records the file's
    name alone, and a job's folder may be looked at by itself.
    """
    recorded = record.derivative.key
    if f"{store.url.rstrip('/')}/{key}".endswith(f"/{recorded}"):
        return Result(Check.RECORD, Verdict.FINE)
    return Result(Check.RECORD, Verdict.WRONG, f"the sidecar is that of {recorded!r}")


def _check_file(
    check: Check, store: ObjectStore, key: str, recorded: StoredFile, scratch: Scratch
) -> tuple[FileBytes | None, Result]:
    """Compare a file with what its sidecar says; return its bytes where they are the same."""
    data, fault = _try(store, partial(fetch, store, key, scratch=scratch))
    if data is None:
        return None, Result(check, Verdict.WRONG, fault)
    if len(data) != recorded.bytes:
        sizes = f"{len(data)} bytes, and the sidecar says {recorded.bytes}"
        return None, Result(check, Verdict.WRONG, f"the {check} has {sizes}")
    if sha256_of(data) != recorded.sha256:
        return None, Result(check, Verdict.WRONG, f"the {check} has other bytes than were recorded")
    return data, Result(check, Verdict.FINE)


def _check_pixels(
    master: Stored | None,
    derivative: Stored | None,
    record: Record,
    *,
    decode: Decode,
    limits: Limits,
) -> Result:
    """Compare the samples outside the recorded regions at their own depth."""
    if record.derivative.content_type == LOSSY:
        return Result(Check.PIXELS, Verdict.NOT_APPLICABLE, LOSSY_REASON)
    if record.recipe.get("background_scale"):
        return Result(Check.PIXELS, Verdict.NOT_APPLICABLE, BACKGROUND_REASON)
    if master is None or derivative is None:
        why = "master and derivative have both to be there and whole"
        return Result(Check.PIXELS, Verdict.NOT_CHECKED, why)
    try:
        fault = _difference(master, derivative, record, decode=decode, limits=limits)
    except PhotoTooLarge as error:
        return Result(Check.PIXELS, Verdict.NOT_CHECKED, str(error))
    except Permanent as error:
        return Result(Check.PIXELS, Verdict.WRONG, f"it can't be decoded: {error}")
    return Result(Check.PIXELS, Verdict.WRONG if fault else Verdict.FINE, fault)


def _difference(
    master: Stored, derivative: Stored, record: Record, *, decode: Decode, limits: Limits
) -> str:
    """Return in words how two files differ outside the regions, nothing where they don't."""
    before = decode(master, limits=limits).pages
    after = decode(derivative, limits=limits).pages
    if len(before) != len(after):
        return f"the master has {len(before)} pages, the derivative {len(after)}"
    if [(page.width, page.height) for page in record.pages] != [
        (page.own.shape[1], page.own.shape[0]) for page in after
    ]:
        return "the derivative's pages have other sizes than were recorded"
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        difference = compare_pages(one, other, record.regions(number))
        if difference is None:
            return f"page {number + 1} has another size, depth or number of channels"
        if difference.differing:
            return (
                f"page {number + 1}: {difference.differing} of {difference.compared} samples "
                "outside the recorded regions differ"
            )
    return ""


def _unreadable(key: str, *results: Result) -> Verified:
    """Return what is known of a photo without a sidecar that can be read."""
    done = {result.check: result for result in results}
    why = "there is no sidecar that can be read"
    return Verified(
        key,
        tuple(done.get(check) or Result(check, Verdict.NOT_CHECKED, why) for check in Check),
    )


def _is_derivative(key: str) -> bool:
    """Tell whether a key is named as we name derivatives."""
    return bool(_OURS.search(key) and _PICTURE.search(key))


def _is_there(store: ObjectStore, key: str) -> bool:
    """Tell whether there is an object; where that can't be told, reading it says why."""
    try:
        return store.head(key) is not None
    except UnsafeKey:
        return False
    except Transient:
        store.check_readable()  # else it isn't this file alone
        return True


def _try(store: ObjectStore, get: Callable[[], _Bytes]) -> tuple[_Bytes | None, str]:
    """Return an object's bytes, or None and why they can't be had.

    Raises:
        SourceMissing: nothing of the store can be read any more.
    """
    try:
        return get(), ""
    except Permanent as error:
        return None, str(error)
    except ScratchFull:
        raise
    except Transient as error:
        store.check_readable()  # else it isn't this file alone
        return None, str(error)
