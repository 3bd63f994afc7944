"""A decision as it is stored and shown: as a row of JSON, and with names for people.

A row holds no text: findings are offsets, and paths are shown without the caller's own key names. Most are encoded as they come
from the hot path and never become values in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from detectors.values import TOOL_CALL, Path, show_path
from gateway.records.decisions import (
    MAX_NAME,
    AnyDecision,
    Decision,
    Found,
    Gap,
    KeptTexts,
    Part,
    Record,
    Screened,
    Screening,
    Shadow,
    Text,
    Upstream,
    Vote,
)

FORMAT: Final = 1
"""The first element of an encoded record. Fields are only ever added, at the end and with a default, under
one format."""

MAX_LISTED: Final = 1_000
"""Parts, gaps and findings of each direction that a record lists. A long agent run has some hundred; a body
made of 50,000 one-word parts must not make a record larger than itself. What is left out is counted in
``unlisted``."""

_MAX_SHOWN: Final = 4_096  # paths remembered as shown: a few hundred shapes make up nearly all traffic

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


_shown: dict[Path, str] = {}


def shown(path: Path) -> str:
    """`show_path`, remembered for the shapes that recur."""
    try:
        return _shown[path]
    except KeyError:
        text = show_path(path)
    # A path with a hidden step holds the caller's own text, of any length: it is not kept.
    if "*" not in text:
        if len(_shown) >= _MAX_SHOWN:
            _shown.clear()
        _shown[path] = text
    return text


def settle(decision: AnyDecision) -> Record:
    """The record of a decision, which holds no text any more."""
    return _record(_row(decision))


def _row(decision: AnyDecision) -> list[Any]:
    row: list[Any] = [FORMAT, *decision]
    row[_MODEL] = decision.model[:MAX_NAME]
    row[_REQUEST] = _listed(decision.request)
    row[_REPLY] = decision.reply and _listed(decision.reply)
    return row


def _listed(side: Screened | Screening) -> Sequence[Any]:
    """The fields of `Screening`, as plain tuples: most are encoded at once and never become more."""
    if isinstance(side, Screening):
        return side
    action, reason, score, segments, stages, opaque, findings, actions, skipped, timings, rises, votes = side
    if len(segments) != len(stages):
        raise ValueError(f"{len(segments)} segments with stages for {len(stages)}")
    listed = segments if len(segments) <= MAX_LISTED else segments[:MAX_LISTED]
    parts = [
        (shown(path), origin, turn, len(text), seen)
        if role != TOOL_CALL
        else (shown(path), origin, turn, len(text), seen, role)
        for (text, role, origin, turn, path, _), seen in zip(listed, stages)  # noqa: B905 - the argument costs 0.1 µs
    ]
    if listed is segments and not (opaque or findings or skipped):
        return action, reason, score, parts, (), (), (), timings, 0, rises, votes
    gaps = [(shown(path), origin, turn, why) for origin, turn, path, why in opaque[:MAX_LISTED]]
    found = [
        Found(finding.detector, finding.pattern, finding.category, finding.score,
              shown(segments[finding.segment].path), finding.start, finding.end, asked)
        for finding, asked in zip(findings, actions or [""] * len(findings), strict=True)
    ]  # fmt: skip
    unlisted = sum([max(0, len(every) - MAX_LISTED) for every in (segments, opaque, findings)])
    return action, reason, score, parts, gaps, _foremost(found), skipped, timings, unlisted, rises, votes


def _foremost(findings: list[Found]) -> list[Found]:
    """The findings that a record lists: all, or the strongest of each category and then the strongest of the
    rest."""
    if len(findings) <= MAX_LISTED:
        return findings
    first: list[Found] = []
    rest: list[Found] = []
    categories: set[str] = set()
    for finding in sorted(findings, key=lambda each: -each.score):
        (rest if finding.category in categories else first).append(finding)
        categories.add(finding.category)
    return (first + rest)[:MAX_LISTED]


def labels(decision: AnyDecision) -> frozenset[str]:
    """The categories a decision is found under: of each finding ``category.subcategory`` and ``category``."""
    request, reply = decision.request, decision.reply
    if not request.findings and (reply is None or not reply.findings):
        return frozenset()
    found = {finding.category for side in (request, reply) if side for finding in side.findings}
    return frozenset(found | {category.partition(".")[0] for category in found})


def encode(decision: AnyDecision) -> bytes:
    """The record of a decision as a JSON array, fields by position."""
    return _dumps(_row(decision))


_MODEL, _REQUEST, _REPLY, _EDITS, _SHADOW, _UPSTREAM = (
    1 + Decision._fields.index(name) for name in ("model", "request", "reply", "edits", "shadow", "upstream")
)


def decode(body: bytes) -> Record:
    """Read what `encode` wrote, by this version or an earlier one; a later one's further fields are left out.

    Raises:
        ValueError: it is something else, or of a later format.
    """
    row: list[Any] = orjson.loads(body)
    if row[0] != FORMAT:
        raise ValueError(f"a decision record of format {row[0]}; this version reads {FORMAT}")
    return _record(row)


def _record(row: list[Any]) -> Record:
    row[_REQUEST] = _screening(row[_REQUEST])
    row[_REPLY] = row[_REPLY] and _screening(row[_REPLY])
    row[_EDITS] = tuple(map(tuple, row[_EDITS]))
    row[_SHADOW] = row[_SHADOW] and Shadow(*row[_SHADOW])
    row[_UPSTREAM] = row[_UPSTREAM] and Upstream(*row[_UPSTREAM])
    return Decision(*row[1 : 1 + len(Decision._fields)])


def _screening(row: Sequence[Any]) -> Screening:
    whole = [*row, (), ()]  # an earlier version wrote less
    action, reason, score, parts, gaps, findings, skipped, timings, unlisted, rises, votes, *_ = whole
    return Screening(
        action,
        reason,
        score,
        tuple([Part(path, origin, turn, length, tuple(seen), *rest) for path, origin, turn, length, seen, *rest in parts]),
        tuple([Gap(*each) for each in gaps]),
        tuple([Found(*each) for each in findings]),
        tuple(map(tuple, skipped)),
        tuple(map(tuple, timings)),
        unlisted,
        tuple(map(tuple, rises)),
        tuple([Vote(node, *rest) for node, *rest in votes]),
    )


def encode_texts(kept: KeptTexts) -> bytes:
    """Kept texts as a JSON array."""
    return _dumps(list(kept))


def decode_texts(body: bytes) -> KeptTexts:
    """Read what `encode_texts` wrote."""
    identity, expires_at, redacted, texts = orjson.loads(body)
    return KeptTexts(identity, expires_at, redacted, tuple([Text(*each) for each in texts]))


def _dumps(value: list[Any]) -> bytes:
    try:
        return orjson.dumps(value, default=tuple)
    except orjson.JSONEncodeError:
        # A lone surrogate, which is no text: each becomes one U+FFFD, so that offsets stay what they are.
        return orjson.dumps(_scrubbed(value), default=tuple)


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    return [_scrubbed(each) for each in value] if isinstance(value, list | tuple) else value


def explain(decision: Record) -> dict[str, Any]:
    """A record for people and programs: names for all fields, as ``/admin/v1/decisions/{id}`` shows it."""
    doc = {**_named(decision), "request": _explained(decision.request)}
    doc["reply"] = None if decision.reply is None else _explained(decision.reply)
    doc["edits"] = dict(decision.edits)
    doc["categories"] = sorted(labels(decision))
    for name in ("shadow", "upstream"):
        if doc[name] is not None:
            doc[name] = _named(doc[name])
    return doc


def summarise(decision: Record) -> dict[str, Any]:
    """A record as a line of a list."""
    named = _named(decision)
    doc = {name: named[name] for name in _SUMMARY}
    doc["categories"] = sorted(labels(decision))
    replied = decision.reply.score if decision.reply else 0.0
    doc["score"] = max(decision.request.score, replied)
    doc["complete"] = not decision.request.skipped and not (decision.reply and decision.reply.skipped)
    return doc


_SUMMARY: Final = (
    "id", "time", "tenant", "key", "wire", "operation", "model", "streaming", "action", "reason", "status",
    "policy", "version", "generation", "seconds",
)


def _explained(side: Screening) -> dict[str, Any]:
    doc = _named(side)
    for name in ("parts", "gaps", "findings", "votes"):
        doc[name] = [_named(each) for each in doc[name]]
    doc["skipped"] = [{"stage": stage, "reason": reason} for stage, reason in side.skipped]
    doc["timings"] = dict(side.timings)
    doc["rises"] = [{"at": at, "score": round(score, 6)} for at, score in side.rises]
    return doc


def _named(value: Any) -> dict[str, Any]:
    named: Callable[[], dict[str, Any]] = value._asdict
    return named()
