"""One configured upstream: where it is, what every request to it carries, and what happens when it fails.

Host, port, scheme and base path come from the configuration alone; a caller's target is a path below it. Redirects are
never followed: a 3xx is relayed as any other reply, for what it points to is not an upstream that anyone configured.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway.upstream import retry
from gateway.upstream.breaker import Breaker, BreakerPolicy
from gateway.upstream.connection import Asker, Timeouts
from gateway.upstream.dial import Origin
from gateway.upstream.errors import BreakerOpen, Refused, TooBusy, UpstreamError
from gateway.upstream.http1 import OURS, Headers, check_method, check_target, header_lines
from gateway.upstream.pool import Pool, PoolLimits
from gateway.upstream.reply import Reply
from gateway.upstream.retry import RetryPolicy

if TYPE_CHECKING:
    from gateway.websocket.asking import Opened

FAILING: Final = frozenset({502, 503, 504, 529})
"""Statuses that count against the upstream's health. Not 500, which one odd request can provoke (and could so shut the
upstream to everybody), nor 429, which is about one key."""

TURNED_AWAY: Final = FAILING | retry.REFUSALS
"""Statuses with which another address may get the request: what one has no room for, another may."""

MAX_WRITTEN: Final = 1_024
"""Callers' headers remembered as written: one set for each connection, some hundred bytes each."""

_NOT_ITS_FAULT: Final = frozenset({TooBusy.kind, BreakerOpen.kind, "timeout_queue", "timeout_total"})
_BODYLESS: Final = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})
_HOST: Final = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]+")
_PORTS: Final = {"http": 80, "https": 443}


class Tally:
    """What became of the requests to one address.

    Attributes:
        attempts: what the breaker let go, retries among it.
        retries: attempts beyond the first.
        errors: by the errors' ``kind``, how many attempts failed; replies may fail after `send` returned. ``status`` is a 5xx.
    """

    __slots__ = ("attempts", "errors", "retries")

    def __init__(self) -> None:
        self.attempts = self.retries = 0
        self.errors: Counter[str] = Counter()


class Upstream:
    """Sends requests to one base URL, over pooled connections, with retries and a circuit breaker.

    Attributes:
        name: for metrics and logs.
        pool: its connections, with counters of its own.
        breaker: likewise.
        requests: calls of `send`.
        tally: what became of them.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        headers: Headers,
        *,
        timeouts: Timeouts,
        tls: ssl.SSLContext | None = None,
        limits: PoolLimits = PoolLimits(),  # noqa: B008 - immutable
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008
        breaker: BreakerPolicy = BreakerPolicy(),  # noqa: B008
        tally: Tally | None = None,
    ) -> None:
        """Args:
            tally: what is counted on: that of whoever spoke with this address before.
            base_url: http(s)://host[:port][/path].
            headers: what every request carries (credentials); the caller's headers of the same names are dropped.
            tls: see `dial.tls_context`; wanted for https.

        Raises:
            ValueError: the base URL is not of that form, or https without `tls`.
            RequestRefused: a header cannot be written.
        """
        origin, prefix, host = _parse(base_url, tls)
        self._origin, self._host, self._own = origin, host, headers
        self.has_key = bool(headers)
        self.name = name
        self.requests = 0
        self.tally = tally or Tally()
        self.pool = Pool(origin, timeouts, limits, self._failed)
        self.breaker = Breaker(breaker)
        self._written: dict[int, tuple[Sequence[tuple[bytes, bytes]], bytes]] = {}
        self._retry = retries
        self._timeouts = timeouts
        self._drop = OURS | {name.lower() for name, _ in headers}
        self._prefix = b" " + prefix
        fixed = b" HTTP/1.1\r\nhost: " + host + b"\r\n" + header_lines(headers, OURS)
        self._fixed = fixed + b"accept-encoding: gzip\r\n"
        self._fixed_streaming = fixed + b"accept-encoding: identity\r\n"

    async def send(
        self,
        method: bytes,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes = b"",
        *,
        streaming: bool = False,
        deadline: float | None = None,
        asker: Asker | None = None,
    ) -> Reply:
        """Send a request; the reply's head is there when this returns, and its body may be on its way.

        The reply must be read to its end or closed. Cancelling closes its connection.

        Args:
            target: path and query, below the base URL's path.
            headers: the caller's; hop-by-hop ones and those that the client or the upstream's configuration sets are
                dropped.
            streaming: the reply is to be relayed as it comes: asks for it uncompressed, since coders hold text back.
            deadline: loop time at which all must be over, if that is sooner than the configured total.
            asker: is told while the request has no answer.

        Raises:
            RequestRefused: the request cannot be written; the caller's fault.
            UpstreamError: see `gateway.upstream.errors`; BreakerOpen and TooBusy come without anything being sent.
        """
        head = self._head(method, target, headers, len(body), streaming)
        loop = asyncio.get_running_loop()
        now = loop.time()
        limit = now + self._timeouts.total
        if deadline is not None and deadline < limit:
            limit = deadline
        self.requests += 1
        attempt = 1
        while True:
            if rest := self.breaker.admit(now):
                self.tally.errors[BreakerOpen.kind] += 1
                refused = BreakerOpen(rest)
                refused.attempts = attempt - 1
                raise refused
            self.tally.attempts += 1
            try:
                reply = await self.pool.exchange(method, head, body, now, limit, asker)
            except UpstreamError as error:
                now = loop.time()
                self._failed(error)
                error.attempts = attempt
                if not retry.nothing_was_sent(error):
                    raise
                pause = retry.delay(self._retry, attempt, limit - now, random.random(), None)
                if pause is None:
                    raise
            else:
                reply.attempts = attempt
                if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    self.tally.errors["status"] += 1
                if reply.status not in TURNED_AWAY:
                    self.breaker.succeeded()
                    return reply
                now = loop.time()
                pause = self._judge(reply, attempt, now, limit)
                if pause is None:
                    return reply
                reply.close()  # its connection is kept if the reply came whole, as refusals do
            self.tally.retries += 1
            attempt += 1
            await asyncio.sleep(pause)
            now = loop.time()

    async def connect(
        self, target: bytes, headers: Sequence[tuple[bytes, bytes]], protocols: list[str], message_bytes: int
    ) -> Opened:
        """Open a WebSocket, beside the pool. Not tried again: whoever asks for one has a session to begin, and will.

        Args:
            target, headers: as `send`. protocols: subprotocols to offer. message_bytes: the largest message that is taken.

        Raises:
            Refused: the upstream answered with something else.
            RequestRefused, UpstreamError: as `send`.
        """
        from gateway.websocket.asking import connect  # it brings wsproto, which no request but a session's needs

        check_target(target)
        loop = asyncio.get_running_loop()
        self.requests += 1
        if rest := self.breaker.admit(loop.time()):
            self.tally.errors[BreakerOpen.kind] += 1
            raise BreakerOpen(rest)
        self.tally.attempts += 1
        lines = [pair for pair in headers if pair[0] not in self._drop] + self._own
        where = (self._prefix[1:] + target).decode("ascii")
        try:
            opened = await connect(
                self._origin, self._host.decode(), where, lines, protocols, self._timeouts, message_bytes
            )
        except Refused as error:
            self.tally.errors[error.kind] += 1
            if error.status in FAILING:
                self.breaker.failed(loop.time())
            else:
                self.breaker.succeeded()
            raise
        except UpstreamError as error:
            self._failed(error)
            raise
        self.breaker.succeeded()
        return opened

    def close(self) -> None:
        """Give up the idle connections; replies under way go on to their end. For when the configuration changed."""
        self.pool.close()

    def _judge(self, reply: Reply, attempt: int, now: float, limit: float) -> float | None:
        """Count a reply that tells of trouble; the seconds after which to try again, or None to relay it."""
        if reply.status in FAILING:
            self.breaker.failed(now)
        else:
            self.breaker.succeeded()
        if reply.status not in retry.REFUSALS:
            return None
        wanted = retry.retry_after(reply.headers, time.time())
        return retry.delay(self._retry, attempt, limit - now, random.random(), wanted)

    def _failed(self, error: UpstreamError) -> None:
        self.tally.errors[error.kind] += 1
        if error.kind not in _NOT_ITS_FAULT:
            self.breaker.failed(asyncio.get_running_loop().time())

    def _head(
        self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], length: int, streaming: bool
    ) -> bytes:
        check_method(method)
        check_target(target)
        lines = self._lines(headers)
        fixed = self._fixed_streaming if streaming else self._fixed
        end = b"\r\n" if not length and method in _BODYLESS else b"content-length: %d\r\n\r\n" % length
        return b"".join((method, self._prefix, target, fixed, lines, end))

    def _lines(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The caller's headers as lines; those of a caller who sends the very same tuple again are remembered."""
        known = self._written.get(id(headers))
        if known is not None and known[0] is headers:
            return known[1]
        lines = header_lines(headers, self._drop)
        if isinstance(headers, tuple):  # what can change may not be remembered
            if len(self._written) >= MAX_WRITTEN:
                self._written.clear()
            self._written[id(headers)] = (headers, lines)
        return lines


def _parse(base_url: str, tls: ssl.SSLContext | None) -> tuple[Origin, bytes, bytes]:
    """The origin, the path before every target, and the value of ``host``."""
    parts = urlsplit(base_url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise ValueError("wanted http(s)://host[:port][/path] with no user, query or fragment")
    if (parts.scheme == "https") != (tls is not None):
        raise ValueError("a TLS context is wanted for https, and for https alone")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
    port = parts.port or _PORTS[parts.scheme]
    if _HOST.fullmatch(host) is None:
        raise ValueError("wanted a host's name or address")
    named = f"[{host}]" if ":" in host else host
    prefix = parts.path.rstrip("/").encode("ascii")
    if prefix:
        check_target(prefix)
    written = named if port == _PORTS[parts.scheme] else f"{named}:{port}"
    return Origin(host, port, tls), prefix, written.encode("ascii")
