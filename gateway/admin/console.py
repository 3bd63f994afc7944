"""The console: its files, and signing in to it with a gateway key."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.admin.access import check_origin, keyring, local_operator, open_session, require, session_of
from gateway.audit import records
from gateway.audit.writer import AuditUnavailable
from gateway.console import files
from gateway.console.sessions import COOKIE, Attempts
from gateway.keys import LOCAL_OPERATOR, Permission, Principal
from gateway.services import Services
from gateway.state.base import StateUnavailable

PAGE: Final = "index.html"


class SignIn(BaseModel):
    """A gateway key."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: str = Field(max_length=200)


def routes(app: FastAPI, services: Services) -> None:
    assets = files.load()
    attempts = Attempts()
    reader = Depends(require(services, Permission.READ_DECISIONS))

    @app.get("/console", include_in_schema=False)
    @app.get("/console/{path:path}", include_in_schema=False)
    async def console(request: Request, path: str = "") -> Response:
        """The console's files; pages are told apart behind the ``#``."""
        asset = assets.get(path or PAGE)
        if asset is None:
            raise HTTPException(404, "the console has no such file")
        headers = {**files.HEADERS, "etag": asset.tag, "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == asset.tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, media_type=asset.kind, headers={**headers, "content-encoding": "gzip"})
        return Response(asset.body, media_type=asset.kind, headers=headers)

    @app.get("/admin/v1/session", tags=["console"])
    async def who_am_i(request: Request) -> dict[str, Any]:
        """Who is signed in to the console, and what they may do. Nobody is no error."""
        ring = await keyring(services)
        if ring.open and local_operator(request, services):
            return {"signed_in": True, "open": True, "csrf": "", **_shown(LOCAL_OPERATOR, None)}
        session = await open_session(request, services, time.time())
        principal = ring.bearer(session.key, time.time()) if session else None
        if session is None or principal is None:
            return {"signed_in": False, "open": False}
        return {"signed_in": True, "open": False, "csrf": session.csrf, **_shown(principal, session.expires_at)}

    @app.post("/admin/v1/session", tags=["console"])
    async def sign_in(given: SignIn, request: Request, response: Response) -> dict[str, Any]:
        """Sign in with a key that may read decisions. The cookie is for this site only and no script can read it."""
        check_origin(request)
        now = time.time()
        address = request.client.host if request.client else ""
        ring = await keyring(services)
        principal = None if ring.open else ring.find(given.key.strip().encode("utf-8", "replace"), now)
        if principal is None or not principal.may(Permission.READ_DECISIONS):
            # A right key gets in however many wrong ones came before: strangers must not keep people out.
            if (wait := attempts.wait(address, now)) > 0:
                services.metrics.sign_ins.add(("limited",))
                raise HTTPException(429, f"too many wrong keys; try again in {wait:.0f} s", {"retry-after": f"{wait:.0f}"})
            attempts.failed(address, now)
            await _note(services, principal, address, "refused")
            if principal is None:
                raise HTTPException(401, "this key is not known, was revoked or has expired")
            raise HTTPException(403, "this key is for applications; ask for one of role viewer, analyst, approver or operator")
        await _note(services, principal, address, "done")
        cookie, session = services.sessions.begin(principal.key, now, principal.expires_at)
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        lasts = int(session.expires_at - now)
        response.set_cookie(COOKIE, cookie, lasts, path="/admin", secure=secure, httponly=True, samesite="strict")
        return {"signed_in": True, "open": False, "csrf": session.csrf, **_shown(principal, session.expires_at)}

    @app.delete("/admin/v1/session", tags=["console"])
    async def sign_out(request: Request, response: Response) -> dict[str, Any]:
        """End the session, for whoever has a copy of its cookie too; 503 where only this browser could be made to forget it."""
        check_origin(request)
        session = session_of(request, services, time.time())
        if session is not None:
            try:
                await services.state.put_fleeting({session.ended: b"1"}, session.expires_at)
            except StateUnavailable:
                response.status_code = 503
        response.delete_cookie(COOKIE, path="/admin", httponly=True, samesite="strict")
        return {"signed_in": False, "open": False}

    @app.get("/admin/v1/traffic", tags=["console"])
    async def traffic(principal: Principal = reader) -> dict[str, Any]:
        """The last quarter of an hour, of all workers: requests a second by action, quantiles of the time spent screening."""
        if not principal.sees("*"):
            raise HTTPException(403, "traffic is of all tenants, and this key sees one tenant only")
        return {
            "now": time.time(), "samples": list(services.traffic.samples), "categories": services.traffic.categories,
            "generation": services.live.engine.generation.number,
        }  # fmt: skip


async def _note(services: Services, principal: Principal | None, address: str, result: str) -> None:
    """Count a sign-in and write it down. Where the audit log cannot be written, people must get in to see why."""
    services.metrics.sign_ins.add((result,))
    fields = {"result": result, "key": principal.key if principal else "", "address": address}
    with contextlib.suppress(AuditUnavailable):
        await services.audit.event(records.SIGN_IN, fields)


def _shown(principal: Principal, expires_at: float | None) -> dict[str, Any]:
    return {
        "key": principal.key, "tenant": principal.tenant, "expires_at": expires_at,
        "permissions": sorted(permission.value for permission in principal.permissions),
    }  # fmt: skip
