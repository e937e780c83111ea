"""The door to object stores: an address goes in, a store in a directory or in S3 comes out."""

from pathlib import Path

from jobs.directory import DirectoryStore
from jobs.errors import SettingsInvalid
from jobs.objects import ObjectInfo, ObjectStore, PutResult
from jobs.settings import JobSettings

__all__ = ["DirectoryStore", "ObjectInfo", "ObjectStore", "PutResult", "open_store"]


def open_store(url: str, settings: JobSettings) -> ObjectStore:
    """Return the store at `url`: a path, or `s3://bucket/prefix`. Nothing is contacted yet.

    Raises:
        SettingsInvalid: the address is of another kind; or, at the first use, the S3 endpoint is
            no address.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        return DirectoryStore(Path(url))
    if scheme == "s3":
        from jobs.s3 import S3Store  # noqa: PLC0415 - boto3 takes its time, and folders need none

        return S3Store(url, settings)
    raise SettingsInvalid(f"{scheme}:// isn't supported: give a directory or s3://bucket/prefix")
