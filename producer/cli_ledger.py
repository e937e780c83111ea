"""The commands that ask the ledger, or tell it something about a job as a whole."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jobs import logs
from jobs.home import find_ledger
from jobs.hours import ALWAYS, Hours
from jobs.ledger import Ledger
from jobs.schema import Job
from jobs.settings import JobSettings
from producer.errors import CodeUnknown
from producer.options import hours
from producer.report import failures_table, job_json, job_table, jobs_json, jobs_table
from producer.terminal import output, say

_MOST_FAILURES = 100

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, six or more digits of it, or its name.")
]
At = Annotated[
    Path | None,
    typer.Option(
        metavar="DST", help="Ask the ledger of a `run` to DST instead of GPEN_DATABASE_URL."
    ),
]


Priority = Annotated[
    int, typer.Argument(min=-100, max=100, help="Higher goes first; 0 is usual.", metavar="N")
]


def settings() -> JobSettings:
    """Read the environment and begin to log."""
    read = JobSettings.from_environment()
    logs.configure(log_format=read.log_format, level=read.log_level)
    return read


@contextmanager
def open_ledger(at: Path | None = None) -> Iterator[Ledger]:
    """Open the ledger that is meant, and make sure that it answers."""
    with closing(Ledger(find_ledger(settings(), at))) as ledger:
        ledger.check()
        yield ledger


def status(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="One job, with its failures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    at: At = None,
) -> None:
    """Show all jobs, or one and why nothing moves, if nothing does."""
    console = output()
    with open_ledger(at) as ledger:
        if job is None:
            jobs = ledger.standings()
            typer.echo(jobs_json(jobs)) if as_json else console.print(jobs_table(jobs))
            return
        found = ledger.standing(ledger.find_job(job).id)
        if as_json:
            failures = ledger.failures(found.job.id)
            sys.stdout.writelines(job_json(found, failures, now=time.time()))
            return
        first = list(ledger.failures(found.job.id, limit=_MOST_FAILURES))
    console.print(job_table(found, now=time.time()))
    if first:
        console.print()
        console.print(failures_table(first))
    more = sum(found.counts.by_code.values()) - len(first)
    if more > 0:
        say(f"... and {more} more: gpen-archive status {found.job.id} --json", to=console)


def retry(
    job: JobArgument,
    code: Annotated[
        str | None, typer.Option(help="Only photos that failed with this code.")
    ] = None,
    at: At = None,
) -> None:
    """Give a job's failed photos all their attempts again."""
    with open_ledger(at) as ledger:
        found = ledger.find_job(job)
        _check_code(found, code, known=ledger.counts(found.id).by_code)
        count = ledger.retry(found.id, code=code)
    photos = "1 photo" if count == 1 else f"{count} photos"
    when = "when the same `run` is given again" if at else "by the next free worker"
    say(f"{photos} of job {found.id} will be tried again {when}.")


def pause(job: JobArgument, at: At = None) -> None:
    """Let no more photos of a job begin; those in hand are finished."""
    with open_ledger(at) as ledger:
        found = ledger.find_job(job)
        ledger.pause(found.id)
    say(f"Job {found.id} is paused: `gpen-archive resume` lets it go on.")


def resume(job: JobArgument, at: At = None) -> None:
    """Take a paused or cancelled job up again."""
    with open_ledger(at) as ledger:
        found = ledger.find_job(job)
        ledger.resume(found.id)
    say(f"Job {found.id} goes on.")


def cancel(job: JobArgument, at: At = None) -> None:
    """Give a job up; what was delivered stays, photos in hand are finished."""
    with open_ledger(at) as ledger:
        found = ledger.find_job(job)
        ledger.cancel(found.id)
    say(f"Job {found.id} is cancelled: `gpen-archive resume` takes it up again.")


def priority(job: JobArgument, priority: Priority, at: At = None) -> None:
    """Let a job go before those of a lower priority."""
    with open_ledger(at) as ledger:
        found = ledger.find_job(job)
        ledger.set_priority(found.id, priority)
    say(f"Job {found.id} has priority {priority}.")


def window(
    job: JobArgument,
    hours_given: Annotated[
        str, typer.Argument(metavar="HOURS", help=f"Such as 22:00-06:00, or `{ALWAYS}`.")
    ],
    at: At = None,
) -> None:
    """Let a job run in these hours of the day only, by the dispatcher's clock and time zone."""
    chosen = hours(hours_given)
    with open_ledger(at) as ledger:
        found = ledger.find_job(job)
        ledger.set_hours(found.id, chosen if isinstance(chosen, Hours) else None)
    say(f"Job {found.id} runs {chosen}.")


def _check_code(job: Job, code: str | None, *, known: dict[str, int]) -> None:
    if code is None or code in known:
        return
    if not known:
        raise CodeUnknown(f"no photo of job {job.id} failed")
    codes = ", ".join(f"{each} ({count})" for each, count in sorted(known.items()))
    raise CodeUnknown(f"no photo of job {job.id} failed with {code!r}; there are: {codes}")


COMMANDS = (status, retry, pause, resume, cancel, priority, window)
