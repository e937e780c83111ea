"""`gpen-archive weights list|fetch|verify|import`: the weights folder from the command line.

Results go to standard output, terms and progress to standard error; what goes wrong is raised. The
JSON's shape is a contract; a change of meaning raises `SCHEMA_VERSION`.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gpen_engine import download, inventory
from gpen_engine.errors import CheckpointCorrupt, TermsNotAccepted, WeightsFolderUnusable
from gpen_engine.inventory import Verdict, Verified, Whereabouts
from gpen_engine.weights import (
    GPEN_TERMS,
    KNOWN,
    Acceptance,
    How,
    KnownWeights,
    accept,
    acceptance,
    find_in,
    known_by_name,
    terms_accepted,
)
from jobs.errors import SourceMissing
from worker.settings import WorkerSettings
from worker.terminal import output, plain

SCHEMA_VERSION = 1
_VERDICTS: dict[Verdict, str] = {
    Verdict.OK: "ok",
    Verdict.DAMAGED: "damaged, or another file than the published one",
    Verdict.UNKNOWN: "unknown; used by its path",
    Verdict.INCOMPLETE: "incomplete; the next fetch goes on with it",
    Verdict.UNREADABLE: "can't be read",
}

FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="Instead of GPEN_WEIGHTS_DIR.", show_default=False)
]
AcceptOption = Annotated[
    bool,
    typer.Option("--accept-terms", help="You have read the weights' terms and accept them."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


def register(app: typer.Typer, _with_recipe: object = None) -> None:
    """Add `weights` and its four commands to the command line."""
    group = typer.Typer(
        name="weights", help="Say which weights there are, and get them.", no_args_is_help=True
    )
    commands: dict[str, Callable[..., None]] = {
        "list": list_known,
        "fetch": fetch,
        "verify": verify,
        "import": import_file,
    }
    for name, command in commands.items():
        group.command(name, short_help=command.__doc__)(command)
    app.add_typer(group)


def list_known(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Show the known weights: what for, licence, size, and whether they are here."""
    place, _ = _folder(folder)
    rows = [
        (known, inventory.whereabouts(known, place), acceptance(place, known.sha256))
        for known in KNOWN
    ]
    if as_json:
        records = [_record(place, *row) for row in rows]
        typer.echo(_json(place, weights=records))
        return
    output().print(_known_table(rows))
    typer.echo(f"The weights folder is {plain(place)}.", err=True)


def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As `list` shows them.")],
    accept_terms: AcceptOption = False,
    folder: FolderOption = None,
) -> None:
    """Fetch weights into the weights folder; what broke off is gone on with."""
    wanted = [_named(name) for name in names]
    place, settings = _folder(folder)
    for known in wanted:
        _agree(known, place, flag=accept_terms, settings=settings)
    for known in wanted:
        with _bar(known) as progress:
            path = download.fetch(known, place, progress=progress)
        typer.echo(f"{plain(path)}: {known.name}, {known.licence}")


def verify(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Hash every file in the weights folder again, and say which are damaged."""
    place, _ = _folder(folder)
    files = list(inventory.verify(place))
    if as_json:
        typer.echo(_json(place, files=[_file_record(file) for file in files]))
    else:
        for file in files:
            name = f", {file.known.name}" if file.known else ""
            typer.echo(f"{plain(file.path.name)}: {_VERDICTS[file.verdict]}{name}")
        typer.echo(f"{len(files)} files in {plain(place)}", err=True)
    bad = [
        file.path.name for file in files if file.verdict in {Verdict.DAMAGED, Verdict.UNREADABLE}
    ]
    if bad:
        raise CheckpointCorrupt(f"{len(bad)} of {len(files)} files in {place}: {', '.join(bad)}")


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that you have, any name.")],
    accept_terms: AcceptOption = False,
    folder: FolderOption = None,
) -> None:
    """Copy known weights that you have into the weights folder; they are known by their hash."""
    if not file.is_file():
        raise SourceMissing(f"there is no file {file}")
    place, settings = _folder(folder)
    known = inventory.recognize(file)
    _agree(known, place, flag=accept_terms, settings=settings)
    path = inventory.adopt(file, place)
    typer.echo(f"{plain(path)}: {known.name}, {known.licence}")


def _folder(given: Path | None) -> tuple[Path, WorkerSettings]:
    settings = WorkerSettings.from_environment()
    place = given or settings.weights_dir
    if place is None:
        raise WeightsFolderUnusable("there is no weights folder: name one with GPEN_WEIGHTS_DIR")
    return place, settings


def _named(name: str) -> KnownWeights:
    known = known_by_name(name)
    if known is None or known.address is None:
        names = ", ".join(entry.name for entry in KNOWN if entry.address)
        why = f"comes with {known.shipped_with}" if known else "isn't known"
        raise typer.BadParameter(f"{name} {why}; what can be fetched is {names}")
    return known


def _agree(known: KnownWeights, folder: Path, *, flag: bool, settings: WorkerSettings) -> None:
    """Show the terms of weights that have some, and record that they are accepted.

    Raises:
        TermsNotAccepted: they aren't, or there is nobody to ask.
    """
    typer.echo(f"{known.name}: {known.terms}", err=True)
    if terms_accepted(folder, known):
        return
    if flag:
        how = How.FLAG
    elif settings.accept_gpen_terms and known.terms == GPEN_TERMS:
        how = How.ENVIRONMENT
    elif not _somebody_is_there():
        raise TermsNotAccepted(f"{known.name} needs --accept-terms, if you accept: {known.terms}")
    elif typer.confirm("Do you accept these terms?", err=True):
        how = How.TERMINAL
    else:
        raise TermsNotAccepted(f"the terms of {known.name} were not accepted")
    accept(folder, known, how)


def _somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextmanager
def _bar(known: KnownWeights) -> Iterator[download.Progress]:
    """Show a bar on the terminal, and nothing where there is none."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(known.name, total=known.size_bytes)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _known_table(
    rows: Iterable[tuple[KnownWeights, Whereabouts, Acceptance | None]],
) -> Table:
    table = Table("name", "for", "licence", box=None, pad_edge=False)
    table.add_column("size", justify="right")
    table.add_column("state")
    for known, where, accepted in rows:
        size = f"{known.size_bytes / 1e6:,.1f} MB"
        kind = known.kind.replace("_", " ")
        table.add_row(known.name, kind, known.licence, size, Text(_state(known, where, accepted)))
    return table


def _state(known: KnownWeights, where: Whereabouts, accepted: Acceptance | None) -> str:
    words = {
        Whereabouts.HERE: "here",
        Whereabouts.SHIPPED: f"comes with {known.shipped_with}",
        Whereabouts.FETCHABLE: "can be fetched",
        Whereabouts.BY_HAND: "only by hand",
    }
    if accepted:
        return f"{words[where]}, terms accepted on {accepted.accepted_at[:10]}"
    return f"{words[where]}, terms to accept" if known.ask else words[where]


def _record(
    folder: Path, known: KnownWeights, where: Whereabouts, accepted: Acceptance | None
) -> dict[str, Any]:
    path = find_in(folder, known)
    return asdict(known) | {
        "where": where,
        "path": str(path) if path else None,
        "accepted": asdict(accepted) if accepted else None,
    }


def _file_record(file: Verified) -> dict[str, Any]:
    return {
        "file": file.path.name,
        "verdict": file.verdict,
        "name": file.known.name if file.known else None,
        "sha256": file.sha256,
    }


def _json(folder: Path, **parts: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"schema_version": SCHEMA_VERSION, "folder": str(folder), **parts}, indent=2)
