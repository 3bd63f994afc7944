"""One request of the data plane, and the way to answer it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from gateway.faults import ClientGone
from gateway.serving.inbound import Head, Headers, too_large

if TYPE_CHECKING:
    from gateway.serving.listener import Listener
    from gateway.websocket.socket import WebSocket

EARLY_BYTES: Final = 64 * 1024
"""Bytes of a body that are gathered before anybody has looked who sends it; the rest is read when the caller was admitted."""

BODYLESS: Final = frozenset({204, 304})
"""Statuses whose replies have no body."""

_SAFE_LINES: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++: [\t -~\x80-\xff]*+\r\n)*+")


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


_STATUS_LINES: Final = {status: _status_line(status) for status in (101, *range(200, 600))}


class Call:
    """One request of the data plane, and the way to answer it.

    Attributes:
        method, path, raw_path, query: what is asked for; ``path`` is decoded.
        headers: names in lower case, ``content-length`` apart; `head` tells what they say.
        length: the declared length of the body in bytes; None where it comes in chunks.
        keep_alive: whether the connection serves on after the answer.
        response_complete: the answer is out.
        early: bytes came behind a request for another protocol before it was agreed to.
    """

    __slots__ = (
        "_begun", "_body", "_chunked", "_connection", "_expects", "_pieces", "_size", "_unwanted", "_wake", "early", "gone",
        "headers", "keep_alive", "length", "method", "more_body", "path", "query", "queued", "raw_path",
        "response_complete", "task",
    )  # fmt: skip

    def __init__(
        self, connection: Listener, method: str, url: tuple[str, bytes, bytes], length: int | None
    ) -> None:
        self.method = method
        self.path, self.raw_path, self.query = url
        self.headers = connection.headers
        self.length = length
        self.keep_alive: bool = connection.parser.should_keep_alive()
        self.response_complete = False
        self.gone = False  # the caller has left
        self.early = False
        self.queued = False  # an earlier call of the connection is still being answered
        self.more_body = True
        self.task: asyncio.Task[None] | None = None  # who works on it
        self._connection = connection
        self._expects = connection.expect_100_continue
        self._chunked = True
        self._begun = b""  # the head of an answer that comes in pieces, until it is written
        self._body = b""
        self._pieces: list[bytes] | None = None
        self._size = 0
        self._unwanted = False
        self._wake: asyncio.Future[None] | None = None

    def head(self) -> Head:
        """What the headers say.

        Raises:
            CallerFault: as `read_head`.
        """
        return self._connection.head(self.headers)

    async def body(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            CallerFault: it is longer than ``limit`` bytes.
            ClientGone: the caller left before its end.
        """
        while self.more_body and self._size <= limit:
            await self._more()
        if self._size > limit:
            raise too_large(limit)
        return self._body if self._pieces is None else b"".join(self._pieces)

    def drop_body(self) -> None:
        """Nobody wants the body: what came of it is let go, and so is what comes."""
        self._unwanted = True
        self._body, self._pieces = b"", None

    async def arriving(self, limit: int) -> AsyncIterator[bytes]:
        """What comes of the body, until all of it is there or more than ``limit`` bytes are; `body` gives the whole.

        Raises:
            ClientGone: as `body`.
        """
        told = 0
        while self.more_body and self._size <= limit:
            pieces = self._pieces or ([self._body] if self._size else [])
            if len(pieces) > told:
                new, told = b"".join(pieces[told:]), len(pieces)
                yield new
            else:
                await self._more()

    async def _more(self) -> None:
        if self.gone:
            raise ClientGone
        if self._expects:
            self._expects = False
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._connection.flow.resume_reading()
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer in one piece. Header values must not hold control characters.

        Raises:
            ClientGone: there is nobody to answer.
        """
        await self._writable()
        out = self._head(status, headers)
        if status not in BODYLESS:
            out.append(b"content-length: %d\r\n\r\n" % len(body))
            if self.method != "HEAD":
                out.append(body)
        else:
            out.append(b"\r\n")
        self._connection.transport.write(b"".join(out))
        self._finish()

    async def start(self, status: int, headers: Headers) -> None:
        """Begin an answer that comes in pieces.

        Raises:
            ClientGone: there is nobody to answer.
        """
        await self._writable()
        out = self._head(status, headers)
        if self._connection.parser.get_http_version() == "1.0":  # knows no chunks: the connection's end is the answer's
            self._chunked = self.keep_alive = False
        out.append(b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n")
        self._begun = b"".join(out)
        self._connection.loop.call_soon(self._flush)  # what is said in the same turn goes along

    def _flush(self) -> None:
        """Write the head that waits for what goes along with it."""
        begun, self._begun = self._begun, b""
        if begun and not self.gone:
            self._connection.transport.write(begun)

    async def piece(self, data: bytes) -> None:
        """Send one piece; waits while the caller reads slowly.

        Raises:
            ClientGone: there is nobody to answer.
        """
        await self._writable()
        if data:
            self.write(data)

    @property
    def full(self) -> bool:
        """Whether the caller reads more slowly than is written."""
        return self._connection.flow.write_paused

    def write(self, data: bytes) -> None:
        """As `piece`, of what is not empty, without waiting.

        Raises:
            ClientGone: as that.
        """
        if self.gone:
            raise ClientGone
        begun, self._begun = self._begun, b""
        data = b"%b%x\r\n%b\r\n" % (begun, len(data), data) if self._chunked else begun + data
        self._connection.transport.write(data)

    async def end(self) -> None:
        """End an answer that came in pieces."""
        await self._writable()
        self._flush()
        if self._chunked:
            self._connection.transport.write(b"0\r\n\r\n")
        self._finish()

    @property
    def upgradable(self) -> bool:
        """Whether the connection can become another protocol's: asked for in HTTP/1.1, with no body and nothing behind it."""
        parser = self._connection.parser
        bodyless = not self.length and not self._size and not any(name == b"transfer-encoding" for name, _ in self.headers)
        return bodyless and parser.get_http_version() == "1.1" and bool(parser.should_upgrade()) and not self.early

    def switch(self, headers: Headers, socket: WebSocket) -> None:
        """Answer with the agreement to a WebSocket, and hand the connection over to it.

        Raises:
            ClientGone: there is nobody to answer.
        """
        if self.gone or self.early:
            raise ClientGone
        connection = self._connection
        head = b"".join(self._head(101, headers))
        self.response_complete = True
        connection.transport.write(head + b"\r\n")
        connection.hand_over(socket)

    def abort(self) -> None:
        """Give the answer up where it is, unless it is out: the caller must not take a part for the whole."""
        if not self.response_complete and not self.gone:
            self._flush()
            self._connection.transport.close()

    # What follows is called by the connection.

    def feed(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self.response_complete or self._unwanted:
            return  # it was answered before its end, or is not asked for; what is left of it is of no interest
        if not self._size:
            self._body = data
        elif self._pieces is None:
            self._pieces = [self._body, data]
        else:
            self._pieces.append(data)
        self._size += len(data)
        if self.task is None and self._size > EARLY_BYTES and self.queued:
            self._connection.flow.pause_reading()
        self._woken()

    @property
    def ready(self) -> bool:
        """Whether it is time to look at it: it is whole, or too long to be gathered for a stranger, or waits to be asked."""
        early = self._expects or self._size > EARLY_BYTES or (self.length or 0) > EARLY_BYTES
        return early or not self.more_body

    def complete(self) -> None:
        """The body has come."""
        self.more_body = False
        self._woken()

    def leave(self) -> None:
        """The caller has gone."""
        if not self.response_complete:
            self.gone = True
            if self.task is not None:
                self.task.cancel()

    def _woken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _writable(self) -> None:
        flow = self._connection.flow
        if flow.write_paused and not self.gone:
            await flow.drain()
        if self.gone:
            raise ClientGone

    def _head(self, status: int, headers: Headers) -> list[bytes]:
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        if _SAFE_LINES.fullmatch(lines) is None or lines.count(b"\n") != len(headers):
            raise ValueError("a header's name is not a token, or its value holds a control character")
        if (b"connection", b"close") in headers:
            self.keep_alive = False
        elif status != 101 and (self._connection.draining or not self.keep_alive):
            self.keep_alive = False
            lines += b"connection: close\r\n"
        return [_STATUS_LINES[status], self._connection.date_line, lines]

    def _finish(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._connection.transport.close()
        self._connection.on_response_complete()
