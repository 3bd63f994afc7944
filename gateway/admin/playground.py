"""The playground: what any policy says of a text or a conversation, without sending it anywhere or keeping it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from detectors.canonical import canonicalise
from detectors.values import Finding, Origin, Segment, show_path
from gateway.admin.access import require
from gateway.keys import Permission, Principal
from gateway.live import Live
from gateway.records.decisions import Found
from gateway.screening.inspection import Inspected, timings
from gateway.screening.policy import PRESETS, Direction, Policy, evaluate
from gateway.services import Services
from gateway.wires.base import Malformed, Parsed
from gateway.wires.collecting import Collector
from gateway.wires.openai_chat import read_message

MAX_TEXT: Final = 2 * 2**20
"""Code points of a text or of all messages together."""

PolicyName = Literal["current", "shadow", "strict", "balanced", "monitor"]


class Tried(BaseModel):
    """What to judge: ``text``, or ``messages`` as a chat completion has them."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    text: str | None = Field(None, max_length=MAX_TEXT)
    messages: list[dict[str, Any]] | None = Field(None, max_length=1_000)
    origin: Origin = Field(Origin.USER, description="Who says the text.")
    direction: Direction = Field(Direction.REQUEST, description="Which way it goes.")
    policies: Annotated[list[PolicyName], Field(min_length=1, max_length=5)] = Field(["current", "shadow"])
    tenant: str = Field("", description="Whose policy `current` and `shadow` are; the key's own tenant where left out.")


def routes(app: FastAPI, services: Services) -> None:
    reader = Depends(require(services, Permission.READ_DECISIONS))

    @app.post("/admin/v1/playground", tags=["playground"])
    async def playground(tried: Tried, principal: Principal = reader) -> dict[str, Any]:
        """Judge a text or a conversation, and say what each policy would do. Nothing is kept or counted."""
        tenant = tried.tenant or ("" if principal.sees("*") else principal.tenant)
        if not principal.sees(tenant or "*"):
            raise HTTPException(403, "this key sees its own tenant only")
        segments = _segments(tried)
        live = services.live
        return await services.errands.run(principal, _judge, live, segments, tried, tenant, principal.key)


def _segments(tried: Tried) -> list[Segment]:
    if (tried.text is None) == (tried.messages is None):
        raise HTTPException(422, "wanted either text or messages")
    if tried.text is not None:
        return [Segment(tried.text, "user", tried.origin, 0, ("text",))]
    out = Collector()
    try:
        for turn, message in enumerate(tried.messages or ()):
            read_message(out, message, turn, ("messages", turn))
    except Malformed as error:
        raise HTTPException(422, str(error)) from None
    for segment in out.segments:
        if not _is_unicode(segment.text):  # keys that are not the wire's are texts, too
            raise HTTPException(422, f"messages[{segment.turn}]: half of a surrogate pair is no text; wanted Unicode")
    if sum(len(segment.text) for segment in out.segments) > MAX_TEXT:
        raise HTTPException(422, f"messages: at most {MAX_TEXT} characters together")
    return out.segments


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _judge(live: Live, segments: Sequence[Segment], tried: Tried, tenant: str, key: str) -> dict[str, Any]:
    began = time.perf_counter_ns()
    judged = live.engine.twin().judge(segments, f"playground {key}")  # a scope of its own: nobody's verdicts are looked up
    spent = time.perf_counter_ns() - began
    verdict = judged.verdict
    answers: dict[str, Any] = {}
    inspected: Inspected | None = None
    for name in dict.fromkeys(tried.policies):
        policy = _policy(live, name, tenant)
        if policy is None:
            answers[name] = None
            continue
        ruling = evaluate(policy, verdict, segments, tried.direction)
        answers[name] = {
            "policy": policy.name, "version": policy.version, "acts": policy.acts, "action": ruling.action.value,
            "reason": ruling.reason, "actions": [action.value for action in ruling.actions],
        }  # fmt: skip
        inspected = Inspected(Parsed(None, False, list(segments), []), judged, ruling, None, b"", 0, spent)
    return {
        "score": verdict.score, "complete": verdict.complete, "generation": live.engine.generation.number,
        "not_run": [{"stage": one.stage, "reason": one.reason} for one in verdict.skipped],
        "timings": dict(timings(inspected)) if inspected else {},
        "findings": [finding_of(one, segments) for one in verdict.findings],
        "texts": [
            {"path": show_path(one.path), "origin": one.origin.value, "text": one.text,
             "canonical": canonical_of(one.text, [found for found in verdict.findings if found.segment == index])}
            for index, one in enumerate(segments)
        ],
        "policies": answers,
    }  # fmt: skip


def _policy(live: Live, name: str, tenant: str) -> Policy | None:
    bound = live.bound(tenant, name if name in PRESETS else None)
    return bound.shadow if name == "shadow" else bound.policy


def finding_of(one: Finding, segments: Sequence[Segment]) -> dict[str, Any]:
    """A finding for people: where it is and what found it."""
    return {
        "detector": one.detector, "pattern": one.pattern, "category": one.category, "score": one.score,
        "path": show_path(segments[one.segment].path), "start": one.start, "end": one.end,
    }  # fmt: skip


def canonical_of(text: str, findings: Sequence[Finding | Found]) -> dict[str, Any] | None:
    """The canonical form of a text and where the findings lie in it; None where the two are the same.

    ``spans`` holds (start, end) in code points of the canonical text for each finding that reaches it.
    """
    canonical = canonicalise(text)
    if canonical.identical:
        return None
    places = range(len(canonical.text))

    def origin(at: int) -> int:
        return canonical.span(at, at + 1)[0]

    spans = []
    for one in findings:
        start, end = (bisect_left(places, bound, key=origin) for bound in (one.start, one.end))
        if start < end:
            spans.append({"pattern": one.pattern, "category": one.category, "start": start, "end": end})
    return {"text": canonical.text, "spans": spans, "evidence": [kind for kind, _, _ in canonical.evidence]}
