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


def of_decision(record: Record, kept: KeptTexts | None, given: str = "") -> Told:
    """The trajectory of a decision.

    A label speaks of the whole decision; the text that taught or misled the gateway is taken to be the one that the labeller
    sent along (``given``), where it is told to be one of the decision's, else the one with the strongest finding, else the last
    that a user, tool or document said.
    """
    named = _named(record, kept, given) if given else None
    side, direction, path, origin = named or _suspect(record)
    text = ""
    if kept is not None and not (kept.redacted and side.findings):  # a stand-in in place of a value teaches nothing
        text = next((one.text for one in kept.texts if (one.direction, one.path) == (direction, path)), "")
    stages = tuple((one.detector, one.pattern, one.category, one.score) for one in side.findings[:20])
    trajectory = Trajectory(
        record.id, record.generation, record.tenant, origin, record.action, record.action in _STOPS, side.score, stages,
        any(part.path == path and "encoder" in part.stages for part in side.parts),
    )  # fmt: skip
    return Told(trajectory, text[:MAX_TEXT])


_Suspect = tuple[Screening, str, str, str]
"""A side of a decision, its direction, and the path and origin of a text of it."""


def _sides(record: Record) -> list[tuple[Screening, str]]:
    return [(record.request, "request"), *([(record.reply, "reply")] if record.reply is not None else [])]


def _named(record: Record, kept: KeptTexts | None, given: str) -> _Suspect | None:
    """Which of a decision's texts was sent along: the one that was kept, or of those not kept the last that is as long."""
    texts = {(one.direction, one.path): one.text for one in kept.texts} if kept is not None and not kept.redacted else {}
    for side, direction in _sides(record):
        for part in reversed(side.parts):
            if texts.get((direction, part.path), given) == given and part.length == len(given):
                return side, direction, part.path, part.origin
    return None


def _suspect(record: Record) -> _Suspect:
    """The text that a decision is about. What a model said is none of it where nothing was found in it, whatever its score."""
    found = [(finding.score, side, direction, finding.path) for side, direction in _sides(record) for finding in side.findings]
    if found:
        _, side, direction, path = max(found, key=lambda one: one[0])
        return side, direction, path, next((part.origin for part in side.parts if part.path == path), Origin.USER.value)
    side = record.request
    spoken = [part for part in side.parts if part.origin not in (Origin.SYSTEM, Origin.ASSISTANT, Origin.TOOL_DEFINITION)]
    last = (spoken or list(side.parts))[-1:]
    return (side, "request", last[0].path, last[0].origin) if last else (side, "request", "", Origin.USER.value)
