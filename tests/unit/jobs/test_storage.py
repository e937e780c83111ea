import hashlib
import io
import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from pydantic import SecretStr

from jobs.errors import (
    DestinationUnusable,
    OutputConflict,
    SettingsInvalid,
    SourceMissing,
    StoreUnavailable,
)
from jobs.s3 import S3Store
from jobs.settings import JobSettings
from jobs.storage import DirectoryStore, open_store


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def settings(s3):
    return JobSettings(
        s3_endpoint_url=s3.endpoint_url,
        s3_access_key_id=s3.access_key,
        s3_secret_access_key=s3.secret_key,
    )


def test_a_path_is_a_directory_and_an_s3_address_a_bucket(tmp_path):
    assert isinstance(open_store(str(tmp_path), JobSettings()), DirectoryStore)
    assert isinstance(open_store("s3://bucket", JobSettings()), S3Store)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
    ],
)
def test_an_s3_address_has_one_spelling(url, canonical):
    assert open_store(url, JobSettings()).url == canonical


@pytest.mark.parametrize("url", ["https://example.org/scans", "s3://", "s3:///prefix"])
def test_an_address_of_another_kind_is_refused(url):
    with pytest.raises(SettingsInvalid):
        open_store(url, JobSettings())


def test_an_endpoint_that_is_no_address_is_refused():
    settings = JobSettings(
        s3_endpoint_url="nonsense",
        s3_access_key_id="key",
        s3_secret_access_key=SecretStr("hunter2"),
    )
    with pytest.raises(SettingsInvalid, match="GPEN_S3"):
        open_store("s3://bucket", settings).check_readable()


def test_a_server_that_does_not_answer_is_reported_by_every_method(closed_port):
    settings = JobSettings(
        s3_endpoint_url=f"http://127.0.0.1:{closed_port}",
        s3_access_key_id="key",
        s3_secret_access_key=SecretStr("hunter2"),
    )
    store = open_store("s3://bucket/prefix", settings)
    for use in (
        lambda: list(store.list()),
        lambda: store.head("a.jpg"),
        lambda: store.get("a.jpg"),
        lambda: store.read("a.jpg", 0, 10),
        lambda: store.fetch("a.jpg", io.BytesIO()),
        lambda: store.put_once("a.jpg", b"", content_type="image/jpeg"),
        store.check_readable,
        store.check_writable,
    ):
        with pytest.raises(StoreUnavailable) as caught:
            use()
        assert "hunter2" not in str(caught.value)


class WholeAnswers(BaseHTTPRequestHandler):
    """A server that knows no ranges."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"0123456789")

    def log_message(self, *_):
        pass


class CutShort(WholeAnswers):
    """A server that goes away in the middle of an answer."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "3000000")
        self.end_headers()
        self.wfile.write(bytes(2_000_000))


class OnlyPuts(WholeAnswers):
    """A server that begins an upload, and refuses its parts and to throw it away."""

    def do_POST(self):
        answer = (
            b"<InitiateMultipartUploadResult><UploadId>7</UploadId></InitiateMultipartUploadResult>"
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(403, "no parts")

    def do_DELETE(self):
        self.send_error(403, "no deleting")


@contextmanager
def served_by(handler):
    """Settings for a server of this kind."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield JobSettings(
            s3_endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
            s3_access_key_id="key",
            s3_secret_access_key=SecretStr("hunter2"),
        )
        server.shutdown()


def test_of_a_server_that_knows_no_ranges_the_part_is_taken_here():
    with served_by(WholeAnswers) as settings:
        store = open_store("s3://bucket", settings)
        assert store.read("a.jpg", 3, 4) == b"3456"
        assert store.read("a.jpg", 10, 4) == b""


def test_an_object_that_arrives_in_part_only_is_never_taken_for_the_whole():
    with served_by(CutShort) as settings:
        store = open_store("s3://bucket", settings)
        with pytest.raises(StoreUnavailable):
            store.fetch("a.jpg", io.BytesIO())


def test_parts_that_cannot_be_thrown_away_are_named_and_do_not_hide_what_happened(caplog):
    with served_by(OnlyPuts) as settings:
        store = S3Store("s3://bucket", settings, whole_bytes=1)
        with pytest.raises(StoreUnavailable, match="UploadPart"):
            store.put_once("a.png", b"pixels", content_type="image/png")
    assert "store.parts_left" in caplog.text


@pytest.mark.services
def test_a_bucket_that_does_not_exist_is_no_source(settings):
    store = open_store("s3://no-such-bucket", settings)
    with pytest.raises(SourceMissing, match="no-such-bucket"):
        store.check_readable()


@pytest.mark.services
def test_a_prefix_without_any_object_is_no_source(s3, settings):
    bucket = s3.make_bucket()
    open_store(f"s3://{bucket}", settings).check_readable()
    with pytest.raises(SourceMissing, match="nothing in"):
        open_store(f"s3://{bucket}/misspelt", settings).check_readable()


@pytest.mark.services
def test_a_wrong_key_is_reported_as_such(s3, settings):
    wrong = settings.model_copy(update={"s3_secret_access_key": settings.s3_access_key_id})
    store = open_store(f"s3://{s3.make_bucket()}", wrong)
    with pytest.raises(SourceMissing, match="SignatureDoesNotMatch"):
        store.check_readable()
    with pytest.raises(DestinationUnusable, match="SignatureDoesNotMatch"):
        store.check_writable()


@pytest.mark.services
def test_prefixes_of_one_bucket_do_not_see_each_other(s3, settings):
    bucket = s3.make_bucket()
    one, other = (open_store(f"s3://{bucket}/{name}", settings) for name in ("a", "a-b"))
    one.put_once("x.jpg", b"one", content_type="image/jpeg")
    other.put_once("x.jpg", b"other", content_type="image/jpeg")
    assert [found.key for found in one.list()] == ["x.jpg"]
    assert (one.get("x.jpg"), other.get("x.jpg")) == (b"one", b"other")


@pytest.mark.services
def test_more_objects_than_a_page_are_all_listed(s3, settings):
    bucket = s3.make_bucket()
    names = {f"{folder}/{number}.jpg" for folder in ("a", "a-1") for number in range(550)}
    for name in names:
        s3.client.put_object(Bucket=bucket, Key=name)
    listed = [found.key for found in open_store(f"s3://{bucket}", settings).list()]
    assert len(listed) == len(names)
    assert set(listed) == names


@pytest.mark.services
def test_a_folder_that_a_console_made_is_no_object(s3, settings):
    bucket = s3.make_bucket()
    s3.client.put_object(Bucket=bucket, Key="album/")
    assert list(open_store(f"s3://{bucket}", settings).list()) == []


@pytest.mark.services
def test_what_another_program_put_there_is_compared_by_its_bytes(s3, settings):
    bucket = s3.make_bucket()
    s3.client.put_object(Bucket=bucket, Key="a.png", Body=b"pixels")
    store = open_store(f"s3://{bucket}", settings)
    assert store.put_once("a.png", b"pixels", content_type="image/png") == "same"


@pytest.mark.services
def test_an_object_carries_its_type_and_checksum(s3, settings):
    bucket = s3.make_bucket()
    store = open_store(f"s3://{bucket}/out", settings)
    store.put_once("a.png", b"pixels", content_type="image/png")
    head = s3.client.head_object(Bucket=bucket, Key="out/a.png")
    assert head["ContentType"] == "image/png"
    assert len(head["Metadata"]["sha256"]) == 64


# In parts

PART_BYTES = 5 * 1024**2
TWO_PARTS = hashlib.sha256(b"two").digest() * (PART_BYTES // 32) + b"the last"


@pytest.fixture
def bucket(s3):
    return s3.make_bucket()


@pytest.fixture
def in_parts(bucket, settings):
    return S3Store(f"s3://{bucket}", settings, whole_bytes=PART_BYTES, part_bytes=PART_BYTES)


def unfinished(s3, bucket):
    return s3.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


class TornLater(io.BytesIO):
    """A file that can be read to its end once, and then not again."""

    passes = 0

    def read(self, size=-1):
        if self.tell() == 0:
            self.passes += 1
        if self.passes > 1 and self.tell() >= PART_BYTES:
            raise EOFError
        return super().read(size)


@pytest.mark.services
def test_an_object_in_parts_carries_its_type_and_checksum(s3, bucket, in_parts):
    in_parts.put_once("a.tif", TWO_PARTS, content_type="image/tiff")
    head = s3.client.head_object(Bucket=bucket, Key="a.tif")
    assert head["ETag"].endswith('-2"')
    assert head["ContentType"] == "image/tiff"
    assert head["Metadata"]["sha256"] == hashlib.sha256(TWO_PARTS).hexdigest()
    assert unfinished(s3, bucket) == []


@pytest.mark.services
def test_what_fits_is_put_whole(s3, bucket, in_parts):
    in_parts.put_once("a.tif", TWO_PARTS[:PART_BYTES], content_type="image/tiff")
    assert "-" not in s3.client.head_object(Bucket=bucket, Key="a.tif")["ETag"]


@pytest.mark.services
def test_of_parts_that_were_put_before_something_failed_none_is_left(s3, bucket, in_parts):
    with pytest.raises(EOFError):
        in_parts.put_once("a.tif", TornLater(TWO_PARTS), content_type="image/tiff")
    assert in_parts.head("a.tif") is None
    assert unfinished(s3, bucket) == []


@pytest.mark.services
def test_of_two_that_put_parts_under_one_key_the_first_to_finish_creates_it(
    s3, bucket, in_parts, settings
):
    other = S3Store(f"s3://{bucket}", settings)

    class Overtaken(io.BytesIO):
        def read(self, size=-1):
            if size == PART_BYTES and self.tell() > 0:  # the last part
                other.put_once("a.tif", b"faster", content_type="image/tiff")
            return super().read(size)

    with pytest.raises(OutputConflict):
        in_parts.put_once("a.tif", Overtaken(TWO_PARTS), content_type="image/tiff")
    assert in_parts.get("a.tif") == b"faster"
    assert unfinished(s3, bucket) == []


@pytest.mark.services
def test_of_parts_that_were_put_for_a_name_that_is_taken_none_is_left(s3, bucket, in_parts):
    in_parts.put_once("a.tif", TWO_PARTS, content_type="image/tiff")
    assert in_parts.put_once("a.tif", TWO_PARTS, content_type="image/tiff") == "same"
    with pytest.raises(OutputConflict):
        in_parts.put_once("a.tif", TWO_PARTS + b"other", content_type="image/tiff")
    assert unfinished(s3, bucket) == []
