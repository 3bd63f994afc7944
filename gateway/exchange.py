"""One request from its arrival to its record."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from detectors.engine import Judged
from detectors.leakage import Leakage
from detectors.stages import STAGES
from detectors.streamrules import Act
from detectors.values import INNER, TOOL_CALL, Finding, Opaque, Origin, Path, Segment, Skipped
from gateway.keys import Principal
from gateway.limits.usage import FREE
from gateway.live import Bound, Live
from gateway.records.decision_records import shown
from gateway.records.decisions import Decision, KeptTexts, Screened, Shadow, Text, Upstream, new_id
from gateway.redaction.vault import Vault, redact
from gateway.screening.inspection import LINKS, Inspected, links_edits, timings, with_leaks
from gateway.screening.policy import RANK, Action, Direction, Edit, FailureMode, Policy, Ruling, decide, evaluate, joined
from gateway.streams.following import Cut
from gateway.streams.relay import Relay
from gateway.telemetry.metrics import Metrics
from gateway.wires.base import Malformed, Parsed, Target
from gateway.wires.collecting import MAX_PARTS, Collector

if TYPE_CHECKING:
    from gateway.limits.limiter import Meter
    from gateway.limits.usage import Usage
    from gateway.telemetry.traces import Trace  # OpenTelemetry is loaded only where traces are made


NO_VAULT: Final = Vault(b"")
"""What an exchange has before its caller is known; nothing is ever put into it."""


class Exchange:
    """What is known of a request so far. Everything in its record comes from here."""

    __slots__ = (
        "bound", "bytes_in", "bytes_out", "client_gone", "id", "leakage", "live", "metered", "principal", "reason", "received",
        "reply", "request", "retries", "started", "status", "target", "trace", "unanswered", "upstream",
        "upstream_began", "upstream_seconds", "upstream_status", "usage", "vault",
    )  # fmt: skip

    def __init__(self, live: Live, target: Target, principal: Principal) -> None:
        now = time.time()
        self.id = new_id(now)
        self.received = now
        self.started = time.perf_counter()
        self.live = live
        self.target = target
        self.principal = principal
        self.bound: Bound = live.bound(principal.tenant, principal.policy)
        self.vault = NO_VAULT
        self.leakage: Leakage | None = None
        self.request: Inspected | None = None
        self.reply: Inspected | None = None
        self.status = 0
        self.reason = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self.metered: Meter | None = None
        """What it is held against, where anything is limited."""
        self.usage: Usage | None = None
        """Reads what its reply says of tokens, where these are."""
        self.client_gone = False
        self.upstream = ""
        self.upstream_status = 0
        self.unanswered = False
        """Whether an upstream has the request and has answered nothing: it may work on it even where the caller has left."""
        self.upstream_began = 0.0
        self.upstream_seconds = 0.0
        self.retries = 0
        self.trace: Trace | None = None

    @property
    def action(self) -> Action:
        """The strictest of what was done with the request and with the reply."""
        first = Action.ALLOW if self.request is None else self.request.ruling.action
        second = Action.ALLOW if self.reply is None else self.reply.ruling.action
        return second if RANK[second] > RANK[first] else first

    @property
    def tokens(self) -> int:
        """What was spent at the provider's, in tokens, where these are counted."""
        if self.usage is None or not (self.upstream_status or self.unanswered) or self.target.operation in FREE:
            return 0
        if self.upstream_status >= 400:
            return self.usage.tokens((), ())
        request, reply = self.request, self.reply
        return self.usage.tokens(request.parsed.segments if request else (), reply.parsed.segments if reply else ())

    @property
    def screening_us(self) -> int:
        first = 0 if self.request is None else self.request.nanoseconds
        second = 0 if self.reply is None else self.reply.nanoseconds
        return (first + second) // 1000

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that every reply carries."""
        return [
            (b"x-portcullis-id", self.id.encode()),
            _ACTION_HEADERS[self.action],
            (b"x-portcullis-generation", b"%d" % self.live.engine.generation.number),
            (b"x-portcullis-us", b"%d" % self.screening_us),
        ]

    def record(self) -> Decision[Screened]:
        """The decision record, once all is over."""
        request, reply = self.request, self.reply
        action = self.action
        parsed = request.parsed if request else None
        shadow = request.shadow if request else None
        decisive = reply if reply and reply.ruling.action is action and action is not Action.ALLOW else request
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
            reason=self.reason or (decisive.ruling.reason if decisive else ""),
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
                shown_texts = self._texts(side, Direction(direction), retention.text == "redacted")
                texts += [Text(direction, path, text) for path, text in shown_texts]
        return KeptTexts(self.id, now + retention.text_seconds, retention.text == "redacted", tuple(texts))

    def _texts(self, side: Inspected, direction: Direction, redacted: bool) -> list[tuple[str, str]]:
        segments = side.parsed.segments
        new: dict[Path, str] = {}
        if redacted:
            # All that the policy asks for, which of a stream may be more than what was taken out in time.
            asked = evaluate(self.bound.policy, side.judged.verdict, segments, direction)
            new = redact(segments, asked.edits, self.vault.sealed())
        return [(shown(segment.path), new.get(segment.path, segment.text)) for segment in segments]

    def count(self, metrics: Metrics) -> None:
        """Add this request to the metrics."""
        target, tenant = self.target.wire.name, self.principal.tenant
        metrics.requests.add((target, tenant, self.action.value, str(self.status)))
        metrics.request_seconds.observe((target,), time.perf_counter() - self.started)
        if self.upstream_seconds:
            metrics.upstream_seconds.observe((self.upstream,), self.upstream_seconds)
        if self.client_gone:
            metrics.clients_gone.add((target,))
        for direction, side in ((Direction.REQUEST, self.request), (Direction.REPLY, self.reply)):
            if side is not None:
                _count_side(metrics, side, direction, self.bound.policy)


def said_segments(relay: Relay) -> list[Segment]:
    """What a streamed reply said, one segment a channel, with a tool call's arguments taken apart, where they are of no more
    parts and no deeper than a body may be: others have gone out all the same, and are looked at as they stand."""
    segments: list[Segment] = []
    for index, (channel, pieces) in enumerate(relay.said.texts.items()):
        role = TOOL_CALL if channel in relay.said.calls else "assistant"
        text, out = "".join(pieces), Collector(strict=False)
        try:
            out.json_text(text, role, Origin.ASSISTANT, index, channel)
            taken = out.segments if len(segments) + len(out.segments) <= MAX_PARTS else None
        except Malformed:
            taken = None
        segments += [Segment(text, role, Origin.ASSISTANT, index, channel)] if taken is None else taken
    return segments


def relay_summary(
    relay: Relay, judged: Judged, segments: list[Segment], policy: Policy, beside_ns: Sequence[int] = ()
) -> Inspected:
    """What became of a streamed reply, in the terms of a whole one.

    ``judged`` is said of the whole of it, when it had gone out. What was acted on in time is told from what was not.
    ``beside_ns`` is what judging beside the stream cost, by stage.
    """
    if beside_ns:
        judged = judged._replace(stage_ns=tuple(map(sum, zip(judged.stage_ns, beside_ns, strict=True))))
    if relay.leakage is not None:
        judged = with_leaks(judged, relay.leakage, segments)
    verdict = judged.verdict
    late = [Skipped("stream", "late")] if relay.overdue else []
    late += [Skipped("stream", "budget")] if relay.said.unread else []
    late += relay.skipped
    verdict = verdict._replace(skipped=tuple(dict.fromkeys((*verdict.skipped, *late))))
    ruling = decide(policy, verdict, segments, Direction.REPLY)
    in_time = {(_channel(seen.channel), seen.match.pattern.id): Action.REDACT for seen in relay.seen if seen.act is Act.REPLACE}
    if relay.cut is not None:
        in_time[_channel(relay.cut.channel), relay.cut.cause] = Action.BLOCK
    actions = []
    edits = []
    for finding, asked in zip(verdict.findings, ruling.actions, strict=True):
        done = in_time.get((_channel(segments[finding.segment].path), finding.pattern), Action.FLAG)
        actions.append(done if RANK[asked] > RANK[Action.FLAG] or done is Action.BLOCK else asked)
        if actions[-1] is Action.REDACT:
            edits.append(Edit(finding.segment, finding.start, finding.end, finding.category))
    if relay.cut is not None and Action.BLOCK not in actions and (found := _found(relay.cut, segments)) is not None:
        # It was seen in a window of the stream, or in its last piece, and not in the whole.
        verdict = verdict._replace(findings=(*verdict.findings, found), score=max(verdict.score, found.score))
        actions.append(Action.BLOCK)
    worst = max((*actions, Action.FLAG if late else Action.ALLOW), key=RANK.__getitem__)
    if relay.cut is not None:
        worst = Action.BLOCK
        cut = relay.cut
        told = f"the alarm at {cut.score:.2f}, {cut.threat}" if cut.alarm else cut.threat
        reason = f"cut at {told} ({cut.cause}) after {relay.released} characters"
    elif relay.seen:
        worst = max(worst, Action.REDACT, key=RANK.__getitem__)
        reason = f"{relay.seen[0].match.pattern.category} in the stream ({relay.seen[0].match.pattern.id})"
    elif relay.links_removed:
        worst, reason = max(worst, Action.REDACT, key=RANK.__getitem__), LINKS
    else:
        reason = ruling.reason
    made = (*joined(edits), *links_edits(relay.links_removed))
    heard = [Opaque(Origin.ASSISTANT, turn, path, why) for turn, (path, why) in enumerate(relay.unheard.items())]
    parsed = Parsed(None, True, segments, heard)
    summary = Ruling(worst, reason, tuple(actions), made, policy.name)
    return Inspected(parsed, judged._replace(verdict=verdict), summary, None, b"", len(made), relay.nanoseconds, relay.rises)


def _found(cut: Cut, segments: Sequence[Segment]) -> Finding | None:
    """What a stream was cut for as a finding; None where it was no finding (a judgement that did not come)."""
    number = next((n for n, one in enumerate(segments) if _channel(one.path) == cut.channel), None)
    if number is None or cut.stage == "stream":
        return None
    length = len(segments[number].text)
    start = min(cut.start, length) if segments[number].path == cut.channel else 0
    end = min(cut.end, length) if start else length
    return Finding(cut.stage, cut.cause, cut.threat, cut.score, number, start, end)


def _channel(path: Path) -> Path:
    """The channel that a path lies in: what stands before the JSON that it enters."""
    return path[: path.index(INNER)] if INNER in path else path


_STAGE_LABELS: Final = tuple((stage,) for stage in STAGES)
_TOTAL: Final = ("total",)


def _count_side(metrics: Metrics, side: Inspected, direction: Direction, policy: Policy) -> None:
    observe = metrics.screening.observe
    for labels, nanoseconds in zip(_STAGE_LABELS, side.judged.stage_ns):  # noqa: B905 - hot
        if nanoseconds:
            observe(labels, nanoseconds / 1e9)
    observe(_TOTAL, side.nanoseconds / 1e9)
    verdict = side.judged.verdict
    if side.shadow is not None:
        metrics.shadow.add((side.ruling.action.value, side.shadow.action.value))
    if not verdict.findings and not verdict.skipped:
        return
    for finding, action in zip(verdict.findings, side.ruling.actions, strict=False):
        metrics.findings.add(_finding_labels(finding, side.parsed, direction, action))
        metrics.pattern_findings.add((finding.pattern, action.value))
    for skipped in verdict.skipped:
        metrics.incomplete.add((skipped.stage, skipped.reason))
        if policy.failure_mode(skipped.stage) is FailureMode.OPEN:
            metrics.fail_open.add((skipped.stage,))


def _finding_labels(finding: Finding, parsed: Parsed, direction: Direction, action: Action) -> tuple[str, ...]:
    origin = parsed.segments[finding.segment].origin.value
    return (finding.category, finding.detector, origin, direction.value, action.value)


_ACTION_HEADERS: Final = {action: (b"x-portcullis-action", action.value.encode()) for action in Action}
_UNREAD: Final = Screened("none", "it was refused before it was screened", 0.0, (), ())


def _screened(side: Inspected) -> Screened:
    parsed, verdict = side.parsed, side.judged.verdict
    return Screened(
        side.ruling.action,
        side.ruling.reason,
        verdict.score,
        parsed.segments,
        side.judged.stages,
        parsed.opaque,
        verdict.findings,
        side.ruling.actions,
        verdict.skipped,
        timings(side),
        side.rises,
        side.votes,
    )


def _edits(request: Inspected | None, reply: Inspected | None) -> tuple[tuple[str, int], ...]:
    rulings = [side.ruling for side in (request, reply) if side is not None and side.ruling.edits]
    return tuple(Tally(edit.category for ruling in rulings for edit in ruling.edits).items()) if rulings else ()


