"""The server's events of one turn, as what a stream is relayed from and to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor

from gateway.exchange import Exchange
from gateway.faults import ClientGone
from gateway.realtime.conversation import Conversation, Event, Heard, read_told
from gateway.streams.listening import LONG
from gateway.streams.moving import Interrupted
from gateway.telemetry.metrics import Counter
from gateway.upstream.errors import Truncated
from gateway.websocket.socket import Closed, WebSocket
from gateway.wires.openai_realtime_events import SEPARATOR


class TurnSource:
    """What the server says, turn by turn.

    Attributes:
        closed: set once it says nothing any more. broke: that was in the middle of a turn.
    """

    def __init__(
        self, socket: WebSocket, conversation: Conversation, events: Counter,
        ask: Callable[[Iterable[Event]], Awaitable[None]], hear: Callable[[Heard], Awaitable[Interrupted | None]],
        scanner: Executor,
    ) -> None:  # fmt: skip
        """
        Args:
            ask: sends the server events of the gateway's own.
            hear: judges what the user said; gives what the turn is cut for.
            scanner: reads what is long.
        """
        self._socket = socket
        self._conversation = conversation
        self._events = events
        self._ask = ask
        self._hear = hear
        self._scanner = scanner
        self._over = self.broke = False
        self._received = 0
        self.closed: Closed | None = None

    def begin(self) -> None:
        """A turn begins."""
        self._over, self._received = False, 0

    async def ready(self, unless: Callable[[], bool], take: Callable[[], bool] | None = None) -> bool:
        return self._over or await self._socket.ready(unless)

    def wake(self) -> None:
        self._socket.wake()

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        try:
            message = (await self._socket.receive()).encode()
        except Closed as closed:
            self.closed = closed
            if self._conversation.responding:
                self.broke = True
                raise Truncated(self._received) from None
            raise StopAsyncIteration from None
        self._received += len(message)
        if len(message) <= LONG:
            message, event = read_told(message)
        else:
            message, event = await asyncio.get_running_loop().run_in_executor(self._scanner, read_told, message)
        told = self._conversation.told(message, event)
        self._over = told.over
        await self._ask(told.asks)
        if told.heard is not None and (stop := await self._hear(told.heard)) is not None:
            raise stop
        if told.message is None:
            self._events.add(("server", "drop"))
            return b""
        return told.message + SEPARATOR

    def close(self) -> None:
        """A turn that is over leaves the socket to the next one."""


class TurnSink:
    """The caller, as whom a turn's messages go to."""

    def __init__(self, socket: WebSocket, exchange: Exchange, events: Counter) -> None:
        self._socket = socket
        self._exchange = exchange
        self._events = events

    async def piece(self, data: bytes) -> None:
        for message in data.split(SEPARATOR)[:-1]:
            self._exchange.bytes_out += len(message)
            self._events.add(("server", "pass"))
            text = message.decode()
            if len(message) > LONG:
                await asyncio.sleep(0)  # it is copied several times yet
            try:
                await self._socket.send(text)
            except Closed:
                raise ClientGone from None
