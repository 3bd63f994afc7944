"""What is said of one message, request or reply: read, judge, decide, edit. Synchronous and without a socket."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from detectors.engine import Engine, Judged, Screening
from detectors.leakage import Leakage
from detectors.stages import STAGES
from detectors.values import Opaque, Origin, Path, Segment
from gateway.faults import CallerFault, UpstreamFault
from gateway.live import Bound
from gateway.records.decisions import Vote
from gateway.redaction.links import Hosts, Links
from gateway.redaction.vault import Vault, marked, redact, restorations
from gateway.screening import consensus
from gateway.screening.consensus import Outcome
from gateway.screening.policy import Action, Direction, Edit, Policy, Ruling, decide, evaluate
from gateway.streams.following import Cut, Rise
from gateway.wires import strict
from gateway.wires.base import Malformed, Parsed, Target
from gateway.wires.collecting import UNKNOWN, is_word
from gateway.wires.halves import may_have_halves, without_halves
from gateway.wires.jsonedit import apply_edits
from gateway.wires.names import names
from gateway.wires.probabilities import is_probability, without_probabilities
from gateway.wires.shown import shown_together

OFFLOAD_BYTES: Final = 8 * 1024
"""Bodies and replies larger than this are inspected in a thread: matching takes milliseconds, and others should not wait for
them."""

AT_ONCE: Final = 16_384
"""Bytes of a stream, or of an upload under an alarm, that are screened in one turn of the event loop: some milliseconds' worth
of a sender that is faster than any model writes."""

_NOTHING: Final = Parsed(None, False, [], [])


class Waiting(NamedTuple):
    """A message whose segments are screened, and wait for the encoder: close it with the verdict (`Semantics.close`)."""

    screening: Screening
    parsed: Parsed
    bound: Bound
    body: bytes
    vault: Vault
    direction: Direction
    leakage: Leakage | None
    began: int
    before: int = 0
    """Segments that were judged with the message's own and do not belong to it: the first ones."""
    together: Sequence[Sequence[int]] = ()
    """Numbers of segments that clients show as one, a list for each such text."""

    def close(self, judged: Judged) -> Inspected:
        """Decide and edit."""
        judged = _own(judged, self.before, len(self.parsed.segments))
        return _decide(
            judged, self.parsed, self.bound, self.body, self.vault, self.direction, self.leakage, self.began, self.together
        )


class Inspected(NamedTuple):
    """A message that was inspected. ``body`` is what goes on: the very bytes received unless something was edited.

    ``rises`` is how a streamed reply's score rose while it was written; ``votes`` what other replicas say of a request, where
    they were asked, and ``asking`` the nanoseconds that this took.
    """

    parsed: Parsed
    judged: Judged
    ruling: Ruling
    shadow: Ruling | None
    body: bytes
    edits: int
    nanoseconds: int
    rises: tuple[Rise, ...] = ()
    votes: tuple[Vote, ...] = ()
    asking: int = 0


def inspect_request(
    engine: Engine, bound: Bound, target: Target, body: bytes, tenant: str, vault: Vault
) -> Inspected | Waiting:
    """Read a request's body, judge it and decide; values to redact go into ``vault``.

    What the cheap stages cannot settle comes back as `Waiting`.

    Raises:
        CallerFault: the body is not what the wire takes.
    """
    began = time.perf_counter_ns()
    try:
        doc = strict.loads(body)
    except strict.BadJson as error:
        raise CallerFault(400, error.code, str(error)) from None
    if not isinstance(doc, dict):
        raise CallerFault(400, "invalid_body", "the body: wanted a JSON object")
    try:
        parsed = target.wire.read_request(doc, target)
    except Malformed as error:
        raise CallerFault(400, "invalid_field", str(error)) from None
    return _inspect(engine, bound, parsed, body, tenant, vault, Direction.REQUEST, None, began)


def inspect_event(
    engine: Engine, bound: Bound, parsed: Parsed, before: Sequence[Segment], body: bytes, tenant: str, vault: Vault,
    after: Sequence[Segment] = (),
) -> Inspected | Waiting:  # fmt: skip
    """As `inspect_request`, of one event of a session that was read already. ``before`` and ``after`` are what the model reads
    around it: they went on earlier, are judged with the event's texts, and what is found in them alone is not told again."""
    began = time.perf_counter_ns()
    screening = engine.screen([*before, *parsed.segments, *after], tenant)
    waiting = Waiting(screening, parsed, bound, body, vault, Direction.REQUEST, None, began, len(before))
    return waiting if screening.asked else waiting.close(screening.close())


def _own(judged: Judged, first: int, count: int) -> Judged:
    """What is said of ``count`` segments from ``first`` on."""
    until = first + count
    if len(judged.scores) == count:
        return judged
    scores = judged.scores[first:until]
    verdict = consensus.within(judged.verdict, first, count)._replace(score=max(scores, default=0.0))
    return judged._replace(verdict=verdict, stages=judged.stages[first:until], scores=scores)


def inspect_reply(
    engine: Engine, bound: Bound, target: Target, body: bytes, tenant: str, vault: Vault, leakage: Leakage | None
) -> Inspected | Waiting:
    """Read a whole reply, judge it, decide, and put back what the request's redaction took out.

    ``leakage`` knows the request's system prompt, where it had one that is a secret.

    Raises:
        UpstreamFault: the body is not JSON, or says two things at once, so it cannot be screened and must not pass.
    """
    began = time.perf_counter_ns()
    body = without_halves(body) if may_have_halves(body) else body
    try:
        doc: Any = strict.loads(body)
        parsed = target.wire.read_reply(doc, target)
        parsed.segments.extend(_named(engine, doc, parsed.segments, bound.policy.links if bound.policy.acts else None))
    except (strict.BadJson, Malformed) as error:
        fault = "not valid JSON" if isinstance(error, strict.BadJson) and error.code == "invalid_json" else str(error)
        raise UpstreamFault(502, "upstream_bad_reply", f"the upstream's reply cannot be screened: {fault}") from None
    together: list[list[int]] = []
    if shown := shown_together(doc):  # most replies have one text
        numbers = {segment.path: number for number, segment in enumerate(parsed.segments)}
        together = [[numbers[path] for path in paths if path in numbers] for paths in shown]
    return _inspect(engine, bound, parsed, body, tenant, vault, Direction.REPLY, leakage, began, together)


def _named(engine: Engine, doc: Any, segments: Sequence[Segment], hosts: Hosts | None) -> list[Segment]:
    """What a reply says beside its texts, where that is more than a name or a token, or something is found in it: an address of
    another host than ``hosts``, too.

    Raises:
        Malformed: it is nested too deeply, or holds too many.
    """
    lexical = engine.cascade.lexical
    return [
        Segment(text, UNKNOWN, Origin.ASSISTANT, -1, path)
        for text, path in names(doc, [segment.path for segment in segments])
        if not (is_word(text) or is_probability(path))
        or lexical.scan(text, Origin.ASSISTANT).matches
        or (hosts is not None and _leads_away(text, hosts))
    ]


def _leads_away(text: str, hosts: Hosts) -> bool:
    links = Links(hosts)
    links.whole(text)
    return links.removed > 0


def _inspect(
    engine: Engine,
    bound: Bound,
    parsed: Parsed,
    body: bytes,
    tenant: str,
    vault: Vault,
    direction: Direction,
    leakage: Leakage | None,
    began: int,
    together: Sequence[Sequence[int]] = (),
) -> Inspected | Waiting:
    screening = engine.screen(parsed.segments, tenant, together)
    if screening.asked:
        return Waiting(screening, parsed, bound, body, vault, direction, leakage, began, together=together)
    return _decide(screening.close(), parsed, bound, body, vault, direction, leakage, began, together)


def _decide(
    judged: Judged,
    parsed: Parsed,
    bound: Bound,
    body: bytes,
    vault: Vault,
    direction: Direction,
    leakage: Leakage | None,
    began: int,
    together: Sequence[Sequence[int]] = (),
) -> Inspected:
    if leakage is not None:
        for segment in parsed.segments:
            leakage.feed(segment.path, segment.text)
        leakage.finish_all()
        judged = with_leaks(judged, leakage, parsed.segments)
    ruling = decide(bound.policy, judged.verdict, parsed.segments, direction)
    shadow = evaluate(bound.shadow, judged.verdict, parsed.segments, direction) if bound.shadow else None
    edits = _edits(parsed.segments, ruling, vault, direction, together)
    if bound.policy.canary and direction is Direction.REQUEST:
        edits = marked(parsed.segments, edits, vault)
    if bound.policy.acts and bound.policy.links is not None and direction is Direction.REPLY:
        removed = without_links(parsed.segments, edits, bound.policy.links, together)
        if removed and ruling.action is not Action.BLOCK:
            ruling = ruling._replace(action=Action.REDACT, edits=ruling.edits + links_edits(removed))
            ruling = ruling if ruling.edits[:-removed] else ruling._replace(reason=LINKS)
    if edits and ruling.action is not Action.BLOCK:
        body = apply_edits(body, edits)
        if direction is Direction.REPLY:
            body = without_probabilities(body)
    return Inspected(parsed, judged, ruling, shadow, body, len(ruling.edits), time.perf_counter_ns() - began)


def by_consensus(own: Inspected, found: Outcome, bound: Bound, body: bytes, vault: Vault, nanoseconds: int) -> Inspected:
    """The inspection of a request when other replicas were asked, which took so long; ``body`` is what came."""
    if found.judged is not own.judged:
        began = time.perf_counter_ns() - own.nanoseconds
        own = _decide(found.judged, own.parsed, bound, body, vault, Direction.REQUEST, None, began)
    return own._replace(votes=found.votes, asking=nanoseconds)


def with_leaks(judged: Judged, leakage: Leakage, segments: Sequence[Segment]) -> Judged:
    """The verdict with what the reply gives away of its system prompt."""
    verdict = judged.verdict
    found = tuple(leakage.findings(segments))
    return judged._replace(verdict=verdict._replace(findings=verdict.findings + found)) if found else judged


LINKS: Final = "addresses of hosts that the policy does not name"
"""The reason of a reply that lost nothing else."""


def links_edits(removed: int) -> tuple[Edit, ...]:
    """What a record says of addresses that were taken out."""
    return (Edit(0, 0, 0, "data_exfiltration.link_with_data"),) * removed


def without_links(
    segments: Sequence[Segment], edits: dict[Path, str], hosts: Hosts, together: Sequence[Sequence[int]] = ()
) -> int:
    """Take the addresses of other hosts out of a reply's texts, as they are after ``edits``; how many there were. ``together``:
    numbers of texts that are shown as one, in which an address may begin in one and go on in the next."""
    removed = 0
    shared: dict[int, Links] = {}
    for numbers in together:
        shared.update(dict.fromkeys(numbers, Links(hosts)))
    for number, segment in enumerate(segments):
        links = shared.get(number) or Links(hosts)
        before, text = links.removed, edits.get(segment.path, segment.text)
        made = links.whole(text)
        if made != text:
            edits[segment.path] = made
        removed += links.removed - before
    return removed


def _edits(
    segments: Sequence[Segment], ruling: Ruling, vault: Vault, direction: Direction, together: Sequence[Sequence[int]]
) -> dict[Path, str]:
    if direction is Direction.REQUEST:
        return redact(segments, ruling.edits, vault) if ruling.edits else {}
    # First what the model itself said is redacted, into a vault of its own that nobody opens; then the caller's own
    # values come back. The other way round they would be redacted again.
    edits = redact(segments, ruling.edits, vault.sealed()) if ruling.edits else {}
    if len(vault):
        redacted = [s._replace(text=edits[s.path]) if s.path in edits else s for s in segments]
        edits.update(restorations(redacted, vault, together))
    return edits


def nothing(engine: Engine, bound: Bound, body: bytes) -> Inspected:
    """The inspection of a message that carries no text (a list of models)."""
    judged = engine.judge((), "")
    return Inspected(_NOTHING, judged, decide(bound.policy, judged.verdict, (), Direction.REQUEST), None, body, 0, 0)


def stopped(
    judged: Judged, segments: Sequence[Segment], cut: Cut, policy: Policy, nanoseconds: int, rises: Sequence[Rise]
) -> Inspected:
    """The inspection of a request that was refused before all of it had come: of what was read last, and how the score rose."""
    reason = f"refused while it was sent: the alarm at {cut.score:.2f}, {cut.threat} ({cut.cause})"
    acted = (cut.threat, cut.cause)
    actions = tuple(
        Action.BLOCK if (one.category, one.pattern) == acted else Action.FLAG for one in judged.verdict.findings
    )
    ruling = Ruling(Action.BLOCK, reason, actions, (), policy.name)
    rest = [Opaque(Origin.USER, -1, (), "not sent yet")]
    return Inspected(Parsed(None, False, list(segments), rest), judged, ruling, None, b"", 0, nanoseconds, tuple(rises))


def passed(engine: Engine, bound: Bound, body: bytes) -> Inspected:
    """The inspection of a message that the configuration passes through: it is listed, as not screened."""
    blank = nothing(engine, bound, body)
    unread = Parsed(None, False, [], [Opaque(Origin.USER, 0, (), "passed through")])
    return blank._replace(parsed=unread, ruling=blank.ruling._replace(reason="passed through unscreened, as configured"))


def timings(inspected: Inspected) -> tuple[tuple[str, int], ...]:
    """Microseconds by stage, the whole of it last."""
    spent = [(stage, ns // 1000) for stage, ns in zip(STAGES, inspected.judged.stage_ns) if ns]  # noqa: B905 - hot
    if inspected.asking:
        spent.append((consensus.STAGE, inspected.asking // 1000))
    spent.append(("total", inspected.nanoseconds // 1000))
    return tuple(spent)
