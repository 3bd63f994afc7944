"""The same frames over TLS and TCP, for networks that let no UDP through. One stream is both lanes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from typing import Final, cast

from cryptography import x509

from gateway.sync.certificates import Credentials, names
from gateway.sync.frames import PROTOCOLS, version_of
from gateway.sync.wire import CONNECT_SECONDS, LINGER_SECONDS, MAX_CONNECTIONS, Owner

MAX_HANDSHAKES: Final = 64
"""Handshakes under way above which further connections are ended at once."""

MAX_HANDSHAKES_OF_A_HOST: Final = 16
"""The same for those that come from one address, so that one host alone cannot keep all others out."""

PAUSE_SECONDS: Final = 0.1
"""How long nothing is accepted when this process has no file descriptor left."""

_log = logging.getLogger(__name__)


class TcpWire(asyncio.Protocol):
    """One TLS connection, from either end."""

    transport = "tcp"

    def __init__(self, endpoint: TcpEndpoint, dialed: str | None) -> None:
        self.host = ""
        self.version = 0
        self._endpoint = endpoint
        self._dialed = dialed
        self._stream: asyncio.Transport | None = None
        self._opened = self._ended = False

    # Wire

    def send(self, data: bytes, bulk: bool) -> None:
        if self._stream is not None and not self._ended:
            self._stream.write(data)

    @property
    def unsent(self) -> int:
        return 0 if self._stream is None else self._stream.get_write_buffer_size()

    def close(self, reason: str) -> None:
        if self._stream is not None and not self._ended:
            self._ended = True
            self._stream.close()  # after what was written
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stream.abort)

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._stream = transport
        self.host = _host(transport)
        tls = transport.get_extra_info("ssl_object")
        raw = tls.getpeercert(binary_form=True)
        found = names(x509.load_der_x509_certificate(raw)) if raw else ()
        self.version = version_of(tls.selected_alpn_protocol())
        if not found or not self.version:
            self._endpoint.owner.wire_refused("a certificate with a name is wanted, and our protocol", self.host)
            self._ended = True
            transport.abort()
            return
        self._opened = True
        if self._dialed is None:
            self._endpoint.accepted.add(self)
        self._endpoint.owner.wire_opened(self, found, self._dialed)

    def data_received(self, data: bytes) -> None:
        if not self._ended:
            self._endpoint.owner.wire_received(self, data, False)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self._endpoint.accepted.discard(self)
        if self._opened:
            self._endpoint.owner.wire_closed(self, str(error) if error else "closed")


class TcpEndpoint:
    """A listening socket, and the connections of both kinds.

    It accepts by itself, so that a stranger is counted and bounded before its handshake, whether or not that ever ends.
    """

    def __init__(self, owner: Owner, credentials: Credentials) -> None:
        self.owner = owner
        self.accepted: set[TcpWire] = set()
        self.handshakes: dict[asyncio.Task[None], str] = {}  # with the address that each is with
        self._hosts: Counter[str] = Counter()  # of them, how many from each address
        self._accepting: asyncio.Task[None] | None = None
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext]
        self.renew(credentials)

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a listening TCP socket, which is closed with this endpoint."""
        sock.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(sock))

    def renew(self, credentials: Credentials) -> None:
        """Show and believe other certificates from now on; open connections stay."""
        self._contexts = (_context(credentials, server=True), _context(credentials, server=False))

    async def dial(self, address: str, host: str, port: int) -> TcpWire:
        """Connect; returns when the peer has proved who it is.

        Raises:
            OSError: it cannot be reached, or proves nothing.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, wire = await loop.create_connection(
                    lambda: TcpWire(self, address), host, port, ssl=self._contexts[1], server_hostname=""
                )
        except TimeoutError:
            raise OSError(f"no TLS handshake with {address}") from None
        return wire

    async def close(self) -> None:
        """Stop listening, and end the handshakes under way."""
        under_way = [*self.handshakes, *([self._accepting] if self._accepting else [])]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.closing(listener):
            while True:
                try:
                    sock, addr = await loop.sock_accept(listener)
                except OSError as error:
                    _log.warning("pattern sync: nothing can be accepted: %s", error.strerror)
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                host = _plain(addr[0])
                if (
                    len(self.handshakes) >= MAX_HANDSHAKES
                    or self._hosts[host] >= MAX_HANDSHAKES_OF_A_HOST
                    or len(self.accepted) >= MAX_CONNECTIONS
                ):
                    sock.close()
                    self.owner.wire_refused("too many connections", host)
                    continue
                task = asyncio.create_task(self._shake_hands(sock, host))
                self.handshakes[task] = host
                self._hosts[host] += 1
                task.add_done_callback(self._shaken)

    async def _shake_hands(self, sock: socket.socket, host: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: TcpWire(self, None), sock, ssl=self._contexts[0], ssl_handshake_timeout=CONNECT_SECONDS
            )
        except OSError as error:  # ssl's faults are of this kind too
            sock.close()
            self.owner.wire_refused(f"no TLS handshake: {getattr(error, 'reason', None) or error or 'it ended'}", host)

    def _shaken(self, task: asyncio.Task[None]) -> None:
        host = self.handshakes.pop(task)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]


def _context(credentials: Credentials, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a node's name is checked against its Hello; see `node.covers`
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=credentials.authority.decode())
    context.load_cert_chain(credentials.files.certificate, credentials.files.key)
    context.set_alpn_protocols(list(PROTOCOLS))
    return context


def _host(transport: asyncio.BaseTransport) -> str:
    name = transport.get_extra_info("peername")  # None where the peer has gone again
    return _plain(name[0]) if name else ""


def _plain(host: object) -> str:
    return str(host).removeprefix("::ffff:")
