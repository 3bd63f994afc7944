"""HTTP/1.1 as bytes: a request's head is written here and a reply is read here. No socket and no clock.

The grammar of heads and chunks is llhttp's (httptools) in its strict mode. What it lets through and a gateway
must not is refused here: other protocols, versions and statuses, any transfer coding but ``chunked`` alone,
upgrades, heads without bound, empty lines before a reply. Counterpart: `gateway.upstream.connection`.
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
"""Status line and headers of a reply, interim (1xx) ones included. nginx takes 8 KiB, Node and h11 16, Go 1,024."""

MAX_HEADERS: Final = 256
"""Header lines in a reply. Providers behind a CDN send about 40."""

CHUNK_OVERHEAD: Final = 16
"""Bytes of framing that a byte of chunked body may cost (in one-byte chunks it costs five). More than that, and by
more than MAX_HEAD_BYTES, is a flood of chunk extensions or trailers: it holds a connection and carries nothing."""

HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade"}
)  # fmt: skip
"""Headers about one connection (RFC 9110 §7.6.1; the older ones RFC 2616 §13.5.1): never carried to the next."""

OURS: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"accept-encoding"}
"""Request headers that the client itself writes or leaves out: the caller's of these names are dropped."""

_COMMON: Final = frozenset({b"GET", b"POST"})
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++")
_LINES: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9a-z-]++: [\t -~\x80-\xff]*+\r\n)*+")
_VISIBLE: Final = bytes(range(33, 127))
_NOTHING: Final[frozenset[bytes]] = frozenset()
_STARTS: Final = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [\t -~\x80-\xff]*+)?\r\n")
_REFUSALS: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)
_PERSISTENCE: Final = frozenset({b"", b"close", b"keep-alive"})
_READ_HERE: Final = HOP_BY_HOP | {b"content-length", b"content-encoding"}
_LAST_LINES: Final = re.compile(rb"[^\r\n]\r\n\r\n")
_KEEP_ALIVE: Final = re.compile(rb"(?:^|[,;\s])timeout=([0-9]{1,6})(?![0-9])")


def header_lines(headers: Sequence[tuple[bytes, bytes]], drop: frozenset[bytes]) -> bytes:
    """Write header lines, less those in `drop` and those that a ``connection`` header names.

    Args:
        headers: name and value; names in any case.
        drop: lower-case names to leave out.

    Raises:
        RequestRefused: a name is not a token, or a value holds a control character (RFC 9110 §5.5).
    """
    lines: list[bytes] = []
    for name, value in headers:
        name = name.lower()
        if name not in drop:
            lines.append(name + b": " + value)
        elif name == b"connection" and (named := _tokens(value) - drop):
            return header_lines(headers, drop | named)
    lines.append(b"")
    block = b"\r\n".join(lines)
    if _LINES.fullmatch(block) is None or block.count(b"\n") != len(lines) - 1:
        raise RequestRefused("a header's name is not a token, or its value holds a control character")
    return block


_ESCAPED_PERCENT: Final = re.compile(rb"%(?:25)+")
_DOTS: Final = re.compile(rb"/\.\.?(?:[/;]|$)")


def check_method(method: bytes) -> None:
    """Raises RequestRefused if the method is not a token, or is CONNECT, whose reply would have no end."""
    if method not in _COMMON and (_TOKEN.fullmatch(method) is None or method == b"CONNECT"):
        raise RequestRefused("the method is not one that can be forwarded")


def check_target(target: bytes) -> None:
    """Raises RequestRefused unless the target is a path, with or without a query, that stays below its base."""
    path, _, query = target.partition(b"?")
    if query and (query.translate(None, _VISIBLE) or b"#" in query):
        raise RequestRefused("the target's query holds a blank, a control character or a fragment")
    _check_path(path)


@lru_cache(maxsize=1024)  # the same few over and over; without the query, which may hold a key
def _check_path(path: bytes) -> None:
    # Dot segments, also escaped, escaped twice, overlong or with parameters, and backslashes: a server that resolves them would
    # leave the base path.
    plain = _ESCAPED_PERCENT.sub(b"%", path.lower())
    for code, letter in ((b"%c0%ae", b"."), (b"%2e", b"."), (b"%5c", b"\\"), (b"%c0%af", b"/"), (b"%2f", b"/"), (b"%3b", b";")):
        plain = plain.replace(code, letter)
    if not path.startswith(b"/") or path.translate(None, _VISIBLE) or b"#" in path:
        raise RequestRefused("the target is not a path")
    if b"\\" in plain or b"//" in plain or _DOTS.search(plain):
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
        headers: lower-case names, and values without surrounding blanks; less the hop-by-hop ones, those that
            ``connection`` names, ``content-length`` and ``content-encoding``. Set with `status`.
        encoding: the value of ``content-encoding``, lower-case; empty if there is none.
        length: the declared length of the body in bytes; None if only its end will tell.
        buffered: bytes of body read and not yet taken.
        received: bytes of the reply so far, head included.
        reusable: whether the connection may carry another request once `phase` is DONE.
        keep_alive: seconds for which the upstream says it keeps an idle connection, if it says so.
    """

    __slots__ = ("_budget", "_chunks", "_coding", "_held", "_http", "_left", "_lines", "_method", "_named", "_overhead",
                 "_tail", "buffered", "encoding", "headers", "keep_alive", "length", "phase", "received", "reusable",
                 "status")  # fmt: skip

    def __init__(self, method: bytes) -> None:
        self.phase: Phase = HEAD
        self.status = 0
        self.headers: Headers
        self.encoding = b""
        self.length: int | None = None
        self.buffered = 0
        self.received = 0
        self.reusable = False
        self.keep_alive: int | None = None
        self._method = method
        self._chunks: list[bytes] = []
        self._lines: Headers = []
        self._held = b""
        self._budget = MAX_HEAD_BYTES
        self._coding = b""
        self._named: frozenset[bytes] = _NOTHING
        self._http: httptools.HttpResponseParser | None = None
        self._left = 0
        self._tail = b""
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
            data = self._feed_head(data)
            phase = self.phase
            if not data:
                return
        if phase is COUNTED:
            self._left -= len(data)
            if self._left <= 0:
                self.phase = DONE
                if self._left < 0:
                    data = data[: self._left]
                    self.reusable = False
        elif phase is CHUNKED:
            self._feed_chunks(data)
            return
        elif phase is DONE:
            self.reusable = False
            return
        self._chunks.append(data)
        self.buffered += len(data)

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

    def _feed_head(self, data: bytes) -> bytes:
        """Read heads up to the first that is not interim; what follows it is returned."""
        # llhttp is given whole heads only: the bounds then hold alike however the bytes were cut.
        if self._held:
            data = self._held + data
            self._held = b""
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._hold(data)
                return b""
            if end > self._budget:
                raise BadReply("the head is too large")
            if _STATUS_LINE.match(data) is None:
                raise BadReply("not an HTTP/1.1 reply")
            http = httptools.HttpResponseParser(self)
            try:
                http.feed_data(data[:end])
            except _REFUSALS as error:
                raise BadReply(f"malformed head: {error}") from None
            status: int = http.get_status_code()
            if status >= 200:
                self.headers = self._lines
                self._frame(status, data.startswith(b"HTTP/1.1"), http)
                self.status = status  # last: a head that was refused never was one
                return data[end:]
            if status == 101:
                raise BadReply("an upgrade that was not asked for")
            self._budget -= end
            self._forget_interim()
            data = data[end:]

    def _hold(self, data: bytes) -> None:
        """Keep the part of a head that has come."""
        if len(data) > self._budget:
            raise BadReply("the head is too large")
        if not data.startswith(_STARTS) and not any(start.startswith(data) for start in _STARTS):
            raise BadReply("not an HTTP/1.1 reply")
        self._held = data

    def _forget_interim(self) -> None:
        self._lines.clear()
        self.encoding = b""
        self.length = None
        self.keep_alive = None
        self._coding = b""
        self._named = _NOTHING

    def _frame(self, status: int, current: bool, http: httptools.HttpResponseParser) -> None:
        """Decide how the body ends: RFC 9112 §6.3, less the cases that only lenient peers need."""
        if len(self.headers) > MAX_HEADERS:
            raise BadReply("too many headers")
        self.reusable = current
        if self._named:
            self._heed_connection()
        if self._coding and (self._coding != b"chunked" or not current):
            raise BadReply("a transfer coding other than chunked")
        if status == 204 or status == 304 or self._method == b"HEAD":
            self.phase = DONE
        elif self.length is not None:
            self._left = self.length
            self.phase = COUNTED if self._left else DONE
        elif self._coding:
            self.phase = CHUNKED
            self._http = http
            self._lines = []  # trailers come here and are dropped
        else:
            self.phase = UNTIL_CLOSE
            self.reusable = False

    def _heed_connection(self) -> None:
        named = self._named
        if b"close" in named:
            self.reusable = False
        if named := named - _PERSISTENCE:
            self.headers = [header for header in self.headers if header[0] not in named]

    def _feed_chunks(self, data: bytes) -> None:
        http = self._http
        assert http is not None
        before = self.buffered
        self._tail = data[-5:] if len(data) > 4 else (self._tail + data)[-5:]
        try:
            http.feed_data(data)
        except _REFUSALS as error:
            self._http = None
            if self.phase is not DONE:
                raise BadReply(f"malformed chunk: {error}") from None
            self.reusable = False
        if self.phase is DONE:
            self._http = None  # its callbacks are ours: a cycle that only the collector would end
            if _LAST_LINES.fullmatch(self._tail) is None:  # llhttp skips line breaks after a message; we count them
                self.reusable = False
            return
        self._overhead += len(data) - (1 + CHUNK_OVERHEAD) * (self.buffered - before)
        if self._overhead > MAX_HEAD_BYTES:
            self._http = None
            raise BadReply("more framing than body")

    # What follows is called by llhttp.

    def on_message_begin(self) -> None:
        if self.phase is not HEAD:
            raise BadReply("bytes after the reply")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name not in _READ_HERE:
            self._lines.append((name, value.rstrip()))  # llhttp leaves blanks at its end
        elif self.phase is HEAD:
            if name == b"content-length":  # llhttp has seen to it that it comes once and holds digits alone
                self.length = int(value)
            else:
                self._read_header(name, value.strip().lower())

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self.buffered += len(data)

    def on_message_complete(self) -> None:
        if self.phase is CHUNKED:
            self.phase = DONE

    def _read_header(self, name: bytes, value: bytes) -> None:
        if name == b"transfer-encoding":
            self._coding += b"," + value if self._coding else value or b","
        elif name == b"connection":
            self._named |= _tokens(value)
        elif name == b"content-encoding":
            self.encoding += b"," + value if self.encoding else value
        elif name == b"keep-alive" and (hint := _KEEP_ALIVE.search(value)):
            self.keep_alive = int(hint[1])


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip() for token in value.lower().split(b","))
