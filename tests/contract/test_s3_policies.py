"""The policies of deploy/policies on a real S3 server: a job runs to its end, and nothing else."""

from contextlib import closing

import boto3
import pytest
from botocore.exceptions import ClientError

from jobs.errors import DestinationUnusable, JobError, SourceMissing, StoreUnavailable
from jobs.s3 import S3Store
from jobs.storage import PutResult
from producer.scan import Tally, scan
from tests.governed import DERIVATIVES, MASTERS, Governed

pytestmark = pytest.mark.services

PART_BYTES = 5 * 1024**2
LARGE = bytes(PART_BYTES) * 2


@pytest.fixture(scope="module")
def server(start_service, tmp_path_factory):
    server = Governed(tmp_path_factory.mktemp("governed"))
    start_service(server)
    for bucket in (MASTERS, DERIVATIVES, "private"):
        server.make_bucket(bucket)
    client = server.client()
    client.put_object(Bucket="masters", Key="box/a.png", Body=b"master")
    client.put_object(Bucket="private", Key="box/a.png", Body=b"private")
    return server


def store_of(server, name, url, **options):
    return S3Store(url, server.settings(name), **options)


def client_of(server, name):
    keys = server.keys(name)
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=keys["GPEN_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["GPEN_S3_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )


def put(store, key, data=b"derivative"):
    return store.put_once(key, data, content_type="image/png")


def test_a_producer_scans_the_masters_and_tries_the_destination(server):
    source = store_of(server, "producer", "s3://masters/box")
    source.check_readable()
    store_of(server, "producer", "s3://derivatives/box").check_writable()

    assert [candidate.key for candidate in scan(source, Tally())] == ["a.png"]
    kept = server.client().list_objects_v2(Bucket="derivatives", Prefix="box/.gpen")
    assert kept["KeyCount"] == 0


def test_a_worker_reads_masters_and_delivers_once(server):
    masters = store_of(server, "worker", "s3://masters/box")
    derivatives = store_of(server, "worker", "s3://derivatives/box")

    assert masters.get("a.png") == b"master"
    assert derivatives.head("a.restored.png") is None
    assert put(derivatives, "a.restored.png") is PutResult.CREATED
    assert put(derivatives, "a.restored.png") is PutResult.SAME
    assert derivatives.get("a.restored.png") == b"derivative"


def test_a_worker_delivers_a_large_derivative_in_parts_and_takes_parts_back(server):
    url = "s3://derivatives/box"
    parts = {"whole_bytes": 1, "part_bytes": PART_BYTES}
    derivatives = store_of(server, "worker", url, **parts)

    assert put(derivatives, "large.restored.tif", LARGE) is PutResult.CREATED
    with pytest.raises(JobError, match="another object"):
        put(derivatives, "large.restored.tif", LARGE[:-1] + b"x")
    left = server.client().list_multipart_uploads(Bucket="derivatives")
    assert not left.get("Uploads")


@pytest.mark.parametrize("name", ["producer", "worker"])
def test_nobody_writes_or_deletes_masters(server, name):
    masters = store_of(server, name, "s3://masters/box")

    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        put(masters, "b.png")
    with pytest.raises(DestinationUnusable, match="AccessDenied"):
        masters.check_writable()
    with pytest.raises(ClientError, match="AccessDenied"):
        client_of(server, name).put_object(Bucket="masters", Key="box/a.png", Body=b"evil")
    with pytest.raises(ClientError, match="AccessDenied"):
        client_of(server, name).delete_object(Bucket="masters", Key="box/a.png")
    assert masters_content(server) == b"master"


@pytest.mark.parametrize("name", ["producer", "worker"])
def test_nobody_deletes_a_derivative_or_a_bucket_or_looks_elsewhere(server, name):
    server.client().put_object(Bucket="derivatives", Key="kept.restored.png", Body=b"kept")
    client = client_of(server, name)

    for forbidden in (
        lambda: client.delete_object(Bucket="derivatives", Key="kept.restored.png"),
        lambda: client.delete_bucket(Bucket="private"),
        lambda: client.create_bucket(Bucket="another"),
        lambda: client.get_object(Bucket="private", Key="box/a.png"),
        lambda: client.list_objects_v2(Bucket="private"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            forbidden()
    with pytest.raises(SourceMissing, match="AccessDenied"):
        store_of(server, name, "s3://private").check_readable()


def test_a_producer_neither_reads_masters_nor_writes_derivatives(server):
    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        store_of(server, "producer", "s3://masters/box").get("a.png")
    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        put(store_of(server, "producer", "s3://derivatives/box"), "evil.png")


def masters_content(server):
    with closing(server.client().get_object(Bucket="masters", Key="box/a.png")["Body"]) as body:
        return body.read()
