"""One photo from master to derivative: fetch, decode, restore, encode, store. No Celery here.

A claim goes in, an `Outcome` comes out; every error leaves as an exception of `jobs.errors` or
`gpen_engine.errors`. The sidecar is stored last: where it is, the photo is delivered.
"""

from typing import Protocol

from gpen_engine import EngineIdentity, Restoration, Treatment
from gpen_engine.faces import Mask, Pixels
from jobs.errors import OutputConflict, PhotoTooLarge, WeightsUnavailable
from jobs.recipe import Recipe
from jobs.schema import Claim, Outcome, derivative_key, sidecar_key
from jobs.storage import ObjectStore
from worker.codec import Encoded, Photograph, decode, encode, output_suffix
from worker.provenance import Delivery, identity, read_delivered, sha256_of, software, write_sidecar
from worker.stages import Stages
from worker.treatment import treatment_of

_BYTES_PER_PIXEL = 8  # four channels of 16 bits, not compressed
_OVERHEAD_BYTES = 64 << 20


class Engine(Protocol):
    """What the pipeline needs of a restorer; a test may have a simpler one."""

    @property
    def identity(self) -> EngineIdentity:
        """Everything about the engine that decides pixels."""
        ...

    def restore(
        self, image: Pixels, treatment: Treatment | None = None, *, protected: Mask | None = None
    ) -> Restoration:
        """Restore the faces of one picture."""
        ...


def run(
    claim: Claim,
    *,
    masters: ObjectStore,
    derivatives: ObjectStore,
    engine: Engine,
    max_pixels: int,
    stages: Stages,
) -> Outcome:
    """Restore one photo and store what comes of it.

    Args:
        claim: the hold on the photo, with its job's recipe.
        masters: where the master is; only read.
        derivatives: where derivative and sidecar go; never overwritten.
        engine: the engine, with the weights that the recipe names.
        max_pixels: larger pictures are refused before they are decoded.
        stages: told of every stage as it begins.

    Raises:
        WeightsUnavailable: the recipe asks for other weights than the engine's.
        OutputConflict: something else already has the derivative's name.
    """
    recipe = claim.job.recipe
    _require_weights(recipe, engine.identity)

    stages.begin("fetch")
    master = _fetch(masters, claim.key, max_pixels=max_pixels)

    stages.begin("decode")
    scale = recipe.background_scale or 1
    photograph = decode(master, max_pixels=max_pixels // scale**2)
    key = derivative_key(claim.key, output_suffix(photograph, recipe.output, scale=scale))
    work = identity(sha256_of(master), recipe, engine.identity)
    delivered = _delivered_before(derivatives, key, work)
    if delivered is not None:
        return delivered

    restorations, encoded = process(photograph, recipe, engine, stages)

    stages.begin("store")
    delivery = Delivery(
        master_key=claim.key,
        master_size_bytes=len(master),
        work=work,
        photograph=photograph,
        derivative_key=key,
        encoded=encoded,
        restorations=restorations,
        recipe=recipe,
        worker=claim.worker,
        attempt=claim.attempt,
    )
    sidecar = write_sidecar(delivery, engine.identity, timings_s=stages.timings_s())
    try:
        derivatives.put_once(key, encoded.data, content_type=encoded.content_type)
        derivatives.put_once(sidecar_key(key), sidecar, content_type="application/json")
    except OutputConflict:
        # A worker that lost this claim, and didn't know it yet, may have been faster.
        delivered = _delivered_before(derivatives, key, work)
        if delivered is None:
            raise
        return delivered
    return delivery.outcome(elapsed_s=stages.elapsed_s)


def process(
    photograph: Photograph,
    recipe: Recipe,
    engine: Engine,
    stages: Stages,
    *,
    treatment: Treatment | None = None,
    protected: Mask | None = None,
) -> tuple[list[Restoration], Encoded]:
    """Restore and encode the pages of a decoded photograph.

    Args:
        photograph: the photograph.
        recipe: how its derivative is encoded and, without a treatment, restored.
        engine: the engine.
        stages: told of each stage as it begins.
        treatment: what is done in place of the recipe's, for this photo alone.
        protected: `(H, W) bool`, areas of every page that are never touched.
    """
    stages.begin("restore")
    treatment = treatment or treatment_of(recipe)
    restorations = [
        engine.restore(page.pixels, treatment, protected=protected) for page in photograph.pages
    ]

    stages.begin("encode")
    encoded = encode(
        photograph,
        [restoration.image for restoration in restorations],
        output=recipe.output,
        jpeg_quality=recipe.jpeg_quality,
        software=software(),
    )
    return restorations, encoded


def _fetch(masters: ObjectStore, key: str, *, max_pixels: int) -> bytes:
    """Return a master's bytes, unless there are more than the largest picture could fill."""
    found = masters.head(key)
    limit = max_pixels * _BYTES_PER_PIXEL + _OVERHEAD_BYTES
    if found is not None and found.size_bytes > limit:
        raise PhotoTooLarge(f"the file has {found.size_bytes} bytes; the limit is {limit}")
    return masters.get(key)


def _require_weights(recipe: Recipe, engine: EngineIdentity) -> None:
    if recipe.weights.lower() not in (engine.weights.lower(), engine.weights_sha256):
        raise WeightsUnavailable(
            f"the recipe asks for the weights {recipe.weights}, this worker holds {engine.weights}"
            f" ({engine.weights_sha256})"
        )


def _delivered_before(store: ObjectStore, key: str, work: dict[str, str]) -> Outcome | None:
    """Return the outcome of an attempt that stored everything and died before it said so."""
    if store.head(sidecar_key(key)) is None:
        return None
    delivered = read_delivered(store.get(sidecar_key(key)), work)
    if delivered is None:
        raise OutputConflict(f"{key} was delivered before, from another master, recipe or engine")
    if store.head(key) is None:
        raise OutputConflict(f"{sidecar_key(key)} is there, and the derivative it tells of isn't")
    return delivered
