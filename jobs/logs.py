"""Structured logs: an event name and fields go in, one line of text or JSON per event comes out.

    log = get_logger(__name__)
    log.info("photo.claimed", photo_id=7, attempt=1)

Lines of other libraries pass through the same formatters; of those that would drown ours, warnings
and errors only.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

_FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^\s"]+)')
_TALKATIVE = (
    *("alembic", "amqp", "boto3", "botocore", "kombu", "urllib3"),
    *("celery.app.trace", "celery.worker.strategy"),  # a line as a message comes, one as it ends
)


class EventLogger:
    """Writes events of one module."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """Log what helps to follow a single photo."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log what happened as it should."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what an operator may want to look at."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what an operator has to look at."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log an error with the traceback of the exception being handled."""
        self._log(logging.ERROR, event, fields, exc_info=True)

    def _log(
        self, level: int, event: str, fields: dict[str, object], *, exc_info: bool = False
    ) -> None:
        self._logger.log(level, "%s", event, exc_info=exc_info, extra={"fields": fields})


def get_logger(name: str) -> EventLogger:
    """Return the logger of a module: `get_logger(__name__)`."""
    return EventLogger(name)


def configure(
    *,
    log_format: Literal["text", "json"] = "text",
    level: str = "INFO",
    stream: TextIO | None = None,
) -> None:
    """Send all logs to `stream`, standard error by default. Called once, at an entry point."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # For each message that a worker gives back as it ends, Celery would warn with a traceback.
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)


def read_fields(line: str) -> dict[str, str]:
    """Return the fields of a line in either format; none where it is no line of ours."""
    try:
        entry = json.loads(line)
    except ValueError:
        found = dict(_FIELD.findall(line))
        return {name: json.loads(v) if v[0] == '"' else v for name, v in found.items()}
    return {name: str(v) for name, v in entry.items()} if isinstance(entry, dict) else {}


class TextFormatter(logging.Formatter):
    """One line a person can read: `2026-05-04T03:02:01.000Z INFO photo.claimed photo_id=7`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, with the traceback below where there is one."""
        fields = (f"{name}={_as_text(value)}" for name, value in _fields_of(record).items())
        message = record.getMessage().replace("\n", "\\n")
        line = " ".join((_time_of(record), record.levelname, message, *fields))
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON; fields never replace time, level, event and logger."""
        entry = _fields_of(record) | {
            "time": _time_of(record),
            "level": record.levelname,
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    return dict(getattr(record, "fields", {}))


def _time_of(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_text(value: object) -> str:
    """Return a value so that a line stays one line and its fields can be told apart."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    plain = text.isprintable() and text and not any(char in text for char in " =\"'")
    return text if plain else json.dumps(text)
