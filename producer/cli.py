"""The command `gpen-archive`: arguments go in, text and an exit code (`producer.exits`) come out.

This module and its siblings `cli_*` alone decide exit codes. An error is shown with its stable code
and advice, never as a traceback.
"""

import logging
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from jobs import broker, logs
from jobs.errors import JobUnknown
from jobs.ledger import Ledger
from jobs.migrate import migrate as migrate_database
from jobs.recipe import Recipe
from jobs.schema import Job
from jobs.settings import JobSettings
from producer import options, plugins
from producer.cli_run import run
from producer.dispatch import Dispatcher, serve
from producer.doctor import check_all
from producer.errors import SystemRefused
from producer.exits import ExitCode, code_for_error
from producer.home import Home
from producer.places import name_for, normalize
from producer.report import failures_table, job_json, job_table, jobs_json, jobs_table
from producer.stop import StopRequest
from producer.submit import open_source
from producer.submit import submit as enter
from producer.terminal import complain, output, remarks, say
from producer.watch import entered_lines
from producer.weights import resolve

_NAME = "gpen-archive"

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, six or more digits of it, or its name.")
]
At = Annotated[
    Path | None,
    typer.Option(
        metavar="DST", help="Ask the ledger of a `run` to DST instead of GPEN_DATABASE_URL."
    ),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code.

    Raises:
        SystemExit: always.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    app = make_app()
    missing = _join_plugins(app, given)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: exit code 130
    try:
        app(args=given, prog_name=_NAME)
    except SystemExit as end:
        for part in missing if end.code == ExitCode.USAGE else ():
            say(f"{_NAME}: {part}", to=remarks())
        raise
    except Exception as error:  # the last resort: a message instead of a traceback
        raise SystemExit(_explain(error)) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def make_app() -> typer.Typer:
    """Return the application with the control plane's own commands."""
    app = typer.Typer(
        name=_NAME,
        help="Restores faces in photo archives, and never touches a master.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_common)
    app.command()(options.with_recipe(run))
    app.command()(options.with_recipe(submit))
    for command in (dispatch, status, retry, doctor, migrate):
        app.command()(command)
    return app


def submit(
    source: options.Source,
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="Directory or s3://bucket/prefix for the results.")
    ],
    *,
    name: Annotated[str | None, typer.Option(help="What Flower and `status` call it.")] = None,
    weights: options.WeightsOption = options.DEFAULT.weights,
    recipe: Recipe,
) -> None:
    """Enter a job for the workers of service mode; repeating it adds only what is new."""
    settings = _settings()
    recipe = recipe.model_copy(update={"weights": resolve(weights).identity})
    place = normalize(source)
    job = Job(name or name_for(place), place, normalize(destination), recipe)
    with _ledger(settings) as ledger:
        submission = enter(job, ledger=ledger, source=open_source(job, settings))
    for line in entered_lines(submission):
        say(line)
    if submission.tally.unsafe:
        raise typer.Exit(ExitCode.SOME_FAILED)


def dispatch(
    once: Annotated[bool, typer.Option("--once", help="Do a single pass and end.")] = False,
) -> None:
    """Keep workers supplied until stopped; a stop by signal is a normal end here."""
    settings = _settings()
    with _ledger(settings) as ledger, StopRequest() as stop:
        dispatcher = Dispatcher(
            ledger=ledger,
            publish=partial(broker.publish, broker.make_app(settings)),
            window=settings.window,
            max_attempts=settings.max_attempts,
        )
        if not once:
            serve(dispatcher, stop=stop)
            return
        done = dispatcher.step()
    say(f"{done.published} published, {done.requeued} requeued, {done.crashed} given up")


def status(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="One job, with its failures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    at: At = None,
) -> None:
    """Show all jobs, or one."""
    console = output()
    with _ledger(_settings(), at) as ledger:
        if job is None:
            rows = [(known, ledger.counts(known.id)) for known in ledger.jobs()]
            typer.echo(jobs_json(rows)) if as_json else console.print(jobs_table(rows))
            return
        found = ledger.find_job(job)
        counts, failures = ledger.counts(found.id), ledger.failures(found.id)
    if as_json:
        typer.echo(job_json(found, counts, failures))
        return
    console.print(job_table(found, counts))
    if failures:
        console.print()
        console.print(failures_table(failures))


def retry(
    job: JobArgument,
    code: Annotated[
        str | None, typer.Option(help="Only photos that failed with this code.")
    ] = None,
    at: At = None,
) -> None:
    """Give a job's failed photos all their attempts again."""
    with _ledger(_settings(), at) as ledger:
        found = ledger.find_job(job)
        count = ledger.retry(found.id, code=code)
    photos = "1 photo" if count == 1 else f"{count} photos"
    when = "when the same `run` is given again" if at else "by the next free worker"
    say(f"{photos} of job {found.id} will be tried again {when}.")


def doctor(
    recount: Annotated[
        bool, typer.Option("--recount", help="First count the ledger's photos anew.")
    ] = False,
) -> None:
    """Say what is installed, what is reachable, which weights and which device there are."""
    console = output()
    healthy = True
    if recount:
        with _ledger(_settings()) as ledger:
            ledger.recount()
    for check in check_all(_settings()):
        console.print("[green]ok [/]" if check.ok else "[red]BAD[/]", end=" ")
        say(f"{check.name}: {check.detail}", to=console)
        healthy = healthy and check.ok
    raise typer.Exit(ExitCode.DONE if healthy else ExitCode.ENVIRONMENT)


def migrate() -> None:
    """Bring the database to the revision that this program expects."""
    migrate_database(_settings().database_url.get_secret_value())
    say("The database is up to date.")


def _show_version(asked: bool) -> None:
    if asked:
        say(f"{_NAME} {version(_NAME)}")
        raise typer.Exit


def _common(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Take the options that stand before the command."""


def _join_plugins(app: typer.Typer, arguments: Sequence[str]) -> list[plugins.Missing]:
    """Add the engine's commands, unless one of our own is asked for: torch takes its time."""
    own = {command.callback.__name__ for command in app.registered_commands if command.callback}
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    if wanted in own:
        return []
    registrations, missing = plugins.load(plugins.COMMANDS)
    for register in registrations:
        register(app, options.with_recipe)
    return missing


def _settings() -> JobSettings:
    """Read the environment and begin to log."""
    settings = JobSettings.from_environment()
    logs.configure(log_format=settings.log_format, level=settings.log_level)
    return settings


@contextmanager
def _ledger(settings: JobSettings, at: Path | None = None) -> Iterator[Ledger]:
    """Open the ledger that is meant, and make sure that it answers."""
    url = settings.database_url.get_secret_value()
    if at is not None:
        home = Home(at.expanduser().resolve())
        if not home.ledger.is_file():
            raise JobUnknown(f"no `run` has delivered into {at}")
        url = home.ledger_url
    with closing(Ledger(url)) as ledger:
        ledger.check()
        yield ledger


def _explain(error: Exception) -> ExitCode:
    """Show an error that ended a command; those of both trees have a code and advice."""
    code, advice = getattr(error, "code", None), getattr(error, "advice", None)
    if isinstance(code, str) and isinstance(advice, str):
        complain(code, str(error), advice)
        return code_for_error(code)
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        complain(SystemRefused.code, what, SystemRefused.advice)
        return ExitCode.ENVIRONMENT
    advice = "This is a fault of the program. Please report it; GPEN_LOG_LEVEL=DEBUG shows more."
    complain("unexpected", f"{type(error).__name__}: {error}", advice)
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    return ExitCode.UNEXPECTED
