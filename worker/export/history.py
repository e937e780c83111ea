"""What PREMIS is told of a photo: its sidecar and the bag's paths in, one document out.

A derivative's event is a *creation*: a new file is made and the master stays what it was, so it is
no modification; it isn't migration or normalization either, which change the format to preserve
the content.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from jobs.schema import Failure, Job, sidecar_key
from worker.audit.record import Record
from worker.codec import sha256_of
from worker.export import premis
from worker.export.premis import Agent, Creator, Event, File, Relation

PROGRAM = "gpen-archive"
_IN_BAG = "path in this bag"
_PUIDS = (
    (re.compile(rb"II\*\0|MM\0\*"), "fmt/353"),  # TIFF
    (re.compile(rb"\xff\xd8\xff\xe0..JFIF\0\x01\x00", re.DOTALL), "fmt/42"),
    (re.compile(rb"\xff\xd8\xff\xe0..JFIF\0\x01\x01", re.DOTALL), "fmt/43"),
    (re.compile(rb"\xff\xd8\xff\xe0..JFIF\0\x01\x02", re.DOTALL), "fmt/44"),
    (re.compile(rb"GIF87a"), "fmt/3"),
    (re.compile(rb"GIF89a"), "fmt/4"),
)
"""PRONOM's names for formats that the first bytes decide; of others, files are known by more."""
_JSON = "fmt/817"


@dataclass(frozen=True, slots=True)
class Occasion:
    """The export itself."""

    job: Job
    software: str
    moment: str
    """ISO 8601, with its offset from UTC."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A delivered photo in the bag: its files, each with its path."""

    record: Record
    derivative_start: bytes
    """Its first bytes, which may tell its format."""
    derivative_path: str
    sidecar: bytes
    sidecar_path: str
    master_start: bytes | None = None
    """None where masters stay where they are."""
    master_path: str | None = None


def tell_delivered(photo: Packed, occasion: Occasion) -> bytes:
    """Return the PREMIS document of a photo whose derivative is in the bag."""
    record = photo.record
    ids = _Identifiers(occasion.job.id, record.master.key)
    program, model = _program(record.software), _model(record)
    master, sidecar = _master(photo, occasion, ids), _sidecar(photo, ids)
    derivative = File(
        ids.of("derivative"),
        record.derivative.key,
        places=((_IN_BAG, photo.derivative_path),),
        sha256=record.derivative.sha256,
        size_bytes=record.derivative.bytes,
        format=record.derivative.content_type.rpartition("/")[2].upper(),
        puid=_puid(photo.derivative_start),
        creator=Creator(program.name, program.version or "unknown", record.created_at),
        relations=(
            Relation(premis.DERIVATION, premis.HAS_SOURCE, master.identifier, ids.of("creation")),
            Relation(premis.REFERENCE, premis.DOCUMENTED_IN, sidecar.identifier),
        ),
    )
    creation = Event(
        ids.of("creation"),
        premis.CREATION,
        record.created_at,
        _how(record),
        premis.WARNING if record.notes else premis.SUCCESS,
        agents=((program, premis.EXECUTING_PROGRAM), (model, premis.MODEL)),
        files=((master, premis.SOURCE), (derivative, premis.OUTCOME)),
        notes=(_result(record), *filter(None, record.notes)),
    )
    digests = Event(
        ids.of("message digest calculation"),
        premis.DIGEST,
        record.created_at,
        "SHA-256 of the master as it was read, and of the derivative as it was stored",
        premis.SUCCESS,
        agents=((program, premis.EXECUTING_PROGRAM),),
        files=((master, None), (derivative, None)),
    )
    copied = (derivative,) if photo.master_start is None else (master, derivative)
    check = Event(
        f"{ids.of('fixity check')}/{occasion.moment}",
        premis.FIXITY_CHECK,
        occasion.moment,
        "SHA-256 compared with the sidecar's while the file was copied into this bag",
        premis.SUCCESS,
        agents=((_program(occasion.software), premis.EXECUTING_PROGRAM),),
        files=tuple((file, None) for file in copied),
    )
    return premis.document([creation, digests, check], [master, derivative, sidecar])


def tell_failed(failure: Failure, occasion: Occasion) -> bytes:
    """Return the PREMIS document of a photo that was given up."""
    ids = _Identifiers(occasion.job.id, failure.key)
    master = File(ids.of("master"), failure.key, places=(_origin(occasion, failure.key),))
    recipe = occasion.job.recipe
    attempts = "1 attempt" if failure.attempts == 1 else f"{failure.attempts} attempts"
    creation = Event(
        ids.of("failed creation"),
        premis.CREATION,
        datetime.fromtimestamp(failure.failed_at, UTC).isoformat(timespec="seconds"),
        f"restoration of faces in a copy of the master; recipe {recipe.hash()} "
        f"{recipe.canonical()}",
        premis.FAILURE,
        agents=((Agent(PROGRAM, PROGRAM), premis.EXECUTING_PROGRAM),),
        files=((master, premis.SOURCE),),
        notes=(
            f"{failure.code}: {failure.message}",
            f"given up at the stage {failure.stage}, after {attempts}",
        ),
    )
    return premis.document([creation], [master])


@dataclass(frozen=True, slots=True)
class _Identifiers:
    """The same for every export of a job, so that an archive can tell that it is."""

    job_id: str
    key: str

    def of(self, what: str) -> str:
        return f"{self.job_id}/{what}/{self.key}"


def _master(photo: Packed, occasion: Occasion, ids: _Identifiers) -> File:
    master = photo.record.master
    in_bag = () if photo.master_path is None else ((_IN_BAG, photo.master_path),)
    return File(
        ids.of("master"),
        master.key,
        places=(*in_bag, _origin(occasion, master.key)),
        sha256=master.sha256,
        size_bytes=master.bytes,
        format=master.container.upper(),
        puid=None if photo.master_start is None else _puid(photo.master_start),
    )


def _sidecar(photo: Packed, ids: _Identifiers) -> File:
    return File(
        ids.of("sidecar"),
        sidecar_key(photo.record.derivative.key),
        places=((_IN_BAG, photo.sidecar_path),),
        sha256=sha256_of(photo.sidecar),
        size_bytes=len(photo.sidecar),
        format="JSON",
        puid=_JSON,
    )


def _origin(occasion: Occasion, key: str) -> tuple[str, str]:
    source = occasion.job.source
    return ("URI" if "://" in source else "path"), f"{source.rstrip('/')}/{key}"


def _puid(start: bytes) -> str | None:
    return next((puid for beginning, puid in _PUIDS if beginning.match(start)), None)


def _program(software: str) -> Agent:
    name, _, version = software.rpartition(" ")
    return Agent(software, name or software, version if name else None)


def _model(record: Record) -> Agent:
    engine = record.engine
    return Agent(
        f"sha256:{engine.weights_sha256}",
        engine.weights,
        notes=(
            f"weights of a face restoration network, SHA-256 {engine.weights_sha256}",
            f"run by {engine.restorer}",
        ),
    )


def _result(record: Record) -> str:
    if not record.faces and record.summary:
        return record.summary
    return f"{record.faces_restored} of {len(record.faces)} finds restored"


def _how(record: Record) -> str:
    """Say in one line what decided the pixels."""
    engine = record.engine
    others = {
        "detector": (engine.detector, engine.detector_sha256),
        "face parser": (engine.parser, engine.parser_sha256),
        "background": (engine.background, engine.background_sha256),
    }
    return "; ".join(
        [
            f"{_what(record)} a copy of the master, which was only read",
            f"recipe {record.recipe_hash} {record.recipe_text}",
            f"weights {engine.weights} SHA-256 {engine.weights_sha256}",
            *(f"{what} {name} SHA-256 {sha256}" for what, (name, sha256) in others.items() if name),
            f"on {record.device} in {record.precision}",
        ]
    )


def _what(record: Record) -> str:
    """Say what was done to the pixels."""
    if record.faces_restored:
        return "faces restored in"
    if record.recipe.get("background_scale"):
        return "no face, but the background restored in"
    return "no face restored in"
