import io
import json
import logging

import pytest

from jobs import logs

log = logs.get_logger("jobs.tests")


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


def configured(log_format="text", level="INFO"):
    stream = io.StringIO()
    logs.configure(log_format=log_format, level=level, stream=stream)
    return stream


def test_a_line_of_text_is_time_level_event_and_fields():
    stream = configured()
    log.info("photo.claimed", photo_id=7, elapsed_s=0.12345, key="a.jpg")
    time, _, rest = stream.getvalue().partition(" ")
    assert time.endswith("Z")
    assert rest == "INFO photo.claimed photo_id=7 elapsed_s=0.123 key=a.jpg\n"


@pytest.mark.parametrize("value", ["two words", "line\nbreak", 'a "quote"', "a=b", "", "\udce9"])
def test_no_value_breaks_a_line_of_text(value):
    stream = configured()
    log.info("photo.failed", reason=value)
    [line] = stream.getvalue().splitlines()
    assert json.loads(line.partition("reason=")[2]) == value
    line.encode()


def test_a_line_of_json_has_the_same_content():
    stream = configured("json")
    log.warning("photo.failed", code="photo.empty", photo_id=7)
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "WARNING",
        "event": "photo.failed",
        "logger": "jobs.tests",
        "code": "photo.empty",
        "photo_id": 7,
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_fields_of_a_line_can_be_read_back(log_format):
    stream = configured(log_format)
    told = {"code": "store.full", "error": 'no "room" for a=b.png\n', "advice": ""}
    log.error("worker.stops", **told)
    assert logs.read_fields(stream.getvalue()).items() >= told.items()


@pytest.mark.parametrize("line", ["", "bye", "[1, 2]", "7", "Traceback (most recent call last):"])
def test_a_line_of_others_has_no_fields(line):
    assert logs.read_fields(line) == {}


def test_a_value_that_json_does_not_know_is_written_as_text(tmp_path):
    stream = configured("json")
    log.info("store.opened", path=tmp_path)
    assert json.loads(stream.getvalue())["path"] == str(tmp_path)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_error_can_carry_its_traceback(log_format):
    stream = configured(log_format)
    try:
        raise ValueError("what went wrong")
    except ValueError:
        log.exception("photo.crashed", photo_id=7)
    assert "what went wrong" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


def test_what_is_below_the_level_is_not_written():
    stream = configured(level="WARNING")
    log.debug("photo.looked_at")
    log.info("photo.claimed")
    log.error("photo.failed")
    assert [line.split()[1:] for line in stream.getvalue().splitlines()] == [
        ["ERROR", "photo.failed"]
    ]


def test_other_libraries_are_heard_and_the_talkative_ones_only_when_it_matters():
    stream = configured()
    logging.getLogger("celery").info("worker %s ready", "one")
    logging.getLogger("botocore.endpoint").info("noise")
    logging.getLogger("botocore.endpoint").warning("trouble")
    assert "INFO worker one ready" in stream.getvalue()
    assert "noise" not in stream.getvalue()
    assert "trouble" in stream.getvalue()


def test_configuring_again_does_not_write_each_line_twice():
    stream = configured()
    logs.configure(stream=stream)
    log.info("photo.claimed")
    assert len(stream.getvalue().splitlines()) == 1
