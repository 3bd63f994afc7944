"""Alive, ready, and all that is counted: what probes and Prometheus ask for, open to everyone, and answered before the control
plane is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import orjson

from gateway.records.admission import refuses_all
from gateway.services import Services
from gateway.serving.inbound import Send


class Answer(NamedTuple):
    """What is answered: a status, the type of the body, and the body."""

    status: int
    content_type: str
    body: bytes


def alive(_services: Services) -> Answer:
    """Alive: the process answers."""
    return _json(200, {"status": "alive"})


def ready(services: Services) -> Answer:
    """Ready: a generation is loaded, the state answers, decisions can be recorded or a policy serves without, and the worker is
    not about to end."""
    served, state = services.state_health
    checks = {
        "generation": "loaded",
        "state": state,
        "draining": "yes" if services.draining else "no",
        "decisions": "recorded" if services.recorder.healthy else services.recorder.stats.last_error or "late",
        "audit": services.audit.stats.last_error or "written" if services.live.settings.audit.enabled else "off",
    }
    if services.limiter.enforces:
        checks["limits"] = services.limiter.health
    is_ready = not services.draining and served and not refuses_all(services)
    return _json(200 if is_ready else 503, {"status": "ready" if is_ready else "not ready", **checks})


def metrics(services: Services) -> Answer:
    """All series, in Prometheus' text format."""
    from gateway.telemetry.prometheus import CONTENT_TYPE  # what it brings is loaded beside serving

    return Answer(200, CONTENT_TYPE, services.exposition.render())


PATHS: Final[dict[str, Callable[[Services], Answer]]] = {"/healthz": alive, "/readyz": ready, "/metrics": metrics}


async def send(answer: Answer, out: Send) -> None:
    """Answer over ASGI."""
    headers = [(b"content-length", b"%d" % len(answer.body)), (b"content-type", answer.content_type.encode("ascii"))]
    await out({"type": "http.response.start", "status": answer.status, "headers": headers})
    await out({"type": "http.response.body", "body": answer.body})


def _json(status: int, doc: dict[str, str]) -> Answer:
    return Answer(status, "application/json", orjson.dumps(doc))
