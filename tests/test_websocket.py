"""A WebSocket by itself: what it takes in at once, how much waits, whom it gives up. Bytes in, calls of a transport out."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.websocket import socket as ws
from gateway.websocket.socket import Closed, Role, WebSocket

READ = 256 * 1024
"""Bytes of one read of uvloop's."""


class Wire(asyncio.Transport):
    """A transport that notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.aborted = self.closed = False
        self.unsent = 0
        self.sent = b""

    def set_protocol(self, protocol: object) -> None: ...

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    @property
    def code(self) -> int | None:
        """The code of the close frame that went out, the last of all."""
        at = self.sent.rfind(b"\x88")
        return int.from_bytes(self.sent[at + 2 : at + 4], "big") if at >= 0 else None


class Clock(asyncio.AbstractEventLoop):
    """What a socket needs of an event loop, in a time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, asyncio.TimerHandle]] = []

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now + delay, callback, args, self, context)
        heapq.heappush(self._due, (self.now + delay, len(self._due), handle))
        return handle

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        return self.call_later(0, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None: ...

    def pass_by(self, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Let time pass, and look at what happens after each of its events."""
        until = self.now + seconds
        while self._due and self._due[0][0] <= until:
            self.now, _, handle = heapq.heappop(self._due)
            if not handle.cancelled():
                handle._run()
            meanwhile()
        self.now = until


def opened(loop: asyncio.AbstractEventLoop, limit: int = 2**24) -> tuple[WebSocket, Wire]:
    socket, wire = WebSocket(loop, Role.SERVER, limit), Wire()
    socket.attach(wire)
    return socket, wire


def frame(opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xff" + len(payload).to_bytes(8, "big")
    if 126 <= len(payload) < 65536:
        size = b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([opcode | (0x80 if fin else 0)]) + size + b"\0\0\0\0" + payload


CLOSE = frame(8, b"\x03\xe8")


@pytest.mark.parametrize("one", [frame(1), frame(1, b"a"), frame(1, b"{}"), frame(0, fin=False)])
def test_tiny_frames_wait_no_turn_of_the_loop_out_and_pause_the_sender(one: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Clock()
    socket, wire = opened(loop)
    if not one[0] & 0x0F:
        socket.data_received(frame(1, b"", fin=False))
    happened = 0
    whole = WebSocket._happened

    def counted(self: WebSocket, event: Any) -> None:
        nonlocal happened
        happened += 1
        whole(self, event)

    monkeypatch.setattr(WebSocket, "_happened", counted)
    most = 0

    def look() -> None:
        nonlocal happened, most
        most, happened = max(most, happened), 0

    socket.data_received(one * (READ // len(one)))
    assert not wire.reading, "the rest of it is not parsed yet"
    look()
    loop.pass_by(0, look)
    assert most <= ws.FRAMES_AT_ONCE
    assert len(socket._come) * ws.FRAGMENT_COST <= ws.HIGH_WATER + ws.FRAGMENT_COST
    if one[0] & 0x0F:
        assert not wire.reading, "nobody has taken what waits"
    socket.abort()


@pytest.mark.parametrize("opcode", [9, 10])
def test_more_control_frames_than_anybody_needs_close_with_1008(opcode: int) -> None:
    loop = Clock()
    socket, wire = opened(loop)
    for _ in range(5):
        socket.data_received(frame(opcode, b"p") * ws.CONTROL_FRAMES)
        loop.pass_by(1)
    assert wire.code is None
    if opcode == 9:
        assert wire.sent == b"\x8a\x01p" * (5 * ws.CONTROL_FRAMES)
    socket.data_received(frame(opcode) * (ws.CONTROL_FRAMES + 1))
    loop.pass_by(0)
    assert wire.code == ws.POLICY


async def _read(socket: WebSocket) -> tuple[list[str], int]:
    messages = []
    try:
        while True:
            messages.append(await socket.receive())
    except Closed as closed:
        return messages, closed.code


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.text(max_size=3), st.integers(1, 300)), max_size=40), st.integers(1, 4000), st.booleans(), st.booleans(),
    st.integers(100, 20_000),
)  # fmt: skip
def test_nothing_is_lost_however_it_comes_and_how_it_ends(
    said: list[tuple[str, int]], size: int, closes: bool, at_once: bool, room: int
) -> None:
    wanted = [text for text, times in said for _ in range(times)]
    data = b"".join(frame(1, text.encode()) for text in wanted) + (CLOSE if closes else b"")

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        socket, wire = opened(loop)
        reading = None if at_once else loop.create_task(_read(socket))
        for at in range(0, len(data), size):
            while not wire.reading and not at_once:
                await asyncio.sleep(0)
            socket.data_received(data[at : at + size])  # at once: as TLS does, where a read was under way
        socket.eof_received()
        socket.connection_lost(None)
        got, code = await (reading or _read(socket))
        assert got == wanted
        assert code == (ws.NORMAL if closes else ws.ABNORMAL)

    high, ws.HIGH_WATER = ws.HIGH_WATER, room  # type: ignore[misc]
    try:
        asyncio.run(talk())
    finally:
        ws.HIGH_WATER = high  # type: ignore[misc]


def test_others_have_their_turn_while_much_is_at_hand() -> None:
    async def talk() -> None:
        socket, _ = opened(asyncio.get_running_loop())
        socket.data_received(frame(1, b"a") * 200)
        reading = asyncio.get_running_loop().create_task(_read(socket))
        turns = 0
        while socket.at_hand:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 200
        socket.connection_lost(None)
        await reading

    asyncio.run(talk())


@pytest.mark.parametrize("size", [1, 7, 1460, 10_000])
def test_a_message_may_have_all_its_bytes_however_they_come(size: int) -> None:
    async def talk() -> None:
        socket, wire = opened(asyncio.get_running_loop(), limit=10_000)
        data = frame(1, b"\xc3\xa4" * 5_000)
        for at in range(0, len(data), size):
            socket.data_received(data[at : at + size])
        assert await socket.receive() == "ä" * 5_000
        socket.data_received(frame(1, b"a" * 10_001))
        assert wire.code == ws.TOO_BIG
        socket.connection_lost(None)

    asyncio.run(talk())


def test_fragments_of_nothing_come_to_an_end() -> None:
    loop = Clock()
    socket, wire = opened(loop, limit=10_000)
    socket.data_received(frame(1, b"", fin=False) + frame(0, b"", fin=False) * (10_000 // ws.FRAGMENT_COST + 1))
    assert wire.code == ws.TOO_BIG


@pytest.mark.parametrize("full", [False, True])
def test_a_side_that_neither_speaks_nor_reads_is_given_up(full: bool) -> None:
    loop = Clock()
    socket, wire = opened(loop)
    wire.unsent = 100_000
    if full:
        socket.pause_writing()
    loop.pass_by(ws.PING_SECONDS + ws.PONG_SECONDS - 1)
    assert not wire.aborted
    loop.pass_by(ws.PING_SECONDS + 1)
    assert wire.aborted


def test_a_side_that_speaks_but_does_not_read_is_given_up_and_one_that_reads_slowly_is_not() -> None:
    loop = Clock()
    socket, wire = opened(loop)
    wire.unsent = 100_000
    socket.pause_writing()
    for _ in range(20):
        wire.unsent -= 1
        socket.data_received(frame(1, b"a"))
        loop.pass_by(ws.PING_SECONDS / 2)
    assert not wire.aborted
    for _ in range(8):
        socket.data_received(frame(1, b"a"))
        loop.pass_by(ws.PING_SECONDS / 2)
    assert wire.aborted


def test_who_is_silent_is_asked_whether_he_is_there_and_given_up_without_an_answer() -> None:
    loop = Clock()
    socket, wire = opened(loop)
    loop.pass_by(ws.PING_SECONDS - 1)
    assert wire.sent == b""
    loop.pass_by(2)
    assert wire.sent == b"\x89\x00", "a ping"
    socket.data_received(frame(10))
    loop.pass_by(ws.PING_SECONDS + ws.PONG_SECONDS - 2)
    assert wire.sent == b"\x89\x00" * 2
    assert not wire.aborted
    loop.pass_by(4)
    assert wire.aborted
