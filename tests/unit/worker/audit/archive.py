"""Photos delivered by the real pipeline, with an engine that does what each page is told."""

import io
from dataclasses import dataclass, field, replace

import numpy as np
import tifffile
from PIL import Image

from gpen_engine import Detail, EngineIdentity, Face, FaceOutcome, Reason, Restoration
from gpen_engine.faces import ModelIdentity
from gpen_engine.precision import Precision
from jobs.recipe import Recipe
from jobs.schema import Claim, Job
from jobs.testing import MemoryStore
from worker.codec import decode
from worker.codec.limits import Limits
from worker.pipeline import run
from worker.stages import Stages

IDENTITY = EngineIdentity(
    weights="compact",
    weights_sha256="a" * 64,
    size=128,
    detector=ModelIdentity("stub", "b" * 64),
    device="cpu",
    precision=Precision.FP32,
    threads=4,
    instructions="AVX2",
    background=ModelIdentity("scenery", "c" * 64),
    terms={"weights": "Apache-2.0"},
    background_precision=Precision.FP32,
)
MARKS = ((8.0, 10.0), (14.0, 10.0), (11.0, 14.0), (9.0, 18.0), (13.0, 18.0))


def found(region=None, reason=None):
    """A find: restored in a region, or left alone for a reason."""
    return FaceOutcome(
        Face((5.0, 7.0, 19.0, 23.0), MARKS, 0.97),
        restored=region is not None,
        reason=reason,
        region=region,
        detail=Detail.NETWORK if region else None,
    )


@dataclass
class PageEngine:
    """Inverts the regions of the next page's finds; enlarges and inverts all for a background.

    `beside` are places that it changes without saying so.
    """

    pages: list[list[FaceOutcome]]
    beside: list[tuple[int, int, int, int]] = field(default_factory=list)
    identity: EngineIdentity = IDENTITY
    treatments: list = field(default_factory=list)

    def restore(self, image, treatment=None, *, protected=None, colour=None):
        self.treatments.append(treatment)
        finds = self.pages[(len(self.treatments) - 1) % len(self.pages)]
        white = np.iinfo(image.dtype).max
        scale = treatment.background_scale
        result = white - image.repeat(scale, 0).repeat(scale, 1) if scale else image.copy()
        for x0, y0, x1, y1 in [one.region for one in finds if one.region] + self.beside:
            result[y0:y1, x0:x1] = white - result[y0:y1, x0:x1]
        return Restoration(result, tuple(finds), {"detect": 0.25, "forward": 0.5}, ("a note",))


RESTORED, LEFT_ALONE = found((4, 6, 20, 24)), found(reason=Reason.TOO_SMALL)


def scan(*, seed=0, depth=np.uint8, channels=3):
    """Noise, 30 pixels wide and 40 high: 8 bits as PNG, 16 as TIFF."""
    shape = (40, 30) if channels == 1 else (40, 30, channels)
    samples = np.random.default_rng(seed).integers(0, np.iinfo(depth).max, shape, depth)
    buffer = io.BytesIO()
    if depth is np.uint8:
        Image.fromarray(samples).save(buffer, "PNG")
        return buffer.getvalue()
    return tiff(samples)


def tiff(*pages, **options):
    """Pages of samples as a TIFF file."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for samples in pages:
            file.write(samples, photometric="rgb" if samples.ndim == 3 else "minisblack", **options)
    return buffer.getvalue()


def noise(seed, shape=(40, 30, 3), dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype)


@dataclass
class Archive:
    """Masters and what the pipeline delivered of them."""

    masters: MemoryStore = field(default_factory=MemoryStore)
    derivatives: MemoryStore = field(default_factory=MemoryStore)
    keys: list[str] = field(default_factory=list)

    def deliver(self, key, data, *pages, recipe=None, beside=(), engine=None):
        """Deliver a photo; return the derivative's key."""
        self.masters.objects[key] = data
        job = Job("album", "s", "d", recipe or Recipe())
        return run(
            Claim(photo_id=1, key=key, token="t", attempt=1, worker="w1", job=job),
            masters=self.masters,
            derivatives=self.derivatives,
            engine=engine or PageEngine([list(page) for page in pages], list(beside)),
            decode=decode,
            limits=Limits(1_000_000),
            stages=Stages(),
        ).derivative_key

    def sidecar(self, key):
        return self.derivatives.objects[f"{key}.json"]

    def derivative(self, key):
        return self.derivatives.objects[key]


def fill(archive):
    """Deliver one photo of every kind; return the derivatives' keys."""
    pages = (noise(3), noise(4, (24, 32), np.uint16))
    plugin = PageEngine([[RESTORED]], identity=replace(IDENTITY, restorer="other, mine 1.0"))
    return [
        archive.deliver("restored.png", scan(), [RESTORED]),
        archive.deliver("left alone.png", scan(seed=1), [LEFT_ALONE]),
        archive.deliver("no face.png", scan(seed=2), []),
        archive.deliver("box 1/pages.tif", tiff(*pages), [RESTORED, LEFT_ALONE], []),
        archive.deliver("deep.tif", scan(depth=np.uint16), [RESTORED]),
        archive.deliver("gray.png", scan(channels=1), [RESTORED]),
        archive.deliver("clear.png", scan(channels=4), [RESTORED]),
        archive.deliver("scene.png", scan(), [RESTORED], recipe=Recipe(background_scale=2)),
        archive.deliver("lossy.png", scan(), [RESTORED], recipe=Recipe(output="jpeg")),
        archive.deliver("other.png", scan(), engine=plugin),
    ]
