"""A bad network on loopback: a relay in front of one address, for UDP and TCP, that delays, loses and blocks.

It stands in for the kernel's own (`tc netem`) where that is not to be had. TCP is only delayed: what it loses, TCP itself
repeats, so a loss there is a longer delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from random import Random
from typing import Any, Final

RETRANSMIT_SECONDS: Final = 0.2
"""What a lost TCP segment costs: the kernel's least retransmission time-out."""


class LossyRelay:
    """Relays to a port of loopback. Change its attributes at any time; `port` is where to connect to."""

    def __init__(self, target: int, seed: int = 1, delay: float = 0.0, loss: float = 0.0) -> None:
        self.target = target
        self.port = 0
        self.delay = delay
        self.loss = loss
        self.udp_blocked = False
        self.tcp_blocked = False
        self.datagrams = 0
        self._random = Random(seed)
        self._clients: dict[Any, _Upstream] = {}
        self._front: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._tcp, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._front, _ = await loop.create_datagram_endpoint(lambda: _Front(self), local_addr=("127.0.0.1", self.port))

    def rebind(self) -> None:
        """Let all clients seem to come from other ports, as a NAT that forgot them does."""
        for upstream in self._clients.values():
            upstream.close()
        self._clients.clear()

    def cut(self) -> None:
        """End all TCP connections."""
        for pipe in list(self._pipes):
            pipe.cancel()

    async def close(self) -> None:
        self.rebind()
        self.cut()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        if self._front is not None:
            self._front.close()
        if self._server is not None:
            self._server.close()

    # UDP

    def from_client(self, data: bytes, addr: Any) -> None:
        upstream = self._clients.get(addr)
        if upstream is None:
            upstream = self._clients[addr] = _Upstream(self, addr)
        self._later(lambda: upstream.send(data))

    def to_client(self, data: bytes, addr: Any) -> None:
        front = self._front
        if front is not None:
            self._later(lambda: None if front.is_closing() else front.sendto(data, addr))

    def _later(self, act: Any) -> None:
        self.datagrams += 1
        if not self.udp_blocked and self._random.random() >= self.loss:
            asyncio.get_running_loop().call_later(self.delay, act) if self.delay else act()

    # TCP

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.tcp_blocked:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                await asyncio.gather(self._pipe(reader, there_writer), self._pipe(there_reader, writer))
            finally:
                there_writer.close()
        writer.close()
        self._pipes.discard(task)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        free_at = 0.0
        while data := await reader.read(65_536):
            delay = self.delay
            while self._random.random() < self.loss:
                delay += RETRANSMIT_SECONDS + 2 * self.delay
            free_at = max(free_at, loop.time() + delay)
            loop.call_at(free_at, writer.write, data)
        loop.call_at(max(free_at, loop.time()), writer.close)


class _Front(asyncio.DatagramProtocol):
    def __init__(self, relay: LossyRelay) -> None:
        self._relay = relay

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._relay.from_client(data, addr)


class _Upstream:
    """A client's socket towards the target."""

    def __init__(self, relay: LossyRelay, client: Any) -> None:
        self._relay, self._client = relay, client
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.connect(("127.0.0.1", relay.target))
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._sock.send(data)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self._relay.to_client(self._sock.recv(65_536), self._client)
