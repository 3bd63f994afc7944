"""What can go wrong with an upstream, by fault.

Messages name places and rules, never a header's value or a body: they are logged and may reach a caller.
"""

from __future__ import annotations

from typing import Literal

Phase = Literal["queue", "connect", "send", "first_byte", "idle", "total"]
"""What was waited for: a free connection, its opening, the request to leave, the reply's head, more of it, all."""


class UpstreamError(Exception):
    """The upstream, or the way to it, failed. ``kind`` is one of a small set of words: a metric's label."""

    kind = "upstream"
    attempts = 0
    """How often the request was sent, or begun to be, when this was raised."""


class ConnectFailed(UpstreamError):  # noqa: N818 - the names say what happened
    """No connection came to stand (name, route, refusal, TLS): nothing of the request was sent."""

    kind = "connect"


class TimedOut(UpstreamError):  # noqa: N818
    """The upstream took longer than the configuration grants it in one phase."""

    def __init__(self, phase: Phase) -> None:
        super().__init__(f"timed out: {phase}")
        self.phase = phase
        self.kind = f"timeout_{phase}"


class BadReply(UpstreamError):  # noqa: N818
    """The upstream's bytes are not one well-formed HTTP/1.1 reply within our bounds."""

    kind = "bad_reply"


class Truncated(UpstreamError):  # noqa: N818
    """The connection ended before the reply. ``received`` counts the reply's bytes that had come, head included."""

    kind = "truncated"

    def __init__(self, received: int) -> None:
        super().__init__(f"the connection closed after {received} bytes of the reply" if received else
                         "the connection closed before the reply")  # fmt: skip
        self.received = received


class TooBusy(UpstreamError):  # noqa: N818
    """All connections are in use and the queue for them is full: load of ours, not the upstream's fault."""

    kind = "busy"

    def __init__(self) -> None:
        super().__init__("all connections are in use and the queue is full")


class BreakerOpen(UpstreamError):  # noqa: N818
    """The circuit breaker is open; ``retry_after`` is the number of seconds until it will try again."""

    kind = "breaker"

    def __init__(self, retry_after: float) -> None:
        super().__init__("the circuit breaker is open")
        self.retry_after = retry_after


class Refused(UpstreamError):  # noqa: N818
    """The upstream answered with something else than a WebSocket: its ``status``, ``headers`` and body."""

    kind = "refused"

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        super().__init__(f"the upstream refused the WebSocket with status {status}")
        self.status = status
        self.headers = headers
        self._body = body

    async def read(self, limit: int) -> bytes:
        """The body, as a reply's is read."""
        return self._body[:limit]


class RequestRefused(ValueError):  # noqa: N818
    """A request that is not written: a control character in a header, or a target that is no plain path."""
