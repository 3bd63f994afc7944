"""What was said earlier in a conversation, taken out of a request that would be refused for it (`policy.earlier_texts`).

A client sends a conversation with every request, and so what was refused once: that would be the end of it. What goes on
instead is judged as a request of its own, so whatever the texts were part of is looked at without them. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from detectors.values import Finding, Origin, Path, Segment
from gateway.screening.inspection import Inspected
from gateway.screening.policy import Action, Edit
from gateway.wires.jsonedit import apply_edits

ROUNDS: Final = 4
"""Passages that are taken out one by one, each time judging the rest; then all that may be the cause go."""

NOTICE: Final = "[removed by Portcullis: {}]"
"""What takes a text's place; it tells a model why there is nothing. No stand-in."""

SAID: Final = (Origin.USER, Origin.DOCUMENT, Origin.TOOL_RESULT)
"""Whose texts are taken out. A system prompt and tools are the caller's program, and an assistant's words the model's own."""


def removals(refused: Inspected, taken: Collection[Edit] = ()) -> list[list[Edit]]:
    """What to take out of a request that is refused: by passage (what one speaker says in one turn) all of its texts, the
    likeliest cause first; nothing of what is said last. ``taken`` is taken out already.

    A user's turns are judged together, too, so that a finding may touch harmless ones beside the one that it comes from.
    Which of them are needed is seen when the rest is judged.
    """
    segments = refused.parsed.segments
    passages = _earlier(segments)
    gone = {edit.segment for edit in taken}
    causes: defaultdict[int, list[Finding]] = defaultdict(list)
    for finding, action in zip(refused.judged.verdict.findings, refused.ruling.actions, strict=True):
        if action is Action.BLOCK and finding.segment in passages and finding.segment not in gone:
            causes[passages[finding.segment][0]].append(finding)
    found = []
    for first, why in sorted(causes.items(), key=lambda cause: -len(cause[1])):
        touched = {finding.segment for finding in why}
        numbers = [number for number in passages[first] if number in touched or not segments[number].named]
        found.append([Edit(number, 0, len(segments[number].text), why[0].category) for number in numbers])
    return found


def without(body: bytes, segments: Sequence[Segment], edits: Sequence[Edit]) -> bytes:
    """The request's body without those texts."""
    return apply_edits(body, dict(_notice(segments[edit.segment], edit) for edit in edits))


def joined(refused: Inspected, rest: Inspected, edits: Sequence[Edit]) -> Inspected:
    """One inspection of two: of the request as it came, and of what is left of it. It stays refused where the rest is, or
    cannot be told text by text."""
    spent = refused.nanoseconds + rest.nanoseconds
    if rest.ruling.action is Action.BLOCK or len(rest.parsed.segments) != len(refused.parsed.segments):
        return refused._replace(nanoseconds=spent)
    removed = {edit.segment for edit in edits}
    taken = tuple(one for one in refused.judged.verdict.findings if one.segment in removed)
    pairs = zip(rest.judged.verdict.findings, rest.ruling.actions, strict=True)
    left = [pair for pair in pairs if pair[0].segment not in removed]
    verdict = refused.judged.verdict._replace(
        findings=(*taken, *(finding for finding, _ in left)), skipped=rest.judged.verdict.skipped
    )
    ruling = rest.ruling._replace(
        action=Action.REDACT, reason=refused.ruling.reason, edits=(*edits, *rest.ruling.edits),
        actions=(*(Action.REDACT for _ in taken), *(action for _, action in left)),
    )  # fmt: skip
    return refused._replace(
        judged=refused.judged._replace(verdict=verdict), ruling=ruling, body=rest.body, edits=len(edits) + rest.edits,
        nanoseconds=spent, votes=(*refused.votes, *rest.votes), asking=refused.asking + rest.asking,
    )  # fmt: skip


def _earlier(segments: Sequence[Segment]) -> Mapping[int, Sequence[int]]:
    """By each segment that may be taken out, all of its passage."""
    passages: dict[tuple[int, Origin], list[int]] = {}
    last = None
    for number, segment in enumerate(segments):
        if segment.origin in SAID and segment.turn >= 0:
            last = segment.turn, segment.origin
            passages.setdefault(last, []).append(number)
    return {number: passage for where, passage in passages.items() if where != last for number in passage}


def _notice(segment: Segment, edit: Edit) -> tuple[Path, str]:
    notice = NOTICE.format(edit.category)
    return segment.path, f"{notice} {edit.segment}" if segment.named else notice  # names of one object differ
