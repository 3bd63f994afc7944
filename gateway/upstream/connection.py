"""One connection to an upstream: the socket's side of `gateway.upstream.http1`.

The connection owns the clock: one timer, armed for the earliest moment that can matter and moved only when
that comes or a nearer one is wanted, so a request costs no timer of its own. The reply (`gateway.upstream.reply`)
owns the waiting: one future at a time. Whoever stops waiting (a cancelled task) closes the connection there and then:
half-read ones never go back to the pool.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple, Protocol, cast

from gateway.upstream.dial import Abortable
from gateway.upstream.errors import BadReply, Phase, TimedOut, Truncated, UpstreamError
from gateway.upstream.http1 import DONE
from gateway.upstream.reply import Reply

HIGH_WATER: Final = 256 * 1024
"""Bytes of a reply held for a reader slower than the upstream; above it we stop reading. One read of uvloop's."""

WRITE_PIECE: Final = 256 * 1024
"""Bytes of a request's body handed to the transport at once; longer bodies wait for each piece to leave."""


class Timeouts(NamedTuple):
    """Seconds that each phase of an exchange may take; `idle` holds between pieces, in both directions."""

    connect: float
    first_byte: float
    idle: float
    total: float


class Owner(Protocol):
    """Who lends a connection out: the pool."""

    def release(self, connection: Connection) -> None:
        """The reply was read to its end and the connection can carry another."""

    def gone(self, connection: Connection) -> None:
        """The connection is closed. Called once."""

    def broke(self, error: UpstreamError) -> None:
        """A reply failed after its head."""


class Asker(Protocol):
    """Whom a request is sent for. Who leaves, or waits in vain, is charged for what an upstream was asked.

    Attributes:
        unanswered: an upstream has the whole request, as far as can be told, and has not answered.
    """

    unanswered: bool


class Connection(asyncio.Protocol, Abortable):
    """Carries one request and its reply at a time, and watches the time that each phase takes."""

    __slots__ = ("_armed_for", "_deadline", "_full", "_limit", "_owner", "_paused", "_phase", "_reply", "_sending",
                 "_timeouts", "_timer", "_transport", "closed", "expires", "keep_alive", "loop", "served")  # fmt: skip

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop, timeouts: Timeouts) -> None:
        self.closed = False
        self.served = 0  # requests begun
        self.expires = 0.0  # loop time after which it is too old to be used again; the pool's
        self.keep_alive: int | None = None  # seconds for which the upstream keeps it when idle, if it said so
        self._owner = owner
        self.loop = loop
        self._timeouts = timeouts
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._phase: Phase = "first_byte"
        self._deadline = self._limit = self._armed_for = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False  # we read no more until the reply's reader has caught up
        self._full = False  # the transport takes no more until the upstream has caught up
        self._sending = False

    async def exchange(
        self, method: bytes, head: bytes, body: bytes, now: float, limit: float, asker: Asker | None = None
    ) -> Reply:
        """Send a request and wait for its reply's head.

        Args:
            asker: is told while the request has no answer.
            head: the request's head, blank line included.
            now: loop time.
            limit: loop time at which the exchange must be over, body included.

        Raises:
            TimedOut, BadReply, Truncated: and the connection is closed.
        """
        transport = self._transport
        assert transport is not None
        reply = self._reply = Reply(self, self.loop, method)
        self.served += 1
        self._limit = limit
        if len(body) <= WRITE_PIECE:
            self._expect("first_byte", self._timeouts.first_byte, now)
            transport.write(head + body)
        else:
            await self._send_large(transport, reply, head, body)
        if asker is not None:
            asker.unanswered = not self._sending
        while not reply.parser.status:
            if reply.error is not None:
                raise reply.error
            await reply.wait()
        reply.take_head()
        if asker is not None:
            asker.unanswered = False
        return reply

    async def _send_large(self, transport: asyncio.Transport, reply: Reply, head: bytes, body: bytes) -> None:
        self._sending = True
        transport.write(head)
        view = memoryview(body)
        for start in range(0, len(body), WRITE_PIECE):
            self._expect("send", self._timeouts.idle, self.loop.time())
            transport.write(view[start : start + WRITE_PIECE])
            while self._full:
                if reply.begun:  # an answer before the request's end (RFC 9112 §9.3): the rest is not wanted
                    return
                await reply.wait()
        self._sending = False
        if not reply.begun:
            self._expect("first_byte", self._timeouts.first_byte, self.loop.time())

    def resume(self) -> None:
        """The reply's reader has taken what was held."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._expect("idle", self._timeouts.idle, self.loop.time())
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, whatever is under way. Does nothing the second time."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reply = None
        if self._transport is not None:
            self._transport.abort()
        self._owner.gone(self)

    def fail(self, reply: Reply, error: UpstreamError) -> None:
        """End the exchange: the reply's reader will get the error."""
        reply.error = error
        if reply.live:
            reply.live = False
            self.abort()
        if reply.parser.status:
            self._owner.broke(error)
        reply.wake()

    # What follows is called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has the methods and not the base class
        if self.closed:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # nothing was asked, so nothing here can be an answer
            self.abort()
            return
        parser = reply.parser
        try:
            parser.feed(data)
        except BadReply as error:
            self.fail(reply, error)
            return
        if parser.phase is DONE:
            self._finish(reply)
        elif parser.status:
            if parser.buffered > HIGH_WATER and self._transport is not None:
                self._paused = True
                self._deadline = self._limit  # the upstream is not to blame for what its reader leaves lying
                self._transport.pause_reading()
            else:
                self._expect("idle", self._timeouts.idle, self.loop.time())
        if parser.status:
            reply.came()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._reply is not None:
            self._reply.wake()

    def _end(self, exc: Exception | None) -> None:
        reply = self._reply
        if reply is None:
            self.abort()
        elif exc is not None:  # a reset is no proper end, not even where the connection's end is the reply's
            self.fail(reply, Truncated(reply.parser.received))
        else:
            try:
                reply.parser.eof()
            except Truncated as error:
                self.fail(reply, error)
            else:
                self._finish(reply)
                reply.wake()

    def _finish(self, reply: Reply) -> None:
        self._reply = None
        reply.live = False
        if not reply.parser.reusable or self._sending:
            self.abort()
            return
        if reply.parser.keep_alive is not None:
            self.keep_alive = reply.parser.keep_alive
        self._owner.release(self)

    def _expect(self, phase: Phase, seconds: float, now: float) -> None:
        """From now on, wait for at most so long."""
        self._phase = phase
        at = now + seconds
        if at > self._limit:
            at = self._limit
        self._deadline = at
        if self._timer is None:
            self._arm(at)
        elif self._armed_for > at:
            self._timer.cancel()
            self._arm(at)

    def _arm(self, at: float) -> None:
        self._armed_for = at
        self._timer = self.loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        reply = self._reply
        if reply is None:
            return
        if self.loop.time() < self._deadline:
            self._arm(self._deadline)
        else:
            self.fail(reply, TimedOut("total" if self._deadline >= self._limit else self._phase))
