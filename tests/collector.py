"""An OpenTelemetry collector on loopback: takes OTLP over HTTP and keeps what it got."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(ThreadingHTTPServer):
    """``spans`` so far; ``raw`` are the very bytes, for those who look for what must not be in them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.raw = b""
        self.headers: list[dict[str, str]] = []
        self.changed = threading.Condition()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"

    def wait_for(self, *names: str) -> list[Span]:
        """Wait until there is a span of each name; returns all."""
        with self.changed:
            assert self.changed.wait_for(lambda: set(names) <= {span.name for span in self.spans}, 30), [s.name for s in self.spans]
            return list(self.spans)


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        with self.server.changed:
            self.server.raw += body
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.server.spans += [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]
            self.server.changed.notify_all()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
