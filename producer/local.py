"""The embedded stack for one machine: a job and its source go in, delivered photos come out.

Valkey and one worker are child processes, the ledger is SQLite at the destination, and the
dispatcher runs here. Every child dies with us. A run that was stopped, or killed, goes on where it
was when the same command is given again: at its start nobody else can hold anything, so all that an
earlier run had published or claimed comes back.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from jobs.errors import BrokerUnavailable, JobError
from jobs.home import Home
from jobs.hours import Always, Hours
from jobs.ledger import Ledger
from jobs.logs import get_logger, read_fields
from jobs.memory import MemoryClass
from jobs.migrate import migrate
from jobs.schema import Control, Counts, Failure, Job, PhotoState, Standing
from jobs.settings import JobSettings
from jobs.storage import ObjectStore
from producer.child import Child
from producer.dispatch import Dispatcher
from producer.errors import DestinationTaken, WorkerFailed, WorkerStopped
from producer.exits import ExitCode, code_for_counts
from producer.home import occupy
from producer.stop import StopRequest
from producer.submit import Submission, submit
from producer.valkey import Valkey

WORKER_NAME = "embedded"
# Without -P a file in the current directory could stand in for one of our modules.
WORKER_COMMAND = (sys.executable, "-P", "-m", "worker")
_POLL_S = 0.5
_MOST_FAILURES = 20
_GRACE_S = 30.0
_LEAVING_S = 10.0

log = get_logger(__name__)


class Watcher(Protocol):
    """Somebody who looks on: a terminal's live display, or plain lines."""

    def entered(self, submission: Submission) -> None:
        """The job is in the ledger."""

    def progress(self, counts: Counts) -> None:
        """This is how the job stands, about twice a second."""

    def control(self, control: Control) -> None:
        """This was last said about the job, as often."""

    def stopping(self) -> None:
        """A stop was requested; the worker finishes the photo in hand."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    submission: Submission
    standing: Standing
    failures: list[Failure]  # the first few

    @property
    def counts(self) -> Counts:
        """The job in numbers."""
        return self.standing.counts

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        if self.counts.finished < self.counts.total:
            return ExitCode.INTERRUPTED
        return code_for_counts(self.counts, left_out=len(self.submission.tally.unsafe))


class BrokenOff(Exception):
    """A run that has begun and can't go on: why, and how the job stands."""

    def __init__(self, why: JobError | WorkerStopped, ending: Ending) -> None:
        super().__init__(str(why))
        self.why = why
        self.ending = ending


def run(
    job: Job,
    *,
    source: ObjectStore,
    settings: JobSettings,
    worker_environment: Mapping[str, str],
    watcher: Watcher,
    hours: Hours | Always | None = None,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> Ending:
    """Restore a job's photos on this machine until all are done or failed, or a signal comes.

    Args:
        job: its destination is a directory.
        source: the store of the job's source.
        settings: limits; where database and broker are is decided here.
        worker_environment: the worker's own settings, such as `GPEN_WEIGHTS`.
        watcher: is told how it goes.
        hours: it may run then only; None: when the ledger says, which is always at first.
        worker_command: starts a worker.

    Raises:
        DestinationBusy: another run is at work there.
        DestinationTaken: another recipe has delivered the same photos there.
        DestinationUnusable: nothing can be kept there.
        BrokenOff: the worker refuses its environment, finds no room or dies again and again,
            Valkey isn't there, doesn't start or died, or the ledger can't be used any more.
    """
    with occupy(Path(job.destination)) as home:
        migrate(home.ledger_url)
        with closing(Ledger(home.ledger_url)) as ledger:
            _refuse_other_recipe(ledger, job)
            submission = submit(job, ledger=ledger, source=source, hours=hours)
            watcher.entered(submission)
            _take_back(ledger, max_attempts=settings.max_attempts)
            ledger.resume(job.id)  # whoever gives the command again wants it to go on
            ledger.keep_hours()
            over = ledger.standing(job.id).over
            stack = _Stack(home, ledger, settings, worker_environment, watcher, worker_command)
            try:
                if not over:
                    with StopRequest() as stop:
                        stack.work(job, stop)
            except (JobError, WorkerStopped) as error:
                raise BrokenOff(error, _ending(submission, ledger)) from error
            return _ending(submission, ledger)


class Worker:
    """The worker's process, started again when it dies.

    After the first death it gets a single lane, so that a photo which kills its worker doesn't take
    its neighbours with it; the ledger gives such a photo up after its last attempt.
    """

    def __init__(
        self, command: Sequence[str], *, environment: dict[str, str], log_file: Path
    ) -> None:
        self._command = command
        self._log_file = log_file
        self._environment = environment
        self._child = self._start()
        self._deaths = 0
        self._finished = -1

    def is_dead(self) -> bool:
        """Tell whether the process has ended."""
        return self._child.exit_status is not None

    def revive(self, *, finished: int, patience: int) -> None:
        """Start it again, with one lane, unless that is hopeless.

        Args:
            finished: how many photos are done or failed by now.
            patience: it may die so often before that number has to grow.

        Raises:
            WorkerStopped: it said that its environment can't.
            WorkerFailed: it ended so without a word, or patience is at its end.
        """
        status, words = self._child.exit_status, self._child.last_words
        if status == ExitCode.ENVIRONMENT:
            raise _reason(self._child)
        self._deaths = self._deaths + 1 if finished == self._finished else 1
        self._finished = finished
        if self._deaths > patience:
            raise WorkerFailed(
                f"the worker died {self._deaths} times without finishing a photo, "
                f"the last time with status {status}: {words}"
            )
        log.warning("worker.died", status=status, last_words=words)
        self._environment = self._environment | {"GPEN_LANES": "1"}
        self._child = self._start()

    def stop(self, *, grace_s: float, request: StopRequest) -> None:
        """End it, giving it time for the photo in hand."""
        self._child.stop(grace_s=grace_s, request=request)

    def _start(self) -> Child:
        return Child(self._command, log=self._log_file, environment=self._environment)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Everything that runs while photos are restored."""

    home: Home
    ledger: Ledger
    settings: JobSettings
    worker_environment: Mapping[str, str]
    watcher: Watcher
    worker_command: Sequence[str]

    def work(self, job: Job, stop: StopRequest) -> None:
        """Start broker and worker, follow the job to its end, stop both."""
        with Valkey(log=self.home.log("valkey")) as valkey:
            own = {
                "GPEN_DATABASE_URL": self.home.ledger_url,
                "GPEN_BROKER_URL": valkey.url,
                "GPEN_WORKER_NAME": WORKER_NAME,
                "GPEN_QUEUES": ",".join(MemoryClass),  # nobody else would take the large ones
                "GPEN_GRACE_S": str(_GRACE_S),
            }
            environment = os.environ | self.worker_environment | own
            worker = Worker(
                self.worker_command, environment=environment, log_file=self.home.log("worker")
            )
            try:
                self._follow(job, valkey, worker, stop)
            finally:
                worker.stop(grace_s=_GRACE_S + _LEAVING_S, request=stop)
                self.ledger.give_back(WORKER_NAME)
                self.ledger.unpublish()

    def _follow(self, job: Job, valkey: Valkey, worker: Worker, stop: StopRequest) -> None:
        """Publish and look after both children until the job is finished or a signal comes."""
        from jobs import broker  # noqa: PLC0415 - Celery takes its time, and most commands need none

        settings = self.settings.model_copy(update={"broker_url": SecretStr(valkey.url)})
        app = broker.make_app(settings)
        dispatcher = Dispatcher(
            ledger=self.ledger,
            publish=partial(broker.publish, app),
            waiting=partial(broker.waiting, app),
            recognize=partial(broker.recognize, app),
            window=settings.window,
            max_attempts=settings.max_attempts,
            job_id=job.id,
        )
        while True:
            standing = self.ledger.standing(job.id)
            self.watcher.progress(standing.counts)
            self.watcher.control(standing.control)
            if standing.over:
                return
            valkey.check()
            if worker.is_dead():
                _take_back(self.ledger, max_attempts=settings.max_attempts)
                worker.revive(finished=standing.counts.finished, patience=settings.max_attempts + 1)
            with suppress(BrokerUnavailable):  # alive by `check`: the next pass sends all again
                dispatcher.step()
            if stop.wait(_POLL_S):
                self.watcher.stopping()
                return


def _ending(submission: Submission, ledger: Ledger) -> Ending:
    job_id = submission.job.id
    failures = list(ledger.failures(job_id, limit=_MOST_FAILURES))
    return Ending(submission, ledger.standing(job_id), failures)


def _reason(worker: Child) -> WorkerStopped | WorkerFailed:
    """Return the error that a worker logged last as its end."""
    for line in reversed(worker.last_lines):
        fields = read_fields(line)
        if {"code", "error", "advice"} <= fields.keys():
            return WorkerStopped(fields["code"], fields["error"], fields["advice"])
    return WorkerFailed(f"the worker can't work here: {worker.last_words}")


def _take_back(ledger: Ledger, *, max_attempts: int) -> None:
    """Make pending whatever was published, or claimed by a worker that died."""
    ledger.requeue_lost(WORKER_NAME, max_attempts=max_attempts)
    ledger.unpublish()


def _refuse_other_recipe(ledger: Ledger, job: Job) -> None:
    """Refuse a job whose photos another recipe delivered: each would be a conflict."""
    for other in ledger.jobs():
        same_place = other.id != job.id and other.source == job.source
        if same_place and ledger.counts(other.id).of(PhotoState.DONE):
            raise DestinationTaken(
                f"{job.destination} has photos from {job.source} by another recipe (job {other.id})"
            )
