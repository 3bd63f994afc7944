"""One JSON line a request, without a word of its text. Lines are made and written all together, a few times a second."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import orjson

from gateway.exchange import Exchange
from gateway.telemetry.stderr import STANDARD_ERROR

MAX_LINES: Final = 4_096
"""Lines that wait between two times of writing."""


class RequestLog:
    """The log of requests of one worker."""

    __slots__ = ("_waiting", "dropped")

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, ...]] = []
        self.dropped = 0

    def add(self, exchange: Exchange) -> None:
        """Note a request that is over."""
        if len(self._waiting) >= MAX_LINES:
            self.dropped += 1
            return
        self._waiting.append((
            exchange.received, exchange.id, exchange.principal.tenant, exchange.target.wire.name, exchange.status,
            exchange.action, exchange.screening_us, exchange.upstream, exchange.upstream_seconds, exchange.bytes_in,
            exchange.bytes_out, exchange.client_gone, exchange.trace.ids if exchange.trace is not None else None,
            exchange.reason if exchange.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "",
        ))  # fmt: skip

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            STANDARD_ERROR.write(_line(*one) for one in waiting)


def _line(
    received: float, id: str, tenant: str, wire: str, status: int, action: str, screening_us: int, upstream: str,
    upstream_seconds: float, bytes_in: int, bytes_out: int, client_gone: bool, ids: tuple[str, str] | None,
    reason: str,
) -> bytes:  # fmt: skip
    return orjson.dumps({
        "time": round(received, 3),
        "level": "info",
        "logger": "gateway.requests",
        "message": "request",
        "id": id,
        "tenant": tenant,
        "wire": wire,
        "status": status,
        "action": action,
        "screening_us": screening_us,
        "upstream": upstream,
        "upstream_seconds": round(upstream_seconds, 6),
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "client_gone": client_gone,
        **({"reason": reason} if reason else {}),
        **({"trace_id": ids[0], "span_id": ids[1]} if ids else {}),
    })  # fmt: skip
