"""The shipped exemplars: those nearest to a text, which somebody compares a verdict with, and what they are about."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from detectors.aside import yielded
from detectors.canonical import canonicalise
from detectors.semantic.clusters import of_exemplars
from detectors.semantic.judge import SemanticModel
from detectors.values import Origin
from gateway.admin.access import require
from gateway.admin.playground import MAX_TEXT
from gateway.keys import Permission, Principal
from gateway.services import Services
from patterns import packs

WINDOWS: Final = 4
"""Windows of a text that are looked up, those the front stage suspects most: each takes the encoder some milliseconds."""

COUNT: Final = 5
"""Exemplars that are shown."""

CENTRAL: Final = 3
"""Exemplars that are shown of a cluster."""

MAX_CLUSTERS: Final = 200
"""Clusters that may be asked for: each round of clustering compares every exemplar with every one."""


class Asked(BaseModel):
    """A text, and who says it: suspicion differs by that."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    text: str = Field(min_length=1, max_length=MAX_TEXT)
    origin: Origin = Origin.USER


def routes(app: FastAPI, services: Services) -> None:
    reader = Depends(require(services, Permission.READ_DECISIONS))

    def loaded() -> SemanticModel:
        model = services.live.engine.cascade.model
        if model is None:
            raise HTTPException(404, "no model is loaded, so nothing is known by its meaning (detection.model)")
        return model

    @app.get("/admin/v1/exemplars/clusters", tags=["patterns"])
    async def exemplar_clusters(
        principal: Principal = reader, harmless: bool = False, count: Annotated[int, Query(ge=2, le=MAX_CLUSTERS)] = 40
    ) -> dict[str, Any]:
        """What the shipped exemplars are about: clusters by meaning, largest first, with names and their most central texts."""
        return {"clusters": await services.errands.run(principal, yielded, _clusters, loaded(), harmless, count)}

    @app.post("/admin/v1/exemplars/nearest", tags=["playground"])
    async def nearest_exemplars(asked: Asked, principal: Principal = reader) -> dict[str, Any]:
        """The exemplars nearest in meaning to a text, nearest first. ``category`` is null for a harmless one."""
        return {"nearest": await services.errands.run(principal, _nearest, loaded(), asked.text, asked.origin)}


def _nearest(model: SemanticModel, text: str, origin: Origin) -> list[dict[str, Any]]:
    text = canonicalise(text).text
    windows = sorted(model.front(text, origin), key=lambda window: -window[2])[:WINDOWS]
    found: dict[str, tuple[float, str]] = {}
    for start, end, _ in windows:
        for one in model.index.nearest(model.encoder.encode(text[start:end]).embedding, COUNT):
            known = (one.similarity, one.exemplar.category)
            found[one.exemplar.id] = max(known, found.get(one.exemplar.id, known))
    nearest = sorted(found.items(), key=lambda item: -item[1][0])[:COUNT]
    return [
        {"id": id, "category": category or None, "similarity": round(similarity, 3), "text": exemplars().get(id)}
        for id, (similarity, category) in nearest
    ]


@lru_cache(4)
def _clusters(model: SemanticModel, harmless: bool, count: int) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "size": len(ids), "closeness": round(one.closeness, 3),
         "central": [{"id": id, "text": exemplars()[id]} for id in ids[:CENTRAL]]}
        for one, ids in of_exemplars(model.index, harmless, count)
    ]  # fmt: skip


@lru_cache(1)
def exemplars() -> dict[str, str]:
    """The shipped exemplars' texts by id: some megabytes, in workers that were asked for them only."""
    return packs.exemplars("attacks") | packs.exemplars("benign")
