"""HTTP/1.1 as bytes: a request's head is written here and a reply is read here. No socket and no clock.

The grammar of heads and chunks is llhttp's (httptools) in its strict mode. What it lets through and a gateway must not
is refused here: other protocols and versions, any transfer coding but ``chunked`` alone, upgrades, heads without bound,
empty lines before a reply. Counterpart: `gateway.upstream.connection`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final

import httptools

from gateway.upstream.errors import BadReply, RequestRefused, Truncated

Headers = list[tuple[bytes, bytes]]

MAX_HEAD_BYTES: Final = 64 * 1024
"""Status line and headers of a reply, interim (1xx) ones included. nginx takes 8 KiB, Node 16, h11 16, Go 1,024."""

MAX_HEADERS: Final = 256
"""Header lines in a reply. Providers behind a CDN send about 40."""

CHUNK_OVERHEAD: Final = 16
"""Bytes of framing that one byte of chunked body may cost: ``1\\r\\nx\\r\\n`` costs five. What exceeds it over a whole reply
by more than MAX_HEAD_BYTES is a flood of chunk extensions or trailers, which would hold a connection and carry nothing."""

HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade"}
)  # fmt: skip
"""Headers about one connection (RFC 9110 §7.6.1; RFC 2616 §13.5.1 for the older ones): never carried to the next."""

OURS: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"accept-encoding"}
"""Request headers that the client itself writes, or leaves out: what the caller sent under these names is dropped."""

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FIELD: Final = bytes([9, *range(32, 127), *range(128, 256)])
_VISIBLE: Final = bytes(range(33, 127))
_NOTHING: Final[frozenset[bytes]] = frozenset()
_PERSISTENCE: Final = frozenset({b"", b"close", b"keep-alive"})
_READ_HERE: Final = HOP_BY_HOP | {b"content-length", b"content-encoding"}
_KEEP_ALIVE: Final = re.compile(rb"(?:^|[,;\s])timeout=([0-9]{1,6})(?![0-9])")


def header_lines(headers: Sequence[tuple[bytes, bytes]], drop: frozenset[bytes]) -> bytes:
    """Write header lines, less those in `drop` and those that a ``connection`` header names.

    Args:
        headers: name and value; names in any case.
        drop: lower-case names to leave out.

    Raises:
        RequestRefused: a name is not a token, or a value holds a control character (RFC 9110 §5.5).
    """
    names: list[bytes] = []
    values: list[bytes] = []
    lines: list[bytes] = []
    for name, value in headers:
        name = name.lower()
        if name in drop:
            if name == b"connection" and (named := _tokens(value) - drop):
                return header_lines(headers, drop | named)
            continue
        names.append(name)
        values.append(value)
        lines += (name, b": ", value, b"\r\n")
    # One pass over all names and one over all values: whatever is left after taking out the allowed bytes is refused.
    if b"".join(names).translate(None, _TOKEN) or not all(names):
        raise RequestRefused("a header's name is not a token")
    if b"".join(values).translate(None, _FIELD):
        raise RequestRefused("a header's value holds a control character")
    return b"".join(lines)


def check_method(method: bytes) -> None:
    """Raises RequestRefused if the method is not a token, or is CONNECT, whose reply would have no end."""
    if not method or method.translate(None, _TOKEN) or method == b"CONNECT":
        raise RequestRefused("the method is not one that can be forwarded")


def check_target(target: bytes) -> None:
    """Raises RequestRefused unless the target is a path, with or without a query, that stays below its base."""
    path, _, query = target.partition(b"?")
    if query and (query.translate(None, _VISIBLE) or b"#" in query):
        raise RequestRefused("the target's query holds a blank, a control character or a fragment")
    _check_path(path)


@lru_cache(maxsize=1024)  # the same few over and over; without the query, which may hold a key
def _check_path(path: bytes) -> None:
    # Dot segments, also escaped, and backslashes: a server that resolves them would leave the base path.
    plain = path.lower().replace(b"%2e", b".").replace(b"%5c", b"\\").replace(b"%2f", b"/")
    if not path.startswith(b"/") or path.translate(None, _VISIBLE) or b"#" in path:
        raise RequestRefused("the target is not a path")
    if b"\\" in plain or b"//" in plain or not {b".", b".."}.isdisjoint(plain.split(b"/")):
        raise RequestRefused("the target's path is not in its plain form")


class Phase(IntEnum):
    """What is read next of a reply."""

    HEAD = 0
    CHUNKED = 1
    COUNTED = 2
    UNTIL_CLOSE = 3
    DONE = 4


HEAD, CHUNKED, COUNTED, UNTIL_CLOSE, DONE = Phase


class ReplyParser:
    """Reads one reply; give it the bytes as they come, cut anywhere, and take the body out.

    Attributes:
        phase: what is read next.
        status: 200..599 once the head is read, else 0. Interim (1xx) replies are skipped.
        headers: lower-case names, values without surrounding blanks; without hop-by-hop headers, those named by
            ``connection``, ``content-length`` and ``content-encoding``.
        encoding: the value of ``content-encoding``, lower-case; empty if there is none.
        length: the declared length of the body in bytes; None if only its end will tell.
        buffered: bytes of body read and not yet taken.
        received: bytes of the reply so far, head included.
        reusable: whether the connection may carry another request once `phase` is DONE.
        keep_alive: seconds for which the upstream says it keeps an idle connection, if it says so.
    """

    __slots__ = ("_budget", "_chunks", "_coding", "_held", "_http", "_left", "_method", "_named", "_overhead",
                 "buffered", "encoding", "headers", "keep_alive", "length", "phase", "received", "reusable",
                 "status")  # fmt: skip

    def __init__(self, method: bytes) -> None:
        self.phase: Phase = HEAD
        self.status = 0
        self.headers: Headers = []
        self.encoding = b""
        self.length: int | None = None
        self.buffered = 0
        self.received = 0
        self.reusable = False
        self.keep_alive: int | None = None
        self._method = method
        self._chunks: list[bytes] = []
        self._held = b""
        self._budget = MAX_HEAD_BYTES
        self._coding = b""
        self._named: frozenset[bytes] = _NOTHING
        self._http: httptools.HttpResponseParser | None = None
        self._left = 0
        self._overhead = 0

    def feed(self, data: bytes) -> None:
        """Read on.

        Bytes beyond the reply's end do not spoil it, but the connection that brought them is not `reusable`.

        Raises:
            BadReply: the bytes are not a reply, or exceed a bound. Nothing may be fed after that.
        """
        self.received += len(data)
        phase = self.phase
        if phase is HEAD:
            self._feed_head(data)
        elif phase is CHUNKED:
            self._feed_chunks(data)
        else:
            self._feed_plain(data)

    def eof(self) -> None:
        """The connection has ended.

        Raises:
            Truncated: before the reply had.
        """
        if self.phase is UNTIL_CLOSE:
            self.phase = DONE
        elif self.phase is not DONE:
            raise Truncated(self.received)

    def take(self) -> bytes:
        """The body bytes read since the last call; empty if there are none."""
        chunks = self._chunks
        if not chunks:
            return b""
        self._chunks = []
        self.buffered = 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _feed_head(self, data: bytes) -> None:
        # llhttp is given whole heads only: the bounds then hold alike however the bytes were cut.
        data = self._held + data if self._held else data
        while True:
            end = data.find(b"\r\n\r\n") + 4
            start = data[:9]
            if start != b"HTTP/1.1 " and start != b"HTTP/1.0 " and not (
                len(start) < 9 and (b"HTTP/1.1 ".startswith(start) or b"HTTP/1.0 ".startswith(start))
            ):
                raise BadReply("not an HTTP/1.1 reply")
            if max(end, len(data) if end < 4 else 0) > self._budget:
                raise BadReply("the head is too large")
            if end < 4:
                self._held = data
                return
            http = httptools.HttpResponseParser(self)
            try:
                http.feed_data(data[:end])
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                raise BadReply(f"malformed head: {error}") from None
            status = http.get_status_code()
            if 200 <= status <= 599:
                break
            if status < 100 or status > 599 or status == 101:  # 101 answers an upgrade, which no request of ours asks for
                raise BadReply("a status that answers no request of ours")
            self._budget -= end
            self._forget_interim()
            data = data[end:]
        self._held = b""
        self.status = status
        self._frame(start == b"HTTP/1.1 ", http)
        if len(data) > end:
            rest = data[end:]
            if self.phase is CHUNKED:
                self._feed_chunks(rest)
            else:
                self._feed_plain(rest)

    def _forget_interim(self) -> None:
        self.headers = []
        self.encoding = b""
        self.length = None
        self.keep_alive = None
        self._coding = b""
        self._named = _NOTHING

    def _frame(self, current: bool, http: httptools.HttpResponseParser) -> None:
        """Decide how the body ends: RFC 9112 §6.3, less the cases that only lenient peers need."""
        if len(self.headers) > MAX_HEADERS:
            raise BadReply("too many headers")
        named = self._named
        self.reusable = current and b"close" not in named
        if named and (named := named - _PERSISTENCE):
            self.headers = [header for header in self.headers if header[0] not in named]
        if self._coding and (self._coding != b"chunked" or not current):
            raise BadReply("a transfer coding other than chunked")
        if self.status == 204 or self.status == 304 or self._method == b"HEAD":
            self.phase = DONE
        elif self._coding:
            self.phase = CHUNKED
            self._http = http
        elif self.length is None:
            self.phase = UNTIL_CLOSE
            self.reusable = False
        else:
            self._left = self.length
            self.phase = COUNTED if self._left else DONE

    def _feed_chunks(self, data: bytes) -> None:
        http = self._http
        assert http is not None
        before = self.buffered
        try:
            http.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._http = None
            if self.phase is not DONE:
                raise BadReply(f"malformed chunk: {error}") from None
            self.reusable = False
        if self.phase is DONE:
            self._http = None  # its callbacks are ours: a cycle that only the collector would end
            return
        self._overhead += len(data) - (1 + CHUNK_OVERHEAD) * (self.buffered - before)
        if self._overhead > MAX_HEAD_BYTES:
            self._http = None
            raise BadReply("more framing than body")

    def _feed_plain(self, data: bytes) -> None:
        if self.phase is COUNTED:
            self._left -= len(data)
            if self._left < 0:
                data = data[: self._left]
                self.reusable = False
            if self._left <= 0:
                self.phase = DONE
        elif self.phase is DONE:
            self.reusable = False
            return
        self._chunks.append(data)
        self.buffered += len(data)

    # What follows is called by llhttp.

    def on_message_begin(self) -> None:
        if self.phase is not HEAD:
            raise BadReply("bytes after the reply")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name not in _READ_HERE:
            self.headers.append((name, value.rstrip()))
        elif self.phase is HEAD:
            self._read_header(name, value.strip().lower())

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self.buffered += len(data)

    def on_message_complete(self) -> None:
        if self.phase is CHUNKED:
            self.phase = DONE

    def _read_header(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":  # once and digits alone: llhttp has seen to it
            self.length = int(value)
        elif name == b"transfer-encoding":
            self._coding += b"," + value if self._coding else value or b","
        elif name == b"connection":
            self._named |= _tokens(value)
        elif name == b"content-encoding":
            self.encoding += b"," + value if self.encoding else value
        elif name == b"keep-alive" and (hint := _KEEP_ALIVE.search(value)):
            self.keep_alive = int(hint[1])


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip() for token in value.lower().split(b","))
