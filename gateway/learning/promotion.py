"""When a proposal moves on, and when it goes back. Pure: a proposal, its votes and what was watched go in, a move comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.learning.values import Proposal, ProposalKind, Stage


class Rules(NamedTuple):
    """What an operator demands; see ``learning`` in the configuration.

    ``automatic`` lets a proposal that passed its trial go into the shadow, and on, without a person's vote, where ``labellers``
    people's labels say what it says. ``watched_requests``: how many must pass in the shadow, and again beside a canary, before
    time alone moves a proposal on.
    """

    approvals: int = 1
    automatic: bool = False
    labellers: int = 2
    shadow_seconds: float = 3600.0
    canary_seconds: float = 3600.0
    watched_requests: int = 600
    canary_percent: int = 10
    alarm_share: float = 0.005
    precision: float = 0.8
    precision_least: int = 5


class Move(NamedTuple):
    """A change of stage, and why, in words."""

    to: Stage
    reason: str


def approved(proposal: Proposal, rules: Rules) -> bool:
    """Whether enough people approve, and nobody of them rejects. Whoever made it, or alone labelled it, has no vote."""
    voters = {vote.by: vote.approves for vote in proposal.votes if not speaks_for_itself(proposal, vote.by)}
    return sum(voters.values()) >= rules.approvals and all(voters.values())


def speaks_for_itself(proposal: Proposal, by: str) -> bool:
    """Whether somebody's approval would only repeat what he said: it takes two people to let anything act."""
    return by == proposal.author or proposal.supporters == (by,)


def step(proposal: Proposal, rules: Rules, now: float, force: bool = False) -> Move | None:
    """The move that is due now; None where the proposal stays where it is.

    ``force`` is a person's word that the time of watching is enough: it shortens time, and overrules nothing else.
    """
    if proposal.stage is Stage.PROPOSED:
        return _from_proposed(proposal, rules)
    if proposal.stage in (Stage.SHADOW, Stage.CANARY, Stage.ACTIVE) and (why := failing(proposal, rules)):
        return Move(Stage.DEMOTED, why)
    watched = force or _left(proposal, rules, now) == (0, 0)
    if proposal.stage is Stage.SHADOW:
        if too_many := _alarms(proposal, rules):
            return Move(Stage.DEMOTED, too_many)
        if watched:
            if _acts_at_once(proposal):
                return Move(Stage.ACTIVE, "its time in the shadow is over")
            return Move(Stage.CANARY, f"{proposal.alarms} matches among {proposal.watched} texts in the shadow")
    if proposal.stage is Stage.CANARY and watched:
        return Move(Stage.ACTIVE, f"{proposal.alarms} matches among {proposal.watched} texts as a canary")
    return None


def awaited(proposal: Proposal, rules: Rules, now: float) -> str:
    """What has to pass before a proposal that is watched moves on by itself, in words; empty: nothing, or it never does."""
    seconds, requests = _left(proposal, rules, now)
    if proposal.stage not in (Stage.SHADOW, Stage.CANARY) or not (seconds or requests):
        return ""
    if any(not vote.approves for vote in proposal.votes):
        return ""
    left = ((math.ceil(seconds / 60), "minute"), (requests, "request"))
    told = " and ".join(f"{count} more {what}{'s' * (count > 1)}" for count, what in left if count)
    return f"it moves on by itself after {told}"


def _left(proposal: Proposal, rules: Rules, now: float) -> tuple[float, int]:
    """The seconds and requests that a proposal is still to be watched for: where nothing passes, time shows nothing."""
    wanted = rules.shadow_seconds if proposal.stage is Stage.SHADOW else rules.canary_seconds
    return max(0.0, proposal.since + wanted - now), max(0, rules.watched_requests - proposal.watched)


def failing(proposal: Proposal, rules: Rules) -> str:
    """Why labels speak against a pattern that is out; empty where they do not.

    Its precision must be below the bound, and more must speak against it than for it: however many texts one labeller crafts
    that it matches, he is one, and so are those whose labels it was made from.
    """
    judged = proposal.confirmed + proposal.refuted
    outspoken = proposal.spoken_against > proposal.spoken_for
    if outspoken and judged >= rules.precision_least and proposal.confirmed < rules.precision * judged:
        return (f"its precision fell to {proposal.confirmed / judged:.0%}, below {rules.precision:.0%}: of {judged} labelled"
                f" matches {proposal.refuted} were refuted")  # fmt: skip
    return ""


def _from_proposed(proposal: Proposal, rules: Rules) -> Move | None:
    if proposal.trial is None or not proposal.trial.passed:
        return None
    if approved(proposal, rules):
        said = [f"{vote.reason or 'approved'} ({vote.by})" for vote in proposal.votes if vote.approves]
        return Move(Stage.SHADOW, "; ".join(said))
    if rules.automatic and proposal.kind in _LABELLED and len(proposal.supporters) >= rules.labellers:
        return Move(Stage.SHADOW, f"the operator's rule: its trial passed and {len(proposal.supporters)} people labelled alike")
    return None


def _alarms(proposal: Proposal, rules: Rules) -> str:
    """Why a shadow matches too much; a pattern that matches everything must not reach a canary."""
    allowed = max(5.0, rules.alarm_share * proposal.watched)
    unexplained = proposal.alarms - proposal.confirmed
    if unexplained > allowed and not _lets_through(proposal):
        return f"{proposal.alarms} of {proposal.watched} texts matched in the shadow; at most {rules.alarm_share:.2%} may"
    return ""


def _lets_through(proposal: Proposal) -> bool:
    """Whether all that it changes is to stop less: what it may cost its trial bounds, on known attacks."""
    raised = proposal.kind is ProposalKind.THRESHOLD and proposal.pattern.body.startswith("+")
    return raised or proposal.kind is ProposalKind.BENIGN


def _acts_at_once(proposal: Proposal) -> bool:
    # What takes a pattern away cannot act on a share of texts.
    return proposal.kind in (ProposalKind.RETIRE, ProposalKind.NARROW)


_LABELLED: Final = frozenset({ProposalKind.EXEMPLAR, ProposalKind.LEXICAL, ProposalKind.BENIGN})
"""Kinds that labels alone can let act. What one person wrote or a feed brought, what takes a pattern away, and what corrects
the model beyond one kind of texts, needs a vote."""

class Effect(NamedTuple):
    """How a pattern did: matches, and verdicts on texts that it matched. ``last_seen`` in UNIX seconds.

    ``spoken_for`` and ``spoken_against``: what labellers weigh who say that it is right or wrong, one word each.
    """

    hits: int = 0
    confirmed: int = 0
    refuted: int = 0
    last_seen: float = 0.0
    spoken_for: float = 0.0
    spoken_against: float = 0.0

    @property
    def precision(self) -> float | None:
        """The share of labelled matches that were right; None where none was labelled."""
        judged = self.confirmed + self.refuted
        return self.confirmed / judged if judged else None


def suspects(effects: Mapping[str, Effect], rules: Rules) -> list[str]:
    """Patterns whose labels speak for narrowing or retiring them, worst first."""
    found = [
        (effect.precision, id) for id, effect in effects.items()
        if effect.precision is not None and effect.refuted >= rules.precision_least and effect.precision < rules.precision / 2
        and effect.spoken_against > effect.spoken_for
    ]  # fmt: skip
    return [id for _, id in sorted(found)]
