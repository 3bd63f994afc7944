"""Bodies of the control plane: how large they may be, and what is said of one that cannot be taken."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from typing import Any, Final

from fastapi import Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from gateway.admin.access import known
from gateway.services import Services
from gateway.serving.inbound import Message, Receive, Scope, Send

STRANGER_BYTES: Final = 64 * 1024
"""Bytes of a body that are read of somebody who showed no key: a sign-in takes a hundredth of it."""

MAX_BYTES: Final = 33 * 2**20
"""Bytes of any body. The largest that is asked for, a bulk upload of labels, has a limit of its own just below."""

BODY_SECONDS: Final = 120.0
"""How long a body may take to come: whoever sends none to its end holds a connection no longer."""

MAX_FAULTS: Final = 20
"""Faults told of one body; it may have as many as it has fields."""

MAX_NAME: Final = 64
"""Code points of a field's name that are told; where it is not one of ours, it is the caller's text."""


SHIELD: Final = (
    (b"x-frame-options", b"DENY"), (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)  # fmt: skip
"""Headers of every answer of the control plane that has no other of the name: it holds texts of callers, and keys just made."""


class Bounded:
    """ASGI middleware: a body longer than its sender may send is a 413, and is not read to its end."""

    def __init__(self, app: Any, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        declared = request.headers.get("content-length", "")
        size, limit = 0, STRANGER_BYTES

        def count(more: int) -> None:
            nonlocal size, limit
            size += more
            if size > limit == STRANGER_BYTES and known(request, self._services):
                limit = MAX_BYTES
            if size > limit:
                raise HTTPException(413, f"the body is larger than {limit} bytes", {"connection": "close"})

        ends = asyncio.get_running_loop().time() + BODY_SECONDS
        whole = False

        async def counted() -> Message:
            nonlocal whole
            if whole:  # what is waited for now is that the caller goes
                return await receive()
            try:
                async with asyncio.timeout_at(ends):
                    message = await receive()
            except TimeoutError:
                why = f"the body did not come within {BODY_SECONDS:.0f} s"
                raise HTTPException(408, why, {"connection": "close"}) from None
            whole = not message.get("more_body", False)
            count(len(message.get("body", b"")))
            return message

        try:
            count(int(declared) if declared.isdecimal() else 0)
        except HTTPException as error:
            refusal: Any = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
            await refusal(scope, receive, send)
            return
        size = 0
        await self._app(scope, counted, send)


class Shielded:
    """ASGI middleware: no other site's page shows an answer in a frame, and no browser keeps one or guesses its kind."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def shield(message: Any) -> None:
            if message["type"] == "http.response.start":
                set_already = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in SHIELD if pair[0] not in set_already)]
            await send(message)

        await self._app(scope, receive, shield)


async def invalid(_request: Request, error: Exception) -> JSONResponse:
    """The reply to a body, query or path that is not what a call takes, without what was sent: it may be a key or a prompt."""
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    told = [{"loc": _place(one["loc"]), "msg": _problem(one), "type": one["type"]} for one in faults[:MAX_FAULTS]]
    return JSONResponse({"detail": told}, 422)


async def refused(request: Request, error: Exception) -> Response:
    """The reply to what a call refuses. Of a body that cannot be read for another reason than its grammar, FastAPI says neither
    where that is nor why."""
    assert isinstance(error, HTTPException)
    cause = error.__cause__
    if error.status_code == 400 and isinstance(cause, RecursionError | ValueError):
        why = next(why for kind, why in _UNREAD.items() if isinstance(cause, kind))
        told = {"loc": ["body"], "msg": f"not JSON that is taken: {why}", "type": "json_invalid"}
        return JSONResponse({"detail": [told]}, 422)
    return await http_exception_handler(request, error)


_UNREAD: Final[dict[type[Exception], str]] = {
    RecursionError: "it is nested too deeply", UnicodeDecodeError: "it is not UTF-8",
    ValueError: f"a number has more than {sys.get_int_max_str_digits()} digits",
}  # fmt: skip


def _place(location: Iterable[str | int]) -> list[str | int]:
    return [part if isinstance(part, int) else part[:MAX_NAME] for part in location]


def _problem(fault: dict[str, Any]) -> str:
    if fault["type"] == "json_invalid":
        return f"not valid JSON: {fault['ctx']['error']}"
    if fault["type"] == "extra_forbidden":
        return "there is no such field; /admin/docs lists those that there are"
    message: str = fault["msg"]
    return message
