"""Packs a job into a bag: photos in by key, one at a time; a whole bag, or none, comes out.

Derivatives are compared with their sidecars as they pass. Every photo of the job is in the bag:
with its files, or in a list with the reason why not.
"""

import csv
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_never

from jobs.errors import DestinationUnusable, PhotoMissing
from jobs.schema import Job, Photo, PhotoState
from jobs.storage import ObjectStore
from worker.audit.record import Record, StoredFile, read_sealed
from worker.codec import FileBytes
from worker.copies import fetch
from worker.export import history
from worker.export.bag import BagWriter, made_whole, validate
from worker.export.errors import DeliveryMismatch
from worker.export.history import Occasion, Packed
from worker.export.names import Names
from worker.provenance import software
from worker.scratch import DEFAULT, Scratch

FAILURES = "metadata/failures.csv"
PENDING = "metadata/pending.csv"
_START_BYTES = 64


@dataclass(slots=True)
class Contents:
    """A bag in numbers: what became of its photos, and the files that it has."""

    delivered: int = 0
    failed: int = 0
    pending: int = 0
    files: int = 0
    size_bytes: int = 0

    @property
    def photos(self) -> int:
        """All of them."""
        return self.delivered + self.failed + self.pending


@dataclass(frozen=True, slots=True)
class Source:
    """The job to pack, and where its files are."""

    job: Job
    photos: Iterable[Photo]
    derivatives: ObjectStore
    masters: ObjectStore | None = None
    """None leaves masters where they are."""


def pack(
    source: Source,
    target: Path,
    *,
    organization: str | None = None,
    check: bool = True,
    scratch: Scratch = DEFAULT,
    on_photo: Callable[[], None] = lambda: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Contents:
    """Make a bag of a job.

    Args:
        source: the job.
        target: the folder, which must not exist or be empty.
        organization: who sends the bag.
        check: whether the bag is read again before it gets its name.
        scratch: room for one file on its way into the bag.
        on_photo: called after each.
        now: the time.

    Raises:
        DeliveryMismatch: a file of a delivered photo is gone or isn't what it was.
        OutputDamaged: a sidecar can't be read, or its seal is broken.
        DestinationUnusable: the target is taken, can't be written, or lies inside the job's own
            folders.
        BagInvalid: what was written can't be read back.
        ScratchFull: there is no room for a file on its way.
    """
    moment = now()
    occasion = Occasion(source.job, software(), moment.isoformat(timespec="seconds"))
    target = target.expanduser().resolve()
    _require_outside(target, source.job)
    with made_whole(target) as folder, closing(BagWriter(folder)) as bag:
        packer = _Packer(source, bag, occasion, scratch)
        contents = _pack_photos(source, bag, packer, on_photo)
        tags = {"Source-Organization": organization} if organization else {}
        bag.finish(tags | _tags(source.job, contents, moment))
        if check:
            validate(folder)
    contents.files, contents.size_bytes = bag.files, bag.size_bytes
    return contents


def _pack_photos(
    source: Source, bag: BagWriter, packer: "_Packer", on_photo: Callable[[], None]
) -> Contents:
    contents = Contents()
    with bag.growing(FAILURES) as failed, bag.growing(PENDING) as waiting:
        failures, pending = csv.writer(failed), csv.writer(waiting)
        failures.writerow(["key", "code", "message", "stage", "attempts"])
        pending.writerow(["key", "state", "attempts"])
        for photo in source.photos:
            match photo.state:
                case PhotoState.DONE:
                    packer.add_delivered(photo)
                    contents.delivered += 1
                case PhotoState.FAILED:
                    failures.writerow(packer.add_failed(photo))
                    contents.failed += 1
                case PhotoState.PENDING | PhotoState.PUBLISHED | PhotoState.CLAIMED:
                    pending.writerow([photo.key, photo.state.value, photo.attempts])
                    contents.pending += 1
                case _:
                    assert_never(photo.state)
            on_photo()
    return contents


class _Packer:
    """Adds the files of one photo after the other."""

    def __init__(
        self, source: Source, bag: BagWriter, occasion: Occasion, scratch: Scratch
    ) -> None:
        self._source = source
        self._bag = bag
        self._occasion = occasion
        self._scratch = scratch
        self._masters = Names()
        self._derivatives = Names()

    def add_delivered(self, photo: Photo) -> None:
        """Add derivative and sidecar, the master where asked for, and what PREMIS tells of them."""
        store = self._source.derivatives
        sidecar = self._fetch(store, photo.sidecar_key, "the sidecar", photo)[:]
        record = read_sealed(sidecar, name=f"the sidecar of {photo.key!r}")
        _require_about(record, photo)
        name = self._masters.name(photo.key)
        path = f"derivatives/{self._derivatives.name(record.derivative.key)}"
        derivative_start = self._add_copy(path, store, record.derivative, "the derivative", photo)
        self._bag.add(f"{path}.json", sidecar)
        packed = Packed(
            record=record,
            derivative_start=derivative_start,
            derivative_path=f"data/{path}",
            sidecar=sidecar,
            sidecar_path=f"data/{path}.json",
        )
        if self._source.masters is not None:
            path = f"masters/{name}"
            start = self._add_copy(path, self._source.masters, record.master, "the master", photo)
            packed = replace(packed, master_start=start, master_path=f"data/{path}")
        self._add_premis(name, history.tell_delivered(packed, self._occasion))

    def add_failed(self, photo: Photo) -> list[object]:
        """Add what PREMIS tells of a photo that was given up; return its line for the list."""
        failure = photo.failure
        if failure is None:
            raise DeliveryMismatch(f"the ledger doesn't say why {photo.key!r} failed")
        name = self._masters.name(photo.key)
        self._add_premis(name, history.tell_failed(failure, self._occasion))
        return [failure.key, failure.code, failure.message, failure.stage, failure.attempts]

    def _add_premis(self, name: str, document: bytes) -> None:
        self._bag.add(f"metadata/premis/{name}.premis.xml", document)

    def _add_copy(
        self, path: str, store: ObjectStore, told: StoredFile, what: str, photo: Photo
    ) -> bytes:
        """Add a file that has to be the one that the sidecar tells of; return its first bytes."""
        data = self._fetch(store, told.key, what, photo)
        found = self._bag.add(path, data), len(data)
        if found != (told.sha256, told.bytes):
            raise DeliveryMismatch(
                f"{what} of {photo.key!r} isn't the one that its sidecar tells of: {told.key!r} "
                f"has sha256 {found[0]} and {found[1]} bytes; it had {told.sha256} and {told.bytes}"
            )
        return data[:_START_BYTES]

    def _fetch(self, store: ObjectStore, key: str | None, what: str, photo: Photo) -> FileBytes:
        if key is None:
            raise DeliveryMismatch(f"the ledger doesn't name {what} of {photo.key!r}")
        try:
            return fetch(store, key, scratch=self._scratch)
        except PhotoMissing as error:
            raise DeliveryMismatch(
                f"{what} of {photo.key!r} is gone: there is no {key!r} in {store.url}"
            ) from error


def _require_about(record: Record, photo: Photo) -> None:
    """Refuse a sidecar that tells of other files than the ledger."""
    told = (record.master.key, record.derivative.key)
    if told != (photo.key, photo.derivative_key):
        raise DeliveryMismatch(
            f"the sidecar of {photo.key!r} is about {told[0]!r} and {told[1]!r}, and not "
            f"{photo.derivative_key!r}"
        )


def _require_outside(target: Path, job: Job) -> None:
    """Keep bags out of folders that a later `run` reads, where they would be taken for photos."""
    for folder in (job.source, job.destination):
        if "://" not in folder and target.is_relative_to(Path(folder).resolve()):
            raise DestinationUnusable(f"{target} lies inside {folder}, which belongs to the job")


def _tags(job: Job, contents: Contents, moment: datetime) -> dict[str, str]:
    recipe = f"recipe {job.recipe.hash()} {job.recipe.canonical()}"
    counts = f"{contents.delivered} delivered, {contents.failed} failed, {contents.pending} pending"
    return {
        "External-Identifier": job.id,
        "Internal-Sender-Identifier": job.name,
        "Internal-Sender-Description": f"Photos from {job.source} with restored faces; {recipe}; "
        f"{counts}",
        "Bagging-Date": moment.date().isoformat(),
        "Bag-Software-Agent": software(),
    }
