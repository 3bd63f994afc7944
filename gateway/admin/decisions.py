"""Decisions, listed and explained."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query

from gateway.admin.access import require
from gateway.admin.playground import canonical_of
from gateway.audit import records
from gateway.keys import Permission, Principal
from gateway.records.decision_records import explain, summarise
from gateway.records.decisions import KeptTexts, Record, is_id
from gateway.screening.policy import Action
from gateway.services import Services
from gateway.state.base import Filter


def routes(app: FastAPI, services: Services) -> None:
    reader = Depends(require(services, Permission.READ_DECISIONS))

    @app.get("/admin/v1/decisions", tags=["decisions"])
    async def list_decisions(
        principal: Principal = reader,
        action: Action | None = None,
        tenant: str | None = None,
        category: Annotated[str | None, Query(description="a category or category.subcategory")] = None,
        wire: str | None = None,
        since: Annotated[float | None, Query(allow_inf_nan=False, description="UNIX seconds")] = None,
        until: Annotated[float | None, Query(allow_inf_nan=False, description="UNIX seconds")] = None,
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
        return {"decisions": [summarise(one) for one in page.decisions], "next": page.cursor}

    @app.get("/admin/v1/decisions/{decision_id}", tags=["decisions"])
    async def explain_decision(decision_id: str, principal: Principal = reader) -> dict[str, Any]:
        """One decision explained: what was screened and what not, what was found, what was done and why."""
        await services.recorder.flush()
        found = await services.state.decision(decision_id) if is_id(decision_id) else None
        if found is None or not principal.sees(found.tenant):
            raise HTTPException(404, "there is no decision with this id, or it has expired")
        explained = explain(found)
        kept = None
        if principal.may(Permission.READ_TEXT):
            kept = await services.state.kept_texts(decision_id, time.time())
        if kept is not None:
            fields = {"key": principal.key, "tenant": principal.tenant, "decision": decision_id, "of_tenant": found.tenant}
            await services.audit.event(records.READ_TEXT, fields)
        explained["texts"] = None if kept is None else await asyncio.to_thread(_texts, kept, found)
        return explained


def _texts(kept: KeptTexts, found: Record) -> list[dict[str, Any]]:
    """Kept texts, each with its canonical form where that is another. Offsets of findings hold in texts kept in full only."""
    sides = {"request": found.request, "reply": found.reply}
    shown = []
    for text in kept.texts:
        side = sides.get(text.direction)
        here = [one for one in side.findings if one.path == text.path] if side and not kept.redacted else []
        shown.append({**text._asdict(), "redacted": kept.redacted, "canonical": canonical_of(text.text, here)})
    return shown
