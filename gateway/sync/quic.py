"""QUIC, through aioquic: this is its one door.

A replica listens on one UDP port and dials from others. Each side opens two streams of its own: the first carries what is
small and urgent, the second bulk, so that neither waits for the other's bytes. Both sides prove who they are by certificate
(TLS 1.3); a returning client proves it by the ticket of its last visit and sends its first words with its first packet
(0-RTT, RFC 9001 section 4.6), which whoever replays them gains nothing from.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from aioquic._buffer import Buffer
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.quic.recovery import QuicPacketPacer
from aioquic.quic.retry import QuicRetryTokenHandler
from aioquic.tls import Alert, CipherSuite, SessionTicket, verify_certificate
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.sync.addresses import datagrams
from gateway.sync.certificates import Credentials, names
from gateway.sync.frames import PROTOCOLS, version_of
from gateway.sync.tickets import Remembered, Tickets
from gateway.sync.wire import CONNECT_SECONDS, LINGER_SECONDS, MAX_CONNECTIONS, Owner

IDLE_SECONDS: Final = 12.0
"""After so long without a packet QUIC itself ends a connection; pings come more often."""

MAX_HALF_OPEN: Final = 16
"""Handshakes under way above which a client must first prove its address (a Retry, RFC 9000 section 8.1.2)."""

PACE_SECONDS: Final = 0.003
"""A packet costs some tenth of a millisecond, and as much again where it is waited for by itself."""

_TLS_ALERTS: Final = range(0x100, 0x200)  # error codes that carry one (RFC 9001, section 4.8)

_LANES: Final = 2  # the streams that each side opens

logging.getLogger("quic").setLevel(logging.WARNING)  # aioquic tells of every handshake and every close


class Pacer(QuicPacketPacer):
    """Sends what is due within `PACE_SECONDS` at once, at the same rate: aioquic's own wakes up for each packet."""

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]  # as aioquic's own, whatever it says
        due: float | None = super().next_send_time(now)
        return None if due is None else max(due, now + min(PACE_SECONDS, self.bucket_max))


class QuicWire(QuicConnectionProtocol):
    """One QUIC connection, from either end."""

    transport = "quic"

    def __init__(self, quic: QuicConnection, endpoint: QuicEndpoint, dialed: str | None) -> None:
        super().__init__(quic)
        self.host = ""
        self.version = 0
        self.resumed = False
        self.proved = asyncio.Event()  # the peer proved who it is, or the connection ended before it did
        self.failed = ""
        self._endpoint = endpoint
        self._dialed = dialed
        self._names: tuple[str, ...] = ()
        self._open = self._ended = self._done = False
        self._lanes: list[int] = []
        self._waiting: list[tuple[bytes, bool]] = []  # bytes of a peer that proved nothing yet
        self._closing: asyncio.TimerHandle | None = None
        endpoint.wires.add(self)
        quic._loss._pacer = Pacer(max_datagram_size=quic._max_datagram_size)
        if dialed is None:
            self._ask_for_certificate(quic)

    def _ask_for_certificate(self, quic: QuicConnection) -> None:
        # aioquic can ask a client for its certificate and has no public switch for it. If this stops working, no client has
        # a certificate and every one of them is refused: it fails closed, and tests/test_sync_wires.py fails with it.
        begin = quic._initialize

        def initialize(peer_cid: bytes) -> None:
            begin(peer_cid)
            quic.tls._request_client_certificate = True

        quic._initialize = initialize  # type: ignore[method-assign]
        quic._session_ticket_fetcher = self._resume
        quic._session_ticket_handler = self._give_ticket

    # Wire

    def send(self, data: bytes, bulk: bool) -> None:
        if self._ended:
            return
        if not self._lanes:
            for _ in range(_LANES):
                stream = self._quic.get_next_available_stream_id(is_unidirectional=True)
                self._quic.send_stream_data(stream, b"")
                self._lanes.append(stream)
        self._quic.send_stream_data(self._lanes[bulk], data)
        if bulk:
            self.transmit()  # the peer works on it while the next of it is encoded
        else:
            self._transmit_soon()

    @property
    def unsent(self) -> int:
        return sum(len(self._quic._streams[lane].sender._buffer) for lane in self._lanes if lane in self._quic._streams)

    def close(self, reason: str = "") -> None:  # type: ignore[override]
        if self._ended:
            return
        self._ended = True
        self._closing = self._loop.call_later(LINGER_SECONDS, self._close_now, reason)

    def _close_now(self, reason: str) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._quic.close(error_code=0, reason_phrase=reason[:100])
        self.transmit()

    def abort(self, reason: str) -> None:
        """Close without waiting for what was sent."""
        self._ended = True
        self._close_now(reason)

    # aioquic

    def transmit(self) -> None:
        # aioquic fails where it knows nobody to send to yet: as one that dials and is ended before it connects.
        if self._transport is not None and not self._transport.is_closing() and self._quic._network_paths:
            super().transmit()

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        self.host = _host(addr)
        self._quic.receive_datagram(cast(bytes, data), addr, now=self._loop.time())
        self._process_events()
        self._transmit_soon()  # once for all that came together; aioquic's own would answer each by itself

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            self._stream_data(event)
        elif isinstance(event, events.HandshakeCompleted):
            self._endpoint.half_open.discard(self)
            self._handshaken(event)
        elif isinstance(event, events.ConnectionTerminated):
            self._terminated(event.error_code, event.reason_phrase or f"error {event.error_code}")
        elif isinstance(event, events.StreamReset | events.StopSendingReceived):
            self.abort("a stream was reset")

    def _stream_data(self, event: events.StreamDataReceived) -> None:
        if event.stream_id & 0x2 == 0 or event.stream_id >> 2 >= _LANES or event.end_stream:
            self.abort("a stream that the protocol does not have")
            return
        bulk = event.stream_id >> 2 == 1
        if not self._open:
            if not self._names:  # it has proved nothing yet: flow control bounds what can come
                self._waiting.append((event.data, bulk))
                return
            self._opened()
        self._endpoint.owner.wire_received(self, event.data, bulk)

    def _handshaken(self, event: events.HandshakeCompleted) -> None:
        if self._open:
            if self._dialed is not None and not event.session_resumed and self._peer_names() != self._names:
                self.abort("another node answers at this address")
            elif version_of(event.alpn_protocol) != self.version:
                self.abort("it speaks another version by now")
            else:
                self.proved.set()
            return
        if not (event.session_resumed and self._names):
            self._names = self._peer_names()
        if not self._names:
            self._endpoint.owner.wire_refused("no certificate that we believe", self.host)
            self.abort("a certificate is wanted")
            return
        self._opened()
        self.proved.set()
        waiting, self._waiting = self._waiting, []
        for data, bulk in waiting:
            self._endpoint.owner.wire_received(self, data, bulk)

    def _opened(self) -> None:
        self._open = True
        self.version = self.version or version_of(self._quic.tls.alpn_negotiated)
        self._endpoint.owner.wire_opened(self, self._names, self._dialed)

    def _peer_names(self) -> tuple[str, ...]:
        """The names in the peer's certificate, if it is of our authority."""
        tls = self._quic.tls
        certificate = tls._peer_certificate
        if certificate is None:
            return ()
        try:
            verify_certificate(certificate, tls._peer_certificate_chain, cadata=self._endpoint.credentials.authority)
        except Alert as error:
            logging.getLogger(__name__).info("a certificate is refused: %s", error)
            return ()
        return names(certificate)

    def _terminated(self, code: int, reason: str) -> None:
        if self._done:
            return
        if not self.proved.is_set():
            self.failed = reason
            self.proved.set()
        self._ended = self._done = True
        self._endpoint.half_open.discard(self)
        self._endpoint.accepted.discard(self)
        self._endpoint.wires.discard(self)
        if self._dialed is not None and self._transport is not None:
            self._transport.close()  # its own socket; an accepted one shares the listener's
        if self._open:
            self._endpoint.owner.wire_closed(self, reason)
        elif self._dialed is None and code in _TLS_ALERTS:
            self._endpoint.owner.wire_refused(f"no TLS handshake: {reason}", self.host)

    # Tickets

    def early(self, remembered: Remembered) -> None:
        """As a client with a ticket: the peer is known, and what is sent from now on goes with the first packet."""
        self._names = remembered.names
        self.host, self.version = remembered.host, remembered.version
        self.resumed = True
        self._opened()

    def keep_ticket(self, ticket: SessionTicket) -> None:
        """As a client: the server gave a ticket for next time."""
        if self._dialed is not None and self._names:
            self._endpoint.visited.put(self._dialed, Remembered(ticket, self._names, self.host, self.version))

    def _resume(self, identity: bytes) -> SessionTicket | None:
        found = self._endpoint.visitors.take(identity)
        if found is None or found.ticket.cipher_suite != CipherSuite.AES_256_GCM_SHA384:
            return None
        self._names = found.names
        self.resumed = True
        self._quic.tls._request_client_certificate = False  # it showed it when it was given this ticket
        return found.ticket

    def _give_ticket(self, ticket: SessionTicket) -> None:
        certificate_names = self._names if self.resumed else self._peer_names()
        if certificate_names:
            self._endpoint.visitors.put(ticket.ticket, Remembered(ticket, certificate_names, self.host, self.version))


class _Listener(QuicServer):
    """The server's socket, with bounds on what strangers can make it do."""

    def __init__(self, endpoint: QuicEndpoint, configuration: QuicConfiguration) -> None:
        super().__init__(configuration=configuration, create_protocol=self._create)
        self._endpoint = endpoint
        self._prover = QuicRetryTokenHandler()

    def _create(self, quic: QuicConnection, stream_handler: object = None) -> QuicWire:
        wire = QuicWire(quic, self._endpoint, None)
        self._endpoint.half_open.add(wire)
        self._endpoint.accepted.add(wire)
        return wire

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        assert isinstance(data, bytes)
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=self._configuration.connection_id_length)
        except ValueError:
            return
        if header.packet_type == QuicPacketType.INITIAL and header.destination_cid not in self._protocols:
            if len(self._endpoint.accepted) >= MAX_CONNECTIONS:
                self._endpoint.owner.wire_refused("too many connections", _host(addr))
                return
            self._retry: Any = self._prover if len(self._endpoint.half_open) >= MAX_HALF_OPEN else None
        super().datagram_received(data, addr)


class QuicEndpoint:
    """A listening socket, and the connections of both kinds."""

    def __init__(self, owner: Owner, credentials: Credentials) -> None:
        self.owner = owner
        self.credentials = credentials
        self.wires: set[QuicWire] = set()
        self.accepted: set[QuicWire] = set()
        self.half_open: set[QuicWire] = set()
        self.visitors = Tickets()
        self.visited = Tickets()
        self.resumptions = 0
        self._listener: _Listener | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a bound UDP socket."""
        loop = asyncio.get_running_loop()
        configuration = self._configuration(is_client=False)
        _, self._listener = await loop.create_datagram_endpoint(lambda: _Listener(self, configuration), sock=sock)

    def renew(self, credentials: Credentials) -> None:
        """Show and believe other certificates from now on; open connections stay, and nobody resumes an older one."""
        self.credentials = credentials
        self.visitors.clear()
        self.visited.clear()
        if self._listener is not None:
            self._listener._configuration = self._configuration(is_client=False)

    async def dial(self, address: str, host: str, port: int) -> QuicWire:
        """Connect; returns when the peer has proved who it is, or at once where a ticket says so.

        Raises:
            OSError: it cannot be reached, or proves nothing.
        """
        loop = asyncio.get_running_loop()
        family, _, _, _, target = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
        configuration = self._configuration(is_client=True)
        remembered = self.visited.take(address)
        if remembered is not None:
            configuration.session_ticket = remembered.ticket
        wire: QuicWire | None = None
        keep: Callable[[SessionTicket], None] = lambda ticket: wire.keep_ticket(ticket) if wire else None  # noqa: E731
        quic = QuicConnection(configuration=configuration, session_ticket_handler=keep)
        sock = datagrams(family)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        _, wire = await loop.create_datagram_endpoint(lambda: QuicWire(quic, self, address), sock=sock)
        wire.host = host
        wire.connect(target, transmit=remembered is None)
        if remembered is not None:
            self.resumptions += 1
            wire.early(remembered)
            wire.transmit()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await wire.proved.wait()
        except (TimeoutError, asyncio.CancelledError) as error:
            wire.abort("no handshake")
            if isinstance(error, asyncio.CancelledError):
                raise
            raise OSError(f"{address} does not answer QUIC") from None
        if wire.failed:
            raise OSError(f"{address}: {wire.failed}")
        return wire

    def close(self) -> None:
        """End all connections at once and stop listening."""
        for wire in list(self.wires):
            wire.abort("closing")
        if self._listener is not None:
            self._listener.close()

    def _configuration(self, is_client: bool) -> QuicConfiguration:
        credentials = self.credentials
        return QuicConfiguration(
            alpn_protocols=list(PROTOCOLS),
            is_client=is_client,
            idle_timeout=IDLE_SECONDS,
            cadata=credentials.authority,
            certificate=credentials.chain[0],
            certificate_chain=list(credentials.chain[1:]),
            private_key=load_pem_private_key(credentials.files.key.read_bytes(), None),
            cipher_suites=[CipherSuite.AES_256_GCM_SHA384],
            max_data=4 * 2**20,
            max_stream_data=2 * 2**20,
        )


def _host(addr: Any) -> str:
    host = str(addr[0])
    return host.removeprefix("::ffff:")
