"""The folder that `run` keeps at its destination: made, locked against other runs, and left."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.errors import DestinationUnusable
from jobs.home import Home
from producer.errors import DestinationBusy


@contextmanager
def occupy(destination: Path) -> Iterator[Home]:
    """Make the folder and keep other runs out of it.

    A first run that fails before anything was delivered takes the folder away again.

    Raises:
        DestinationBusy: another run has it.
        DestinationUnusable: it can't be made or locked.
    """
    home = Home(destination)
    made = [path for path in (home.folder, *home.folder.parents) if not path.exists()]
    try:
        home.folder.mkdir(parents=True, exist_ok=True)
        lock = (home.folder / "lock").open("w")
    except OSError as error:
        _remove(home, made)
        raise DestinationUnusable(f"{destination} can't be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DestinationBusy(f"another run is working on {destination}") from error
        except OSError as error:
            _remove(home, made)
            raise DestinationUnusable(f"{destination} can't be locked: {error.strerror}") from error
        try:
            yield home
        except Exception:
            _remove(home, made)
            raise


def _remove(home: Home, made: list[Path]) -> None:
    """Remove what this run made, unless something was delivered meanwhile."""
    if home.folder not in made or any(path != home.folder for path in home.destination.glob("*")):
        return
    shutil.rmtree(home.folder, ignore_errors=True)
    with suppress(OSError):
        for path in made[1:]:
            path.rmdir()
