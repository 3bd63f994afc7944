"""The usual Python proxy at its barest: an ASGI app that relays to an upstream through aiohttp. It screens nothing.

    BENCH_UPSTREAM=http://127.0.0.1:9000 uvicorn bench.rivals.asgi_aiohttp:app
"""

from __future__ import annotations

import os

import aiohttp

from bench.rivals.asgi import Receive, Scope, Send, body_of

_UPSTREAM = os.environ.get("BENCH_UPSTREAM", "")
_DROP = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding"})
_session: aiohttp.ClientSession | None = None


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Relay one request."""
    body = await body_of(scope, receive)
    headers = {name.decode(): value.decode() for name, value in scope["headers"] if name not in _DROP}
    async with _client().request(scope["method"], _UPSTREAM + scope["path"], data=body, headers=headers) as reply:
        streamed = reply.headers.get("transfer-encoding") == "chunked"
        kept = [
            (name.lower(), value)
            for name, value in reply.raw_headers
            if name.lower() not in _DROP or (name.lower() == b"content-length" and not streamed)
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": kept})
        if streamed:
            async for chunk in reply.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": await reply.read()})


def _client() -> aiohttp.ClientSession:
    global _session
    if _session is None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        _session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
    return _session
