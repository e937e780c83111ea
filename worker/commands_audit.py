"""`gpen-archive verify` and `reproduce`: what was delivered against its records, years later.

Like all commands here they print nothing but results and raise what goes wrong. The JSON's shape
is a contract; a change of meaning raises `SCHEMA_VERSION`.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from gpen_engine.devices import pick_device, threads_of, use_threads
from jobs.errors import DestinationExists, Permanent, SourceMissing
from jobs.schema import sidecar_key
from jobs.settings import JobSettings
from jobs.storage import ObjectStore, open_store
from worker import options
from worker.audit.record import Record, read_sealed
from worker.audit.verify import Check, Verdict, Verified, verify_all
from worker.codec import FileBytes, sha256_of
from worker.copies import fetch
from worker.decoding import Decoder
from worker.exits import NOT_ALL_FINE
from worker.provenance import software
from worker.reproduction import Reproduction, describe_difference, reproduce, weights_of
from worker.runtime import load_engine
from worker.scratch import Scratch
from worker.settings import WorkerSettings
from worker.terminal import output, plain

SCHEMA_VERSION = 1

MastersOption = Annotated[
    str,
    typer.Option("--masters", metavar="SRC", help="Directory or s3://bucket/prefix of the job."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


def register(app: typer.Typer, _with_recipe: object = None) -> None:
    """Add `verify` and `reproduce` to the command line."""
    app.command("verify")(verify)
    app.command("reproduce")(reproduce_one)


def verify(
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="Directory or s3://bucket/prefix with the results.")
    ],
    *,
    masters: Annotated[
        str | None,
        typer.Option(metavar="SRC", help="Where the masters are; without it they aren't checked."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare hashes only; no picture is decoded.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check seals, hashes and pixels of everything delivered; reads only."""
    settings = JobSettings.from_environment()
    if Path(destination).is_file():
        raise SourceMissing(f"{destination} is a file: give the folder that it was delivered into")
    derivatives = open_store(destination, settings)
    derivatives.check_readable()
    originals = None if masters is None else open_store(masters, settings)
    if originals is not None:
        originals.check_readable()
    report = Report()
    worker = WorkerSettings.from_environment()
    scratch = worker.make_scratch()
    with Decoder(worker.decode_budget, scratch=scratch, ready=0 if quick else 1) as decode:
        report.add_all(
            verify_all(
                derivatives,
                originals,
                decode=decode,
                limits=worker.limits,
                scratch=scratch,
                quick=quick,
            )
        )
    if not report.photos:
        raise SourceMissing(f"there is nothing to verify in {destination}: no derivative")
    if as_json:
        typer.echo(report.to_json(destination, masters))
    else:
        _print(report)
    if report.findings:
        raise typer.Exit(NOT_ALL_FINE)


def reproduce_one(
    sidecar: Annotated[
        str, typer.Argument(metavar="SIDECAR", help="A derivative's .json file, here or in s3://.")
    ],
    *,
    masters: MastersOption,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep what comes out; never overwrites.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="The recorded weights' file, where they aren't known by their hash."),
    ] = None,
    device: options.Device = "auto",
    vram_limit: options.VramLimit = None,
) -> None:
    """Make a derivative again from its master, as its sidecar says, and compare the bytes."""
    settings = JobSettings.from_environment()
    place, name = _split(sidecar)
    derivatives = open_store(place, settings)
    if derivatives.head(name) is None:
        raise SourceMissing(f"there is no sidecar {sidecar}")
    record = read_sealed(derivatives.get(name))
    target = None if output is None else _target(output, settings)
    worker = _settings_like(record, weights=weights, device=device, vram_limit=vram_limit)
    limits, scratch = worker.limits, worker.make_scratch()
    originals = open_store(masters, settings)
    master = fetch(originals, record.master.key, limits=limits, scratch=scratch)
    with Decoder(worker.decode_budget, scratch=scratch) as decode:
        _share_as_recorded(record, worker)
        engine = load_engine(worker)
        made = reproduce(record, master, engine, decode=decode, limits=limits, scratch=scratch)
    if target is not None and output is not None:
        encoded = made.encoded
        target.put_once(output.name, encoded.file, content_type=encoded.content_type)
    key = name.removesuffix(sidecar_key(""))
    stored = _stored(derivatives, key, record, scratch)
    if made.identical:
        typer.echo(f"{plain(key)}: identical, byte for byte ({record.derivative.sha256})")
        if stored is None:
            typer.echo(f"{plain(key)} itself is gone or damaged since: --output makes it again")
            raise typer.Exit(NOT_ALL_FINE)
        return
    for line in _differences(record, made, stored, worker, scratch):
        typer.echo(line)
    raise typer.Exit(NOT_ALL_FINE)


class Report:
    """What came of all photos: counts, and every finding."""

    def __init__(self) -> None:
        self.photos = 0
        self.counts: Counter[tuple[Check, Verdict]] = Counter()
        self.findings: list[Verified] = []

    def add_all(self, photos: Iterable[Verified]) -> None:
        """Add photos, as they are checked."""
        for photo in photos:
            self.photos += 1
            self.counts.update((result.check, result.verdict) for result in photo.results)
            if photo.findings:
                self.findings.append(photo)

    @property
    def summary(self) -> str:
        """All of it in a sentence."""
        photos = "1 photo" if self.photos == 1 else f"{self.photos:,} photos"
        if self.findings:
            return f"{photos}: {len(self.findings):,} with findings."
        unchecked = [check for check in Check if self.counts[check, Verdict.NOT_CHECKED]]
        if unchecked:
            return f"{photos}: nothing wrong was found; not all checked: {', '.join(unchecked)}."
        return f"{photos}: all fine."

    def to_json(self, destination: str, masters: str | None) -> str:
        """Return counts and findings for programs."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "destination": destination,
            "masters": masters,
            "photos": self.photos,
            "checks": {
                check.value: {verdict.value: self.counts[check, verdict] for verdict in Verdict}
                for check in Check
            },
            "findings": [
                {"derivative": photo.derivative_key, "check": found.check, "detail": found.detail}
                for photo in self.findings
                for found in photo.findings
            ],
        }
        return json.dumps(content, indent=2)


def _print(report: Report) -> None:
    console = output()
    counts = Table("check", box=None, pad_edge=False)
    for verdict in Verdict:
        counts.add_column(verdict.value, justify="right")
    for check in Check:
        counts.add_row(check.value, *(f"{report.counts[check, verdict]:,}" for verdict in Verdict))
    console.print(counts)
    if report.findings:
        findings = Table("derivative", "check", "finding", box=None, pad_edge=False)
        for photo in report.findings:
            for found in photo.findings:
                key, detail = Text(plain(photo.derivative_key)), Text(plain(found.detail))
                findings.add_row(key, found.check.value, detail)
        console.print()
        console.print(findings)
    typer.echo(f"\n{report.summary}")
    if report.photos and report.counts[Check.MASTER, Verdict.WRONG] == report.photos:
        typer.echo("No master is there as recorded: does --masters name the job's own source?")


def _split(address: str) -> tuple[str, str]:
    """Split an address into its store's and the key."""
    place, slash, name = address.rpartition("/")
    return place or slash or ".", name


def _target(output: Path, settings: JobSettings) -> ObjectStore:
    target = open_store(str(output.parent), settings)
    target.check_writable()
    if target.head(output.name) is not None:
        raise DestinationExists(f"{output} exists and isn't overwritten")
    return target


def _settings_like(
    record: Record, *, weights: str | None, device: str, vram_limit: str | None
) -> WorkerSettings:
    """Return settings as near to the recorded ones as this machine's device allows."""
    is_alike = record.device.startswith(pick_device(device).type)
    settings = WorkerSettings.from_environment(
        weights=weights or weights_of(record),
        device=device,
        vram_limit=vram_limit,
        precision=record.precision if is_alike else "auto",
    )
    # A kept face would prove nothing.
    return settings.model_copy(update={"face_cache": None})


def _share_as_recorded(record: Record, worker: WorkerSettings) -> None:
    """Share the CPU's work among as many threads as then, and say so where it would be others."""
    then = record.environment.threads if record.environment else None
    here = threads_of(pick_device(worker.device))
    if then is None or here is None or then == here:
        return
    use_threads(then)
    typer.echo(f"Threads: {then}, as recorded; here it would be {here}.", err=True)


def _stored(
    derivatives: ObjectStore, key: str, record: Record, scratch: Scratch
) -> FileBytes | None:
    """Return the derivative beside a sidecar, unless it is gone or damaged."""
    try:
        stored = fetch(derivatives, key, scratch=scratch)
    except Permanent:
        return None
    return stored if sha256_of(stored) == record.derivative.sha256 else None


def _differences(
    record: Record,
    made: Reproduction,
    stored: FileBytes | None,
    worker: WorkerSettings,
    scratch: Scratch,
) -> Iterable[str]:
    yield f"{plain(record.derivative.key)}: differs"
    yield f"  then: {record.software} on {record.device} in {record.precision}"
    yield f"  now:  {software()} on {made.engine.device} in {made.engine.precision}"
    if made.changed:
        yield f"  not the same now: {', '.join(made.changed)}"
    if made.likely is None:
        yield "  threads and versions weren't recorded then, and may be the reason"
    elif made.likely:
        yield f"  the likely reason: {plain('; '.join(made.likely))}"
    if stored is None:
        yield "  the stored derivative is gone or damaged: samples weren't compared"
    else:
        with Decoder(worker.decode_budget, scratch=scratch) as decode:
            apart = describe_difference(
                stored, made.encoded.stored, decode=decode, limits=worker.limits
            )
        yield f"  {apart}"
