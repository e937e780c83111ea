"""The command `gpen-archive`: arguments go in, text and an exit code (`producer.exits`) come out.

This module and its siblings `cli_*` alone decide exit codes. An error is shown with its stable code
and advice, never as a traceback.
"""

import logging
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Annotated

import typer

from jobs.migrate import migrate as migrate_database
from jobs.recipe import Recipe
from jobs.schema import Job
from producer import cli_ledger, options, plugins
from producer.cli_run import run
from producer.dispatch import Dispatcher, serve
from producer.doctor import check_all
from producer.errors import SystemRefused
from producer.exits import ExitCode, code_for_error
from producer.places import name_for, normalize
from producer.stop import StopRequest
from producer.submit import open_source
from producer.submit import submit as enter
from producer.terminal import complain, output, remarks, say
from producer.watch import entered_lines
from producer.weights import resolve

_NAME = "gpen-archive"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code.

    Raises:
        SystemExit: always.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    app = make_app()
    wanted = next((argument for argument in given if not argument.startswith("-")), None)
    missing = plugins.join(app, wanted, options.with_recipe)
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
        rich_markup_mode=None,  # rich would cut options' names off
    )
    app.callback()(_common)
    own: tuple[Callable[..., None], ...] = (
        *(options.with_recipe(run), options.with_recipe(submit)),
        *(dispatch, *cli_ledger.COMMANDS, doctor, migrate),
    )
    for command in own:
        app.command(short_help=(command.__doc__ or "").partition("\n")[0])(command)
    return app


def submit(
    source: options.Source,
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="Directory or s3://bucket/prefix for the results.")
    ],
    *,
    name: Annotated[str | None, typer.Option(help="What Flower and `status` call it.")] = None,
    weights: options.WeightsOption = options.DEFAULT.weights,
    window: options.Window = None,
    priority: Annotated[
        int | None, typer.Option(min=-100, max=100, help="Higher goes first; 0 is usual.")
    ] = None,
    recipe: Recipe,
) -> None:
    """Enter a job for the workers of service mode; repeating it adds only what is new."""
    hours = options.hours(window)
    settings = cli_ledger.settings()
    recipe = recipe.model_copy(update={"weights": resolve(weights).identity})
    place = normalize(source)
    job = Job(name or name_for(place), place, normalize(destination), recipe)
    with cli_ledger.open_ledger() as ledger:
        source_store = open_source(job, settings)
        submission = enter(job, ledger=ledger, source=source_store, priority=priority, hours=hours)
    for line in entered_lines(submission):
        say(line)
    if submission.tally.unsafe:
        raise typer.Exit(ExitCode.SOME_FAILED)


def dispatch(
    once: Annotated[bool, typer.Option("--once", help="Do a single pass and end.")] = False,
) -> None:
    """Keep workers supplied until stopped; a stop by signal is a normal end here."""
    from jobs import broker  # noqa: PLC0415 - Celery takes its time, and most commands need none

    settings = cli_ledger.settings()
    app = broker.make_app(settings)
    with cli_ledger.open_ledger() as ledger, StopRequest() as stop:
        dispatcher = Dispatcher(
            ledger=ledger,
            publish=partial(broker.publish, app),
            waiting=partial(broker.waiting, app),
            recognize=partial(broker.recognize, app),
            window=settings.window,
            max_attempts=settings.max_attempts,
        )
        if not once:
            serve(dispatcher, stop=stop)
            return
        done = dispatcher.step()
    say(f"{done.published} published, {done.requeued} requeued, {done.crashed} given up")


def doctor(
    recount: Annotated[
        bool, typer.Option("--recount", help="First count the ledger's photos anew.")
    ] = False,
) -> None:
    """Say what is installed, what is reachable, which weights and which device there are."""
    console = output()
    healthy = True
    if recount:
        with cli_ledger.open_ledger() as ledger:
            ledger.recount()
    for check in check_all(cli_ledger.settings()):
        console.print("[green]ok [/]" if check.ok else "[red]BAD[/]", end=" ")
        say(f"{check.name}: {check.detail}", to=console)
        healthy = healthy and check.ok
    raise typer.Exit(ExitCode.DONE if healthy else ExitCode.ENVIRONMENT)


def migrate() -> None:
    """Bring the database to the revision that this program expects."""
    migrate_database(cli_ledger.settings().database_url.get_secret_value())
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
