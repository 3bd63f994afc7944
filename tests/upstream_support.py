"""What the tests of the upstream client share: servers on loopback that say what a test wrote, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gateway.upstream.client import Upstream
from gateway.upstream.connection import Timeouts
from gateway.upstream.pool import PoolLimits

Loop = Callable[[], asyncio.AbstractEventLoop]
both_loops = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])

CLEAN = "<Pool in_use=0 idle=0 waiting=0>"
PATIENT = Timeouts(connect=10, first_byte=10, idle=10, total=10)

Handler = Callable[["Peer"], Awaitable[None]]


def run(test: Coroutine[Any, Any, None], loop: Loop = uvloop.new_event_loop) -> None:
    """Run a test; nothing may be left running, and no callback may have failed unseen."""
    unseen: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        async with asyncio.timeout(20):
            await test
        if left := asyncio.all_tasks() - {asyncio.current_task()}:  # such as a server's handshake with one who left
            await asyncio.wait(left, timeout=1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    assert not unseen, unseen


class Peer:
    """The server's end of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number  # of the connection, from 0
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: its head and its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return head, await self.reader.readexactly(length)

    async def say(self, *pieces: bytes) -> None:
        """Write each piece on its own and let it leave."""
        for piece in pieces:
            if self.writer.is_closing():
                raise ConnectionResetError
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    def reset(self) -> None:
        """Close with a reset instead of an end."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Until the client has closed the connection; what it still sends is thrown away."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class Server:
    """A server on loopback; every connection is handed to the test's handler and closed when that returns."""

    def __init__(self, handler: Handler) -> None:
        self.port = 0
        self.peers: list[Peer] = []
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        try:
            await self._handler(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def idle(self) -> None:
        """Until every handler has returned."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self.idle()


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    """A server while the block runs."""
    server = Server(handler)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.stop()


def saying(*pieces: bytes) -> Handler:
    """A handler that answers every request of a connection with these bytes, cut so."""

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(*pieces)

    return handler


def held(go: asyncio.Event, *pieces: bytes) -> Handler:
    """A handler that answers every request once `go` is set."""

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            await go.wait()
            await peer.say(*pieces)

    return handler


def then_closing(*pieces: bytes) -> Handler:
    """A handler that says this to the first request and closes."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(*pieces)

    return handler


def then_hanging(*pieces: bytes) -> Handler:
    """A handler that says this to the first request and nothing more."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(*pieces)
        await peer.gone()

    return handler


def upstream(port: int, timeouts: Timeouts = PATIENT, **more: Any) -> Upstream:
    """A client of the server; one attempt each unless the test asks for more."""
    return Upstream("test", f"http://127.0.0.1:{port}", [], timeouts=timeouts, **more)


class Asking:
    """An `Asker`."""

    unanswered = False


async def ask(client: Upstream, body: bytes = b"", asker: Asking | None = None) -> bytes:
    """The body of the reply to a request."""
    return await (await client.send(b"POST", b"/", [], body, asker=asker)).read(2**20)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something has come about that has no event of its own."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def ok(body: bytes = b"hello", *headers: bytes) -> bytes:
    """A whole reply with a length."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 200 OK\r\n" + lines + b"content-length: %d\r\n\r\n" % len(body) + body


def chunked(*pieces: bytes) -> bytes:
    """A whole reply in chunks."""
    chunks = b"".join(b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in pieces)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
"""A head after which chunks come."""

ONE = PoolLimits(connections=1, waiting=2)
"""A pool that makes requests wait for one another."""
