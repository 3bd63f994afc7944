"""A bare relay on Portcullis' own stack (uvicorn, uvloop, its HTTP client): what a stream costs when nobody looks at it.

    BENCH_UPSTREAM=http://127.0.0.1:9000 uvicorn bench.rivals.asgi_bare:app
"""

from __future__ import annotations

import os

from bench.rivals.asgi import Receive, Scope, Send, body_of
from gateway.upstream.client import Upstream
from gateway.upstream.connection import Timeouts
from gateway.upstream.pool import PoolLimits

_DROP = frozenset({b"connection", b"transfer-encoding"})
_upstream: Upstream | None = None


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Relay one request."""
    body = await body_of(scope, receive)
    reply = await _client().send(scope["method"].encode(), scope["raw_path"], scope["headers"], body, streaming=True)
    kept = [(name, value) for name, value in reply.headers if name not in _DROP]
    await send({"type": "http.response.start", "status": reply.status, "headers": kept})
    async for chunk in reply:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    reply.close()


def _client() -> Upstream:
    global _upstream
    if _upstream is None:
        _upstream = Upstream(
            "bench", os.environ["BENCH_UPSTREAM"], [], timeouts=Timeouts(5, 60, 60, 600), limits=PoolLimits(2048)
        )
    return _upstream
