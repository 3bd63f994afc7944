"""The control plane: everything here is for people and their tools, not for traffic. One module a subject."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from gateway.admin import (
    audit,
    console,
    decisions,
    feedback,
    health,
    keys,
    knowledge,
    nearest,
    patterns,
    playground,
    proposals,
    sync,
)
from gateway.admin.audit import WriteDown
from gateway.admin.bodies import Bounded, Shielded, invalid, refused
from gateway.admin.described import describe
from gateway.audit.writer import AuditUnavailable
from gateway.errands import BUSY_SECONDS, Busy
from gateway.services import Services
from gateway.state.base import StateUnavailable

SUBJECTS: Final = (health, decisions, keys, knowledge, audit, feedback, proposals, patterns, playground, nearest, console, sync)
"""Each module adds its own routes to the application: ``routes(app, services)``."""


def control_plane(services: Services) -> FastAPI:
    """The FastAPI application of one worker."""
    # The offline variant serves the documentation page's scripts itself: many gateways see no other host.
    app = FastAPIOffline(
        title="Portcullis", summary="Control plane of the LLM security gateway", docs_url="/admin/docs", redoc_url=None,
        openapi_url="/admin/openapi.json", static_url="/admin/static",
    )  # fmt: skip
    for subject in SUBJECTS:
        subject.routes(app, services)
    describe(app)

    app.add_middleware(WriteDown, services=services)
    app.add_middleware(Bounded, services=services)
    app.add_middleware(Shielded)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)

    @app.exception_handler(StateUnavailable)
    async def state_unavailable(_request: Request, error: StateUnavailable) -> JSONResponse:
        return JSONResponse({"detail": f"the state does not answer: {error}"}, 503)

    @app.exception_handler(Busy)
    async def busy(_request: Request, error: Busy) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 429, {"retry-after": str(BUSY_SECONDS)})

    @app.exception_handler(AuditUnavailable)
    async def audit_unavailable(_request: Request, error: AuditUnavailable) -> JSONResponse:
        return JSONResponse({"detail": f"the audit log cannot be written: {error}"}, 503)

    return app
