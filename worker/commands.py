"""The engine's own commands: `restore`, and its part of `doctor`, joined by entry point.

They print nothing but results and raise what goes wrong; the command line turns errors into
messages and exit codes.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import torch
import typer

from gpen_engine import GpenError, Restoration
from gpen_engine.faces import Point
from gpen_engine.facexlib_shim import import_torchvision
from jobs.errors import DestinationExists, SettingsInvalid, SourceMissing
from jobs.recipe import Output, Recipe
from jobs.schema import sidecar_key
from jobs.settings import JobSettings
from jobs.storage import ObjectStore, open_store
from worker import options
from worker.codec import FileBytes, Limits, sha256_of
from worker.copies import fetch
from worker.decoding import Decoder
from worker.pipeline import process
from worker.provenance import Delivery, Master, identity, write_sidecar
from worker.runtime import load_engine
from worker.scratch import Scratch
from worker.settings import WorkerSettings
from worker.stages import Stages
from worker.terminal import plain
from worker.treatment import treatment_of, white_areas

_OUTPUTS: dict[str, Output] = {
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`."""

    name: str
    ok: bool
    detail: str


def register(app: typer.Typer, with_recipe: Callable[..., Callable[..., None]]) -> None:
    """Add `restore` to the command line, with an option for each setting of a recipe."""
    app.command("restore")(with_recipe(restore, besides=("output",)))


def restore(
    master: Annotated[Path, typer.Argument(metavar="IN", help="The picture to restore.")],
    derivative: Annotated[Path, typer.Argument(metavar="OUT", help="A .png, .tif or .jpg.")],
    *,
    weights: Annotated[
        str, typer.Option(envvar="GPEN_WEIGHTS", help="A known name or a weights file.")
    ] = "compact",
    device: options.Device = "auto",
    vram_limit: options.VramLimit = None,
    leave: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y",
            help="Leave the face at this pixel of the upright picture alone (the sidecar's `box` "
            "says where faces are); may be repeated.",
        ),
    ] = None,
    keep_mask: Annotated[
        Path | None,
        typer.Option(metavar="MASK", help="A picture of IN's size: where it is white, IN stays."),
    ] = None,
    recipe: Recipe,
) -> None:
    """Restore one picture without a queue: writes OUT and OUT.json, and overwrites neither."""
    output = _OUTPUTS.get(derivative.suffix.lower())
    if output is None:
        raise typer.BadParameter(f"{derivative.name} has to end in .png, .tif or .jpg")
    worker = WorkerSettings.from_environment(weights=weights, device=device, vram_limit=vram_limit)
    treatment = treatment_of(recipe, leave=[_point(text) for text in leave or ()])
    target = _target(derivative)
    limits, scratch = worker.limits, worker.make_scratch()
    stages = Stages()
    stages.begin("fetch")
    data = _read(master, limits, scratch)
    source = Master.of(master.name, data)
    stages.begin("decode")
    scale = recipe.background_scale or 1
    with Decoder(worker.decode_budget, scratch=scratch) as decode:
        photograph = decode(data, limits=limits.enlarged(scale))
        del data  # what comes of it takes room too
        mask = None if keep_mask is None else _read(keep_mask, limits, scratch)
        protected = None if mask is None else white_areas(decode(mask, limits=limits))
    by_hand: dict[str, object] = {"leave": treatment.faces.leave} if leave else {}
    if mask is not None:
        by_hand["keep_mask_sha256"] = sha256_of(mask)
    engine = load_engine(worker)
    known = weights.lower() == engine.identity.weights
    known_by = engine.identity.weights if known else engine.identity.weights_sha256
    recipe = recipe.model_copy(update={"weights": known_by, "output": output})
    derived = process(
        photograph,
        source,
        recipe,
        engine,
        stages,
        treatment=treatment,
        protected=protected,
        scratch=scratch,
    )
    _require_found(treatment.faces.leave, derived.restorations)
    delivery = Delivery(
        master=source,
        work=identity(source.sha256, recipe, engine.identity),
        derived=derived,
        derivative_key=derivative.name,
        recipe=recipe,
        worker=worker.worker_name,
        by_hand=by_hand,
    )
    sidecar = write_sidecar(delivery, engine.identity, timings_s=stages.timings_s())
    encoded = derived.encoded
    target.put_once(derivative.name, encoded.file, content_type=encoded.content_type)
    target.put_once(sidecar_key(derivative.name), sidecar, content_type="application/json")
    typer.echo(f"{derivative}: {delivery.summary}")
    for note in delivery.notes:
        typer.echo(f"  {plain(note)}")


def _target(derivative: Path) -> ObjectStore:
    """Return where the derivative goes, unless it is there already."""
    target = open_store(str(derivative.parent), JobSettings.from_environment())
    target.check_writable()
    for name in (derivative.name, sidecar_key(derivative.name)):
        if target.head(name) is not None:
            raise DestinationExists(f"{derivative.parent / name} exists and isn't overwritten")
    return target


def _read(path: Path, limits: Limits, scratch: Scratch) -> FileBytes:
    if not path.is_file():
        raise SourceMissing(f"there is no file {path}")
    original = path.resolve()
    store = open_store(str(original.parent), JobSettings.from_environment())
    return fetch(store, original.name, limits=limits, scratch=scratch)


def _point(text: str) -> Point:
    try:
        x, y = (float(part) for part in text.split(","))
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError("no pixel")
    except ValueError as error:
        raise typer.BadParameter(f"--leave takes X,Y in pixels, not {text!r}") from error
    return x, y


def _require_found(points: Sequence[Point], restorations: Sequence[Restoration]) -> None:
    """Refuse a point at which there is no face: a typing error would change the wrong person."""
    boxes = [outcome.face.box for result in restorations for outcome in result.faces]
    for x, y in points:
        if not any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in boxes):
            raise typer.BadParameter(f"--leave {x:g},{y:g}: there is no face at that pixel")


def engine_checks(settings: JobSettings) -> Iterable[Check]:
    """Yield the engine's part of `doctor`: torch, torchvision, device, weights, detector."""
    del settings  # the engine has its own
    try:
        worker = WorkerSettings.from_environment()
    except SettingsInvalid as error:
        yield Check("worker settings", ok=False, detail=str(error))
        return
    yield Check("torch", ok=True, detail=torch.__version__)
    compiled = import_torchvision().extension._has_ops()
    how = "with its operators" if compiled else "without its operators: NumPy stands in"
    yield Check("torchvision", ok=True, detail=f"{metadata.version('torchvision')}, {how}")
    yield from _devices()
    logging.getLogger("gpen_engine").setLevel(logging.WARNING)  # what it plans is told below
    try:
        restorer = load_engine(worker)
    except GpenError as error:
        yield Check("engine", ok=False, detail=f"{error} [{error.code}] {error.advice}")
        return
    engine, plan = restorer.identity, restorer.plan
    planned = f"{engine.precision}, {plan.batch} faces at a time"
    yield Check("device", ok=True, detail=f"{engine.device}: {planned}")
    yield Check(
        "weights", ok=True, detail=f"{engine.weights}, {engine.size} px, {engine.weights_sha256}"
    )
    parts = {"detector": engine.detector, "parser": engine.parser, "background": engine.background}
    for name, part in parts.items():
        detail = f"{part.name}, {part.sha256}" if part else "none in the weights folder: optional"
        yield Check(name, ok=True, detail=detail)


def _devices() -> Iterable[Check]:
    if not torch.cuda.is_available():
        yield Check("gpu", ok=True, detail="none; the CPU is used")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Check(
            "gpu", ok=True, detail=f"cuda:{index} {name}, {free >> 20} of {total >> 20} MiB free"
        )
