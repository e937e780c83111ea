"""`gpen-archive-worker`, or `python -m worker`: one engine, configured by the environment."""

import sys

from gpen_engine import GpenError
from jobs.errors import JobError
from jobs.logs import configure, get_logger
from jobs.settings import JobSettings
from worker.app import serve
from worker.exits import ENVIRONMENT
from worker.runtime import build_runtime
from worker.settings import WorkerSettings

_log = get_logger(__name__)


def main() -> None:
    """Run a worker; exit with 5 when weights, device, database or broker can't be used."""
    sys.exit(_run())


def _run() -> int:
    try:
        settings = JobSettings.from_environment()
        configure(log_format=settings.log_format, level=settings.log_level)
        runtime = build_runtime(settings, WorkerSettings.from_environment())
        engine = runtime.engine.identity
        _log.info("worker.ready", weights=engine.weights, device=engine.device)
        return serve(runtime)
    except (GpenError, JobError) as error:
        _log.error("worker.unfit", code=error.code, error=str(error), advice=error.advice)
        return ENVIRONMENT


if __name__ == "__main__":
    main()
