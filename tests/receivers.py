"""Receivers of notifications on loopback: an HTTP server that can be told to fail, and a real mail server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller

from bench.processes import free_port


class Got(NamedTuple):
    """One request: path, headers with names in lower case, body."""

    path: str
    headers: dict[str, str]
    body: bytes


class Inbox:
    """What came, with a way to wait for more."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = threading.Condition()

    def add(self, item: Any) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait_for(self, wanted: Any, seconds: float = 60) -> Any:
        """The first item that satisfies ``wanted``."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(wanted, self.items)), seconds), self.items
        return next(filter(wanted, self.items))


@contextmanager
def http_receiver(fail_first: int = 0) -> Iterator[tuple[str, Inbox]]:
    """Takes POSTs; answers the first ``fail_first`` on each path with 503, and those under /moved with a redirect."""
    inbox = Inbox()
    failures: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            inbox.add(Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            failures[self.path] = failures.get(self.path, 0) + 1
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("location", "/elsewhere")
            else:
                self.send_response(503 if failures[self.path] <= fail_first else 202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", inbox
    server.shutdown()
    server.server_close()


@contextmanager
def mail_server() -> Iterator[tuple[str, Inbox]]:
    """An SMTP server that takes everything."""
    inbox = Inbox()

    class Handler:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            message = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(message, EmailMessage)
            inbox.add((envelope.mail_from, envelope.rcpt_tos, message))
            return "250 OK"

    port = free_port()  # the controller cannot take port 0: it connects to the port that it was given
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    yield f"127.0.0.1:{port}", inbox
    controller.stop()
