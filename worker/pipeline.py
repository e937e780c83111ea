"""One photo from master to derivative: fetch, decode, restore, encode, prove, store. No Celery.

A claim goes in, an `Outcome` comes out; every error leaves as an exception of `jobs.errors` or
`gpen_engine.errors`. The sidecar is stored last: where it is, the photo is delivered.
"""

from typing import Protocol

from gpen_engine import EngineIdentity, Restoration, Treatment
from gpen_engine.colour import ColourSpace
from gpen_engine.faces import Mask, Pixels
from jobs.errors import OutputConflict, WeightsUnavailable
from jobs.recipe import Recipe
from jobs.schema import Claim, Outcome, derivative_key, sidecar_key
from jobs.storage import ObjectStore
from worker.audit.untouched import is_same, prove
from worker.codec import Decode, Limits, Page, Photograph, encode, output_suffix
from worker.codec.limits import check_file
from worker.colour import page_colour
from worker.label import JPEG_PACKET_BYTES, Label, labelled
from worker.provenance import (
    Delivery,
    Derived,
    Master,
    identity,
    read_delivered,
    software,
    write_sidecar,
)
from worker.stages import Stages
from worker.treatment import treatment_of
from worker.xmp import MAX_PACKET_BYTES


class Engine(Protocol):
    """What the pipeline needs of a restorer; a test may have a simpler one."""

    @property
    def identity(self) -> EngineIdentity:
        """Everything about the engine that decides pixels."""
        ...

    def restore(
        self,
        image: Pixels,
        treatment: Treatment | None = None,
        *,
        protected: Mask | None = None,
        colour: ColourSpace | None = None,
    ) -> Restoration:
        """Restore the faces of one picture."""
        ...


def run(
    claim: Claim,
    *,
    masters: ObjectStore,
    derivatives: ObjectStore,
    engine: Engine,
    decode: Decode,
    limits: Limits,
    stages: Stages,
) -> Outcome:
    """Restore one photo and store what comes of it.

    Args:
        claim: the hold on the photo, with its job's recipe.
        masters: where the master is; only read.
        derivatives: where derivative and sidecar go; never overwritten.
        engine: the engine, with the weights that the recipe names.
        decode: decodes the master, whose bytes nobody vouches for.
        limits: larger pictures are refused before they are decoded.
        stages: told of every stage as it begins.

    Raises:
        WeightsUnavailable: the recipe asks for other weights than the engine's.
        OutputConflict: something else already has the derivative's name.
        OutputUnfaithful: the derivative isn't the master where it has to be.
    """
    recipe = claim.job.recipe
    _require_weights(recipe, engine.identity)

    stages.begin("fetch")
    data = _fetch(masters, claim.key, limits=limits)
    master = Master.of(claim.key, data)

    stages.begin("decode")
    scale = recipe.background_scale or 1
    photograph = decode(data, limits=limits.enlarged(scale))
    key = derivative_key(claim.key, output_suffix(photograph, recipe.output, scale=scale))
    work = identity(master.sha256, recipe, engine.identity)
    delivered = _delivered_before(derivatives, key, work)
    if delivered is not None:
        return delivered

    derived = process(photograph, master, recipe, engine, stages)

    stages.begin("store")
    encoded = derived.encoded
    delivery = Delivery(
        master=master,
        work=work,
        derived=derived,
        derivative_key=key,
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
    master: Master,
    recipe: Recipe,
    engine: Engine,
    stages: Stages,
    *,
    treatment: Treatment | None = None,
    protected: Mask | None = None,
    maker: str | None = None,
) -> Derived:
    """Restore the pages of a decoded photograph, label, encode and prove the derivative.

    Args:
        photograph: the photograph.
        master: the file that it was decoded from.
        recipe: how its derivative is encoded and, without a treatment, restored.
        engine: the engine.
        stages: told of each stage as it begins.
        treatment: what is done in place of the recipe's, for this photo alone.
        protected: `(H, W) bool`, areas of every page that are never touched.
        maker: the software that the derivative names; None names this one.

    Raises:
        OutputUnfaithful: the derivative isn't the master where it has to be.
    """
    maker = maker or software()
    stages.begin("restore")
    treatment = treatment or treatment_of(recipe)
    colours = [page_colour(page.profile, gray=page.gray) for page in photograph.pages]
    restorations = [
        engine.restore(page.pixels, treatment, protected=protected, colour=colour.space)
        for page, colour in zip(photograph.pages, colours, strict=True)
    ]

    stages.begin("encode")
    labelled_photograph = labelled(
        photograph,
        _label(master, recipe, engine.identity, maker),
        [_is_changed(*pair) for pair in zip(photograph.pages, restorations, strict=True)],
        most_bytes=JPEG_PACKET_BYTES if recipe.output == "jpeg" else MAX_PACKET_BYTES,
    )
    encoded = encode(
        labelled_photograph,
        [restoration.image for restoration in restorations],
        output=recipe.output,
        jpeg_quality=recipe.jpeg_quality,
        software=maker,
    )

    stages.begin("prove")
    proof = prove(photograph, restorations, encoded, background=bool(recipe.background_scale))
    return Derived(labelled_photograph, colours, restorations, encoded, proof)


def _label(master: Master, recipe: Recipe, engine: EngineIdentity, maker: str) -> Label:
    """Return what the derivative will say of itself."""
    restorer = engine.restorer.partition(",")[0]
    models = [(f"{restorer} {engine.weights}", engine.weights_sha256)]
    if engine.background is not None and recipe.background_scale:
        models.append((engine.background.name, engine.background.sha256))
    return Label(maker, master.key, master.sha256, recipe.hash(), tuple(models))


def _is_changed(page: Page, restoration: Restoration) -> bool:
    """Tell whether the engine changed any sample of a page."""
    return not is_same(page.pixels, restoration.image)


def _fetch(masters: ObjectStore, key: str, *, limits: Limits) -> bytes:
    """Return a master's bytes, unless there are too many."""
    found = masters.head(key)
    if found is not None:
        check_file(found.size_bytes, limits=limits)
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
