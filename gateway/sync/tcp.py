"""The same frames over TLS and TCP, for networks that let no UDP through. One stream is both lanes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

from cryptography import x509

from gateway.sync.certificates import Credentials, names
from gateway.sync.frames import PROTOCOL
from gateway.sync.wire import CONNECT_SECONDS, LINGER_SECONDS, Owner

MAX_HALF_OPEN: Final = 64
"""Connections that have proved nothing yet; above it the next is closed at once."""


class TcpWire(asyncio.Protocol):
    """One TLS connection, from either end."""

    transport = "tcp"

    def __init__(self, endpoint: TcpEndpoint, dialed: str | None) -> None:
        self.host = ""
        self._endpoint = endpoint
        self._dialed = dialed
        self._stream: asyncio.Transport | None = None
        self._opened = self._ended = False
        self._early: list[bytes] = []

    # Wire

    def send(self, data: bytes, bulk: bool) -> None:
        if self._stream is not None and not self._ended:
            self._stream.write(data)

    def close(self, reason: str) -> None:
        if self._stream is not None and not self._ended:
            self._ended = True
            self._stream.close()  # after what was written
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stream.abort)

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._stream = transport
        self.host = _host(transport)
        tls = transport.get_extra_info("ssl_object")
        raw = tls.getpeercert(binary_form=True)
        found = names(x509.load_der_x509_certificate(raw)) if raw else ()
        if not found or tls.selected_alpn_protocol() != PROTOCOL:
            self._endpoint.owner.wire_refused("a certificate with a name is wanted, and our protocol", self.host)
            self._ended = True
            transport.abort()
            return
        self._opened = True
        self._endpoint.owner.wire_opened(self, found, self._dialed)
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if not self._opened:
            self._early.append(data)  # it came with the end of the handshake, whose task has not run on yet
        elif not self._ended:
            self._endpoint.owner.wire_received(self, data, False)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        if self._opened:
            self._endpoint.owner.wire_closed(self, str(error) if error else "closed")


class _Accepted(asyncio.Protocol):
    """A connection whose peer has proved nothing yet."""

    def __init__(self, endpoint: TcpEndpoint) -> None:
        self._endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._endpoint.accepted(transport)


class TcpEndpoint:
    """A listening socket, and the connections of both kinds."""

    def __init__(self, owner: Owner, credentials: Credentials) -> None:
        self.owner = owner
        self._half_open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext]
        self.renew(credentials)

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a bound TCP socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Accepted(self), sock=sock, backlog=MAX_HALF_OPEN)

    def accepted(self, transport: asyncio.Transport) -> None:
        """Somebody connected: let it prove who it is, unless too many are about to."""
        if len(self._half_open) >= MAX_HALF_OPEN:
            transport.abort()
            self.owner.wire_refused("too many connections", _host(transport))
            return
        task = asyncio.ensure_future(self._handshake(transport))
        self._half_open.add(task)
        task.add_done_callback(self._half_open.discard)

    async def _handshake(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        wire = TcpWire(self, None)
        host = _host(transport)
        try:
            secured = await loop.start_tls(
                transport, wire, self._contexts[0], server_side=True, ssl_handshake_timeout=CONNECT_SECONDS
            )
        except OSError as error:  # ssl.SSLError is one
            self.owner.wire_refused(f"no TLS handshake: {getattr(error, 'reason', None) or type(error).__name__}", host)
            return
        if secured is not None:
            wire.connection_made(secured)

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

    def close(self) -> None:
        for task in list(self._half_open):
            task.cancel()
        if self._server is not None:
            self._server.close()


def _context(credentials: Credentials, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a node's name is checked against its Hello; see `node.covers`
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=credentials.authority.decode())
    context.load_cert_chain(credentials.files.certificate, credentials.files.key)
    context.set_alpn_protocols([PROTOCOL])
    return context


def _host(transport: asyncio.BaseTransport) -> str:
    name = transport.get_extra_info("peername")  # None where the peer has gone again
    return str(name[0]).removeprefix("::ffff:") if name else ""
