"""The sidecar: which master, which recipe, which engine, and what became of every face.

Values in, sealed JSON out. docs/sidecar.md explains it, docs/schema/ has its JSON Schema. Times,
the worker's name and the seal are all that may differ between two runs in the same environment.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gpen_engine import EngineIdentity, FaceOutcome, Restoration
from jobs.recipe import Recipe
from jobs.schema import Outcome, sidecar_key
from worker.audit.record import SCHEMA, SCHEMA_VERSION, Environment, Record
from worker.audit.seal import BLANK, seal
from worker.audit.untouched import Proof
from worker.codec import Encoded, Photograph, Stored, sha256_of
from worker.colour import PageColour

_LIBRARIES = (
    *("torch", "numpy", "opencv-python-headless"),
    *("imagecodecs", "lxml", "pillow", "pillow-heif", "tifffile"),
)
"""What computes, and what decodes and encodes, by the names of their distributions."""

LEFT = "a page of black and white alone was left as it is: it has no tones to restore"
"""The note of a page that nobody looked for faces on."""


def software() -> str:
    """Name this program and its version, as written into pictures and sidecars."""
    return f"gpen-archive {version('gpen-archive')}"


def identity(master_sha256: str, recipe: Recipe, engine: EngineIdentity) -> dict[str, str]:
    """Return what decides a derivative's pixels, on one class of device."""
    hashes = {
        "master_sha256": master_sha256,
        "recipe_hash": recipe.hash(),
        "weights_sha256": engine.weights_sha256,
        "detector_sha256": engine.detector.sha256,
    }
    if not engine.restorer.startswith("gpen,"):
        hashes["restorer"] = engine.restorer
    if engine.parser and recipe.mask != "soft":
        hashes["parser_sha256"] = engine.parser.sha256
    if engine.background and recipe.background_scale:
        hashes["background_sha256"] = engine.background.sha256
    return hashes


def environment(engine: EngineIdentity) -> Environment:
    """Return what else decides last bits here, on one class of device."""
    return Environment(
        threads=engine.threads, instructions=engine.instructions, versions=_versions()
    )


@cache
def _versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):  # it may come from a distribution of another name
            versions[name] = version(name)
    return versions


@dataclass(frozen=True, slots=True)
class Master:
    """The file as it came in, without its bytes."""

    key: str
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, key: str, data: Stored) -> "Master":
        """Return the master with a key and these bytes."""
        return cls(key, sha256_of(data), len(data))


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """What was made of a photograph, and proved of it.

    Attributes:
        photograph: the master as decoded, with the label on its pages.
        colours: what the samples of each page mean.
        restorations: what the engine made of each page.
        encoded: the derivative.
        proof: that it is the master where it has to be.
    """

    photograph: Photograph
    colours: Sequence[PageColour]
    restorations: Sequence[Restoration]
    encoded: Encoded
    proof: Proof


@dataclass(frozen=True, slots=True)
class Delivery:
    """Everything that one photo's sidecar tells of."""

    master: Master
    work: dict[str, str]
    """What `identity` gives for it."""
    derived: Derived
    derivative_key: str
    recipe: Recipe
    worker: str
    attempt: int = 1
    by_hand: Mapping[str, object] = field(default_factory=dict)
    """What was asked for this photo alone, beside the recipe."""

    def outcome(self, *, elapsed_s: float) -> Outcome:
        """Return what the ledger records."""
        faces = [face for result in self.derived.restorations for face in result.faces]
        return Outcome(
            derivative_key=self.derivative_key,
            sidecar_key=sidecar_key(self.derivative_key),
            faces=len(faces),
            faces_restored=sum(face.restored for face in faces),
            elapsed_s=elapsed_s,
        )

    @property
    def summary(self) -> str:
        """What became of the photo, in a sentence."""
        pages = self.derived.restorations
        looked_at = [page for page in pages if LEFT not in page.notes]
        if not looked_at:
            return "no face was looked for, on black and white alone: the pixels are the master's"
        said = _summary(looked_at, self.recipe)
        if len(looked_at) == len(pages):
            return said
        return f"{said}; looked at {len(looked_at)} of {len(pages)} pages"

    @property
    def notes(self) -> list[str]:
        """What of the photo isn't kept, was converted, or had to give way."""
        derived = self.derived
        return [
            *derived.photograph.notes,
            *dict.fromkeys(colour.note for colour in derived.colours if colour.note),
            *(note for result in derived.restorations for note in result.notes),
            *derived.encoded.notes,
        ]


def write_sidecar(
    delivery: Delivery, engine: EngineIdentity, *, timings_s: dict[str, float]
) -> bytes:
    """Return the sidecar as sealed UTF-8 JSON."""
    master, derived, recipe = delivery.master, delivery.derived, delivery.recipe
    encoded, restorations = derived.encoded, derived.restorations
    content = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "software": software(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "identity": delivery.work,
        "master": {
            "key": master.key,
            "sha256": master.sha256,
            "bytes": master.size_bytes,
            "container": derived.photograph.container.value,
        },
        "derivative": {
            "key": delivery.derivative_key,
            "sha256": sha256_of(encoded.stored),
            "bytes": len(encoded.stored),
            "content_type": encoded.content_type,
        },
        "recipe": recipe.model_dump(mode="json"),
        "recipe_hash": recipe.hash(),
        "by_hand": dict(delivery.by_hand),
        "summary": delivery.summary,
        "engine": _engine(engine),
        "device": engine.device,
        "precision": engine.precision.value,
        "environment": environment(engine).model_dump(),
        "pages": [
            {
                "page": page,
                "width": result.shape[1],
                "height": result.shape[0],
                "colour": colour.name,
            }
            for page, (result, colour) in enumerate(zip(restorations, derived.colours, strict=True))
        ],
        "faces": [
            _face(page, outcome, engine)
            for page, result in enumerate(restorations)
            for outcome in result.faces
        ],
        "notes": delivery.notes,
        "timings_s": {step: round(seconds, 4) for step, seconds in timings_s.items()},
        "engine_timings_s": _engine_timings(restorations),
        "worker": delivery.worker,
        "attempt": delivery.attempt,
        "proof": _proof(derived.proof),
        "seal": BLANK,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return seal(text.encode(errors="backslashreplace"))


def outcome_of(record: Record) -> Outcome:
    """Return what the ledger records of a photo that was delivered before."""
    key = record.derivative.key
    return Outcome(
        derivative_key=key,
        sidecar_key=sidecar_key(key),
        faces=len(record.faces),
        faces_restored=record.faces_restored,
        elapsed_s=record.timings_s.get("total", 0.0),
    )


def _engine_timings(restorations: Sequence[Restoration]) -> dict[str, float]:
    """Add up the engine's own steps over all pages."""
    steps: dict[str, float] = {}
    for result in restorations:
        for step, seconds in result.timings_s.items():
            steps[step] = round(steps.get(step, 0.0) + seconds, 4)
    return steps


def _summary(restorations: Sequence[Restoration], recipe: Recipe) -> str:
    """Say in a sentence what became of the pages that were looked at."""
    faces = [face for result in restorations for face in result.faces]
    if not faces and recipe.background_scale:
        return "no face was found; the background was restored"
    if not faces:
        return "no face was found: the pixels are the master's"
    restored = sum(face.restored for face in faces)
    return f"{restored} of {len(faces)} finds restored"


def _engine(engine: EngineIdentity) -> dict[str, Any]:
    parts = {"detector": engine.detector, "parser": engine.parser, "background": engine.background}
    content: dict[str, Any] = {
        "restorer": engine.restorer,
        "weights": engine.weights,
        "weights_sha256": engine.weights_sha256,
        "size": engine.size,
        "terms": dict(engine.terms),
    }
    for name, part in parts.items():
        content[name] = part.name if part else None
        content[f"{name}_sha256"] = part.sha256 if part else None
    if engine.background_precision is not None:
        content["background_precision"] = engine.background_precision.value
    return content


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "outside_regions": proof.outside_regions.value,
        "stored": proof.stored.value,
        "samples_compared": proof.samples_compared,
        "reason": proof.reason,
    }


def _face(page: int, outcome: FaceOutcome, engine: EngineIdentity) -> dict[str, Any]:
    face = outcome.face
    entry: dict[str, Any] = {
        "page": page,
        "box": [round(value, 1) for value in face.box],
        "landmarks": [[round(x, 1), round(y, 1)] for x, y in face.landmarks],
        "score": round(face.score, 4),
        "restored": outcome.restored,
    }
    if outcome.reason is not None:
        entry["reason"] = outcome.reason.value
    if outcome.restored and outcome.region and outcome.detail:
        entry["region"] = list(outcome.region)
        entry["detail"] = outcome.detail.value
        entry["precision"] = "fp32" if outcome.redone_in_float32 else engine.precision.value
    return entry
