"""The monitor: Flower, behind a password, with a history that outlives it."""

import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from deploy.processes import LOOPBACK, ServiceFailed
from deploy.server import Server, installed_file

_SAVE_EVERY_MS = 10_000


class Flower(Server):
    """Flower's page and API on loopback.

    Args:
        folder: where its history lies.
        port: a free one where None.
        broker_url: the broker whose events it shows.
        basic_auth: `user:password`.

    Raises:
        ServiceFailed: there is no password: Flower would show everything to everybody.
    """

    def __init__(
        self, folder: Path, *, broker_url: str, basic_auth: str, port: int | None = None
    ) -> None:
        super().__init__(folder, port=port)
        if not all(basic_auth.partition(":")):
            raise ServiceFailed("Flower needs GPEN_FLOWER_BASIC_AUTH: user:password")
        # By the environment, for everybody on the machine may read a command line.
        self._secrets = {"CELERY_BROKER_URL": broker_url, "FLOWER_BASIC_AUTH": basic_auth}

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{LOOPBACK}:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return broker and password."""
        return self._secrets

    def command(self) -> list[str]:
        """Return the command line."""
        installed_file("flower", "__init__.py")
        return [
            *(sys.executable, "-m", "celery", "flower"),
            f"--address={LOOPBACK}",
            f"--port={self.port}",
            "--persistent=True",
            f"--db={self.folder / 'history'}",
            f"--state-save-interval={_SAVE_EVERY_MS}",
        ]

    def answers(self) -> bool:
        """Ask whether it is healthy, which needs no password."""
        with suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{self.url}/healthcheck", timeout=2).close()  # noqa: S310 - loopback
            return True
        return False
