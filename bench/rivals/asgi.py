"""What the rivals written for ASGI share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def body_of(scope: Scope, receive: Receive) -> bytes:
    """A request's whole body."""
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body
