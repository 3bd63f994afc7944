"""Patterns and their generations: looked at, tried, proposed, compared, and rolled back."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from detectors.aside import yielded
from detectors.semantic.prototypes import PrototypeError
from gateway.admin.access import require, require_all
from gateway.admin.audit import detail
from gateway.admin.knowledge import TEXTS, as_json, reads, shown_effect, shown_to
from gateway.admin.proposals import Reason, summary
from gateway.keys import Permission, Principal
from gateway.learning.values import MAX_NOTE, Proposal, Refused
from gateway.services import Services
from patterns.history import Revision, UnknownGeneration
from patterns.schema import Pattern, PatternError, read_pattern
from patterns.snapshot import Diff
from patterns.store import StoreError

MAX_NUMBER: Final = 2**53 - 1
"""The largest number of a generation that is looked for: what JSON tells exactly everywhere."""

Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


class Proposed(BaseModel):
    """A pattern, as packs write one, and why."""

    model_config = ConfigDict(extra="forbid")

    pattern: dict[str, Any]
    reason: str = Field("", max_length=MAX_NOTE)


class Rollback(BaseModel):
    """Which generation of the pattern store shall stand again."""

    model_config = ConfigDict(extra="forbid")

    generation: Number
    reason: str = Field(min_length=1, max_length=MAX_NOTE)


def routes(app: FastAPI, services: Services) -> None:
    reader = Depends(require(services, Permission.READ_DECISIONS))
    proposer = Depends(require(services, Permission.PROPOSE))
    approver = Depends(require_all(services, Permission.APPROVE))
    store, learning = services.store, services.learning

    async def propose_by(principal: Principal, pattern: Pattern, reason: str, retire: bool = False) -> Proposal:
        run = partial(services.errands.run, principal)
        return await learning.stages.propose(principal, pattern, reason, time.time(), retire, run)

    @app.post("/admin/v1/patterns/test", tags=["knowledge"])
    async def test_pattern(pattern: dict[str, Any], principal: Principal = proposer) -> dict[str, Any]:
        """Try a pattern on its own hits and misses and on our corpora, without proposing it."""
        read = _read(pattern)

        def tried() -> dict[str, Any]:
            ready = learning.teacher.calibrated(read)
            found = learning.teacher.test(ready)
            return {**found._asdict(), "passed": found.passed, "pattern": ready.shown()}

        try:
            return await services.errands.run(principal, tried)
        except (PatternError, PrototypeError) as error:
            raise HTTPException(422, str(error)) from None

    @app.post("/admin/v1/patterns", tags=["knowledge"], status_code=202)
    async def propose(given: Proposed, principal: Principal = proposer) -> dict[str, Any]:
        """Propose a pattern of one's own; somebody else approves it."""
        try:
            made = await propose_by(principal, _read(given.pattern), given.reason)
        except Refused as error:
            raise HTTPException(error.status, str(error)) from None
        return summary(made, learning.stages.rules)

    @app.post("/admin/v1/patterns/{id}/retire", tags=["knowledge"], status_code=202)
    async def retire(id: str, why: Reason, principal: Principal = proposer) -> dict[str, Any]:
        """Propose that a pattern is retired; its trial tells which known attacks it finds."""
        standing = _serving(services).get(id)
        if standing is None:
            raise HTTPException(404, "there is no pattern with this id that is matched")
        try:
            made = await propose_by(principal, standing, why.reason, retire=True)
        except Refused as error:
            raise HTTPException(error.status, str(error)) from None
        return summary(made, learning.stages.rules)

    @app.get("/admin/v1/patterns/{id}", tags=["knowledge"])
    async def explain_pattern(id: str, principal: Principal = reader) -> dict[str, Any]:
        """One pattern with its history and how it did."""
        history = await _stored(asyncio.to_thread(store.history, id))
        standing = store.patterns().get(id) or _serving(services).get(id)
        if standing is None and not history:
            raise HTTPException(404, "there is no pattern with this id")
        effect = await learning.book.effect(id)
        return {
            **(shown_to(principal, standing) if standing else {"id": id, "state": "removed"}),
            "from_pack": not history,
            "history": [_revision(principal, one) for one in history],
            "effectiveness": shown_effect(effect),
        }

    @app.get("/admin/v1/generations", tags=["knowledge"], dependencies=[reader])
    async def list_generations(
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        cursor: Annotated[int | None, Query(ge=0, le=MAX_NUMBER, description="`next` of the page before")] = None,
    ) -> dict[str, Any]:
        """Generations of the pattern store, latest first. Generation 0 is the packs alone."""
        found = await _stored(asyncio.to_thread(store.generations, limit + 1, cursor))
        return {
            "generation": store.generation, "digest": store.digest, "error": services.store_error or None,
            "unreadable": store.faults, "generations": [one._asdict() for one in found[:limit]],
            "next": found[limit - 1].number if len(found) > limit else None,
        }  # fmt: skip

    @app.get("/admin/v1/generations/{a}/diff/{b}", tags=["knowledge"])
    async def compare(
        a: Number, b: Number, limit: Annotated[int, Query(ge=1, le=100_000, description="of each list")] = 100,
        principal: Principal = reader,
    ) -> Response:
        """What leads from generation ``a`` to generation ``b``; ``counts`` says how much, where the lists are cut short."""
        found: Diff = await _stored(asyncio.to_thread(store.diff, a, b, limit))
        return as_json({"from": a, "to": b, **shown_diff(principal, found)})

    @app.post("/admin/v1/rollback", tags=["knowledge"])
    async def roll_back(wanted: Rollback, request: Request, principal: Principal = approver) -> dict[str, Any]:
        """Let what stood under an earlier generation stand again, as a new one, which acts here when this answers."""
        by = principal.person or "local"
        applied = await _stored(asyncio.to_thread(yielded, store.rollback, wanted.generation, by, wanted.reason, time.time()))
        detail(request, generation=applied.generation, back_to=wanted.generation, reason=wanted.reason)
        await learning.stages.follow_store(time.time())
        await services.renew()
        return {"generation": applied.generation, "changes": len(applied.accepted)}


async def _stored(work: Any) -> Any:
    try:
        return await work
    except UnknownGeneration as error:
        raise HTTPException(404, str(error)) from None
    except StoreError as error:
        raise HTTPException(503, f"the pattern store does not answer: {error}") from None


def shown_diff(principal: Principal, found: Diff) -> dict[str, Any]:
    """A difference for people and programs."""
    return {
        "counts": found.counts._asdict(),
        "added": [shown_to(principal, one) for one in found.added.values()],
        "removed": [shown_to(principal, one) for one in found.removed.values()],
        "changed": {
            id: [
                {"field": one.field, "before": _plain(one.before), "after": _plain(one.after)}
                for one in changes if one.field not in TEXTS or reads(principal, id)
            ]
            for id, changes in found.changed.items()
        },
    }


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else value


def _revision(principal: Principal, one: Revision) -> dict[str, Any]:
    entry = one.entry
    return {
        "generation": one.generation, "author": entry.author, "reason": entry.reason, "at": entry.stamp.wall_ms / 1000,
        "node": entry.stamp.node, "parent": entry.parent, "signer": entry.signer,
        "pattern": shown_to(principal, entry.pattern) if entry.pattern else None,
    }  # fmt: skip


def _serving(services: Services) -> dict[str, Pattern]:
    return {pattern.id: pattern for pattern in services.live.engine.generation.patterns}


def _read(raw: dict[str, Any]) -> Pattern:
    try:
        return read_pattern(raw, "pattern")
    except PatternError as error:
        raise HTTPException(422, str(error)) from None
