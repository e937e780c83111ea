import signal
import socket
import ssl
import time
from contextlib import closing

import pytest
import redis

from deploy.valkey import Valkey
from jobs import broker
from jobs.errors import BrokerUnavailable, SettingsInvalid
from jobs.memory import MemoryClass
from jobs.schema import PhotoMessage, PhotoRef
from jobs.settings import JobSettings

REF = PhotoRef(id=7, job_name="album", key="1920/wedding.tif")


def app_at(url):
    return broker.make_app(JobSettings(broker_url=url))


@pytest.fixture
def nowhere():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return app_at(f"redis://:hunter2@127.0.0.1:{port}/0")


@pytest.fixture
def app(fresh_valkey_url):
    app = app_at(fresh_valkey_url)
    yield app
    app.close()


def receive(app, memory_class=MemoryClass.SMALL):
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(broker.QUEUES[memory_class])
        message = queue.get(timeout=5)
        message.ack()
        queue.close()
    return message


def test_a_photo_is_acknowledged_only_after_the_work():
    conf = app_at("redis://127.0.0.1/0").conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1


def test_nothing_but_json_is_understood():
    conf = app_at("redis://127.0.0.1/0").conf
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == "json"


@pytest.mark.parametrize("scheme", ["rediss", "REDISS", "Rediss"])
def test_a_broker_by_tls_has_to_show_a_certificate_however_its_scheme_is_written(scheme):
    with closing(app_at(f"{scheme}://:pw@broker/0")) as app:
        assert app.connection_for_write().ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "amqp://me:hunter2@rabbit//",
        "redis://:pw@127.0.0.1:hunter2/0",
        "redis://:hunter2@127.0.0.1/0?hostname=other",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(url):
    with pytest.raises(SettingsInvalid, match="GPEN_BROKER_URL") as caught:
        app_at(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "use", [broker.check, broker.recognize, lambda app: broker.publish(app, [REF])]
)
def test_a_broker_that_does_not_run_is_reported_without_the_password(nowhere, use):
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1") as caught:
        use(nowhere)
    assert "hunter2" not in str(caught.value)


def test_the_check_does_not_keep_anybody_waiting(nowhere):
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        broker.check(nowhere)
    assert time.monotonic() - started < 5


@pytest.mark.services
def test_a_broker_that_runs_passes_the_check(app):
    broker.check(app)


@pytest.mark.services
def test_a_broker_that_was_emptied_is_noticed_once(app, valkey_url):
    broker.recognize(app)
    broker.publish(app, [REF])
    assert broker.recognize(app)
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    assert not broker.recognize(app)
    assert broker.recognize(app)


@pytest.mark.services
def test_a_broker_that_was_started_again_is_noticed(start_service, tmp_path):
    server = Valkey(tmp_path)
    start_service(server)
    with closing(app_at(server.url)) as app:
        broker.recognize(app)
        assert broker.recognize(app)
        server.stop(signal.SIGKILL)
        server.start()
        assert not broker.recognize(app)


@pytest.mark.services
def test_a_message_holds_a_version_and_an_id_and_no_path(app):
    broker.publish(app, [REF])
    message = receive(app)
    [[body], kwargs, _] = message.decode()
    assert PhotoMessage.model_validate(body) == PhotoMessage(photo_id=7)
    assert kwargs == {}
    assert b"wedding" not in message.body


@pytest.mark.services
def test_flower_shows_job_and_photo(app):
    broker.publish(app, [REF])
    headers = receive(app).headers
    assert headers["task"] == "gpen_archive.restore_photo"
    assert headers["argsrepr"] == "(job='album', photo='1920/wedding.tif')"


@pytest.mark.services
def test_every_photo_gets_its_own_message(app):
    broker.publish(app, [PhotoRef(number, "album", f"{number}.jpg") for number in range(5)])
    ids = [receive(app).decode()[0][0]["photo_id"] for _ in range(5)]
    assert ids == [0, 1, 2, 3, 4]


@pytest.mark.services
def test_a_photo_goes_to_the_queue_of_its_memory_class(app):
    large = PhotoRef(8, "album", "wall.tif", memory_class=MemoryClass.LARGE)
    assert set(broker.waiting(app).values()) == {0}
    broker.publish(app, [large, REF, REF])
    assert broker.waiting(app) == {
        MemoryClass.SMALL: 2,
        MemoryClass.MEDIUM: 0,
        MemoryClass.LARGE: 1,
    }
    assert receive(app, MemoryClass.LARGE).decode()[0][0]["photo_id"] == 8


@pytest.mark.services
def test_an_urgent_photo_overtakes_those_that_wait(app):
    priorities = {1: -5, 2: 0, 3: 9, 4: 0, 5: 2}
    refs = [PhotoRef(photo, "album", "a.jpg", priority=p) for photo, p in priorities.items()]
    broker.publish(app, refs)
    taken = [receive(app).decode()[0][0]["photo_id"] for _ in refs]
    assert taken == [3, 5, 2, 4, 1]
    assert set(broker.waiting(app).values()) == {0}


def test_a_worker_takes_from_its_queues_the_large_ones_first():
    assert queues_of() == ["photos.large", "photos.medium", "photos.small"]
    small_card = (MemoryClass.SMALL, MemoryClass.MEDIUM)
    assert queues_of(queues=small_card) == ["photos.medium", "photos.small"]


def queues_of(**queues):
    app = broker.make_app(JobSettings(broker_url="redis://127.0.0.1/0"), **queues)
    return list(app.amqp.queues)
