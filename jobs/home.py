"""What `run` keeps at its destination, and where the ledger is that a command means."""

from dataclasses import dataclass
from pathlib import Path

from jobs.errors import JobUnknown
from jobs.settings import JobSettings

FOLDER = ".gpen-archive"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths inside one destination's folder."""

    destination: Path

    @property
    def folder(self) -> Path:
        """The folder itself; its name is hidden, so no scan takes it for photos."""
        return self.destination / FOLDER

    @property
    def ledger(self) -> Path:
        """The ledger's database file."""
        return self.folder / "ledger.sqlite3"

    @property
    def ledger_url(self) -> str:
        """The ledger's address, in which a question mark would begin the options."""
        path = str(self.ledger).replace("%", "%25").replace("?", "%3F")
        return f"sqlite:///{path}"

    def log(self, of: str) -> Path:
        """The log of one of the processes."""
        return self.folder / f"{of}.log"


def find_ledger(settings: JobSettings, at: Path | None) -> str:
    """Return the address of the ledger that is meant.

    Args:
        settings: they name the ledger of service mode.
        at: the destination of a `run`, whose own ledger is meant.

    Raises:
        JobUnknown: no `run` has delivered into `at`.
    """
    if at is None:
        return settings.database_url.get_secret_value()
    home = Home(at.expanduser().resolve())
    if not home.ledger.is_file():
        raise JobUnknown(f"no `run` has delivered into {at}")
    return home.ledger_url
