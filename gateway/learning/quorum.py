"""From labels to a verdict, however many labellers lie. Pure.

One text is decided by its labels (`decide`), and a kind of texts by its labellers, who have one word each (`words`), however
many of its texts they labelled. Each label weighs what its labeller's role is trusted with, times how often that labeller
agreed with verdicts before. What a role can say altogether is bounded: a thousand application keys together weigh less than one
analyst, so making more of them gains nothing (a Sybil attack). A verdict needs `QUORUM` and twice what speaks against it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.learning.values import Case, Label, Outcome, Said

QUORUM: Final = 1.0
"""The weight that a verdict needs: one analyst whose record is good, or nobody."""

MARGIN: Final = 2.0
"""How many times as much must speak for a verdict as against it."""

TRUST: Final = {"operator": 1.0, "approver": 1.2, "analyst": 1.0, "app": 0.2}
"""What a role's word weighs. An application's key leaks most easily, and what it says may be its users' word."""

MOST: Final = {"app": 0.4}
"""What a role can weigh altogether in one case; roles not named have no bound."""

PRIOR: Final = 4.0
"""Verdicts' worth of good record that a labeller starts with, so that one disagreement ruins nobody."""


GOOD: Final = 0.9
"""The rate of agreement from which on a labeller's word is worth all that his role is: who is right where others err, or
errs once in ten, still decides alone what nobody else labelled."""


class Record(NamedTuple):
    """How often a labeller agreed with the verdicts of others, and how often not."""

    agreed: int = 0
    disagreed: int = 0

    @property
    def standing(self) -> float:
        """What the labeller's word is worth, 0..1: the square of its rate of agreement to `GOOD`, so that half of that weighs a
        quarter."""
        rate = (self.agreed + PRIOR) / (self.agreed + self.disagreed + PRIOR)
        return min(1.0, rate / GOOD) ** 2


class Verdict(NamedTuple):
    """What the labels come to. ``said`` is None where they do not suffice."""

    said: Said | None
    category: str


def weight(role: str, record: Record) -> float:
    """What one labeller's word weighs."""
    return TRUST.get(role, 0.0) * record.standing


def words(labels: Iterable[Label]) -> list[Label]:
    """One word of each labeller about texts of one kind: what he said of most of them; of a tie, none."""
    by: defaultdict[str, list[Label]] = defaultdict(list)
    for label in labels:
        by[label.by].append(label)
    found = []
    for given in by.values():
        balance = sum(1 if label.said == Said.ATTACK else -1 for label in given)
        said = Said.ATTACK if balance > 0 else Said.BENIGN
        if balance:
            found.append(max((label for label in given if label.said == said), key=lambda label: label.at))
    return found


def weigh(labels: Iterable[Label]) -> dict[Said, float]:
    """What was said weighs altogether, within what each role can weigh; a label has the weight it had when it was given."""
    sums: dict[Said, dict[str, float]] = {said: defaultdict(float) for said in Said}
    for label in labels:
        sums[Said(label.said)][label.role] += label.trust
    return {said: sum(min(by, MOST.get(role, by)) for role, by in roles.items()) for said, roles in sums.items()}


def decide(labels: Iterable[Label]) -> Verdict:
    """What labels of one text come to, or words on one kind of texts."""
    labels = tuple(labels)
    totals = weigh(labels)
    categories: dict[str, float] = defaultdict(float)
    for label in labels:
        if label.category and label.said == Said.ATTACK:
            categories[label.category] += label.trust
    said, other = sorted(Said, key=lambda one: -totals[one])
    category = max(categories, key=lambda one: (categories[one], one), default="")
    decided = totals[said] >= QUORUM - 1e-9 and totals[said] >= MARGIN * totals[other]
    return Verdict(said if decided else None, category)


def judged(case: Case) -> Case:
    """The case with the verdict that its labels come to; a new one asks for a new lesson."""
    verdict = decide(case.labels)
    found = outcome(verdict.said, case.trajectory.stopped)
    return replace(case, outcome=found, category=verdict.category, lesson=case.lesson if found is case.outcome else "")


def outcome(said: Said | None, stopped: bool) -> Outcome:
    """What the gateway's action was, given what the text is."""
    if said is None:
        return Outcome.UNDECIDED
    if said is Said.ATTACK:
        return Outcome.TRUE_POSITIVE if stopped else Outcome.FALSE_NEGATIVE
    return Outcome.FALSE_POSITIVE if stopped else Outcome.TRUE_NEGATIVE
