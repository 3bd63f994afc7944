"""One request from its arrival to its record."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Sequence
from typing import Final

from detectors.engine import STAGES, Judged
from detectors.lanes import Act
from detectors.lexical import SCORES
from detectors.values import Finding, Origin, Segment, Skipped, Verdict
from gateway.decisions import Decision, KeptTexts, Screened, Shadow, Text, Upstream, new_id, shown
from gateway.inspection import Inspected, timings
from gateway.keys import Principal
from gateway.live import Bound, Live
from gateway.metrics import Metrics
from gateway.policy import RANK, Action, Direction, Edit, Ruling
from gateway.redaction import Vault, redact
from gateway.relay import Relay
from gateway.wires.base import Parsed, Target
from patterns.taxonomy import is_attack


class Exchange:
    """What is known of a request so far. Everything in its record comes from here."""

    __slots__ = (
        "bound", "bytes_in", "bytes_out", "client_gone", "id", "live", "principal", "reason", "received", "reply",
        "request", "retries", "started", "status", "target", "upstream", "upstream_began",
        "upstream_seconds", "upstream_status", "vault",
    )  # fmt: skip

    def __init__(self, live: Live, target: Target, principal: Principal, vault: Vault) -> None:
        now = time.time()
        self.id = new_id(now)
        self.received = now
        self.started = time.perf_counter()
        self.live = live
        self.target = target
        self.principal = principal
        self.bound: Bound = live.bound(principal.tenant, principal.policy)
        self.vault = vault
        self.request: Inspected | None = None
        self.reply: Inspected | None = None
        self.status = 0
        self.reason = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self.client_gone = False
        self.upstream = ""
        self.upstream_status = 0
        self.upstream_began = 0.0
        self.upstream_seconds = 0.0
        self.retries = 0

    @property
    def action(self) -> Action:
        """The strictest of what was done with the request and with the reply."""
        done = [side.ruling.action for side in (self.request, self.reply) if side is not None]
        return max(done, key=RANK.__getitem__, default=Action.ALLOW)

    @property
    def screening_us(self) -> int:
        return sum(side.nanoseconds for side in (self.request, self.reply) if side is not None) // 1000

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that every reply carries."""
        return [
            (b"x-portcullis-id", self.id.encode()),
            (b"x-portcullis-action", self.action.value.encode()),
            (b"x-portcullis-generation", b"%d" % self.live.engine.generation.number),
            (b"x-portcullis-us", b"%d" % self.screening_us),
        ]

    def record(self) -> Decision[Screened]:
        """The decision record, once all is over."""
        request, reply = self.request, self.reply
        action = self.action
        parsed = request.parsed if request else None
        shadow = request.shadow if request else None
        reasons = (side.ruling.reason for side in (request, reply) if side and side.ruling.action is action)
        policy = self.bound.policy
        return Decision(
            id=self.id,
            time=self.received,
            tenant=self.principal.tenant,
            key=self.principal.key,
            wire=self.target.wire.name,
            operation=self.target.operation,
            model=(parsed.model if parsed else None) or self.target.model or "",
            streaming=bool(parsed and parsed.streaming),
            action=action.value,
            reason=self.reason or next(reasons, ""),
            status=self.status,
            policy=policy.name,
            version=policy.version,
            generation=self.live.engine.generation.number,
            request=_screened(request) if request else _UNREAD,
            reply=_screened(reply) if reply else None,
            edits=_edits(request, reply),
            shadow=Shadow(self.bound.shadow.name, self.bound.shadow.version, shadow.action.value, shadow.reason)
            if shadow and self.bound.shadow
            else None,
            upstream=Upstream(self.upstream, self.upstream_status, round(self.upstream_seconds, 6), self.retries)
            if self.upstream
            else None,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            seconds=round(time.perf_counter() - self.started, 6),
            client_gone=self.client_gone,
        )

    def kept(self, now: float) -> KeptTexts | None:
        """The texts that retention keeps of this request: of decisions that were more than an allow."""
        retention = self.live.settings.retention
        if retention.text == "off" or self.action is Action.ALLOW:
            return None
        texts = []
        for direction, side in (("request", self.request), ("reply", self.reply)):
            if side is not None:
                shown_texts = _texts(side.parsed.segments, side.ruling, retention.text == "redacted", self.vault)
                texts += [Text(direction, path, text) for path, text in shown_texts]
        return KeptTexts(self.id, now + retention.text_seconds, retention.text == "redacted", tuple(texts))

    def count(self, metrics: Metrics) -> None:
        """Add this request to the metrics."""
        target, tenant = self.target.wire.name, self.principal.tenant
        metrics.requests.add((target, tenant, self.action.value, str(self.status)))
        metrics.request_seconds.observe((target,), time.perf_counter() - self.started)
        if self.upstream_seconds:
            metrics.upstream_seconds.observe((self.upstream,), self.upstream_seconds)
        if self.retries:
            metrics.upstream_retries.add((self.upstream,), self.retries)
        if self.client_gone:
            metrics.clients_gone.add((target,))
        for direction, side in ((Direction.REQUEST, self.request), (Direction.REPLY, self.reply)):
            if side is not None:
                _count_side(metrics, side, direction)


def relay_summary(relay: Relay, exchange: Exchange) -> Inspected:
    """What became of a streamed reply, in the terms of a whole one."""
    channels = list(relay.lengths)
    # Only the length of a text is recorded, and the texts themselves are gone.
    segments = [
        Segment(" " * length, "assistant", Origin.ASSISTANT, index, channel)
        for index, (channel, length) in enumerate(relay.lengths.items())
    ]
    policy = exchange.bound.policy
    findings, actions, edits = [], [], []
    for channel, match, act in relay.seen:
        pattern = match.pattern
        score = SCORES[pattern.severity]
        at = channels.index(channel)
        findings.append(Finding("stream", pattern.id, pattern.category, score, at, match.start, match.end))
        action = {Act.CUT: Action.BLOCK, Act.REPLACE: Action.REDACT}.get(act)
        if action is None:
            flags = policy.action(pattern.category, score, Origin.ASSISTANT, Direction.REPLY) is not Action.ALLOW
            action = Action.FLAG if flags else Action.ALLOW
        actions.append(action)
        if act is Act.REPLACE:
            edits.append(Edit(at, match.start, match.end, pattern.category))
    skipped = (Skipped("stream", "late"),) if relay.overdue else ()
    worst = max(actions, key=RANK.__getitem__, default=Action.FLAG if skipped else Action.ALLOW)
    reason = f"cut at {relay.cut.pattern.category} ({relay.cut.pattern.id})" if relay.cut else "see findings" if actions else ""
    scores = [one.score for one in findings if is_attack(one.category)]
    generation = exchange.live.engine.generation.number
    judged = Judged(Verdict(tuple(findings), max(scores, default=0.0), skipped, generation), (0,) * len(STAGES), 0)
    ruling = Ruling(worst, reason, tuple(actions), tuple(edits), policy.name)
    parsed = Parsed(None, True, segments, [])
    return Inspected(parsed, judged, ruling, None, b"", len(edits), relay.nanoseconds)


def _count_side(metrics: Metrics, side: Inspected, direction: Direction) -> None:
    observe = metrics.screening.observe
    for stage, nanoseconds in zip(STAGES, side.judged.stage_ns, strict=True):
        if nanoseconds:
            observe((stage,), nanoseconds / 1e9)
    observe(("total",), side.nanoseconds / 1e9)
    verdict = side.judged.verdict
    for finding, action in zip(verdict.findings, side.ruling.actions, strict=False):
        metrics.findings.add(_finding_labels(finding, side.parsed, direction, action))
    for skipped in verdict.skipped:
        metrics.incomplete.add(skipped)
    if side.shadow is not None:
        metrics.shadow.add((side.ruling.action.value, side.shadow.action.value))


def _finding_labels(finding: Finding, parsed: Parsed, direction: Direction, action: Action) -> tuple[str, ...]:
    # A decoded layer names its whole chain of schemes, which the caller chooses: the label says only that there was one.
    stage = finding.detector.partition(":")[0]
    origin = parsed.segments[finding.segment].origin.value
    return (finding.category, stage, origin, direction.value, action.value)


_UNREAD: Final = Screened("none", "it was refused before it was screened", 0.0, (), ())


def _screened(side: Inspected) -> Screened:
    parsed, verdict = side.parsed, side.judged.verdict
    return Screened(
        side.ruling.action,
        side.ruling.reason,
        verdict.score,
        parsed.segments,
        (STAGES,) * len(parsed.segments),
        parsed.opaque,
        verdict.findings,
        side.ruling.actions,
        verdict.skipped,
        timings(side),
    )


def _edits(request: Inspected | None, reply: Inspected | None) -> tuple[tuple[str, int], ...]:
    rulings = [side.ruling for side in (request, reply) if side is not None and side.ruling.edits]
    return tuple(Tally(edit.category for ruling in rulings for edit in ruling.edits).items()) if rulings else ()


def _texts(
    segments: Sequence[Segment], ruling: Ruling, redacted: bool, vault: Vault
) -> list[tuple[str, str]]:
    new = redact(segments, ruling.edits, vault.sealed()) if redacted else {}
    return [(shown(segment.path), new.get(segment.path, segment.text)) for segment in segments]
