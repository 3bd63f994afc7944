"""The reply that a connection carries: its head, and its body as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.upstream.decode import Decoder, decoder_for
from gateway.upstream.errors import BadReply
from gateway.upstream.http1 import DONE, Headers, ReplyParser

if TYPE_CHECKING:
    from gateway.upstream.connection import Connection

YIELD_EVERY: Final = 16
"""Decoded pieces (64 KiB each) after which other tasks get their turn: about a millisecond's work."""


class Reply:
    """An upstream's reply: its head, and its body as it comes. Close it, or read it to its end.

    Attributes:
        status: 200..599.
        headers: lower-case names, and values; less hop-by-hop ones, ``content-length`` and ``content-encoding``.
        length: bytes of the body as declared; None if it was not, or counts a coded form.
        attempts: how often the request was sent.
    """

    __slots__ = ("_decoder", "_loop", "_pieces", "_taker", "_waiter", "attempts", "connection", "error", "headers", "length",
                 "live", "parser", "status")  # fmt: skip

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop, method: bytes) -> None:
        self.status = 0
        self.attempts = 1
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
