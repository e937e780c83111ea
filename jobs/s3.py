"""An object store in S3, or in anything that speaks S3 and honours `If-None-Match`."""

import base64
import hashlib
import math
import secrets
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import cached_property
from http import HTTPStatus
from typing import Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from jobs.errors import (
    DestinationUnusable,
    JobError,
    OutputConflict,
    PhotoMissing,
    SettingsInvalid,
    SourceMissing,
    StoreFull,
    StoreUnavailable,
)
from jobs.logs import get_logger
from jobs.objects import ObjectInfo, PutResult, as_file, pieces_of, write_pieces
from jobs.schema import MAX_OBJECT_KEY_BYTES, check_key
from jobs.settings import JobSettings

log = get_logger(__name__)

_SCHEME = "s3://"
_S3_ERRORS = (BotoCoreError, ClientError)
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60
_TRIES = 3
_CONNECTIONS = 32
_WHOLE_BYTES = 5 * 1024**3  # more S3 takes in parts only, of 5 MiB or more each
_PART_BYTES = 64 * 1024**2  # one part at a time is in memory; 10,000 of them are 625 GiB


class S3Store:
    """Objects under one prefix of one bucket.

    Whether an object in parts replaces none is up to the server, which is asked when all parts are
    there. SeaweedFS 4.48 looks first and joins them then: of two that finish in one moment under
    one name both are told that they created it, and the later stays.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        settings: endpoint, region and keys; without keys boto3 looks where it always does.
        whole_bytes: what is larger is put in parts.
        part_bytes: the size of each part but the last.

    Raises:
        SettingsInvalid: the address makes no sense; or, at the first use, the endpoint.
    """

    def __init__(
        self,
        url: str,
        settings: JobSettings,
        *,
        whole_bytes: int = _WHOLE_BYTES,
        part_bytes: int = _PART_BYTES,
    ) -> None:
        self._bucket, _, prefix = url.removeprefix(_SCHEME).partition("/")
        prefix = prefix.strip("/")
        if not self._bucket:
            raise SettingsInvalid(f"{url!r} names no bucket")
        if "@" in self._bucket:
            raise SettingsInvalid(
                "s3://: an address holds no key, for it is shown: give it in GPEN_S3_ACCESS_KEY_ID "
                "and GPEN_S3_SECRET_ACCESS_KEY"
            )
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._settings = settings
        self._whole_bytes = whole_bytes
        self._part_bytes = part_bytes

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes the class as it runs
        # Made at the first use, for boto3 looks for missing keys on the network.
        return _make_client(self._settings)

    @property
    def url(self) -> str:
        """The address without a slash at its end."""
        return f"{_SCHEME}{self._bucket}/{self._prefix}".rstrip("/")

    def list(self) -> Iterator[ObjectInfo]:
        """Yield all objects of the prefix, in the server's order."""
        pages = self._client.get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    hidden = any(part.startswith(".") for part in key.split("/"))
                    if not hidden and not key.endswith("/"):  # consoles make folders so
                        yield ObjectInfo(key, item["Size"])
        except _S3_ERRORS as error:
            raise self._unreadable(error) from error

    def head(self, key: str) -> ObjectInfo | None:
        """Return an object's key and size, None where there is none."""
        name = self._name(key)
        try:
            return ObjectInfo(key, self._client.head_object(**name)["ContentLength"])
        except _S3_ERRORS as error:
            if _status(error) == HTTPStatus.NOT_FOUND:
                return None
            raise _translated(error, f"look at {key!r}") from error

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        return self._get(key)[0]

    def read(self, key: str, start: int, size: int) -> bytes:
        """Return a part of an object. A range can't be empty: of none, one byte is asked for."""
        body, is_part = self._get(key, Range=f"bytes={start}-{start + max(size, 1) - 1}")
        at = 0 if is_part else start  # a server may give the whole all the same
        return body[at : at + size]

    def fetch(self, key: str, target: BinaryIO) -> int:
        """Write an object's bytes to an open file as they arrive."""
        with closing(self._pieces(key)) as pieces:
            return write_pieces(pieces, target)

    def put_once(self, key: str, data: bytes | BinaryIO, *, content_type: str) -> PutResult:
        """Put an object on the condition that its name is free, under the server's own checksum."""
        name = self._name(key)
        file = as_file(data)
        sha256 = _sha256(pieces_of(file))
        size = file.tell()
        file.seek(0)
        described = {"ContentType": content_type, "Metadata": {"sha256": sha256.hex()}}
        try:
            if size <= self._whole_bytes:
                self._client.put_object(
                    **name,
                    **described,
                    Body=file,
                    IfNoneMatch="*",
                    ChecksumSHA256=_base64(sha256),
                )
            else:
                self._put_parts(name, described, file, size)
        except _S3_ERRORS as error:
            if _status(error) != HTTPStatus.PRECONDITION_FAILED:
                raise _translated(error, f"write {key!r}") from error
        else:
            return PutResult.CREATED
        if self._sha256_of(key) == sha256.hex():
            return PutResult.SAME
        raise OutputConflict(f"another object is at {key!r} in {self.url}")

    def check_readable(self) -> None:
        """List one object; a prefix without any is taken for a slip of the pen."""
        try:
            found = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1
            )
        except _S3_ERRORS as error:
            raise self._unreadable(error) from error
        if self._prefix and not found.get("KeyCount"):
            raise SourceMissing(f"there is nothing in {self.url}")

    def check_writable(self) -> None:
        """Put an object twice: the server must take the first and refuse the second."""
        name = self._name(f".gpen-archive-{secrets.token_hex(8)}")
        try:
            self._client.put_object(**name, Body=b"1", IfNoneMatch="*")
            try:
                refused = self._refuses(name)
            finally:
                self._client.delete_object(**name)
        except _S3_ERRORS as error:
            if _status(error) is None:
                raise _translated(error, f"write into {self.url}") from error
            raise DestinationUnusable(f"can't write into {self.url}: {error}") from error
        if not refused:
            raise DestinationUnusable(f"{self.url} replaces objects in spite of If-None-Match")

    def _get(self, key: str, **asked: str) -> tuple[bytes, bool]:
        """Return an object's bytes, and whether they are the part of it that was asked for."""
        try:
            answer = self._client.get_object(**self._name(key), **asked)
            body: bytes = answer["Body"].read()
        except _S3_ERRORS as error:
            if _status(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # behind its end
                return b"", True
            raise self._unread(error, key) from error
        return body, "ContentRange" in answer

    def _pieces(self, key: str) -> Generator[bytes, None, None]:
        """Yield an object's bytes; boto3 raises where they are fewer than the server announced."""
        try:
            with closing(self._client.get_object(**self._name(key))["Body"]) as body:
                yield from pieces_of(body)
        except _S3_ERRORS as error:
            raise self._unread(error, key) from error

    def _put_parts(
        self, name: dict[str, str], described: dict[str, Any], file: BinaryIO, size: int
    ) -> None:
        """Put an object in parts, on the condition that its name is free when all are there."""
        started = self._client.create_multipart_upload(
            **name, **described, ChecksumAlgorithm="SHA256"
        )
        upload = {**name, "UploadId": started["UploadId"]}
        try:
            count = math.ceil(size / self._part_bytes)
            parts = [self._put_part(upload, number, file) for number in range(1, count + 1)]
            self._client.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except BaseException:
            self._abort(upload)
            raise

    def _put_part(self, upload: dict[str, str], number: int, file: BinaryIO) -> dict[str, Any]:
        """Put the next part under the server's own checksum; return what the completion asks."""
        data = file.read(self._part_bytes)
        checksum = _base64(_sha256([data]))
        answer = self._client.upload_part(
            **upload, PartNumber=number, Body=data, ChecksumSHA256=checksum
        )
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

    def _abort(self, upload: dict[str, str]) -> None:
        """Have the parts thrown away; that it fails must not hide why."""
        try:
            self._client.abort_multipart_upload(**upload)
        except _S3_ERRORS as error:
            if _status(error) != HTTPStatus.NOT_FOUND:  # complete after all: its answer was lost
                log.warning("store.parts_left", upload=upload, error=str(error))

    def _refuses(self, name: dict[str, str]) -> bool:
        """Try to replace an object; return whether the server kept it."""
        try:
            self._client.put_object(**name, Body=b"2", IfNoneMatch="*")
        except ClientError as error:
            if _status(error) != HTTPStatus.PRECONDITION_FAILED:
                raise
            return True
        return False

    def _name(self, key: str) -> dict[str, str]:
        check_key(self._prefix + key, max_bytes=MAX_OBJECT_KEY_BYTES)
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _sha256_of(self, key: str) -> str:
        """Return what `put_once` noted with the object; hash the bytes if somebody else put it."""
        try:
            noted = self._client.head_object(**self._name(key))["Metadata"].get("sha256")
        except _S3_ERRORS as error:
            raise _translated(error, f"look at {key!r}") from error
        return str(noted) if noted else _sha256(self._pieces(key)).hex()

    def _unread(self, error: Exception, key: str) -> JobError:
        if _status(error) == HTTPStatus.NOT_FOUND:
            return PhotoMissing(f"there is no {key!r} in {self.url}")
        return _translated(error, f"read {key!r}")

    def _unreadable(self, error: Exception) -> JobError:
        if _status(error) in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            return SourceMissing(f"can't list {self.url}: {error}")
        return _translated(error, f"list {self.url}")


def _make_client(settings: JobSettings) -> Any:  # noqa: ANN401 - boto3 makes the class as it runs
    key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"mode": "adaptive", "total_max_attempts": _TRIES},
        max_pool_connections=_CONNECTIONS,
    )
    try:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            region_name=settings.s3_region,
            aws_access_key_id=key_id.get_secret_value() if key_id else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise SettingsInvalid(f"GPEN_S3_*: {error}") from error


def _status(error: Exception) -> int | None:
    """Return the server's HTTP status, None where it never answered."""
    if not isinstance(error, ClientError):
        return None
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")


def _translated(error: Exception, doing: str) -> JobError:
    kind = StoreFull if _status(error) == HTTPStatus.INSUFFICIENT_STORAGE else StoreUnavailable
    return kind(f"can't {doing}: {error}")


def _sha256(pieces: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
