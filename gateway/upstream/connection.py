"""One connection to an upstream and the reply it carries: the socket's side of `gateway.upstream.http1`.

The connection owns the clock: one timer, armed for the earliest moment that can matter and moved only when
that comes or a nearer one is wanted, so a request costs no timer of its own. The reply owns the waiting: one
future at a time. Whoever stops waiting (a cancelled task) closes the connection there and then: half-read ones
never go back to the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, cast

from gateway.upstream.decode import Decoder, decoder_for
from gateway.upstream.dial import Abortable
from gateway.upstream.errors import BadReply, Phase, TimedOut, Truncated, UpstreamError
from gateway.upstream.http1 import DONE, Headers, ReplyParser

HIGH_WATER: Final = 256 * 1024
"""Bytes of a reply held for a reader slower than the upstream; above it we stop reading. One read of uvloop's."""

WRITE_PIECE: Final = 256 * 1024
"""Bytes of a request's body handed to the transport at once; longer bodies wait for each piece to leave."""

YIELD_EVERY: Final = 16
"""Decoded pieces (64 KiB each) after which other tasks get their turn: about a millisecond's work."""


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

    async def exchange(self, method: bytes, head: bytes, body: bytes, now: float, limit: float) -> Reply:
        """Send a request and wait for its reply's head.

        Args:
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
        while not reply.parser.status:
            if reply.error is not None:
                raise reply.error
            await reply.wait()
        reply.take_head()
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


class Reply:
    """An upstream's reply: its head, and its body as it comes. Close it, or read it to its end.

    Attributes:
        status: 200..599.
        headers: lower-case names, and values; less hop-by-hop ones, ``content-length`` and ``content-encoding``.
        length: bytes of the body as declared; None if it was not, or counts a coded form.
    """

    __slots__ = ("_decoder", "_loop", "_pieces", "_taker", "_waiter", "connection", "error", "headers", "length", "live",
                 "parser", "status")  # fmt: skip

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop, method: bytes) -> None:
        self.status = 0
        self.headers: Headers = []
        self.length: int | None = None
        self.parser = ReplyParser(method)
        self.connection = connection
        self.live = True  # the connection is ours: the reply is not whole yet, and has not failed
        self.error: Exception | None = None
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._taker: Callable[[], bool] | None = None
        self._decoder: Decoder | None = None
        self._pieces = 0

    async def read(self, limit: int) -> bytes:
        """The whole body, decoded.

        Raises:
            BadReply: it is longer than `limit` bytes, or broken; the reply is closed.
            TimedOut, Truncated: the rest did not come.
        """
        if self.parser.phase is DONE and self._decoder is None:
            body = self.parser.take()
            if len(body) > limit:
                raise BadReply("the body is longer than is allowed")
            return body
        pieces: list[bytes] = []
        size = 0
        if (self.length or 0) <= limit:
            async for piece in self:
                size += len(piece)
                if size > limit:
                    break
                pieces.append(piece)
            else:
                return b"".join(pieces)
        self.close()
        raise BadReply("the body is longer than is allowed")

    async def ready(self, unless: Callable[[], bool], take: Callable[[], bool] | None = None) -> bool:
        """Whether the next piece, the end or an error is at hand; waits for it, but not where ``unless`` is true, nor once it
        is after a `wake`.

        For readers with something else to do meanwhile: unlike a read that is cancelled, it leaves the reply whole. ``take``
        is called when plain bytes have come, in the turn of the event loop in which they came; it may `take` them, and tells
        whether to wait on.
        """
        self._taker = take
        try:
            while not self._at_hand and not unless():
                await self.wait()
        finally:
            self._taker = None
        return self._at_hand

    @property
    def buffered(self) -> int:
        """Bytes of the body that have come and were not taken."""
        return self.parser.buffered

    def take(self) -> bytes:
        """Those bytes, of a body that is not coded."""
        piece = self.parser.take()
        if self.live:
            self.connection.resume()
        return piece

    def came(self) -> None:
        """Something of the reply has come."""
        taker = self._taker
        plain = taker is not None and self._waiter is not None and self._decoder is None and self.parser.phase is not DONE
        if not plain or not self.parser.buffered or not taker():  # type: ignore[misc]
            self.wake()

    def __aiter__(self) -> Reply:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the body, decoded; none is empty.

        Raises:
            TimedOut, BadReply, Truncated: after the pieces that had come before it.
        """
        piece = await (self._raw() if self._decoder is None else self._decoded(self._decoder))
        if not piece:
            raise StopAsyncIteration
        return piece

    def close(self) -> None:
        """Give the rest of the reply up. Its connection is closed unless the reply had come whole."""
        if self.live:
            self.live = False
            self.error = RuntimeError("the reply was closed")
            self.connection.abort()

    @property
    def begun(self) -> bool:
        """Whether there is something to say about it: a head, or an error instead."""
        return self.parser.status != 0 or self.error is not None

    def take_head(self) -> None:
        """The head is there: what it says becomes ours. The connection's half of `exchange`, and raises as that does."""
        parser = self.parser
        self.status = parser.status
        self.headers = parser.headers
        if not parser.encoding:
            self.length = parser.length
            return
        try:
            self._decoder = decoder_for(parser.encoding)
        except BadReply:
            self.close()
            raise

    async def wait(self) -> None:
        """Until `wake`. A waiter that is cancelled closes the connection."""
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        except BaseException:
            self.close()
            raise

    def wake(self) -> None:
        """Something changed; whoever waits looks again."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    @property
    def _at_hand(self) -> bool:
        coded = self._decoder is not None and self._decoder.pending
        return coded or self.parser.buffered > 0 or self.error is not None or self.parser.phase is DONE

    async def _raw(self) -> bytes:
        parser = self.parser
        while True:
            if piece := self.take():
                return piece
            if self.error is not None:
                raise self.error
            if parser.phase is DONE:
                return b""
            await self.wait()

    async def _decoded(self, decoder: Decoder) -> bytes:
        try:
            while not (piece := decoder.pull()):
                if not (raw := await self._raw()):
                    decoder.finish()
                    return b""
                decoder.push(raw)
            self._pieces += 1
            if self._pieces % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        except BadReply as error:
            if self.error is None:
                self.connection.fail(self, error)
            raise
        except BaseException:
            self.close()
            raise
        return piece
