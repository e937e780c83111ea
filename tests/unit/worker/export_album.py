"""A job with photos in every state, as workers leave it behind: masters, derivatives, ledger."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lxml import etree

from jobs.ledger import Ledger
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job, Outcome, derivative_key, sidecar_key
from jobs.storage import DirectoryStore, ObjectStore
from worker.export.packing import Contents, Source, pack

NOON = datetime(2026, 7, 22, 12, tzinfo=UTC)
PREMIS = {"p": "http://www.loc.gov/premis/v3"}
PNG = b"\x89PNG\r\n\x1a\n"


def sidecar(master: bytes, derivative: bytes, key: str, **changes: object) -> dict[str, object]:
    """What docs/sidecar.md describes, as far as it matters here, and a little more."""
    recipe = Recipe()
    content = {
        "schema": "gpen-archive/sidecar",
        "schema_version": 1,
        "software": "gpen-archive 0.0.9",
        "created_at": "2026-07-01T08:30:00+00:00",
        "identity": {
            "master_sha256": hashlib.sha256(master).hexdigest(),
            "recipe_hash": recipe.hash(),
        },
        "master": {
            "key": key,
            "sha256": hashlib.sha256(master).hexdigest(),
            "bytes": len(master),
            "container": "tiff",
        },
        "derivative": {
            "key": derivative_key(key, ".png"),
            "sha256": hashlib.sha256(derivative).hexdigest(),
            "bytes": len(derivative),
            "content_type": "image/png",
        },
        "recipe": recipe.model_dump(mode="json"),
        "recipe_hash": recipe.hash(),
        "by_hand": {},
        "summary": "1 of 2 finds restored",
        "engine": {
            "restorer": "gpen, built in",
            "weights": "compact",
            "weights_sha256": "a" * 64,
            "size": 128,
            "detector": "stub",
            "detector_sha256": "b" * 64,
            "parser": None,
            "parser_sha256": None,
        },
        "device": "cpu",
        "precision": "fp32",
        "pages": [{"page": 0, "width": 30, "height": 40, "colour": "sRGB"}],
        "faces": [
            {"page": 0, "restored": True, "region": [4, 6, 20, 24]},
            {"page": 0, "restored": False},
        ],
        "notes": [],
        "worker": "w1",
        "attempt": 1,
    }
    return content | changes


@dataclass
class Album:
    """A job, and where its files and its ledger are."""

    folder: Path
    ledger: Ledger
    masters: ObjectStore
    derivatives: ObjectStore
    job: Job = field(init=False)

    def __post_init__(self) -> None:
        self.job = Job("album", self.masters.url, self.derivatives.url, Recipe())
        self.ledger.add_job(self.job)

    @property
    def target(self) -> Path:
        """Where bags go."""
        return self.folder / "bag"

    def wait(self, key: str, master: bytes = b"") -> None:
        """Add a photo that nobody has worked on."""
        self.masters.put_once(key, master or f"master {key}".encode(), content_type="image/tiff")
        self.ledger.add_photos(self.job.id, [Candidate(key, 100)])

    def fail(self, key: str, *, code: str = "photo.corrupt", message: str = "it is torn") -> None:
        """Add a photo that was given up."""
        self.wait(key)
        claim = self.ledger.claim(self._id(key), worker="w1", lease_s=60)
        self.ledger.fail(claim, code=code, message=message, advice="mend it", stage="decode")

    def deliver(
        self, key: str, *, derivative: bytes = PNG, master: bytes = b"", **changes: object
    ) -> None:
        """Add a photo that was delivered; `changes` are for its sidecar."""
        self.wait(key, master)
        content = sidecar(self.masters.get(key), derivative, key, **changes)
        self.finish(key, derivative, json.dumps(content).encode())

    def finish(self, key: str, derivative: bytes, sidecar_json: bytes) -> None:
        """Store a derivative and its sidecar, and tell the ledger."""
        name = derivative_key(key, ".png")
        self.derivatives.put_once(name, derivative, content_type="image/png")
        self.derivatives.put_once(sidecar_key(name), sidecar_json, content_type="application/json")
        claim = self.ledger.claim(self._id(key), worker="w1", lease_s=60)
        self.ledger.succeed(claim, Outcome(name, sidecar_key(name), 2, 1, 0.5))

    def pack(self, *, with_masters: bool = False, **options: object) -> Contents:
        """Export the job to `target`, at noon."""
        source = Source(
            job=self.job,
            photos=self.ledger.photos(self.job.id),
            derivatives=self.derivatives,
            masters=self.masters if with_masters else None,
        )
        return pack(source, **({"target": self.target, "now": lambda: NOON} | options))

    def premis(self, name: str) -> etree._Element:
        """Return the PREMIS document of a photo in the bag."""
        return etree.parse(self.target / f"data/metadata/premis/{name}.premis.xml").getroot()

    def files(self) -> set[str]:
        """Return the payload's files."""
        data = self.target / "data"
        return {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()}

    def _id(self, key: str) -> int:
        return next(photo.id for photo in self.ledger.photos(self.job.id) if photo.key == key)


def album_in(folder: Path, ledger: Ledger) -> Album:
    """Return an empty album of directories in a folder."""
    return Album(folder, ledger, DirectoryStore(folder / "in"), DirectoryStore(folder / "out"))


def validated_by_others(bag: Path) -> subprocess.CompletedProcess[str]:
    """Have a bag checked by the Library of Congress's program, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bagit", "--validate", str(bag)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
