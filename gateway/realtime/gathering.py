"""The events of a client that led to one turn, as the one request that its record shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from detectors.engine import Judged
from detectors.values import Finding, Opaque, Segment, Skipped, Verdict
from gateway.records.decisions import Vote
from gateway.screening.inspection import Inspected
from gateway.screening.policy import RANK, Action, Edit, Ruling
from gateway.wires.base import Parsed


def gathered(nothing: Inspected, events: Sequence[Inspected], unread: Iterable[Opaque]) -> Inspected:
    """One inspection of all: event ``n``'s paths begin with ``events[n]``.

    Args:
        nothing: what is said where no event had a text. unread: parts of events that nobody read, besides those in ``events``.
    """
    segments: list[Segment] = []
    opaque = list(unread)
    findings: list[Finding] = []
    actions: list[Action] = []
    edits: list[Edit] = []
    skipped: list[Skipped] = []
    votes: list[Vote] = []
    for number, one in enumerate(events):
        first = len(segments)
        here = ("events", number)
        segments += [part._replace(path=(*here, *part.path), turn=number) for part in one.parsed.segments]
        opaque += [part._replace(path=(*here, *part.path), turn=number) for part in one.parsed.opaque]
        findings += [found._replace(segment=found.segment + first) for found in one.judged.verdict.findings]
        actions += one.ruling.actions
        edits += [edit._replace(segment=edit.segment + first) for edit in one.ruling.edits]
        skipped += one.judged.verdict.skipped
        votes += one.votes
    rulings = [one.ruling for one in events]
    worst = max(rulings, key=lambda ruling: RANK[ruling.action], default=nothing.ruling)
    shadows = [one.shadow for one in events if one.shadow is not None]
    every = [one.judged for one in events]
    judged = Judged(
        Verdict(
            tuple(findings), max((one.verdict.score for one in every), default=0.0), tuple(dict.fromkeys(skipped)),
            nothing.judged.verdict.generation,
        ),
        tuple(map(sum, zip(nothing.judged.stage_ns, *(one.stage_ns for one in every), strict=True))),
        sum(one.cached for one in every),
        tuple(stages for one in every for stages in one.stages),
        tuple(score for one in every for score in one.scores),
    )  # fmt: skip
    return Inspected(
        Parsed(None, True, segments, opaque),
        judged,
        Ruling(worst.action, worst.reason, tuple(actions), tuple(edits), worst.policy),
        max(shadows, key=lambda ruling: RANK[ruling.action], default=None),
        b"",
        sum(one.edits for one in events),
        sum(one.nanoseconds for one in events),
        votes=tuple(votes),
        asking=sum(one.asking for one in events),
    )
