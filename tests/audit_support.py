"""Receivers of exports on loopback, and a process that writes an audit log until it is killed."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

WRITE_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from gateway.audit import files, records
from gateway.audit.writer import Rules, Writer
folder = Path(sys.argv[1])
writer = Writer(folder, files.own_key(folder), Rules(0.02, 20_000, 1e9))
number = 0
while True:
    bodies = [records.body("decision", time.time(), {"id": f"{writer.name}:{number + n}"}) for n in range(7)]
    number += 7
    assert writer.append(bodies) and writer.tick()
    print(writer.name, number, flush=True)
"""


class Received:
    """Messages as they arrive. `wait` returns when there are enough."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._changed = threading.Condition()

    def add(self, *messages: bytes) -> None:
        with self._changed:
            self.messages += messages
            self._changed.notify_all()

    def wait(self, enough: Callable[[list[bytes]], bool], seconds: float = 30) -> list[bytes]:
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.messages), seconds), self.messages[-3:]
            return list(self.messages)


class SyslogServer:
    """A receiver of syslog with octet counting, over TLS where a certificate is given. It can be stopped and started again."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.received = Received()
        self._tls = tls
        self.port = 0
        self.start()

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
                connection = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            except ssl.SSLError:
                continue
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        data = b""
        while True:
            try:
                piece = connection.recv(65536)
            except OSError:
                return
            if not piece:
                return
            data += piece
            while (match := re.match(rb"(\d+) ", data)) and len(data) >= match.end() + int(match[1]):
                end = match.end() + int(match[1])
                self.received.add(data[match.end() : end])
                data = data[end:]


class Webhook:
    """A receiver of webhooks. It answers the statuses given, one a call, then 204."""

    def __init__(self, *statuses: int) -> None:
        received = self.received = Received()
        self.calls: list[tuple[dict[str, str], bytes]] = []
        calls, answers = self.calls, list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = answers.pop(0) if answers else 204
                calls.append((dict(self.headers.items()), body))
                if status == 204:
                    received.add(*body.splitlines())
                self.send_response(status)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1: the file to trust it by, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
