"""The control plane: health, metrics, decisions, keys. Everything here is for people and their tools, not for traffic."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field

from gateway import coverage, decisions
from gateway.credentials import AmbiguousCredential, gateway_key
from gateway.keys import LOCAL_OPERATOR, Permission, Principal, Role, StoredKey, make_key
from gateway.services import Services, is_loopback
from gateway.state.base import Filter, StateUnavailable
from patterns import taxonomy
from patterns.schema import Pattern


class NewKeyRequest(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Field(Role.APP, description="What the key is for.")
    tenant: str = Field("default", description="Whose it is; `*` for control-plane roles that see all tenants.")
    policy: str | None = Field(None, description="A preset that overrides the tenant's policy.")
    expires_at: float | None = Field(None, description="UNIX seconds.")
    note: str = Field("", description="For people, shown in listings.")


def control_plane(services: Services) -> FastAPI:
    """The FastAPI application of one worker."""
    # The offline variant serves the documentation page's scripts itself: many gateways see no other host.
    app = FastAPIOffline(
        title="Portcullis", summary="Control plane of the LLM security gateway", docs_url="/admin/docs", redoc_url=None,
        openapi_url="/admin/openapi.json", static_url="/admin/static",
    )  # fmt: skip
    _health(app, services)
    _decisions(app, services)
    _keys(app, services)
    _knowledge(app, services)

    @app.exception_handler(StateUnavailable)
    async def state_unavailable(_request: Request, error: StateUnavailable) -> JSONResponse:
        return JSONResponse({"detail": f"the state does not answer: {error}"}, 503)

    return app


def _require(services: Services, permission: Permission) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that lets only those through who may do ``permission``."""

    async def check(request: Request) -> Principal:
        try:
            token = gateway_key(request.scope["headers"], request.scope["query_string"])
        except AmbiguousCredential as error:
            raise HTTPException(400, str(error)) from None
        ring = services.keys.ring
        if ring.open and token is None:
            settings = services.live.settings
            if not is_loopback(settings):
                raise HTTPException(401, "the control plane is closed until a key was made: portcullis keys create")
            host = request.headers.get("host", "").encode()
            if not services.host_is_ours(host):
                raise HTTPException(421, "without keys the control plane answers only to a loopback address")
            return LOCAL_OPERATOR
        if ring.open:
            raise HTTPException(401, "the key is not known")
        principal = ring.find(token, time.time())
        if principal is None:
            raise HTTPException(401, "send a key: Authorization: Bearer pc_...", {"www-authenticate": "Bearer"})
        if not principal.may(permission):
            raise HTTPException(403, f"this key lacks the permission {permission.value}")
        return principal

    return check


def _health(app: FastAPI, services: Services) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Alive: the process answers."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"])
    async def readyz(response: Response) -> dict[str, Any]:
        """Ready: a generation is loaded, the state answers, and the worker is not about to end."""
        checks = {
            "generation": "loaded",
            "state": services.state_error or "answers",
            "draining": "yes" if services.draining else "no",
            "decisions": "recorded" if services.recorder.healthy else services.recorder.stats.last_error or "late",
        }
        ready = not services.draining and not services.state_error
        response.status_code = 200 if ready else 503
        return {"status": "ready" if ready else "not ready", **checks}

    @app.get("/metrics", tags=["health"])
    async def metrics() -> Response:
        """All series, in Prometheus' text format."""
        return Response(services.exposition.render(), media_type=CONTENT_TYPE_LATEST)


def _decisions(app: FastAPI, services: Services) -> None:
    reader = Depends(_require(services, Permission.READ_DECISIONS))

    @app.get("/admin/v1/decisions", tags=["decisions"])
    async def list_decisions(
        principal: Principal = reader,
        action: Annotated[str | None, Query(description="allow, flag, redact or block")] = None,
        tenant: str | None = None,
        category: Annotated[str | None, Query(description="a category or category.subcategory")] = None,
        wire: str | None = None,
        since: Annotated[float | None, Query(description="UNIX seconds")] = None,
        until: Annotated[float | None, Query(description="UNIX seconds")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    ) -> dict[str, Any]:
        """Decisions, newest first, a page at a time."""
        if not principal.sees(tenant or principal.tenant):
            raise HTTPException(403, "this key sees its own tenant only")
        own = None if principal.sees("*") else principal.tenant
        only = Filter(
            action=action, tenant=tenant or own, category=category, wire=wire, since=since, until=until
        )
        await services.recorder.flush()
        try:
            page = await services.state.decisions(only, limit, cursor)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return {"decisions": [decisions.summarise(one) for one in page.decisions], "next": page.cursor}

    @app.get("/admin/v1/decisions/{decision_id}", tags=["decisions"])
    async def explain_decision(decision_id: str, principal: Principal = reader) -> dict[str, Any]:
        """One decision explained: what was screened and what not, what was found, what was done and why."""
        await services.recorder.flush()
        found = await services.state.decision(decision_id) if decisions.is_id(decision_id) else None
        if found is None or not principal.sees(found.tenant):
            raise HTTPException(404, "there is no decision with this id, or it has expired")
        explained = decisions.explain(found)
        kept = None
        if principal.may(Permission.READ_TEXT):
            kept = await services.state.kept_texts(decision_id, time.time())
        explained["texts"] = None if kept is None else [text._asdict() for text in kept.texts]
        return explained


def _keys(app: FastAPI, services: Services) -> None:
    keeper = Depends(_require(services, Permission.MANAGE_KEYS))

    @app.get("/admin/v1/keys", tags=["keys"], dependencies=[keeper])
    async def list_keys() -> dict[str, Any]:
        """Every key ever made, without what would open anything."""
        return {"keys": [shown_key(key) for key in await services.state.keys()]}

    @app.post("/admin/v1/keys", tags=["keys"], dependencies=[keeper], status_code=201)
    async def create_key(wanted: NewKeyRequest) -> dict[str, Any]:
        """Make a key. Its token is in this reply and nowhere else."""
        try:
            made = make_key(
                wanted.role, wanted.tenant, time.time(), policy=wanted.policy, expires_at=wanted.expires_at,
                note=wanted.note,
            )  # fmt: skip
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        await services.state.put_key(made.key)
        await services.keys.refresh()
        return {**shown_key(made.key), "token": made.token}

    @app.delete("/admin/v1/keys/{key_id}", tags=["keys"], dependencies=[keeper])
    async def revoke_key(key_id: str) -> dict[str, Any]:
        """Revoke a key; every worker follows within about a second."""
        if not await services.state.revoke_key(key_id, time.time()):
            raise HTTPException(404, "there is no key with this id")
        await services.keys.refresh()
        return {"id": key_id, "revoked": True}


def _knowledge(app: FastAPI, services: Services) -> None:
    reader = Depends(_require(services, Permission.READ_DECISIONS))

    @app.get("/admin/v1/generation", tags=["knowledge"], dependencies=[reader])
    async def generation() -> dict[str, Any]:
        """The generation that serves, and what became of the newest configuration."""
        live = services.live.engine.generation
        return {
            "generation": live.number,
            "digest": live.digest,
            "loaded_at": live.loaded_at,
            "patterns": len(live.patterns),
            "configuration_error": services.reload_error or None,
        }

    @app.get("/admin/v1/coverage", tags=["knowledge"], dependencies=[reader])
    async def coverage_matrix() -> dict[str, Any]:
        """Which stages act on which part of which route."""
        return {"coverage": [row._asdict() for row in coverage.matrix(services.live.settings)]}

    @app.get("/admin/v1/taxonomy", tags=["knowledge"], dependencies=[reader])
    async def show_taxonomy() -> dict[str, Any]:
        """The names of threats."""
        return {
            name: {
                "title": one.title, "attack": one.attack, "owasp": one.owasp, "atlas": one.atlas,
                "subcategories": one.subcategories,
            }
            for name, one in taxonomy.CATEGORIES.items()
        }  # fmt: skip

    @app.get("/admin/v1/patterns", tags=["knowledge"], dependencies=[reader])
    async def list_patterns(
        category: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """Patterns, in order of their ids."""
        chosen = [
            pattern
            for pattern in sorted(services.live.engine.generation.patterns, key=lambda pattern: pattern.id)
            if category is None or pattern.category == category or pattern.category.startswith(category + ".")
        ]
        return {"total": len(chosen), "patterns": [shown_pattern(one) for one in chosen[offset : offset + limit]]}


def shown_key(key: StoredKey) -> dict[str, Any]:
    """A key for people: nothing in it opens anything."""
    return {
        "id": key.id, "role": key.role.value, "tenant": key.tenant, "policy": key.policy,
        "created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": key.revoked_at, "note": key.note,
    }  # fmt: skip


def shown_pattern(pattern: Pattern) -> dict[str, Any]:
    """A pattern for people and programs."""
    return {
        "id": pattern.id, "kind": pattern.kind.value, "body": pattern.body, "category": pattern.category,
        "severity": pattern.severity.value, "reach": pattern.reach, "check": pattern.check,
        "origins": sorted(pattern.origins), "hits": pattern.hits, "misses": pattern.misses,
        "state": pattern.state.value, "provenance": pattern.provenance, "revision": pattern.revision,
    }  # fmt: skip
