"""A real Celery worker with no engine: it copies masters, and does what their names tell it.

`killer...` kills the process, `slow...` waits for a file `.go` in the source, `bad...` fails,
`full...` finds no room, `emptier...` empties the broker.
"""

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from celery.worker import state

from jobs import broker, logs
from jobs.errors import StoreFull
from jobs.ledger import Ledger
from jobs.schema import Claim, Outcome, PhotoMessage
from jobs.settings import JobSettings

settings = JobSettings.from_environment()
name = os.environ["GPEN_WORKER_NAME"]
ledger = Ledger(settings.database_url.get_secret_value())
app = broker.make_app(settings)


@app.task(name=broker.TASK_NAME)
def restore_photo(message: dict[str, object]) -> None:
    photo = PhotoMessage.model_validate(message)
    claim = ledger.claim(photo.photo_id, worker=name, lease_s=settings.lease_s)
    if claim is not None:
        work(claim)


def work(claim: Claim) -> None:
    if claim.key.startswith("killer"):
        os.kill(os.getpid(), signal.SIGKILL)
    if claim.key.startswith("bad"):
        ledger.fail(claim, code="photo.corrupt", message="it is bad", advice="scan", stage="decode")
        return
    if claim.key.startswith("full"):
        ledger.release(claim, after_s=0, counted=False)
        told = {"code": StoreFull.code, "error": "no room", "advice": StoreFull.advice}
        logs.get_logger("stub").error("worker.stops", **told)
        state.should_stop = 5
        return
    if claim.key.startswith("emptier"):
        app.connection_for_write().default_channel.client.flushall()
    go = Path(claim.job.source) / ".go"
    deadline = time.monotonic() + 30
    while claim.key.startswith("slow") and not go.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    derivative = Path(claim.job.destination) / f"{claim.key}.restored"
    derivative.parent.mkdir(parents=True, exist_ok=True)
    derivative.touch()
    ledger.succeed(claim, Outcome(derivative.name, f"{derivative.name}.json", 2, 1, 0.1))


if __name__ == "__main__":
    worker = app.Worker(pool="threads", concurrency=1, without_mingle=True, without_gossip=True)
    logs.configure(log_format=settings.log_format)
    worker.start()
    sys.exit(worker.exitcode or 0)
