"""What the gateway knows: the generation that serves, its patterns, the names of threats, and what is covered."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, FastAPI, Query, Response

from gateway.admin.access import require
from gateway.keys import EVERY_TENANT, Permission, Principal
from gateway.learning.promotion import Effect
from gateway.learning.values import LEARNT
from gateway.screening import coverage
from gateway.services import Services
from patterns import taxonomy
from patterns.schema import Pattern


def routes(app: FastAPI, services: Services) -> None:
    reader = Depends(require(services, Permission.READ_DECISIONS))

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
            "reloading_since": services.reloading_since,
        }

    @app.get("/admin/v1/coverage", tags=["knowledge"], dependencies=[reader])
    async def coverage_matrix() -> dict[str, Any]:
        """Which stages act on which part of which route."""
        rows = coverage.matrix(services.live.settings, services.live.default.late)
        return {"coverage": [row._asdict() for row in rows]}

    @app.get("/admin/v1/taxonomy", tags=["knowledge"], dependencies=[reader])
    async def show_taxonomy() -> dict[str, Any]:
        """The names of threats."""
        return {
            name: {
                "title": one.title, "attack": one.attack, "owasp": one.owasp, "atlas": one.atlas,
                "subcategories": one.subcategories, "threats": [threat._asdict() for threat in one.threats],
            }
            for name, one in taxonomy.CATEGORIES.items()
        }  # fmt: skip

    @app.get("/admin/v1/patterns", tags=["knowledge"])
    async def list_patterns(
        principal: Principal = reader,
        category: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> Response:
        """Patterns, in order of their ids, each with how it did: matches, and what labels said of them."""
        chosen = [
            pattern
            for pattern in sorted(services.live.engine.generation.patterns, key=lambda pattern: pattern.id)
            if category is None or pattern.category == category or pattern.category.startswith(category + ".")
        ]
        effects = await services.learning.book.effects()
        page = [
            shown_to(principal, one) | {"effectiveness": shown_effect(effects.get(one.id, Effect()))}
            for one in chosen[offset : offset + limit]
        ]
        return as_json({"total": len(chosen), "patterns": page})


def as_json(document: dict[str, Any]) -> Response:
    """An answer that may be large: FastAPI's own way of writing JSON takes seconds for ten thousand patterns."""
    return Response(orjson.dumps(document), media_type="application/json")


def shown_effect(effect: Effect) -> dict[str, Any]:
    """How a pattern did, for people and programs."""
    return {**effect._asdict(), "precision": effect.precision}


TEXTS: Final[dict[str, Any]] = {"body": None, "hits": [], "misses": []}
"""Fields of a pattern that hold the very texts that were labelled, where it was learnt from them, and what stands for them."""


def reads(principal: Principal, id: str) -> bool:
    """Whether somebody may see the texts of a pattern: what was learnt is made of texts of any tenant's callers."""
    return not id.startswith(LEARNT) or (principal.may(Permission.READ_TEXT) and principal.sees(EVERY_TENANT))


def shown_to(principal: Principal, pattern: Pattern) -> dict[str, Any]:
    """A pattern for this caller."""
    return pattern.shown() | ({} if reads(principal, pattern.id) else TEXTS)
