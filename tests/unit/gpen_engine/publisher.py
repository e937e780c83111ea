"""A server on loopback that publishes one file, as well or as badly as a test tells it to."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gpen_engine.registry import Kind, KnownWeights

CONTENT = bytes(range(256)) * 4096  # 1 MiB
Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def send(
    handler: BaseHTTPRequestHandler, body: bytes, *, status: int = 200, **headers: str
) -> None:
    handler.send_response(status)
    headers.setdefault("Content_Length", str(len(body)))
    for name, value in headers.items():
        if value:
            handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def well(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer as a server should, ranges included."""
    asked = handler.headers["Range"]
    if not asked:
        return send(handler, content)
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        return send(handler, b"", status=416)
    ranged = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return send(handler, content[start:], status=206, Content_Range=ranged)


def without_ranges(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, content)


def broken_off_after(count: int) -> Answer:
    """Announce all that was asked for, send `count` bytes of it, and hang up."""

    def answer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        start = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=")[:-1])
        rest = content[start:]
        ranged = f"bytes {start}-{len(content) - 1}/{len(content)}" if start else ""
        send(
            handler,
            rest[:count],
            status=206 if start else 200,
            Content_Length=str(len(rest)),
            Content_Range=ranged,
        )

    return answer


def silently_ended_after(count: int) -> Answer:
    """Announce no length, send `count` bytes, and hang up."""
    return lambda handler, content: send(handler, content[:count], Content_Length="")


def endless(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, content + b"more", Content_Length="")


def status(code: int) -> Answer:
    return lambda handler, _content: send(handler, b"", status=code)


def elsewhere(handler: BaseHTTPRequestHandler, _content: bytes) -> None:
    send(handler, b"", status=302, Location="/another-host/file")


def page(handler: BaseHTTPRequestHandler, _content: bytes) -> None:
    send(handler, b"<html>Please sign in</html>")


@dataclass
class Publisher:
    """What is published, how the next requests are answered, and what was asked so far."""

    address: str = ""
    content: bytes = CONTENT
    answers: list[Answer] = field(default_factory=list)
    """One for each request; then it answers well."""
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of each request."""

    def known(self, **fields: object) -> KnownWeights:
        """An entry of the registry for what is published by default."""
        values = {
            "name": "fake",
            "files": ("fake.pth", "old-fake.pth"),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "terms": "MIT (nobody)",
            "kind": Kind.PARSER,
            "size_bytes": len(CONTENT),
            "licence": "MIT",
            "address": f"{self.address}/fake.pth",
        }
        return KnownWeights(**{**values, **fields})


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_arguments: object) -> None:
        """Say nothing of a client that hung up."""


@contextmanager
def publishing() -> Iterator[Publisher]:
    publisher = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            publisher.ranges.append(self.headers["Range"])
            answer = publisher.answers.pop(0) if publisher.answers else well
            answer(self, publisher.content)

        def log_message(self, *_arguments: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        publisher.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield publisher
        finally:
            server.shutdown()
            thread.join()
