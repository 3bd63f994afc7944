"""One JSON line a request, without a word of its text. Lines are gathered and written a few times a second."""

from __future__ import annotations

import sys
from typing import Final

import orjson

from gateway.exchange import Exchange

MAX_LINES: Final = 4_096
"""Lines that wait to be written. Standard error that nobody reads must not hold up the gateway or fill its memory."""


class RequestLog:
    """The log of requests of one worker."""

    __slots__ = ("_lines", "dropped")

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self.dropped = 0

    def add(self, exchange: Exchange) -> None:
        """Note a request that is over."""
        if len(self._lines) >= MAX_LINES:
            self.dropped += 1
            return
        ids = exchange.trace.ids if exchange.trace is not None else None
        self._lines.append(
            orjson.dumps({
                "time": round(exchange.received, 3),
                "level": "info",
                "logger": "gateway.requests",
                "message": "request",
                "id": exchange.id,
                "tenant": exchange.principal.tenant,
                "wire": exchange.target.wire.name,
                "status": exchange.status,
                "action": exchange.action,
                "screening_us": exchange.screening_us,
                "upstream": exchange.upstream,
                "upstream_seconds": round(exchange.upstream_seconds, 6),
                "bytes_in": exchange.bytes_in,
                "bytes_out": exchange.bytes_out,
                "client_gone": exchange.client_gone,
                **({"trace_id": ids[0], "span_id": ids[1]} if ids else {}),
            })
        )

    def flush(self) -> None:
        """Write what waits."""
        if self._lines:
            lines, self._lines = self._lines, []
            sys.stderr.buffer.write(b"\n".join(lines) + b"\n")
            sys.stderr.buffer.flush()
