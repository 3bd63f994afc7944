"""Proposals: what the gateway, or a person, would change of what is known; evidence, votes and promotion."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from gateway.admin.access import require, require_all
from gateway.admin.nearest import exemplars
from gateway.admin.queries import checked_cursor
from gateway.audit import records
from gateway.keys import EVERY_TENANT, Permission, Principal
from gateway.learning import wording
from gateway.learning.promotion import Rules, awaited
from gateway.learning.values import MAX_NOTE, Case, Proposal, Refused, Stage
from gateway.services import Services


class Reason(BaseModel):
    """Why, in words."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=MAX_NOTE)


def routes(app: FastAPI, services: Services) -> None:
    reader = Depends(require(services, Permission.READ_DECISIONS))
    approver = Depends(require_all(services, Permission.APPROVE))
    learning = services.learning

    @app.get("/admin/v1/proposals", tags=["proposals"], dependencies=[reader])
    async def list_proposals(
        state: Annotated[Stage | None, Query(description="proposed, failed, rejected, shadow, canary, active, demoted")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    ) -> dict[str, Any]:
        """Proposals, newest first."""
        found: list[Proposal] = []
        before = checked_cursor(cursor)
        while len(found) <= limit and (page := await learning.book.proposals(before=before)):
            found += [one for one in page if state in (None, one.stage)]
            before = page[-1].id
        return {
            "proposals": [summary(one, learning.stages.rules) for one in found[:limit]],
            "next": found[limit - 1].id if len(found) > limit else None,
        }

    @app.get("/admin/v1/proposals/{id}", tags=["proposals"])
    async def explain_proposal(id: str, principal: Principal = reader) -> dict[str, Any]:
        """One proposal with all that speaks for and against it."""
        found = await learning.book.proposal(id)
        if found is None:
            raise HTTPException(404, "there is no such proposal")
        cases = [case for one in found.cases if (case := await learning.book.case(one)) is not None]
        if found.cases and texts_shown(found, cases, principal):
            tenants = sorted({case.trajectory.tenant for case in cases})
            fields = {"key": principal.key, "tenant": principal.tenant, "proposal": id, "of_tenants": tenants}
            await services.audit.event(records.READ_TEXT, fields)
        return await asyncio.to_thread(explained, found, cases, learning.stages.rules, principal)

    @app.post("/admin/v1/proposals/{id}/approve", tags=["proposals"])
    async def approve(id: str, why: Reason, principal: Principal = approver) -> dict[str, Any]:
        """Let it go into the shadow, once enough others than its author approve."""
        return await _answer(learning.stages.vote(principal, id, True, why.reason, time.time()))

    @app.post("/admin/v1/proposals/{id}/reject", tags=["proposals"])
    async def reject(id: str, why: Reason, principal: Principal = approver) -> dict[str, Any]:
        """Refuse it; one that is watched or acts already is taken back."""
        return await _answer(learning.stages.vote(principal, id, False, why.reason, time.time()))

    @app.post("/admin/v1/proposals/{id}/promote", tags=["proposals"])
    async def promote(id: str, why: Reason, principal: Principal = approver) -> dict[str, Any]:
        """Move it one stage on before its time of watching is over."""
        return await _answer(learning.stages.promote(principal, id, why.reason, time.time()))

    async def _answer(done: Any) -> dict[str, Any]:
        try:
            return summary(await done, learning.stages.rules)
        except Refused as error:
            raise HTTPException(error.status, str(error)) from None


def summary(proposal: Proposal, rules: Rules) -> dict[str, Any]:
    """A proposal as a line of a list."""
    trial = proposal.trial
    return {
        "id": proposal.id, "kind": proposal.kind, "state": proposal.stage, "at": proposal.at, "since": proposal.since,
        "author": proposal.author, "pattern": proposal.pattern.id, "category": proposal.pattern.category,
        "duplicates": proposal.duplicates, "cases": len(proposal.cases), "expected": proposal.expected,
        "reason": proposal.reason,
        "trial": None if trial is None else {"passed": trial.passed, "against": trial.against},
        "approvals": sum(vote.approves for vote in proposal.votes if vote.by != proposal.author),
        "quorum": rules.approvals, "watched": proposal.watched, "alarms": proposal.alarms,
        "awaited": awaited(proposal, rules, time.time()),
        "confirmed": proposal.confirmed, "refuted": proposal.refuted, "supporters": proposal.supporters,
        "spoken_for": round(proposal.spoken_for, 3), "spoken_against": round(proposal.spoken_against, 3),
    }  # fmt: skip


def texts_shown(proposal: Proposal, cases: list[Case], principal: Principal) -> bool:
    """Whether somebody is shown the texts of a proposal's cases, and what was made of them."""
    return principal.may(Permission.READ_TEXT) and _sees_all(proposal, cases, principal)


def _sees_all(proposal: Proposal, cases: list[Case], principal: Principal) -> bool:
    """Whether all of a proposal's cases are of tenants that somebody sees; whose a case was that has expired nobody knows."""
    if len(cases) < len(proposal.cases) and not principal.sees(EVERY_TENANT):
        return False
    return all(principal.sees(case.trajectory.tenant) for case in cases)


def explained(proposal: Proposal, cases: list[Case], rules: Rules, principal: Principal) -> dict[str, Any]:
    """A proposal with its evidence: texts only for who may read them, and of other tenants' cases nothing."""
    own = [case for case in cases if principal.sees(case.trajectory.tenant)]
    texts = texts_shown(proposal, cases, principal)
    pattern = proposal.pattern.shown()
    if not texts:
        pattern |= {"body": None, "hits": [], "misses": []}
    trial = proposal.trial
    shown_trial = None if trial is None else {**trial._asdict(), "passed": trial.passed}
    if shown_trial is not None and not texts:
        shown_trial["examples"] = []
    return {
        **summary(proposal, rules),
        "pattern": pattern,
        "reflection": proposal.reflection if _sees_all(proposal, cases, principal) else "",
        "worded": wording.shown(proposal) if texts else None,
        "nearest": [
            {"id": id, "category": category, "similarity": near, "text": exemplars().get(id)}
            for id, category, near in proposal.nearest
        ],
        "trial": shown_trial,
        "votes": [vote._asdict() for vote in proposal.votes],
        "evidence": [
            {
                "case": case.id, "decision_id": case.trajectory.decision or None, "outcome": case.outcome,
                "lesson": case.lesson,
                "text": (case.text or None) if texts else None, "category": case.category,
                "labels": [{"by": one.by, "role": one.role, "label": one.said, "trust": round(one.trust, 3), "at": one.at,
                            "note": one.note} for one in case.labels],
            }
            for case in own
        ],
    }  # fmt: skip
