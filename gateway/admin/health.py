"""Alive, ready, and all that is counted: for probes and Prometheus, and open to everyone."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.services import Services


def routes(app: FastAPI, services: Services) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Alive: the process answers."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"])
    async def readyz(response: Response) -> dict[str, Any]:
        """Ready: a generation is loaded, the state answers, and the worker is not about to end."""
        served, state = services.state_health
        checks = {
            "generation": "loaded",
            "state": state,
            "draining": "yes" if services.draining else "no",
            "decisions": "recorded" if services.recorder.healthy else services.recorder.stats.last_error or "late",
            "audit": services.audit.stats.last_error or "written" if services.live.settings.audit.enabled else "off",
        }
        ready = not services.draining and served
        response.status_code = 200 if ready else 503
        return {"status": "ready" if ready else "not ready", **checks}

    @app.get("/metrics", tags=["health"])
    async def metrics() -> Response:
        """All series, in Prometheus' text format."""
        return Response(services.exposition.render(), media_type=CONTENT_TYPE_LATEST)
