"""The command `run`: one folder of scans in, restored photos out, on this machine alone."""

import shlex
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from jobs import logs
from jobs.hours import Always, Hours
from jobs.recipe import Recipe
from jobs.schema import Job, PhotoState
from jobs.settings import JobSettings
from jobs.storage import ObjectStore
from producer import local, options
from producer.exits import ExitCode
from producer.places import is_s3, name_for, normalize
from producer.report import failures_table, job_table
from producer.scan import Tally, scan
from producer.submit import Submission, open_source
from producer.terminal import output, remarks, say
from producer.watch import LineWatcher, LiveWatcher, entered_lines
from producer.weights import resolve

Destination = Annotated[
    str, typer.Argument(metavar="DST", help="Directory for the results; made if need be.")
]


def run(
    source: options.Source,
    destination: Destination,
    *,
    weights: options.WeightsHere = options.DEFAULT.weights,
    vram_limit: options.VramLimit = None,
    window: options.Window = None,
    recipe: Recipe,
) -> None:
    """Restore a folder of scans here, with everything that takes brought along.

    Stopped by Ctrl-C, or by a power cut, it goes on where it was when the same command is given
    again. A source without photos is said to be so and is no error.
    """
    hours = options.hours(window)
    settings = JobSettings.from_environment()
    chosen = resolve(weights)
    place = normalize(source)
    recipe = recipe.model_copy(update={"weights": chosen.identity})
    job = Job(name_for(place), source=place, destination=normalize(destination), recipe=recipe)
    if is_s3(job.destination):
        raise typer.BadParameter("`run` delivers into a directory; for S3 use `submit`.")
    store = open_source(job, settings)
    tally = Tally()
    if next(scan(store, tally), None) is None:
        for line in entered_lines(Submission(job, new=0, known=0, tally=tally)):
            say(line, to=remarks())
        raise typer.Exit(ExitCode.NONE_DELIVERED if tally.unsafe else ExitCode.DONE)
    environment = {"GPEN_WEIGHTS": chosen.location}
    if vram_limit:
        environment["GPEN_VRAM_LIMIT"] = vram_limit
    try:
        ending = _restore(job, store, settings, environment, hours)
    except local.BrokenOff as end:
        if end.ending.counts.finished:
            _report(job, end.ending)
            say("Broken off. Once the cause is mended, the same command goes on.", to=remarks())
        raise end.why from end
    _report(job, ending)
    if ending.exit_code is ExitCode.INTERRUPTED:
        say(_why_unfinished(ending), to=remarks())
    raise typer.Exit(ending.exit_code)


def _why_unfinished(ending: local.Ending) -> str:
    if ending.standing.over:
        return "The job was cancelled. The same command takes it up again."
    return "Interrupted. The same command goes on from here."


def _restore(
    job: Job,
    source: ObjectStore,
    settings: JobSettings,
    environment: Mapping[str, str],
    hours: Hours | Always | None,
) -> local.Ending:
    """Let the job be done, and show how it goes."""
    with LiveWatcher(remarks()) if sys.stderr.isatty() else LineWatcher(remarks()) as watcher:
        level = settings.log_level if "log_level" in settings.model_fields_set else "WARNING"
        logs.configure(log_format=settings.log_format, level=level)
        return local.run(
            job,
            source=source,
            settings=settings,
            worker_environment=environment,
            watcher=watcher,
            hours=hours,
        )


def _report(job: Job, ending: local.Ending) -> None:
    """Say what came of it, and what to do about photos that failed."""
    console = output()
    failed = ending.counts.of(PhotoState.FAILED)
    console.print(job_table(ending.standing))
    if ending.failures:
        console.print()
        console.print(failures_table(ending.failures))
    here = f"--at {shlex.quote(job.destination)}"
    if failed > len(ending.failures):
        more = failed - len(ending.failures)
        say(f"... and {more} more: gpen-archive status {job.id} {here}", to=console)
    if failed:
        say(f"To try them again: gpen-archive retry {job.id} {here}, then the same run", to=console)
