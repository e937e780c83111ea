"""`python -m deploy.services up --dir DIR`: the whole of service mode on one machine, from wheels.

In: a folder, which keeps data, secrets and logs from one start to the next. Out: broker, database,
object store, dispatcher, one worker and Flower, all on loopback, until Ctrl-C or SIGTERM; their
addresses on the screen and in DIR/env. None of them outlives this process, however it ends.
"""

import argparse
import fcntl
import os
import shlex
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from deploy.flower import Flower
from deploy.postgres import Postgres
from deploy.processes import ServiceFailed
from deploy.seaweedfs import SeaweedFS
from deploy.server import Program, Server, keep_secret, write_private
from deploy.valkey import Valkey

BUCKETS = ("photos-in", "photos-out")
DATABASE = "gpen_archive"
FLOWER_PORT = 5555
_ARCHIVE = (sys.executable, "-m", "producer")
_WORKER = (sys.executable, "-m", "worker")
_MIGRATED_S = 120.0
_POLL_S = 0.5


def addresses(
    valkey: Valkey, postgres: Postgres, seaweedfs: SeaweedFS, *, database: str = DATABASE
) -> dict[str, str]:
    """Return the settings that lead the pipeline to these services; the database is made."""
    return {
        "GPEN_DATABASE_URL": postgres.create_database(database),
        "GPEN_BROKER_URL": valkey.url,
        "GPEN_S3_ENDPOINT_URL": seaweedfs.endpoint_url,
        "GPEN_S3_ACCESS_KEY_ID": seaweedfs.access_key,
        "GPEN_S3_SECRET_ACCESS_KEY": seaweedfs.secret_key,
    }


def program(
    folder: Path, *command: str, settings: Mapping[str, str], ready_text: str = ""
) -> Program:
    """Return one of our own programs with its settings."""
    environment = {"PYTHONUNBUFFERED": "1", **settings}
    return Program(folder, command, environment=environment, ready_text=ready_text)


def archive(folder: Path, *arguments: str, settings: Mapping[str, str]) -> Program:
    """Return a `gpen-archive` command."""
    return program(folder, *_ARCHIVE, *arguments, settings=settings)


def worker(folder: Path, *, settings: Mapping[str, str]) -> Program:
    """Return a worker, ready once its engine is built, which it logs at level INFO."""
    logging = {"GPEN_LOG_LEVEL": "INFO"}
    return program(folder, *_WORKER, settings=logging | dict(settings), ready_text="worker.ready")


def up(folder: Path, *, flower_port: int, screen: IO[str]) -> None:
    """Run everything until the process is told to stop.

    Raises:
        ServiceFailed: something can't be started, or ended by itself.
    """
    with _only_one(folder), ExitStack() as running:
        valkey = running.enter_context(Valkey(folder / "valkey"))
        postgres = running.enter_context(Postgres(folder / "postgres"))
        seaweedfs = running.enter_context(SeaweedFS(folder / "seaweedfs"))
        for bucket in BUCKETS:
            seaweedfs.make_bucket(bucket)
        settings = addresses(valkey, postgres, seaweedfs)
        with archive(folder / "migrate", "migrate", settings=settings) as migrate:
            migrate.process.finish(deadline_s=_MIGRATED_S)
        ours = [
            archive(folder / "dispatch", "dispatch", settings=settings),
            worker(folder / "worker", settings=settings),
        ]
        basic_auth = os.environ.get("GPEN_FLOWER_BASIC_AUTH") or _own_basic_auth(folder)
        flower = Flower(
            folder / "flower", broker_url=valkey.url, basic_auth=basic_auth, port=flower_port
        )
        for server in (*ours, flower):
            running.enter_context(server)
        _write_environment(folder, {**settings, "GPEN_FLOWER_BASIC_AUTH": basic_auth})
        screen.write(_welcome(folder, flower))
        screen.flush()
        _watch([valkey, postgres, seaweedfs, *ours, flower])


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServiceFailed(f"the services of {folder} are running already") from error
        yield


def _own_basic_auth(folder: Path) -> str:
    return f"archive:{keep_secret(folder / 'flower.password')}"


def _write_environment(folder: Path, settings: Mapping[str, str]) -> None:
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
    programs = shlex.quote(sysconfig.get_path("scripts"))
    write_private(folder / "env", "".join([*lines, f"export PATH={programs}:$PATH\n"]))


def _welcome(folder: Path, flower: Flower) -> str:
    masters, derivatives = BUCKETS
    return (
        f"\n{(folder / 'env').read_text()}\n"
        f"In another terminal:   source {shlex.quote(str(folder / 'env'))}\n"
        f"Restore a bucket:      gpen-archive submit s3://{masters} s3://{derivatives}\n"
        f"See how it stands:     gpen-archive status   and   {flower.url} (user:password above)\n"
        f"Logs:                  {folder}/*/log\n"
        "Ctrl-C stops everything.\n"
    )


def _watch(servers: list[Server]) -> None:
    while True:
        for server in servers:
            if server.process.exit_code is not None:
                code = server.process.exit_code
                raise ServiceFailed(f"a service ended by itself with {code}: {server.log}")
        time.sleep(_POLL_S)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit  # a stop by signal is the normal end here


def main() -> None:
    """Read the command line; exit with 5 when a service can't run."""
    parser = argparse.ArgumentParser(prog="python -m deploy.services", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start everything and wait")
    start.add_argument("--dir", type=Path, default=Path(".services"), dest="folder")
    start.add_argument("--flower-port", type=int, default=FLOWER_PORT)
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        up(options.folder.resolve(), flower_port=options.flower_port, screen=sys.stdout)
    except ServiceFailed as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(5)


if __name__ == "__main__":
    main()
