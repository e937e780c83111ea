"""`gpen-archive export`: a job as a BagIt bag with PREMIS metadata, for a repository to take in.

Like all commands here it prints nothing but results and raises what goes wrong.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from jobs.home import find_ledger
from jobs.reading import LedgerReader
from jobs.schema import Counts, Job
from jobs.settings import JobSettings
from jobs.storage import open_store
from worker.export.packing import FAILURES, PENDING, Contents, Source, pack
from worker.settings import WorkerSettings
from worker.terminal import bar


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
    with closing(LedgerReader(find_ledger(settings, at))) as ledger:
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
        with bar("photos") as step:
            contents = pack(
                source,
                folder,
                organization=organization,
                check=validate,
                scratch=WorkerSettings.from_environment().make_scratch(),
                on_photo=lambda: step(counts.total),
            )
    for line in _lines(folder, contents, validated=validate):
        typer.echo(line)


def _require_finished(job: Job, counts: Counts, *, partial: bool) -> None:
    left = counts.total - counts.finished
    if left and not partial:
        raise typer.BadParameter(
            f"{left} of {counts.total} photos of job {job.id} are neither done nor failed; wait "
            "for them, or export what there is with --partial"
        )


def _lines(folder: Path, contents: Contents, *, validated: bool) -> Iterator[str]:
    checked = "read back and valid" if validated else "not read back: --no-validate"
    yield (f"{folder}: a bag with {contents.files} files, {contents.size_bytes} bytes; {checked}")
    yield f"{contents.delivered} of {contents.photos} photos delivered"
    if contents.failed:
        yield f"{contents.failed} failed: data/{FAILURES} says why"
    if contents.pending:
        yield f"{contents.pending} not finished yet: data/{PENDING}"
