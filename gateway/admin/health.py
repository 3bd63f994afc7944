"""What probes and Prometheus ask for, as the control plane documents it; `gateway.serving.app` answers these calls itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from gateway.services import Services
from gateway.serving import health


def routes(app: FastAPI, services: Services) -> None:
    for path, answer in health.PATHS.items():
        app.get(
            path, tags=["health"], name=path[1:], description=answer.__doc__,
            response_class=PlainTextResponse if answer is health.metrics else JSONResponse,
            responses={503: {"description": "Not ready"}} if answer is health.ready else {},
        )(_answering(answer, services))  # fmt: skip


def _answering(answer: Callable[[Services], health.Answer], services: Services) -> Callable[[], Awaitable[Response]]:
    async def made() -> Response:
        found = answer(services)
        return Response(found.body, found.status, media_type=found.content_type)

    return made
