"""Policy: from what was found to what is done. Pure: values in, a decision out.

A policy is a table. For each threat (``category.subcategory``), origin and direction it says from which score on a finding
is flagged, redacted or blocks the whole message. Presets fill the table; rules of the configuration overwrite parts of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from detectors import leakage
from detectors.values import WATCHED, ChannelKind, Finding, Origin, Segment, Skipped, Verdict, by_name
from gateway.redaction.links import Hosts
from patterns import taxonomy


class Action(StrEnum):
    """What is done with a message, from the mildest to the strictest."""

    ALLOW = "allow"
    FLAG = "flag"
    REDACT = "redact"
    BLOCK = "block"


class Direction(StrEnum):
    """Which way a message goes."""

    REQUEST = "request"
    REPLY = "reply"


class Mode(StrEnum):
    """What takes the place of a redacted value; see ``gateway.redaction.vault``."""

    PLACEHOLDER = "placeholder"  # its kind and a keyed digest; comes back in the reply
    MASK = "mask"  # asterisks; nothing comes back
    HASH = "hash"  # a longer keyed digest, the same in every request of a tenant; nothing comes back
    FORMAT = "format"  # another value of the same shape (FF1); comes back


class FailureMode(StrEnum):
    """What it means when a stage did not run: refuse the message, let it pass flagged, or let it pass."""

    CLOSED = "closed"
    FLAG = "flag"
    OPEN = "open"


RANK: Final = {action: rank for rank, action in enumerate(Action)}
MODEL_STAGES: Final = frozenset({"fast", "encoder", "index"})
"""Stages that judge by meaning. Their scores are calibrated probabilities; those of patterns say how sure a pattern is."""

VALUE_SCORE: Final = 0.5
"""From this score on a secret or personal value is taken for real."""

_REGULATED: Final = (
    "secret", "pii.payment", "pii.bank", "pii.national", "pii.health", "pii.tax", "pii.travel_document",
    "pii.driver_licence", "pii.biometric", "pii.insurance",
)  # fmt: skip
"""Values that open something or name one person to a state, a bank, an insurer or a hospital, and what of a body cannot be
changed once it is known."""

_CONTACT: Final = ("pii.contact_email", "pii.contact_phone", "pii.contact_address")
_IDENTIFYING: Final = ("pii.birth_date", "pii.employment", "pii.education", "pii.network", "pii.vehicle", "pii.location")
"""What tells together with something else who somebody is. ``balanced`` flags it: people work with dates, addresses of machines
and places, and a model that does not see them answers worse. ``strict`` redacts what is taken for real. Names of people and of
accounts are flagged by both: they are words, and half of a text would go."""

_HARMS_ITS_READER: Final = ("data_exfiltration", "harmful_code")
_TRUSTED: Final = (Origin.SYSTEM, Origin.ASSISTANT)
_COMMANDS: Final = (
    "harmful_code.reverse_shell", "harmful_code.destructive_command", "harmful_code.download_and_run",
    "harmful_code.credential_theft", "harmful_code.privilege_escalation", "harmful_code.persistence_mechanism",
    "harmful_code.obfuscated_script", "harmful_code.security_tool_disable", "harmful_code.crypto_mining",
    "data_exfiltration.send_to_address", "data_exfiltration.dns_tunnel",
)  # fmt: skip
"""What harms where a shell runs it. The rest of their categories harms where it is shown (a script in a page, an image whose
address carries data) or becomes part of a query, which prose may as well."""

_TOLD_BY: Final = (Origin.SYSTEM, Origin.USER, Origin.ASSISTANT)
"""Who may tell of a command: the developer, the user and the model. In what others wrote it is a trap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table. Empty fields match everything; of the rows that match, the last one acts.

    ``category`` is a category or ``category.subcategory``; ``score`` is the least score on which the row acts. ``model`` is
    true for a row about findings of `MODEL_STAGES` alone, false for one about all other findings.
    """

    action: Action
    category: str = ""
    origin: Origin | None = None
    direction: Direction | None = None
    score: float = 0.0
    model: bool | None = None
    channel: ChannelKind | None = None

    def matches(self, threat: str) -> bool:
        return not self.category or threat == self.category or threat.startswith(self.category + ".")

    def concerns(self, origin: Origin, direction: Direction, model: bool, channel: ChannelKind) -> bool:
        return (
            self.origin in (None, origin)
            and self.direction in (None, direction)
            and self.model in (None, model)
            and self.channel in (None, channel)
        )


class Consensus(NamedTuple):
    """That other replicas judge a request too: how many are asked, and how many seconds they have."""

    replicas: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a tenant's traffic is held to.

    Attributes:
        name: as shown in records; ``version`` changes whenever anything that acts does.
        acts: false for a policy that only reports (``monitor``).
        rules: the table, mildest first.
        on_block: whether a refused request is an error or a reply that was filtered.
        failure: by stage, what a stage that did not run means; ``*`` stands for all others.
        restore: whether values that were redacted in the request come back in the reply.
        waits: whether a stream waits for what may still become a finding, however long that takes.
        ahead: code points of a streamed reply that may go out before they are judged by meaning; None where nothing waits for
            that, and it is judged when it is over.
        alarm: from which score on a streamed reply is cut while it is written, whatever it is; None where the table alone says.
        links: the hosts that addresses in replies may lead to; None for any.
        canary: whether a mark is planted in system prompts, by which a reply that repeats one is known.
        consensus: whom else a request is put to; None where this replica judges alone.
        redaction: by category or ``category.subcategory``, what takes a value's place; a placeholder where nothing is said.
        earlier_texts: whether a request is refused for what was said earlier in its conversation, or that is taken out.
    """

    name: str
    version: str
    acts: bool = True
    rules: tuple[Rule, ...] = ()
    on_block: Literal["error", "refusal"] = "error"
    failure: Mapping[str, FailureMode] = field(default_factory=dict)
    restore: bool = True
    waits: bool = False
    ahead: int | None = None
    alarm: float | None = None
    canary: bool = False
    links: Hosts | None = None
    consensus: Consensus | None = None
    redaction: Mapping[str, Mode] = field(default_factory=dict)
    earlier_texts: Literal["block", "remove"] = "block"
    _table: dict[tuple[str, Origin, Direction, bool, ChannelKind], tuple[tuple[float, Action], ...]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _concerned: dict[tuple[Origin, Direction, bool, ChannelKind], tuple[Rule, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def action(
        self, threat: str, score: float, origin: Origin, direction: Direction, model: bool = False,
        channel: ChannelKind = ChannelKind.PROSE,
    ) -> Action:  # fmt: skip
        """What one finding asks for; ``model`` where one of `MODEL_STAGES` made it, ``channel`` for how its text is meant."""
        key = (threat, origin, direction, model, channel)
        rows = self._table.get(key)
        if rows is None:
            where = key[1:]
            if where not in self._concerned:
                self._concerned[where] = tuple(rule for rule in self.rules if rule.concerns(*where))
            rows = tuple((rule.score, rule.action) for rule in self._concerned[where] if rule.matches(threat))
            self._table[key] = rows
        chosen = Action.ALLOW
        for least, action in rows:
            if score >= least:
                chosen = action
        return chosen

    def cuts_by_meaning(self) -> bool:
        """Whether anything that the model may find in a reply would block it."""
        return self.acts and (self.alarm is not None or any(
            self.action(f"{name}.{sub}", 1.0, Origin.ASSISTANT, Direction.REPLY, True, channel) is Action.BLOCK
            for name, category in taxonomy.CATEGORIES.items() if category.attack
            for sub in category.subcategories
            for channel in ChannelKind
        ))  # fmt: skip

    def failure_mode(self, stage: str) -> FailureMode:
        return self.failure.get(stage) or self.failure.get("*", FailureMode.CLOSED)


class Edit(NamedTuple):
    """Replace code points ``start`` to ``end`` of a segment, which hold a value of ``category``."""

    segment: int
    start: int
    end: int
    category: str


def joined(edits: Iterable[Edit]) -> list[Edit]:
    """Overlapping edits as one, named after the one that begins first and reaches furthest: one value is replaced once."""
    found: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.segment, edit.start, -edit.end, by_name(edit.category))):
        if found and edit.segment == found[-1].segment and edit.start < found[-1].end:
            found[-1] = found[-1]._replace(end=max(found[-1].end, edit.end))
        else:
            found.append(edit)
    return found


class Ruling(NamedTuple):
    """What is done with a message and why.

    ``actions`` goes with the verdict's findings, one for one; no two ``edits`` overlap.
    """

    action: Action
    reason: str
    actions: tuple[Action, ...]
    edits: tuple[Edit, ...]
    policy: str


_ALLOWED: Final[dict[str, Ruling]] = {}


def decide(policy: Policy, verdict: Verdict, segments: Sequence[Segment], direction: Direction) -> Ruling:
    """Apply a policy to a verdict.

    A policy that does not act turns whatever it would have done into a flag; `evaluate` gives what it would have done.
    """
    decision = evaluate(policy, verdict, segments, direction)
    if policy.acts or decision.action is Action.ALLOW:
        return decision
    return decision._replace(action=Action.FLAG, edits=(), reason=f"would {decision.action}: {decision.reason}")


def evaluate(policy: Policy, verdict: Verdict, segments: Sequence[Segment], direction: Direction) -> Ruling:
    """What a policy says of a verdict, whether or not it acts."""
    if not verdict.findings and not verdict.skipped:
        clean = _ALLOWED.get(policy.name)
        if clean is None:
            clean = _ALLOWED[policy.name] = Ruling(Action.ALLOW, "nothing found", (), (), policy.name)
        return clean
    worst, reason = Action.ALLOW, "nothing found that the policy acts on"
    actions: list[Action] = []
    edits: list[Edit] = []
    for finding in verdict.findings:
        if finding.detector == WATCHED:
            actions.append(Action.ALLOW)
            continue
        segment = segments[finding.segment]
        # Nobody explains a command in an encoding: what is hidden is no prose.
        channel = ChannelKind.TOOL_CALL if finding.detector == "decode" else segment.channel
        model = finding.detector in MODEL_STAGES
        action = policy.action(finding.category, finding.score, segment.origin, direction, model, channel)
        actions.append(action)
        if action is Action.REDACT:
            edits.append(Edit(finding.segment, finding.start, finding.end, finding.category))
        if RANK[action] > RANK[worst]:
            worst, reason = action, _reason(finding, segment)
    for skipped in verdict.skipped:
        action = _failure_action(policy, skipped)
        if RANK[action] > RANK[worst]:
            worst, reason = action, f"incomplete: {skipped.stage} {skipped.reason}"
    return Ruling(worst, reason, tuple(actions), tuple(joined(edits)), policy.name)


def _failure_action(policy: Policy, skipped: Skipped) -> Action:
    match policy.failure_mode(skipped.stage):
        case FailureMode.CLOSED:
            return Action.BLOCK
        case FailureMode.FLAG:
            return Action.FLAG
    return Action.ALLOW


def _reason(finding: Finding, segment: Segment) -> str:
    where = "a tool call" if segment.channel is ChannelKind.TOOL_CALL else segment.origin
    return f"{finding.category} in {where} ({finding.pattern})"


Thresholds = Mapping[str, Mapping[Origin, float]]
"""From which probability of attack on a preset acts, by preset (``balanced``, ``strict``) and origin: the model's own."""


def preset(name: str, thresholds: Thresholds = MappingProxyType({})) -> Policy:
    """One of the three presets, as promised to the outside. Without ``thresholds`` no model judges.

    Raises:
        ValueError: there is no such preset.
    """
    if name == "balanced":
        return Policy(name=name, version="6", rules=_balanced(thresholds), failure=_DEGRADE, ahead=AHEAD)
    if name == "strict":
        closed = {"*": FailureMode.CLOSED}
        return Policy(name=name, version="3", rules=_strict(thresholds), failure=closed, waits=True, ahead=0)
    if name == "monitor":
        return Policy(name=name, version="6", acts=False, rules=_balanced(thresholds), failure=_DEGRADE)
    raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")


PRESETS: Final[tuple[Literal["strict", "balanced", "monitor"], ...]] = ("strict", "balanced", "monitor")
AHEAD: Final = 1_000
"""Code points by which a stream may be ahead of its judgement under ``balanced``: some three windows, so that a stream at a
model's usual pace never waits, and one that is cut was not read to its end."""

_DEGRADE: Final = {"*": FailureMode.CLOSED} | dict.fromkeys(sorted(MODEL_STAGES), FailureMode.FLAG)


def _attacks(flag: float, block: float, trusted: float) -> list[Rule]:
    """Rows for what patterns find of attacks; ``trusted`` is the bar for system prompts and the assistant's own words."""
    rules: list[Rule] = []
    for name, category in taxonomy.CATEGORIES.items():
        if not category.attack:
            continue
        rules.append(Rule(action=Action.FLAG, category=name, score=flag, model=False))
        rules += [
            Rule(action=Action.BLOCK, category=name, origin=origin, score=trusted if origin in _TRUSTED else block, model=False)
            for origin in Origin
        ]
    return rules


def _judged(flag: Mapping[Origin, float], block: Mapping[Origin, float], spared: tuple[Origin, ...]) -> list[Rule]:
    """Rows for what the model judges to be an attack, whatever its category; ``spared`` origins are flagged at most."""
    return [Rule(action=Action.FLAG, origin=origin, score=score, model=True) for origin, score in flag.items()] + [
        Rule(action=Action.BLOCK, origin=origin, score=score, model=True)
        for origin, score in block.items() if origin not in spared
    ]  # fmt: skip


def _replies(flag: float, block: float, leak: float, judged: Mapping[Origin, float] | None) -> list[Rule]:
    """Rows for what a model says. One that repeats an attack's words attacks nobody, unless data leaves or code runs;
    ``judged`` are the bars for what another model finds of that, ``leak`` the one for giving away a system prompt."""
    attacks = [name for name, category in taxonomy.CATEGORIES.items() if category.attack]
    return [
        Rule(action=Action.FLAG, category=name, direction=Direction.REPLY, score=flag)
        for name in attacks if name not in _HARMS_ITS_READER
    ] + [
        Rule(action=Action.BLOCK, category=leakage.THREAT, direction=Direction.REPLY, score=leak, model=False)
    ] + [
        Rule(action=Action.BLOCK, category=name, direction=Direction.REPLY, score=block, model=False)
        for name in _HARMS_ITS_READER
    ] + [
        Rule(action=Action.BLOCK, category=name, direction=Direction.REPLY, score=judged[Origin.ASSISTANT], model=True)
        for name in _HARMS_ITS_READER if judged
    ]  # fmt: skip


def _balanced(thresholds: Thresholds) -> tuple[Rule, ...]:
    # A block in a system prompt or in the assistant's history needs certainty: the developer wrote the one, and the other
    # is old. What the stricter preset would block is flagged. A tool's definition is orders to a model by its nature, and a
    # program sends the same dozens of them with every request: one that the model misjudges would stop that program for good.
    rules = _attacks(flag=0.5, block=0.9, trusted=0.98)
    if thresholds:
        rules += _judged(thresholds["strict"], thresholds["balanced"], (*_TRUSTED, Origin.TOOL_DEFINITION))
    rules += _replies(flag=0.5, block=0.9, leak=leakage.CERTAIN, judged=thresholds.get("balanced"))
    # A command that is told of is not run: where people explain, ask and warn, it is flagged. An order to run it is judged by
    # what it is besides, and the call that obeys it is blocked.
    rules += [
        Rule(action=Action.FLAG, category=name, origin=origin, score=0.5, model=False, channel=ChannelKind.PROSE)
        for name in _COMMANDS for origin in _TOLD_BY
    ]  # fmt: skip
    rules.append(Rule(action=Action.FLAG, category="pii", score=VALUE_SCORE))
    rules += [Rule(action=Action.REDACT, category=name, score=VALUE_SCORE) for name in _REGULATED]
    return tuple(rules)


def _strict(thresholds: Thresholds) -> tuple[Rule, ...]:
    rules = _attacks(flag=0.2, block=0.6, trusted=0.9)
    if thresholds:
        rules += _judged({}, thresholds["strict"], ())
    rules += _replies(flag=0.2, block=0.6, leak=leakage.MOST, judged=thresholds.get("strict"))
    rules.append(Rule(action=Action.FLAG, category="pii", score=0.2))
    rules += [Rule(action=Action.REDACT, category=name, score=0.2) for name in (*_REGULATED, *_CONTACT)]
    rules += [Rule(action=Action.REDACT, category=name, score=VALUE_SCORE) for name in _IDENTIFYING]
    return tuple(rules)
