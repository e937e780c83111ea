"""`gpen-archive compare`: one picture through several restorers, side by side on a labelled sheet.

Like all commands here it prints nothing but results and raises what goes wrong. A restorer that
can't be used is named on the sheet with the reason, and the others go on.
"""

import gc
import io
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from gpen_engine import EngineIdentity, FaceOutcome, GpenError, Restoration
from gpen_engine.errors import WeightsNotHere
from gpen_engine.faces import Detail, Face, Reason, Region
from gpen_engine.restorers import split
from gpen_engine.weights import find_generator, known_by_hash, name_of
from jobs.errors import DestinationExists, SourceMissing
from jobs.logs import get_logger
from jobs.recipe import Recipe
from jobs.settings import JobSettings
from jobs.storage import ObjectStore, open_store
from worker import options
from worker.codec import Page
from worker.colour import page_colour
from worker.comparison import Cell, Column, Row, Sheet, draw, scale_of, shown, surroundings
from worker.copies import fetch
from worker.decoding import Decoder
from worker.runtime import load_engine
from worker.settings import WorkerSettings
from worker.treatment import treatment_of

_log = get_logger(__name__)

_NOT_OF_FACES = ("background_scale", "output", "jpeg_quality")
"""Settings of a recipe that a sheet of faces leaves alone."""
_NO_FACES = frozenset({Reason.LOW_SCORE, Reason.NESTED})


def register(app: typer.Typer, with_recipe: Callable[..., Callable[..., None]]) -> None:
    """Add `compare` to the command line, with an option for each setting that shows on a face."""
    app.command("compare")(with_recipe(compare, besides=_NOT_OF_FACES))


def compare(
    master: Annotated[Path, typer.Argument(metavar="IN", help="The picture to restore.")],
    *,
    restorers: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Weights, with commas: compact,gfpgan-1.4,my.pth"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="SHEET", help="A .png; else IN-compared.png in this folder."),
    ] = None,
    faces: Annotated[int, typer.Option(min=1, help="Show so many faces, the largest.")] = 8,
    whole: Annotated[bool, typer.Option("--whole", help="Show the whole picture too.")] = False,
    device: options.Device = "auto",
    vram_limit: options.VramLimit = None,
    recipe: Recipe,
) -> None:
    """Restore one picture with several restorers: writes a sheet to compare them on."""
    names = list(dict.fromkeys(name.strip() for name in restorers.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter("--restorers needs the name of at least one")
    if not master.is_file():
        raise SourceMissing(f"there is no file {master}")
    path = out or Path(f"{master.stem}-compared.png")
    target = _open_target(path)
    worker = WorkerSettings.from_environment(device=device, vram_limit=vram_limit)
    _require_known(names, worker)
    comparison = Comparison(_pages(master, worker), recipe, limit=faces, whole=whole)
    for name in names:
        failure = comparison.add(name, worker)
        if failure is not None:
            typer.echo(f"{name} is left out: {failure} [{failure.code}]")
    if not comparison.tried:
        raise comparison.failed[names[0]]
    if not comparison.places:
        typer.echo(f"{master}: no faces to compare")
        return
    target.put_once(path.name, _png(comparison, master.name), content_type="image/png")
    compared = ", ".join(tried.name for tried in comparison.tried)
    typer.echo(f"{path}: {comparison.faces_shown} by {compared}")


@dataclass(frozen=True, slots=True)
class Place:
    """What a row shows: a face of a page, or the whole page."""

    page: int
    face: Face | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """What one restorer made of every place."""

    name: str
    identity: EngineIdentity
    cells: tuple[Cell, ...]


class Comparison:
    """What restorers make of one photograph, gathered one restorer after the other.

    The first one's finds decide which faces are shown. Of a restored picture only the cut-outs
    are kept.

    Args:
        pages: the photograph's.
        recipe: how faces are restored, whatever weights it names.
        limit: show so many faces, the largest.
        whole: whether whole pages are shown too.
    """

    def __init__(self, pages: Sequence[Page], recipe: Recipe, *, limit: int, whole: bool) -> None:
        self.pages = pages
        self.recipe = recipe
        self.places: tuple[Place, ...] = ()
        self.tried: list[Tried] = []
        self.failed: dict[str, GpenError] = {}
        self._limit = limit
        self._whole = whole
        self._found = 0

    def add(self, name: str, settings: WorkerSettings) -> GpenError | None:
        """Try a restorer; return why it is left out, if it is."""
        try:
            self.tried.append(self._try(settings.model_copy(update={"weights": name})))
        except GpenError as error:
            # One more of its kind: the frames of the first one hold the network in memory.
            self.failed[name] = type(error)(str(error))
        except Exception as error:  # noqa: BLE001 - a plug-in's network may raise anything
            _log.exception("compare.restorer_failed", restorer=name)
            self.failed[name] = GpenError(f"it failed with {error!r}")
        # The next network shall find the device as this one did.
        gc.collect()
        torch.cuda.empty_cache()
        return self.failed.get(name)

    @property
    def faces_shown(self) -> str:
        """How many faces are shown, in words."""
        count = sum(place.face is not None for place in self.places)
        if count < self._found:
            return f"the largest {count} of {self._found} faces"
        return "1 face" if count == 1 else f"{count} faces"

    def region(self, place: Place) -> Region:
        """Return the part of its page that is shown of a place."""
        height, width = self.pages[place.page].pixels.shape[:2]
        if place.face is None:
            return 0, 0, width, height
        return surroundings(place.face, (height, width))

    def _try(self, settings: WorkerSettings) -> Tried:
        engine = load_engine(settings)
        treatment = treatment_of(self.recipe)
        restorations = [
            engine.restore(
                page.pixels, treatment, colour=page_colour(page.profile, gray=page.gray).space
            )
            for page in self.pages
        ]
        if not self.tried:
            self.places = self._choose(restorations)
        cells = (self._cell(place, restorations[place.page]) for place in self.places)
        return Tried(_called(settings.weights, engine.identity), engine.identity, tuple(cells))

    def _choose(self, restorations: Sequence[Restoration]) -> tuple[Place, ...]:
        found = [
            Place(page, outcome.face)
            for page, restoration in enumerate(restorations)
            for outcome in restoration.faces
            if outcome.reason not in _NO_FACES
        ]
        self._found = len(found)
        found.sort(key=lambda place: place.face.eye_distance_px if place.face else 0, reverse=True)
        pages = [Place(page) for page in range(len(self.pages))] if self._whole else []
        return (*pages, *found[: self._limit])

    def _cell(self, place: Place, restoration: Restoration) -> Cell:
        note = _note(place.face, restoration.faces) if place.face else ""
        x0, y0, x1, y1 = self.region(place)
        rows = restoration.rows(slice(y0, y1))
        return Cell(shown(rows, (x0, 0, x1, y1 - y0)), note)


def build_sheet(comparison: Comparison, title: str) -> Sheet:
    """Lay a comparison out: the original in front, then the restorers in their order."""
    pages, places = comparison.pages, comparison.places
    originals = tuple(
        Cell(shown(pages[place.page].pixels, comparison.region(place))) for place in places
    )
    versions = zip(originals, *(tried.cells for tried in comparison.tried), strict=True)
    rows = tuple(
        Row(_label(comparison, place), cells) for place, cells in zip(places, versions, strict=True)
    )
    terms = (_terms(tried.identity) for tried in comparison.tried)
    left_out = (f"{name} is left out: {error}" for name, error in comparison.failed.items())
    return Sheet(
        title=title,
        subtitle=" · ".join([comparison.faces_shown, *_settings(comparison.recipe)]),
        columns=(Column("original"), *map(_head, comparison.tried)),
        rows=rows,
        footer=(*left_out, *(line for line in terms if line)),
    )


def _require_known(names: Sequence[str], worker: WorkerSettings) -> None:
    """Refuse a name that nobody knows before anything is restored; others may be left out."""
    for name in names:
        with suppress(WeightsNotHere):
            find_generator(split(name)[1], folder=worker.weights_dir)


def _open_target(path: Path) -> ObjectStore:
    if path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path.name} has to end in .png")
    target = open_store(str(path.parent), JobSettings.from_environment())
    target.check_writable()
    if target.head(path.name) is not None:
        raise DestinationExists(f"{path} exists and isn't overwritten")
    return target


def _pages(master: Path, worker: WorkerSettings) -> tuple[Page, ...]:
    original = master.resolve()
    store = open_store(str(original.parent), JobSettings.from_environment())
    scratch = worker.make_scratch()
    data = fetch(store, original.name, limits=worker.limits, scratch=scratch)
    with Decoder(worker.decode_budget, scratch=scratch) as decode:
        return decode(data, limits=worker.limits).pages


def _png(comparison: Comparison, title: str) -> bytes:
    first = comparison.pages[0]
    buffer = io.BytesIO()
    # The samples are the photograph's own, so their meaning is too.
    profile = None if first.gray else first.profile
    draw(build_sheet(comparison, title)).save(buffer, "PNG", icc_profile=profile)
    return buffer.getvalue()


def _called(typed: str, identity: EngineIdentity) -> str:
    """Return what the sheet calls a network: as the engine does, but by its file a user's own."""
    if known_by_hash(identity.weights_sha256):
        return identity.weights
    return identity.weights.replace(name_of(identity.weights_sha256), Path(typed).name)


def _head(tried: Tried) -> Column:
    identity = tried.identity
    how = f"{identity.size} px · {identity.precision} · {identity.device}"
    return Column(tried.name, (f"sha256 {identity.weights_sha256[:16]}", how))


def _terms(identity: EngineIdentity) -> str:
    known = known_by_hash(identity.weights_sha256)
    return f"Terms of {identity.weights}: {known.terms}" if known else ""


def _settings(recipe: Recipe) -> list[str]:
    chosen = recipe.model_dump(exclude_defaults=True, exclude={"weights", *_NOT_OF_FACES})
    return [
        f"{name.replace('_', ' ')} {value}"
        for name, value in ({"strength": recipe.strength} | chosen).items()
    ]


def _label(comparison: Comparison, place: Place) -> str:
    region = comparison.region(place)
    parts = [f"page {place.page + 1}"] if len(comparison.pages) > 1 else []
    if place.face is None:
        parts += ["the whole picture", f"{region[2]} by {region[3]} px"]
    else:
        parts += [f"{place.face.eye_distance_px:.0f} px between the eyes"]
        parts += [f"score {place.face.score:.2f}"]
    return " · ".join([*parts, f"shown at {scale_of(region):.0%}"])


def _note(face: Face, outcomes: Sequence[FaceOutcome]) -> str:
    """Say what became of a face beside its being restored."""
    outcome = _outcome(face, outcomes)
    if outcome is None:
        return "not found"
    if not outcome.restored:
        return f"left alone: {outcome.reason or 'no reason given'}"
    notes = []
    if outcome.detail is Detail.PHOTOGRAPH:
        notes.append("the finest detail is the photograph's")
    if outcome.redone_in_float32:
        notes.append("redone in float32")
    return "; ".join(notes)


def _outcome(face: Face, outcomes: Sequence[FaceOutcome]) -> FaceOutcome | None:
    """Return what became of a face; on another device it is found a hair's breadth away."""
    nose = face.landmarks[2]
    nearest = min(
        outcomes, key=lambda outcome: math.dist(nose, outcome.face.landmarks[2]), default=None
    )
    if nearest is None or math.dist(nose, nearest.face.landmarks[2]) > face.eye_distance_px / 2:
        return None
    return nearest
