"""Asks a ledger that doesn't answer until it does: a call goes in, its answer comes out."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from jobs.errors import DatabaseUnavailable
from jobs.logs import get_logger
from worker.retry import LEDGER_WAITS

T = TypeVar("T")

_log = get_logger(__name__)


def insist(call: Callable[[], T], *, give_up: Callable[[], bool] = lambda: False) -> T:
    """Return what a call of the ledger returns, however long its database is away.

    Args:
        call: asks the ledger.
        give_up: says, after each time in vain, that nobody wants the answer any more.

    Raises:
        DatabaseUnavailable: nobody does.
    """
    tries = 0
    while True:
        try:
            return call()
        except DatabaseUnavailable as error:
            if give_up():
                raise
            tries += 1
            wait_s = LEDGER_WAITS.after(tries, draw=random.random())  # noqa: S311 - no secret
            _log.warning("ledger.waiting", code=error.code, error=str(error), wait_s=wait_s)
            time.sleep(wait_s)
