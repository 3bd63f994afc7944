"""The audit log in the control plane: every call that changes something is in it before it is answered."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import Depends, FastAPI, HTTPException, Request

from gateway.admin.access import require
from gateway.audit import records
from gateway.audit.writer import AuditUnavailable
from gateway.keys import Permission, Principal
from gateway.screening.policy import FailureMode
from gateway.services import Services
from gateway.serving.inbound import Receive, Scope, Send

MAX_PATH: Final = 200
"""Code points of a path in a record: routes are shorter, and a path is the caller's text."""

_CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_CHANGE_NOTHING: Final = frozenset({
    "/admin/v1/playground", "/admin/v1/exemplars/nearest", "/admin/v1/patterns/test", "/admin/v1/session",
})  # fmt: skip

_LABEL_FROM_APP: Final = "/v1/feedback"


def routes(app: FastAPI, services: Services) -> None:
    reader = Depends(require(services, Permission.READ_DECISIONS))

    @app.get("/admin/v1/audit", tags=["audit"])
    async def audit_status(principal: Principal = reader) -> dict[str, Any]:
        """How this worker's part of the audit log stands: its chain, how far it is on the disk, what is sent where."""
        if not principal.sees("*"):
            raise HTTPException(403, "the audit log holds all tenants' records, and this key sees one tenant only")
        log = services.audit
        stats = log.stats
        return {
            "enabled": bool(stats.chain), "chain": stats.chain, "writable": log.writable, "records": stats.records,
            "waiting": stats.waiting, "dropped": stats.dropped, "errors": stats.errors, "last_error": stats.last_error or None,
            "last_root": stats.last_root or None, "last_record": {"seq": stats.durable[0], "hash": stats.durable[1]},
            "exports": {one.name: one.stats._asdict() for one in log.exporters},
        }  # fmt: skip


def detail(request: Request, **fields: Any) -> None:
    """Add to the audit record of this call. Nothing that is a text of a request or opens anything."""
    request.state.audit = fields


class WriteDown:
    """ASGI middleware: holds a call's reply back until its record is on the disk.

    Calls that nobody with a key made are not recorded; a stranger could otherwise fill the disk.
    """

    def __init__(self, app: Any, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = (
            scope["type"] == "http" and scope["method"] in _CHANGING
            and (scope["path"].startswith("/admin/v1/") or scope["path"] == _LABEL_FROM_APP)
            and scope["path"] not in _CHANGE_NOTHING
        )  # fmt: skip
        if not changes:
            await self._app(scope, receive, send)
        elif not self._services.audit.writable and self._demanded():
            await _refuse(send, self._services.audit.stats.last_error)
        else:
            await self._recorded(scope, receive, send)

    def _demanded(self) -> bool:
        return self._services.live.default.policy.failure_mode("audit") is FailureMode.CLOSED

    async def _recorded(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def record_and_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                try:
                    await self._record(scope, message["status"])
                except AuditUnavailable:
                    message["headers"] = [*message["headers"], (b"x-portcullis-audit", b"not on the disk yet")]
            await send(message)

        await self._app(scope, receive, record_and_send)

    async def _record(self, scope: Scope, status: int) -> None:
        state: dict[str, Any] = scope.get("state", {})
        principal: Principal | None = state.get("principal")
        if principal is None:
            return
        fields = {"key": principal.key, "tenant": principal.tenant, "method": scope["method"],
                  "path": scope["path"][:MAX_PATH], "status": status}  # fmt: skip
        await self._services.audit.event(records.ADMIN, {**fields, **state.get("audit", {})})


async def _refuse(send: Send, why: str) -> None:
    body = json.dumps({"detail": f"the audit log cannot be written, and the policy demands it: {why}"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
