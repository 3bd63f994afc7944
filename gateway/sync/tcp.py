"""The same frames over TLS and TCP, for networks that let no UDP through. One stream is both lanes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final, cast

from cryptography import x509

from gateway.sync.certificates import Credentials, names
from gateway.sync.frames import PROTOCOL
from gateway.sync.wire import CONNECT_SECONDS, LINGER_SECONDS, Owner

BACKLOG: Final = 64
"""Connections that the kernel keeps for us."""


class TcpWire(asyncio.Protocol):
    """One TLS connection, from either end."""

    transport = "tcp"

    def __init__(self, endpoint: TcpEndpoint, dialed: str | None) -> None:
        self.host = ""
        self._endpoint = endpoint
        self._dialed = dialed
        self._stream: asyncio.Transport | None = None
        self._opened = self._ended = False

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
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
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

    def data_received(self, data: bytes) -> None:
        if not self._ended:
            self._endpoint.owner.wire_received(self, data, False)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        if self._opened:
            self._endpoint.owner.wire_closed(self, str(error) if error else "closed")


class TcpEndpoint:
    """A listening socket, and the connections of both kinds."""

    def __init__(self, owner: Owner, credentials: Credentials) -> None:
        self.owner = owner
        self._server: asyncio.Server | None = None
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext]
        self.renew(credentials)

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a bound TCP socket."""
        # A peer that fails the handshake is refused by TLS itself, and is not heard of here.
        self._server = await asyncio.get_running_loop().create_server(
            lambda: TcpWire(self, None), sock=sock, ssl=self._contexts[0], ssl_handshake_timeout=CONNECT_SECONDS,
            backlog=BACKLOG,
        )

    def renew(self, credentials: Credentials) -> None:
        """Show and believe other certificates from now on; open connections stay."""
        if self._server is None:
            self._contexts = (_context(credentials, server=True), _context(credentials, server=False))
            return
        # The listening server keeps its context, which takes a new chain for the connections to come.
        self._contexts[0].load_verify_locations(cadata=credentials.authority.decode())
        self._contexts[0].load_cert_chain(credentials.files.certificate, credentials.files.key)
        self._contexts = (self._contexts[0], _context(credentials, server=False))

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
