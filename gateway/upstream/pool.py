"""The connections to one origin: lent out, taken back, bounded in number, and the queue for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.upstream.connection import Asker, Connection, Timeouts
from gateway.upstream.dial import Origin, dial
from gateway.upstream.errors import ConnectFailed, TimedOut, TooBusy, Truncated, UpstreamError
from gateway.upstream.reply import Reply

CROSSING_SECONDS: Final = 1.0
"""A close that crosses our request shows within a round trip, which this is generous for. Later, it is another."""


class PoolLimits(NamedTuple):
    """How many connections, and how long they are kept.

    Attributes:
        connections: standing and being opened.
        waiting: requests in the queue, each of which holds its body in memory.
        idle: connections kept for later.
        idle_seconds: how long; below the 60 to 75 s after which common servers and balancers close them.
    """

    connections: int = 256
    waiting: int = 1024
    idle: int = 256
    idle_seconds: float = 30.0


class Pool:
    """Connections to one origin. Everything here runs on one event loop.

    Attributes:
        opened: connections that came to stand.
        reused: requests that found a connection standing.
        resent: requests sent again since the connection they found was closing.
    """

    def __init__(self, origin: Origin, timeouts: Timeouts, limits: PoolLimits, broke: Callable[[UpstreamError], None]) -> None:
        """Args:
        broke: called with the error when a reply fails whose head was already handed out.
        """
        self.opened = 0
        self.reused = 0
        self.resent = 0
        self._origin = origin
        self._timeouts = timeouts
        self._limits = limits
        self._broke = broke
        self._members: set[Connection] = set()
        self._opening = 0
        self._idle: list[Connection] = []  # the last used is the next used, so that those not needed grow old
        self._queue: deque[asyncio.Future[Connection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Pool in_use={self.in_use} idle={self.idle} waiting={self.waiting}>"

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """Connections that carry a request or are being opened."""
        return self._opening + len(self._members) - len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return len(self._queue)

    async def exchange(
        self, method: bytes, head: bytes, body: bytes, now: float, limit: float, asker: Asker | None = None
    ) -> Reply:
        """Send a request on some connection; as `Connection.exchange`.

        A request written to a standing connection may cross the upstream's closing of it. It is sent once more
        where that is what must have happened, as far as can be told: the connection had served before, it ended
        within a second, and not one byte of a reply came. RFC 9110 §9.2.2 asks for such a sign before a request
        that is not idempotent is repeated; one that dies later, or after a byte, may have done its work.

        Raises:
            TooBusy, ConnectFailed, TimedOut, BadReply, Truncated.
        """
        connection = self._take_idle(now)
        if connection is None:
            connection = await self._acquire(limit)
            now = connection.loop.time()
        if not connection.served:
            return await connection.exchange(method, head, body, now, limit, asker)
        self.reused += 1
        try:
            return await connection.exchange(method, head, body, now, limit, asker)
        except Truncated as error:
            ended = connection.loop.time()
            if error.received or ended > now + CROSSING_SECONDS:
                raise
        self.resent += 1
        if asker is not None:
            asker.unanswered = False
        connection = await self._acquire(limit, fresh=True)
        return await connection.exchange(method, head, body, connection.loop.time(), limit, asker)

    def close(self) -> None:
        """Close the idle connections now, and each of the others when its reply has been read."""
        self._closed = True
        for connection in list(self._idle):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    # What follows up to `broke` is called by the connections.

    def release(self, connection: Connection) -> None:
        kept = self._limits.idle_seconds
        if connection.keep_alive is not None:
            kept = min(kept, connection.keep_alive - 1.0)  # ours must be the first to give it up
        if self._closed:
            connection.abort()
            return
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if len(self._idle) >= self._limits.idle:
            connection.abort()
            return
        connection.expires = connection.loop.time() + kept
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = connection.loop.call_at(connection.expires, self._sweep, connection.loop)

    def gone(self, connection: Connection) -> None:
        if connection not in self._members:  # it lost the race to be opened
            return
        self._members.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._grant()

    def broke(self, error: UpstreamError) -> None:
        self._broke(error)

    def _take_idle(self, now: float) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.expires > now:
                return connection
            connection.abort()
        return None

    async def _acquire(self, limit: float, fresh: bool = False) -> Connection:
        """A connection that was not idle: opened, or waited for; if `fresh`, one that has served nobody."""
        if self._full() and self._idle:
            self._idle[0].abort()
        if not self._full():
            self._opening += 1
            return await self._open(limit)
        while True:
            connection = await self._wait_turn(limit)
            if connection is None:
                return await self._open(limit)
            if connection.closed:
                continue
            if not fresh:
                return connection
            self._members.remove(connection)  # before it is closed, so that its slot stays ours
            self._opening += 1
            connection.abort()
            return await self._open(limit)

    def _full(self) -> bool:
        return self._opening + len(self._members) >= self._limits.connections

    async def _open(self, limit: float) -> Connection:
        """Open a connection; it is already counted in `_opening`."""
        loop = asyncio.get_running_loop()
        left = limit - loop.time()
        try:
            connection = await dial(
                self._origin, lambda: Connection(self, loop, self._timeouts), min(self._timeouts.connect, left)
            )
            if connection.closed:
                raise ConnectFailed("the upstream closed the connection at once")
        except BaseException as error:
            self._opening -= 1
            self._grant()
            if isinstance(error, TimedOut) and left < self._timeouts.connect:
                raise TimedOut("total") from None
            raise
        self._opening -= 1
        self._members.add(connection)
        self.opened += 1
        return connection

    async def _wait_turn(self, limit: float) -> Connection | None:
        """Wait for a connection, or for leave to open one (None)."""
        if len(self._queue) >= self._limits.waiting:
            raise TooBusy
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._queue.append(waiter)
        timer = loop.call_at(min(limit, loop.time() + self._timeouts.connect), _give_up, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter in self._queue:
                self._queue.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(waiter.result())  # granted in the moment of being cancelled
            raise
        finally:
            timer.cancel()

    def _pass_on(self, granted: Connection | None) -> None:
        if granted is None:
            self._opening -= 1
            self._grant()
        elif not granted.closed:
            self.release(granted)

    def _grant(self) -> None:
        """A slot is free: let the first who waits open a connection."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                self._opening += 1
                waiter.set_result(None)
                return

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the connections that have been idle too long."""
        now = loop.time()
        for connection in [old for old in self._idle if old.expires <= now]:
            connection.abort()
        first = min((connection.expires for connection in self._idle), default=None)
        self._sweeper = None if first is None else loop.call_at(first, self._sweep, loop)


def _give_up(waiter: asyncio.Future[Connection | None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimedOut("queue"))
