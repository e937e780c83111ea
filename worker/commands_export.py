"""`gpen-archive export`: a job as a BagIt bag with PREMIS metadata, for a repository to take in.

Like all commands here it prints nothing but results and raises what goes wrong.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.errors import JobUnknown
from jobs.reading import LedgerReader
from jobs.schema import Counts, Job
from jobs.settings import JobSettings
from jobs.storage import open_store
from worker.export.packing import FAILURES, PENDING, Contents, Source, pack

_LEDGER_OF_A_RUN = Path(".gpen-archive", "ledger.sqlite3")


def register(app: typer.Typer, _with_recipe: object = None) -> None:
    """Add `export` to the command line."""
    app.command("export")(export)


def export(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="Its id, six or more digits of it, or its name.")
    ],
    *,
    folder: Annotated[
        Path, typer.Option("--bagit", metavar="DIR", help="Where the bag goes; a new folder.")
    ],
    with_masters: Annotated[
        bool, typer.Option("--with-masters", help="Copy the masters of delivered photos too.")
    ] = False,
    organization: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who sends the bag (Source-Organization).")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Export a job that isn't finished; say what is left.")
    ] = False,
    validate: Annotated[
        bool, typer.Option(help="Read the whole bag again before it gets its name.")
    ] = True,
    at: Annotated[
        Path | None,
        typer.Option(
            metavar="DST", help="Ask the ledger of a `run` to DST instead of GPEN_DATABASE_URL."
        ),
    ] = None,
) -> None:
    """Pack a job's derivatives and sidecars into a BagIt bag, with PREMIS 3 metadata."""
    settings = JobSettings.from_environment()
    with closing(LedgerReader(_ledger_url(settings, at))) as ledger:
        ledger.check()
        found = ledger.find_job(job)
        counts = ledger.counts(found.id)
        _require_finished(found, counts, partial=partial)
        source = Source(
            job=found,
            photos=ledger.photos(found.id),
            derivatives=open_store(found.destination, settings),
            masters=open_store(found.source, settings) if with_masters else None,
        )
        with _bar(counts.total) as progress:
            contents = pack(
                source, folder, organization=organization, check=validate, progress=progress
            )
    for line in _lines(folder, contents, validated=validate):
        typer.echo(line)


def _ledger_url(settings: JobSettings, at: Path | None) -> str:
    """Return the address of the ledger that is meant, as the other commands find it."""
    if at is None:
        return settings.database_url.get_secret_value()
    path = at.expanduser().resolve() / _LEDGER_OF_A_RUN
    if not path.is_file():
        raise JobUnknown(f"no `run` has delivered into {at}")
    escaped = str(path).replace("%", "%25").replace("?", "%3F")  # else options would begin
    return f"sqlite:///{escaped}"


def _require_finished(job: Job, counts: Counts, *, partial: bool) -> None:
    left = counts.total - counts.finished
    if left and not partial:
        raise typer.BadParameter(
            f"{left} of {counts.total} photos of job {job.id} are neither done nor failed; wait "
            "for them, or export what there is with --partial"
        )


@contextmanager
def _bar(photos: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on the terminal, and nothing where there is none."""
    columns = (TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("photos", total=photos)
        yield lambda done: bar.update(task, completed=done)


def _lines(folder: Path, contents: Contents, *, validated: bool) -> Iterator[str]:
    checked = "read back and valid" if validated else "not read back: --no-validate"
    yield (f"{folder}: a bag with {contents.files} files, {contents.size_bytes} bytes; {checked}")
    yield f"{contents.delivered} of {contents.photos} photos delivered"
    if contents.failed:
        yield f"{contents.failed} failed: data/{FAILURES} says why"
    if contents.pending:
        yield f"{contents.pending} not finished yet: data/{PENDING}"
