"""Where derivatives lie, seen past the program: every name there is, hidden ones too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol


class Place(Protocol):
    """A destination."""

    def keys(self) -> set[str]:
        """Return every name there is."""
        ...

    def read(self, key: str) -> bytes:
        """Return what is there under a name."""
        ...


class Bucket:
    """A bucket of an object store."""

    def __init__(self, client: Any, name: str) -> None:  # noqa: ANN401 - boto3 makes the class
        self._client = client
        self._name = name

    def keys(self) -> set[str]:
        """Return every name there is, and those of uploads that nobody completed."""
        return set(self._listed("list_objects_v2", "Contents")) | {
            f"{key} (parts of an upload)"
            for key in self._listed("list_multipart_uploads", "Uploads")
        }

    def read(self, key: str) -> bytes:
        """Return an object."""
        return bytes(self._client.get_object(Bucket=self._name, Key=key)["Body"].read())

    def _listed(self, how: str, what: str) -> Iterator[str]:
        for page in self._client.get_paginator(how).paginate(Bucket=self._name):
            for item in page.get(what, ()):
                yield item["Key"]


class Folder:
    """A folder of files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keys(self) -> set[str]:
        """Return every name there is."""
        files = (path for path in self._path.rglob("*") if path.is_file())
        return {str(path.relative_to(self._path)) for path in files}

    def read(self, key: str) -> bytes:
        """Return a file."""
        return (self._path / key).read_bytes()
