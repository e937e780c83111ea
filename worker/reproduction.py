"""Makes a derivative again from its master, as its sidecar says, and compares. Stores nothing.

In: a sidecar, the master's bytes, and an engine with the recorded weights. Out: what came of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from gpen_engine import EngineIdentity
from gpen_engine.weights import known_by_hash
from jobs.errors import OutputNotReproducible
from jobs.recipe import Recipe
from worker.audit.record import Record
from worker.audit.untouched import compare
from worker.codec import Decode, Encoded, Limits, Page, Stored, sha256_of
from worker.pipeline import Engine, label_of, process
from worker.provenance import Master, environment, identity
from worker.scratch import DEFAULT, Scratch
from worker.stages import Stages
from worker.treatment import treatment_of


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A derivative that was made again.

    Attributes:
        encoded: it.
        identical: whether its bytes are those that were recorded.
        changed: which of the hashes that decide pixels aren't the recorded ones here.
        engine: what made it now.
        likely: what else was otherwise and may have moved bits, in words; None where it wasn't
            recorded.
    """

    encoded: Encoded
    identical: bool
    changed: tuple[str, ...]
    engine: EngineIdentity
    likely: tuple[str, ...] | None


def weights_of(record: Record) -> str:
    """Return the name by which the recorded weights are known here.

    Raises:
        OutputNotReproducible: they have none.
    """
    known = known_by_hash(record.engine.weights_sha256)
    if known is None:
        raise OutputNotReproducible(
            f"the weights {record.engine.weights} ({record.engine.weights_sha256}) have no name "
            "here: give their file with --weights"
        )
    return known.name


def reproduce(
    record: Record,
    data: Stored,
    engine: Engine,
    *,
    decode: Decode,
    limits: Limits,
    scratch: Scratch = DEFAULT,
) -> Reproduction:
    """Make a derivative again.

    Args:
        record: its sidecar.
        data: the master.
        engine: an engine with the recorded weights.
        decode: decodes the master.
        limits: larger pictures are refused before they are decoded.
        scratch: room for what is made.

    Raises:
        OutputNotReproducible: the master or the weights are others, the recipe isn't understood,
            or a mask was used, which no sidecar holds.
    """
    master = Master.of(record.master.key, data)
    recipe = _recipe_of(record)
    _require_same(record, master, engine.identity)
    work = identity(master.sha256, recipe, engine.identity)
    derived = process(
        decode(data, limits=limits.enlarged(recipe.background_scale or 1)),
        master,
        recipe,
        engine,
        Stages(),
        treatment=treatment_of(recipe, leave=record.by_hand.leave),
        label=label_of(
            master, recipe, _named_as_recorded(engine.identity, record), maker=record.software
        ),
        scratch=scratch,
    )
    then, now = record.environment, environment(engine.identity)
    return Reproduction(
        derived.encoded,
        identical=sha256_of(derived.encoded.stored) == record.derivative.sha256,
        changed=record.changed(work),
        engine=engine.identity,
        likely=None if then is None else tuple(then.changes(now)),
    )


def describe_difference(stored: Stored, made: Stored, *, decode: Decode, limits: Limits) -> str:
    """Say how far the samples of two derivatives, transparency included, are apart."""
    before = _layers(decode(stored, limits=limits).pages)
    after = _layers(decode(made, limits=limits).pages)
    if [_kind(layer) for layer in before] != [_kind(layer) for layer in after]:
        return "their pictures have other sizes, or samples of another kind"
    pairs = list(zip(before, after, strict=True))
    differences = [compare(*pair) for pair in pairs]
    differing = sum(one.differing for one in differences)
    if not differing:
        return "all samples are the same; the files differ in what stands around them"
    total = sum(one.compared for one in differences)
    largest, white = max((_distance(*pair), _white(pair[0])) for pair in pairs)
    return f"{differing} of {total} samples differ, by {largest:.10g}{white} at most"


def _layers(pages: Sequence[Page]) -> list[NDArray[Any]]:
    """Return the files' own samples, those of each page's transparency behind its colours."""
    return [
        layer
        for page in pages
        for layer in (page.own, page.alpha.samples if page.alpha else None)
        if layer is not None
    ]


def _kind(layer: NDArray[Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return layer.shape, layer.dtype


def _distance(before: NDArray[Any], after: NDArray[Any]) -> float:
    """Return the largest difference, row by row for large pictures; what is no number has none."""
    largest = 0.0
    with np.errstate(invalid="ignore"):
        for row, made in zip(before, after, strict=True):
            apart = np.abs(row.astype(np.float64) - made.astype(np.float64))
            largest = max(largest, float(np.nan_to_num(apart, nan=0.0, posinf=np.inf).max()))
    return largest


def _white(layer: NDArray[Any]) -> str:
    """Say what the largest sample could be, where the type says so."""
    return f" of {np.iinfo(layer.dtype).max}" if layer.dtype.kind in "iu" else ""


def _named_as_recorded(engine: EngineIdentity, record: Record) -> EngineIdentity:
    """Return an engine whose weights have the names that the derivative's label has for them.

    They may have got others since, and before version 3 their files' names counted.
    """
    background = engine.background
    if background is not None and record.engine.background is not None:
        background = replace(background, name=record.engine.background)
    return replace(engine, weights=record.engine.weights, background=background)


def _recipe_of(record: Record) -> Recipe:
    try:
        return Recipe.model_validate(record.recipe)
    except ValidationError as error:
        raise OutputNotReproducible(
            f"{record.software} had settings that aren't understood here: {error}"
        ) from error


def _require_same(record: Record, master: Master, engine: EngineIdentity) -> None:
    if master.sha256 != record.master.sha256:
        raise OutputNotReproducible(
            f"the master {master.key!r} has sha256 {master.sha256} now, {record.master.sha256} then"
        )
    if engine.weights_sha256 != record.engine.weights_sha256:
        raise OutputNotReproducible(
            f"these weights have sha256 {engine.weights_sha256}; {record.engine.weights} had "
            f"{record.engine.weights_sha256}"
        )
    if record.by_hand.keep_mask_sha256 is not None:
        raise OutputNotReproducible(
            f"a mask (sha256 {record.by_hand.keep_mask_sha256}) kept parts of it untouched, and a "
            "sidecar doesn't hold masks"
        )
