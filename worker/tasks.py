"""The Celery task: claim, work, record. What happens to a photo is in `pipeline` and `retry`."""

import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import assert_never

from celery import Celery
from celery.exceptions import Reject
from celery.worker import state
from pydantic import ValidationError

from gpen_engine import GpenError
from jobs.broker import TASK_NAME
from jobs.errors import ClaimLost, DatabaseUnavailable, JobError, StoreFull
from jobs.logs import get_logger
from jobs.schema import MESSAGE_VERSION, Claim, PhotoMessage
from worker.company import Place
from worker.exits import ENVIRONMENT
from worker.patience import insist
from worker.pipeline import run
from worker.retry import Counted, Drop, Fail, Retry, Stop, Tries, decide
from worker.runtime import Runtime
from worker.stages import Stages

_LATER_S = 60.0  # for a photo that was to be alone, and couldn't be

_log = get_logger(__name__)


def register(app: Celery, runtime: Runtime) -> Callable[[dict[str, object]], str]:
    """Add the one task to the application, working with `runtime`."""

    @app.task(name=TASK_NAME)  # type: ignore[untyped-decorator]
    def restore_photo(message: dict[str, object]) -> str:
        try:
            return handle(message, runtime)
        except StoreFull as error:
            _stop(runtime, error.code, str(error), error.advice)
            raise Reject(str(error), requeue=True) from error
        except DatabaseUnavailable as error:  # and nobody waits for it any more
            raise Reject(str(error), requeue=True) from error
        finally:
            runtime.heap.trim()

    task: Callable[[dict[str, object]], str] = restore_photo
    return task


def handle(message: dict[str, object], runtime: Runtime) -> str:
    """Work on the photo that a message names; return in a word what became of it.

    A message that makes no sense, or whose photo is taken or finished, ends quietly.
    """
    try:
        photo = PhotoMessage.model_validate(message)
    except ValidationError:
        _log.error("message.unreadable", message=str(message)[:200])
        return "unreadable"
    if photo.version != MESSAGE_VERSION:
        _log.error("message.version", version=photo.version, expected=MESSAGE_VERSION)
        return "unreadable"
    with runtime.company.join(give_up=_is_ending) as place:
        claim = _claim(photo.photo_id, runtime)
        if claim is None or not _is_last(claim, runtime):
            return _work(claim, runtime, place)
        _set_aside(claim, runtime, after_s=0)
    with runtime.company.join_alone(give_up=_is_ending) as place:
        claim = _claim(photo.photo_id, runtime)
        if claim is None or place.is_alone:
            return _work(claim, runtime, place)
        _set_aside(claim, runtime, after_s=_LATER_S)
        return "later"


def _claim(photo_id: int, runtime: Runtime) -> Claim | None:
    """Take a photo in hand, or send its message back: the worker may end by now."""
    if _is_ending():
        raise Reject("the worker stops", requeue=True)
    take = partial(
        runtime.ledger.claim,
        photo_id,
        worker=runtime.worker.worker_name,
        lease_s=runtime.settings.lease_s,
        token=secrets.token_hex(16),
    )
    claim = insist(take, give_up=_is_ending)
    if claim is None:
        _log.info("photo.taken", photo_id=photo_id)
    return claim


def _is_last(claim: Claim, runtime: Runtime) -> bool:
    return 1 < runtime.settings.max_attempts <= claim.attempt


def _set_aside(claim: Claim, runtime: Runtime, *, after_s: float) -> None:
    """Give back a photo that has to be alone, as if it hadn't been claimed."""
    _log.info("photo.set_aside", photo_id=claim.photo_id, key=claim.key, after_s=after_s)
    with suppress(ClaimLost):
        insist(partial(runtime.ledger.release, claim, after_s=after_s, counted=False))


def _work(claim: Claim | None, runtime: Runtime, place: Place) -> str:
    """Work on the photo that is in hand, if there is one."""
    if claim is None:
        return "taken"
    _log.info("photo.claimed", photo_id=claim.photo_id, key=claim.key, attempt=claim.attempt)
    with runtime.leases.hold(claim, on_lost=place.leave) as lease:

        def check() -> None:
            lease.check()
            runtime.ending.check()

        stages = Stages(on_begin=check)
        with runtime.ending.in_hand(stages):
            try:
                return _deliver(claim, runtime, stages)
            except Exception as error:  # noqa: BLE001 - the table in retry.py knows every class
                with suppress(ClaimLost):
                    return _record(error, claim, runtime, stages.current)
                return "lost"


def _deliver(claim: Claim, runtime: Runtime, stages: Stages) -> str:
    outcome = run(
        claim,
        masters=runtime.store(claim.job.source),
        derivatives=runtime.store(claim.job.destination),
        engine=runtime.engine,
        decode=runtime.decode,
        limits=runtime.worker.limits,
        stages=stages,
        scratch=runtime.scratch,
    )
    insist(partial(runtime.ledger.succeed, claim, outcome))
    _log.info(
        "photo.done",
        photo_id=claim.photo_id,
        key=claim.key,
        faces=outcome.faces,
        restored=outcome.faces_restored,
        elapsed_s=round(outcome.elapsed_s, 3),
    )
    return "done"


def _record(error: Exception, claim: Claim, runtime: Runtime, stage: str) -> str:
    """Write down what an error means for the photo."""
    ledger, settings = runtime.ledger, runtime.settings
    decision = decide(
        error,
        Tries.of(claim),
        max_attempts=settings.max_attempts,
        draw=random.random(),  # noqa: S311 - no secret
    )
    expected = isinstance(error, JobError | GpenError)
    (_log.warning if expected else _log.exception)(
        "photo.error",
        photo_id=claim.photo_id,
        key=claim.key,
        stage=stage,
        attempt=claim.attempt,
        outages=claim.outages,
        decision=type(decision).__name__.lower(),
        error=f"{type(error).__name__}: {error}",
    )
    match decision:
        case Retry(after_s, counted, memory_class):
            give_back = partial(
                ledger.release,
                claim,
                after_s=after_s,
                counted=counted is Counted.ATTEMPT,
                outage=counted is Counted.OUTAGE,
                memory_class=memory_class,
            )
            insist(give_back)
            return "retry"
        case Fail(code, text, advice):
            reason = {"code": code, "message": text, "advice": advice, "stage": stage}
            insist(partial(ledger.fail, claim, **reason))
            return "failed"
        case Drop():
            return "lost"
        case Stop(code, text, advice):
            _stop(runtime, code, text, advice)
            insist(partial(ledger.release, claim, after_s=0, counted=False))
            return "stopped"
        case _:
            assert_never(decision)


def _stop(runtime: Runtime, code: str, text: str, advice: str) -> None:
    """Say why this worker ends, and end it once the photos in hand are finished."""
    _log.error("worker.stops", code=code, error=text, advice=advice)
    state.should_stop = ENVIRONMENT
    runtime.ending.end(ENVIRONMENT)


def _is_ending() -> bool:
    return state.should_stop is not None
