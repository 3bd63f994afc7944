"""Where exported records go: syslog over TCP or TLS, a webhook, a file. Blocking; each export has a thread of its own.

`Sender.send` returns when the receiver has the messages, as far as the protocol can tell: a webhook has answered 2xx, a file is
on the disk. Syslog has no answer; there it is that the receiver's machine has acknowledged every byte.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import hashlib
import hmac
import http.client
import os
import socket
import ssl
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

SECONDS: Final = 10.0
"""How long a receiver may take to connect, to take a batch or to answer."""


class Sender(Protocol):
    """A receiver of messages."""

    framed: bool
    """Whether messages need syslog's frame."""

    def send(self, messages: Sequence[bytes]) -> None:
        """
        Raises:
            OSError: the receiver may not have them all.
        """

    def close(self) -> None: ...


class SyslogSender:
    """Syslog over TCP (RFC 6587) or TLS (RFC 5425), over one connection as long as it lasts."""

    framed = True

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._socket: socket.socket | None = None

    def send(self, messages: Sequence[bytes]) -> None:
        try:
            connection = self._connected()
            connection.sendall(b"".join(messages))
            _wait_until_taken(connection)
            if _closed_by_peer(connection):
                raise ConnectionResetError("the receiver closed the connection")
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def _connected(self) -> socket.socket:
        if self._socket is not None and _closed_by_peer(self._socket):
            self.close()
        if self._socket is None:
            raw = socket.create_connection((self._host, self._port), timeout=SECONDS)
            try:
                self._socket = self._tls.wrap_socket(raw, server_hostname=self._host) if self._tls else raw
            except BaseException:
                raw.close()
                raise
        return self._socket


class WebhookSender:
    """One POST for each batch, a message a line; answered with 2xx, or it is sent again."""

    framed = False

    def __init__(self, url: str, kind: str, secret: bytes | None, tls: ssl.SSLContext) -> None:
        parts = urlsplit(url)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._host, self._port, self._secure = parts.hostname or "", parts.port, parts.scheme == "https"
        self._kind, self._secret, self._tls = kind, secret, tls

    def send(self, messages: Sequence[bytes]) -> None:
        body = b"\n".join(messages) + b"\n"
        stamp = str(int(time.time()))
        headers = {"content-type": self._kind, "x-portcullis-timestamp": stamp, "user-agent": "portcullis"}
        if self._secret is not None:
            signed = hmac.new(self._secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
            headers["x-portcullis-signature"] = f"sha256={signed}"
        connection = self._connection()
        try:
            connection.request("POST", self._path, body, headers)
            answer = connection.getresponse()
            answer.read(2**16)
        except http.client.HTTPException as error:
            raise OSError(f"not an answer in HTTP: {type(error).__name__}") from None
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise OSError(f"it answered {answer.status}")

    def close(self) -> None:
        pass

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=SECONDS, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=SECONDS)


class FileSender:
    """Appends to a file, a message a line, for a collector that follows it."""

    framed = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, messages: Sequence[bytes]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(b"\n".join(messages) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        pass


def open_sender(to: str, kind: str, ca_file: Path | None, secret: bytes | None) -> Sender:
    """The sender that an address of the configuration names; nothing is connected yet.

    Raises:
        OSError: the certificates cannot be read.
    """
    parts = urlsplit(to)
    if parts.scheme == "file":
        return FileSender(Path(to.removeprefix("file:")))
    tls = ssl.create_default_context(cafile=ca_file)
    if parts.scheme in ("tls", "tcp"):
        return SyslogSender(parts.hostname or "", parts.port or 0, tls if parts.scheme == "tls" else None)
    return WebhookSender(to, "text/plain; charset=utf-8" if kind == "cef" else "application/x-ndjson", secret, tls)


def _wait_until_taken(connection: socket.socket) -> None:
    """Wait until the other machine has acknowledged every byte (Linux's SIOCOUTQ, which has the number of TIOCOUTQ)."""
    deadline = time.monotonic() + SECONDS
    left = array.array("i", [0])
    pause = 0.001
    while True:
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, left)
        if left[0] == 0:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("the receiver takes nothing")
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def _closed_by_peer(connection: socket.socket) -> bool:
    connection.settimeout(0.0)
    try:
        while connection.recv(4096):  # a receiver that talks back is listened to and not heeded
            pass
        return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(SECONDS)
