"""A WebSocket once its handshake is over: messages come, messages go.

Either side's: of a caller (`Role.SERVER`) and of an upstream (`Role.CLIENT`). No extension is ever agreed on, so no frame is
compressed. Frames are wsproto's to judge (masks, reserved bits, control frames, lengths, UTF-8); bounds and time are ours: a
message has a greatest length, and who says nothing for long is asked with a ping whether he is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from enum import Enum
from io import StringIO
from typing import Final

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
UNSUPPORTED: Final = 1003
NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
POLICY: Final = 1008
TOO_BIG: Final = 1009
FAILED: Final = 1011
_LOCAL: Final = frozenset({NO_STATUS, ABNORMAL, 1015})
"""Codes that no frame may carry: what they tell was not said."""

HIGH_WATER: Final = 256 * 1024
"""Code points of messages that wait for whoever reads them, with what each message costs; above it nothing more is parsed or
taken from the socket. One read of uvloop's."""

FRAGMENT_COST: Final = 96
"""What a message, and each fragment of one, counts beside its text, so that none made of nothing is free: some more than what
an object of it takes."""

FRAMES_AT_ONCE: Final = 256
"""Frames that are parsed in one turn of the event loop: some milliseconds, where one read may hold 130,000 of them."""

CONTROL_FRAMES: Final = 100
"""Pings and pongs that may come in a second. Clients ping every few seconds; more only come where we read nothing."""

PING_SECONDS: Final = 20.0
"""After how long a silence a ping is sent; below the 60 s after which common load balancers give up a connection."""

PONG_SECONDS: Final = 20.0
"""How long it may take until anything comes back."""

_GONE: Final = frozenset({7, 8})
"""States of a TCP connection (Linux' ``TCP_CLOSE`` and ``TCP_CLOSE_WAIT``) whose other side sends no more."""

CLOSE_SECONDS: Final = 1.0
"""How long the other side may take to close after us."""


class Role(Enum):
    """Which side is ours."""

    SERVER = ConnectionType.SERVER
    CLIENT = ConnectionType.CLIENT


class Closed(Exception):  # noqa: N818 - it says what happened
    """The other side is gone: the ``code`` that it closed with (`ABNORMAL`: without a word), and its ``reason``."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code}")
        self.code = code
        self.reason = reason


class WebSocket(asyncio.Protocol):
    """One connection.

    Attributes:
        on_shutdown: called when the server that holds the connection begins to end.
        on_lost: all called once when the transport is gone.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, role: Role, message_bytes: int, opened: Connection | None = None
    ) -> None:
        """``opened``: wsproto's, of a handshake that it made, with what came behind that."""
        self._loop = loop
        self._role = role
        self._limit = message_bytes
        self._ws = Connection(role.value) if opened is None else opened
        self._transport: asyncio.Transport | None = None
        self._come: deque[str] = deque()
        self._waiting = 0  # what it counts
        self._begun = StringIO()  # what came of a message that is not whole
        self._size = 0
        self._turn: asyncio.Handle | None = None  # the next one in which frames are parsed
        self._controls = (0, 0)  # a second, and how many control frames came in it
        self._closed: Closed | None = None
        self._left: Closed | None = None  # how it ends when what came before is parsed
        self._ended = False  # we have sent our close, or can send nothing any more
        self._paused = False  # we read no more; only then anything is not parsed yet
        self._full = False  # the transport takes no more
        self._unsent, self._moved = 0, 0.0  # bytes that it still held then, and when they became fewer
        self._ping: bytes | None = None  # one that is to be answered when there is room again
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._heard = loop.time()
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None
        self.on_shutdown: Callable[[], None] = lambda: None
        self.on_lost: list[Callable[[], object]] = []

    def attach(self, transport: asyncio.Transport) -> None:
        """Take over a transport whose handshake is over."""
        self._transport = transport
        transport.set_protocol(self)
        transport.resume_reading()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(PING_SECONDS, self._tick)
        self.data_received(b"")

    @property
    def at_hand(self) -> bool:
        """Whether `receive` would not wait."""
        return bool(self._come) or self._closed is not None

    @property
    def closed(self) -> Closed | None:
        """How it ended, if it did."""
        return self._closed or self._left

    @property
    def left(self) -> bool:
        """Whether the other side sends no more. Who does not read is not told so, but the kernel knows, where it is Linux."""
        if self._closed is not None or self._left is not None:
            return True
        if not self._paused or self._transport is None:
            return False
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            return sock is not None and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _GONE
        return False

    async def receive(self) -> str:
        """The next message.

        Raises:
            Closed: there will be none.
        """
        if self._come:
            await asyncio.sleep(0)  # much that is at hand does not keep others waiting
        while not self._come:
            if self._closed is not None:
                raise self._closed
            await self.wait()
        message = self._come.popleft()
        self._waiting -= len(message) + FRAGMENT_COST
        if self._paused and self._waiting <= HIGH_WATER:
            self._go_on()
        return message

    async def ready(self, unless: Callable[[], bool]) -> bool:
        """Whether a message, or the end, is at hand; waits for it, but not where ``unless`` is true, nor once it is after a
        `wake`."""
        while not self.at_hand and not unless():
            await self.wait()
        return self.at_hand

    async def wait(self) -> None:
        """Until something came, or `wake`."""
        self._reader = self._loop.create_future()
        await self._reader

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def send(self, message: str) -> None:
        """Send a message; waits while the other side reads slowly.

        Raises:
            Closed: nobody will read it.
        """
        while self._full and not self._ended:
            writer = self._loop.create_future()
            self._writers.append(writer)
            await writer
        if self._ended or self._closed is not None or self._transport is None:
            raise self._closed or Closed(ABNORMAL)
        self._transport.write(self._ws.send(TextMessage(message)))

    def send_last(self, message: str) -> None:
        """Send a message before `close`, whether or not the other side reads: it is the last."""
        if not self._ended and self._closed is None and self._transport is not None:
            self._transport.write(self._ws.send(TextMessage(message)))

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close, and give the other side a moment to do so too. Does nothing the second time."""
        if self._ended:
            return
        self._ended = True
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        said = None if code in _LOCAL else code
        transport.write(self._ws.send(CloseConnection(said or NORMAL, reason or None)))
        self._release()
        if self._ws.state is ConnectionState.CLOSED and self._role is Role.SERVER:
            transport.close()  # both have closed, and the server goes first (RFC 6455 §7.1.1)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """Close at once."""
        self._ended = True
        self._release()
        if self._transport is not None:
            self._transport.abort()

    def shutdown(self) -> None:
        """The server begins to end."""
        self.on_shutdown()

    # What follows is called by the event loop.

    def data_received(self, data: bytes) -> None:
        if self._closed is not None:
            return
        self._heard = self._loop.time()
        self._asked = False
        self._ws.receive_data(data)
        self._parse()

    def eof_received(self) -> None:
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._leave()
        self._release()
        for tell in self.on_lost:
            tell()

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._full = True
        self._unsent, self._moved = self._transport.get_write_buffer_size(), self._loop.time()

    def resume_writing(self) -> None:
        self._full = False
        self._release()
        if self._ping is not None and not self._ended:
            ping, self._ping = self._ping, None
            self._answer(ping)

    def _parse(self) -> None:
        """Take what came, a turn's worth of it and no more than there is room for."""
        self._turn = None
        if self._closed is not None:
            return
        for number, event in enumerate(self._ws.events(), 1):
            self._happened(event)
            if self._closed is not None:
                return
            if number == FRAMES_AT_ONCE or self._waiting > HIGH_WATER:
                break
        else:
            if self._left is not None:
                self._over(self._left)
            elif self._paused and self._transport is not None and not self._transport.is_closing():
                self._paused = False
                self._heard = self._loop.time()
                self._transport.resume_reading()
            return
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._waiting <= HIGH_WATER:
            self._go_on()

    def _go_on(self) -> None:
        if self._turn is None:
            self._turn = self._loop.call_soon(self._parse)

    def _happened(self, event: Event) -> None:
        match event:
            case TextMessage():
                self._take(event)
            case BytesMessage():
                self._refuse(UNSUPPORTED, "messages are text here")
            case Ping() | Pong() if self._flooded():
                self._refuse(POLICY, f"at most {CONTROL_FRAMES} pings and pongs a second")
            case Ping():
                self._answer(bytes(event.payload))
            case CloseConnection() if self._ws.state is ConnectionState.OPEN:
                self._refuse(event.code, "")  # it is wsproto that speaks: what came is no frame
            case CloseConnection():
                self._over(Closed(event.code, event.reason or ""))
                if self._ended and self._transport is not None:
                    self._transport.close()  # it answers our close
            case _:
                pass

    def _take(self, event: TextMessage) -> None:
        text = event.data
        self._size += len(text) if text.isascii() else len(text.encode())
        if self._size > self._limit:
            self._refuse(TOO_BIG, f"a message may have {self._limit} bytes")
            return
        if not event.message_finished:
            self._begun.write(text)
            self._size += FRAGMENT_COST if event.frame_finished else 0
            return
        message = text
        if self._begun.tell():
            message, self._begun = self._begun.getvalue() + text, StringIO()
        self._size = 0
        self._come.append(message)
        self._waiting += len(message) + FRAGMENT_COST
        self.wake()

    def _flooded(self) -> bool:
        """Count a control frame; whether there are too many."""
        second = int(self._loop.time())
        self._controls = (second, self._controls[1] + 1 if self._controls[0] == second else 1)
        return self._controls[1] > CONTROL_FRAMES

    def _answer(self, ping: bytes) -> None:
        """Send a pong; where there is no room, only the last ping is answered (RFC 6455 §5.5.3)."""
        if self._full:
            self._ping = ping
        elif not self._ended and self._transport is not None:
            self._transport.write(self._ws.send(Pong(ping)))

    def _refuse(self, code: int, reason: str) -> None:
        """What came cannot be: close."""
        self._over(Closed(code, reason))
        self.close(code, reason)

    def _leave(self) -> None:
        """Nothing more comes; what did is still to be had."""
        if self._paused:
            self._left = Closed(ABNORMAL)
        else:
            self._over(Closed(ABNORMAL))

    def _over(self, closed: Closed) -> None:
        if self._closed is None:
            self._closed = closed
            self._begun = StringIO()
            self.wake()
            self._release()

    def _release(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            if not writer.done():
                writer.set_result(None)

    def _tick(self) -> None:
        """Ask who has been silent whether he is there; give up who does not answer, or reads nothing of what he is sent.

        Who is not listened to is asked, too: his answer is not heard, but the kernel of one who has closed, whose end is stuck
        behind what he said, sends a reset, and `left` tells.
        """
        now = self._loop.time()
        silent = now - self._heard
        if self._paused:
            silent = 0.0  # it is we who do not listen
        if (self._asked and silent >= PING_SECONDS + PONG_SECONDS) or self._stuck(now):
            self.abort()
            return
        due = self._paused or (silent >= PING_SECONDS and not self._asked)
        if due and not self._full and not self._ended and self._transport is not None:
            self._asked = self._asked or not self._paused
            self._transport.write(self._ws.send(Ping(b"")))
        wait = PONG_SECONDS if self._asked else PING_SECONDS - silent
        self._timer = self._loop.call_later(max(wait, 1.0), self._tick)

    def _stuck(self, now: float) -> bool:
        """Whether nothing of what fills the transport has gone out for as long as a silent side is waited for."""
        if not self._full or self._transport is None:
            return False
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent, self._moved = unsent, now
        return now - self._moved >= PING_SECONDS + PONG_SECONDS
