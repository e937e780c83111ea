"""Enters a job: a job and its source go in, rows come out. Rows first; safe to repeat.

Messages are not this module's business: whoever dispatches finds the rows.
"""

from dataclasses import dataclass
from itertools import chain

from jobs.hours import Always, Hours
from jobs.ledger import Ledger
from jobs.schema import Job
from jobs.settings import JobSettings
from jobs.storage import ObjectStore, open_store
from producer.places import check_apart
from producer.scan import Tally, scan


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submission changed: `new` photos were entered, `known` ones had been before."""

    job: Job
    new: int
    known: int
    tally: Tally


def submit(
    job: Job,
    *,
    ledger: Ledger,
    source: ObjectStore,
    priority: int | None = None,
    hours: Hours | Always | None = None,
) -> Submission:
    """Enter the job and every photo of its source that the ledger doesn't know yet.

    A source without photos leaves no job behind. Priority and hours that are given hold for a job
    that is known already, too.

    Raises:
        DatabaseUnavailable: the ledger can't be written; repeating the submission completes it.
        StoreUnavailable: the source can't be listed to its end; likewise.
    """
    tally = Tally()
    candidates = scan(source, tally)
    first = next(candidates, None)
    if first is None:
        return Submission(job, new=0, known=0, tally=tally)
    if not ledger.add_job(job, priority=priority or 0, hours=_kept(hours)):
        _tell(ledger, job, priority, hours)
    new = ledger.add_photos(job.id, chain([first], candidates))
    return Submission(job, new=new, known=tally.photos - new, tally=tally)


def _tell(ledger: Ledger, job: Job, priority: int | None, hours: Hours | Always | None) -> None:
    if priority is not None:
        ledger.set_priority(job.id, priority)
    if hours is not None:
        ledger.set_hours(job.id, _kept(hours))


def _kept(hours: Hours | Always | None) -> Hours | None:
    """Return hours as the ledger keeps them: for always it has none."""
    return hours if isinstance(hours, Hours) else None


def open_source(job: Job, settings: JobSettings) -> ObjectStore:
    """Check a job's two places before anything is written, and open its source.

    Raises:
        SourceMissing: the source doesn't exist or can't be read.
        DestinationOverlaps: one place contains the other.
        DestinationUnusable: the destination can't be written.
        StoreUnavailable: an object store doesn't answer.
    """
    check_apart(job.source, job.destination)
    source = open_store(job.source, settings)
    source.check_readable()
    open_store(job.destination, settings).check_writable()
    return source
