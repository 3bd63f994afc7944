"""What the gateway did with a text, read from the record of its decision. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from detectors.values import Origin
from gateway.learning.values import MAX_TEXT, Trajectory
from gateway.records.decisions import KeptTexts, Record, Screening

_STOPS: Final = frozenset({"block", "redact"})


class Told(NamedTuple):
    """A trajectory, and the text that it is about; empty where retention did not keep it."""

    trajectory: Trajectory
    text: str


def of_decision(record: Record, kept: KeptTexts | None) -> Told:
    """The trajectory of a decision.

    A label speaks of the whole decision; the text that taught or misled the gateway is taken to be the one with the
    strongest finding, else the last that a user, tool or document said.
    """
    side, direction = _side(record)
    path, origin = _suspect(side)
    text = ""
    if kept is not None and not (kept.redacted and side.findings):  # a stand-in in place of a value teaches nothing
        text = next((one.text for one in kept.texts if (one.direction, one.path) == (direction, path)), "")
    stages = tuple((one.detector, one.pattern, one.category, one.score) for one in side.findings[:20])
    trajectory = Trajectory(
        record.id, record.generation, record.tenant, origin, record.action, record.action in _STOPS, side.score, stages,
        any(part.path == path and "encoder" in part.stages for part in side.parts),
    )  # fmt: skip
    return Told(trajectory, text[:MAX_TEXT])


def _side(record: Record) -> tuple[Screening, str]:
    reply = record.reply
    if reply is not None and reply.score > record.request.score:
        return reply, "reply"
    return record.request, "request"


def _suspect(side: Screening) -> tuple[str, str]:
    """Path and origin of the text that the decision is about."""
    origins = {part.path: part.origin for part in side.parts}
    if side.findings:
        worst = max(side.findings, key=lambda finding: finding.score)
        return worst.path, origins.get(worst.path, Origin.USER.value)
    spoken = [part for part in side.parts if part.origin not in (Origin.SYSTEM, Origin.ASSISTANT, Origin.TOOL_DEFINITION)]
    last = (spoken or list(side.parts))[-1:]
    return (last[0].path, last[0].origin) if last else ("", Origin.USER.value)
