"""One photo from master to derivative: fetch, decode, restore, encode, prove, store. No Celery.

A claim goes in, an `Outcome` comes out; every error leaves as an exception of `jobs.errors` or
`gpen_engine.errors`. The sidecar is stored last: where it is, the photo is delivered.
"""

from typing import Protocol

from gpen_engine import EngineIdentity, Restoration, Treatment
from gpen_engine.colour import ColourSpace
from gpen_engine.faces import Mask, Pixels
from jobs.errors import OutputConflict, OutputDamaged, WeightsUnavailable
from jobs.recipe import Recipe
from jobs.schema import Claim, Outcome, derivative_key, sidecar_key
from jobs.storage import ObjectStore
from worker.audit.record import Record, read_sealed
from worker.audit.untouched import prove
from worker.codec import Decode, Limits, Page, Photograph, encode, is_changed, output_suffix
from worker.colour import page_colour
from worker.copies import fetch
from worker.label import Label, labelled
from worker.provenance import (
    LEFT,
    Delivery,
    Derived,
    Master,
    identity,
    outcome_of,
    software,
    write_sidecar,
)
from worker.scratch import DEFAULT, Scratch
from worker.stages import Stages
from worker.treatment import treatment_of


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
    scratch: Scratch = DEFAULT,
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
        scratch: room for the master's bytes and everything that comes of them.

    Raises:
        ScratchFull: there is no room.
        WeightsUnavailable: the recipe asks for other weights than the engine's.
        OutputConflict: something else already has the derivative's name.
        OutputDamaged: the photo was delivered before, and its sidecar is damaged.
        OutputUnfaithful: the derivative isn't the master where it has to be.
    """
    recipe = claim.job.recipe
    _require_weights(recipe, engine.identity)

    stages.begin("fetch")
    data = fetch(masters, claim.key, limits=limits, scratch=scratch)
    master = Master.of(claim.key, data)

    stages.begin("decode")
    scale = recipe.background_scale or 1
    photograph = decode(data, limits=limits.enlarged(scale))
    del data  # what comes of it takes room too
    key = derivative_key(claim.key, output_suffix(photograph, recipe.output, scale=scale))
    work = identity(master.sha256, recipe, engine.identity)
    delivered = _delivered_before(derivatives, key, work)
    if delivered is not None:
        return delivered

    derived = process(photograph, master, recipe, engine, stages, scratch=scratch)

    stages.begin("store")
    encoded = derived.encoded
    delivery = Delivery(
        master=master,
        work=work,
        derived=derived,
        derivative_key=key,
        recipe=recipe,
        worker=claim.worker,
        attempt=claim.tries,
    )
    sidecar = write_sidecar(delivery, engine.identity, timings_s=stages.timings_s())
    try:
        derivatives.put_once(key, encoded.file, content_type=encoded.content_type)
        derivatives.put_once(sidecar_key(key), sidecar, content_type="application/json")
    except OutputConflict as error:
        # A worker that lost this claim, and didn't know it yet, may have been faster.
        delivered = _delivered_before(derivatives, key, work)
        if delivered is None:
            raise _orphan(derivatives, key) from error
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
    label: Label | None = None,
    scratch: Scratch = DEFAULT,
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
        label: what the derivative says of itself; None has it name this software and engine.
        scratch: room for the derivative, and what proves it.

    Raises:
        ScratchFull: there is no room.
        OutputUnfaithful: the derivative isn't the master where it has to be.
    """
    label = label or label_of(master, recipe, engine.identity)
    stages.begin("restore")
    treatment = treatment or treatment_of(recipe)
    colours = [page_colour(page.profile, gray=page.gray) for page in photograph.pages]
    restorations = [
        _left(page)
        if page.is_bilevel and not treatment.background_scale
        else engine.restore(page.pixels, treatment, protected=protected, colour=colour.space)
        for page, colour in zip(photograph.pages, colours, strict=True)
    ]

    stages.begin("encode")
    labelled_photograph = labelled(
        photograph,
        label,
        [_is_changed(*pair) for pair in zip(photograph.pages, restorations, strict=True)],
    )
    encoded = encode(
        labelled_photograph,
        restorations,
        output=recipe.output,
        jpeg_quality=recipe.jpeg_quality,
        software=label.software,
        scratch=scratch,
    )

    stages.begin("prove")
    proof = prove(
        photograph,
        restorations,
        encoded,
        background=bool(recipe.background_scale),
        scratch=scratch,
    )
    return Derived(labelled_photograph, colours, restorations, encoded, proof)


def _left(page: Page) -> Restoration:
    """Leave a page as it is whose faces are drawn with dots: gray ones would look worse."""
    return Restoration(page.pixels, (), {}, (LEFT,))


def label_of(
    master: Master, recipe: Recipe, engine: EngineIdentity, *, maker: str | None = None
) -> Label:
    """Return what a derivative says of itself; without another maker, that this software made it.

    The engine's names for weights are those of their hashes, whatever their files are called.
    """
    restorer = engine.restorer.partition(",")[0]
    models = [(f"{restorer} {engine.weights}", engine.weights_sha256)]
    if engine.background is not None and recipe.background_scale:
        models.append((engine.background.name, engine.background.sha256))
    return Label(maker or software(), master.key, master.sha256, recipe.hash(), tuple(models))


def _is_changed(page: Page, restoration: Restoration) -> bool:
    """Tell whether the engine changed any sample of a page."""
    is_untouched = restoration.canvas is page.pixels and not restoration.pieces
    return not is_untouched and is_changed(page, restoration)


def _require_weights(recipe: Recipe, engine: EngineIdentity) -> None:
    if recipe.weights.lower() not in (engine.weights.lower(), engine.weights_sha256):
        raise WeightsUnavailable(
            f"the recipe asks for the weights {recipe.weights}, this worker holds {engine.weights}"
            f" ({engine.weights_sha256})"
        )


def _delivered_before(store: ObjectStore, key: str, work: dict[str, str]) -> Outcome | None:
    """Return the outcome of an attempt that stored everything and died before it said so.

    Raises:
        OutputDamaged: there is a sidecar that can't be believed.
        OutputConflict: it tells of other work, or of a derivative that isn't there.
    """
    name = sidecar_key(key)
    if store.head(name) is None:
        return None
    record = _read_record(store, key)
    if record.derivative.key != key:
        raise OutputConflict(f"{name} is the sidecar of {record.derivative.key}")
    changed = record.changed(work)
    if changed:
        raise OutputConflict(f"{key} was delivered before, with another {', '.join(changed)}")
    found = store.head(key)
    if found is None or found.size_bytes != record.derivative.bytes:
        raise OutputConflict(
            f"{name} is there, and the derivative it tells of isn't: put {key} back, or remove "
            "what there is of both to have them made again"
        )
    return outcome_of(record)


def _read_record(store: ObjectStore, key: str) -> Record:
    """Return what the sidecar of a derivative says, if it is whole."""
    name = sidecar_key(key)
    try:
        return read_sealed(store.get(name), name=f"the sidecar {name}")
    except OutputDamaged as error:
        raise OutputDamaged(
            f"{error}; put it back from a backup, or remove it and {key} to have both made again"
        ) from error


def _orphan(store: ObjectStore, key: str) -> OutputConflict:
    """Name the object in the derivative's way that has no sidecar, and why it may be there."""
    return OutputConflict(
        f"{key} in {store.url} has no sidecar and isn't what was made now: an attempt that was cut "
        "off stored it, on another device or with other threads or versions, or it is a file of "
        "somebody else's; remove it, then retry"
    )
