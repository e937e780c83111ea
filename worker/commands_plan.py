"""`gpen-archive plan`: what a job on a source would meet and cost. Reads headers, writes nothing.

Like all commands here it prints nothing but results and raises what goes wrong.
"""

import logging
import time
from collections.abc import Callable
from typing import Annotated

import typer

from jobs.recipe import Recipe
from jobs.settings import JobSettings
from jobs.storage import ObjectStore, open_store
from worker import options
from worker.decoding import Decoder
from worker.exits import NONE_DELIVERED, NOT_ALL_FINE
from worker.runtime import load_engine
from worker.settings import WorkerSettings
from worker.survey.measure import Measured, choose, measure
from worker.survey.plan import Plan, survey
from worker.survey.report import tables, to_json
from worker.terminal import bar, output

_clock = time.perf_counter


def register(app: typer.Typer, with_recipe: Callable[..., Callable[..., None]]) -> None:
    """Add `plan` to the command line, with an option for each setting of a recipe."""
    app.command("plan")(with_recipe(plan))


def plan(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Directory or s3://bucket/prefix with the masters.")
    ],
    *,
    measured: Annotated[
        int,
        typer.Option(
            "--measure",
            metavar="N",
            min=0,
            help="Restore so many photos, and keep nothing of them, to tell the time; 0: none.",
        ),
    ] = 24,
    workers: Annotated[int, typer.Option(min=1, help="So many will share the work.")] = 1,
    weights: Annotated[
        str, typer.Option(envvar="GPEN_WEIGHTS", help="A known name or a weights file.")
    ] = "compact",
    device: options.Device = "auto",
    vram_limit: options.VramLimit = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    recipe: Recipe,
) -> None:
    """Say what a source holds, what of it would fail, and what restoring it will take.

    Only headers are read, files of one size are compared, and a few photos are restored to tell the
    time. Nothing is written.
    """
    settings = WorkerSettings.from_environment(
        weights=weights, device=device, vram_limit=vram_limit
    )
    # A cache would be written, and a photo whose faces it knows wouldn't take its time.
    settings = settings.model_copy(update={"face_cache": None})
    store = open_store(source, JobSettings.from_environment())
    store.check_readable()
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # every fault is told below
    with bar("headers") as step:
        made = survey(
            store,
            recipe=recipe,
            limits=settings.limits,
            workers=workers,
            on_photo=step,
        )
    if measured and made.readable:
        made.take_in(_measure(made, measured, store=store, settings=settings))
    if as_json:
        typer.echo(to_json(made))
    else:
        _print(made)
    if len(made.readable) < len(made.photos):
        raise typer.Exit(NOT_ALL_FINE if made.readable else NONE_DELIVERED)


def _measure(made: Plan, count: int, *, store: ObjectStore, settings: WorkerSettings) -> Measured:
    engine = load_engine(settings)
    chosen = choose(made.photos, count)
    scratch = settings.make_scratch()
    with Decoder(settings.decode_budget, scratch=scratch) as decode, bar("measuring") as step:
        return measure(
            chosen,
            store=store,
            engine=engine,
            recipe=made.recipe.model_copy(update={"weights": engine.identity.weights_sha256}),
            decode=decode,
            limits=settings.limits,
            scratch=scratch,
            on_photo=lambda: step(len(chosen) + 1),
            clock=_clock,
        )


def _print(made: Plan) -> None:
    console = output()
    for number, table in enumerate(tables(made)):
        if number:
            console.print()
        console.print(table)
