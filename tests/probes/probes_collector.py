"""A collector for tests: a real HTTP server that keeps what it gets and answers what it is told to."""

import gzip
import http.server
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from records.batch import HEADER_BOOT, HEADER_SEQUENCE

Reply = tuple[int, dict[str, str]]


class Collector:
    """A collector of the test: keeps every request, answers from a list and then 200."""

    def __init__(self) -> None:
        self.answers: list[Reply] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self.body: bytes | None = None
        self.delay_s = 0.0
        self.in_flight: list[int] = []
        self._now = 0
        self._lock = threading.Lock()

    def take(self, headers: dict[str, str], body: bytes) -> Reply:
        """One request: kept, held for `delay_s`, and what it is answered."""
        with self._lock:
            self._now += 1
            self.in_flight.append(self._now)
            self.requests.append((headers, body))
            answer = self.answers.pop(0) if self.answers else (200, {})
        time.sleep(self.delay_s)
        with self._lock:
            self._now -= 1
        return answer

    def body_of(self, status: int) -> bytes:
        """What a collector says with a status, unless the test has its own words."""
        if self.body is not None:
            return self.body
        if status == 200:
            return b'{"stored": 1, "rejected": 0, "already": false}'
        codes = {400: "unreadable", 401: "unauthorised", 403: "forbidden", 409: "conflict", 413: "too_large", 429: "busy"}
        return json.dumps({"error": "why?", "code": codes.get(status, "unavailable")}).encode()

    def lines(self) -> list[dict]:
        """Every line, of each batch once: what a collector that stores by name would hold."""
        batches = {(headers[HEADER_BOOT], int(headers[HEADER_SEQUENCE])): body for headers, body in self.requests}
        return [json.loads(line) for body in batches.values() for line in gzip.decompress(body).splitlines()]

    @property
    def sequences(self) -> list[str]:
        return [headers[HEADER_SEQUENCE] for headers, _ in self.requests]


def _handler(collector: Collector) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert self.path == "/api/v1/batches"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers = collector.take(dict(self.headers), body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            body = b"" if status == 204 else collector.body_of(status)
            if status != 204:  # which has no body (RFC 9110 section 15.3.5)
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "test"

        def log_message(self, *args: object) -> None:
            pass

    return Handler


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def _running(make: Callable[[type], socketserver.BaseServer]) -> Iterator[Collector]:
    collector = Collector()
    server = make(_handler(collector))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        if isinstance(server, http.server.HTTPServer):
            collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def served(port: int = 0) -> AbstractContextManager[Collector]:
    """A collector on a TCP port of loopback."""
    return _running(lambda handler: http.server.ThreadingHTTPServer(("127.0.0.1", port), handler))


def served_on_a_socket(path: Path) -> AbstractContextManager[Collector]:
    """A collector on a unix socket."""
    return _running(lambda handler: _UnixServer(str(path), handler))
