"""Why an outcome was wrong, in words that an analyst can check. Pure, and the same words for the same facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.learning.values import Case, Outcome


class Facts(NamedTuple):
    """What is known beside the case itself.

    ``score`` and ``threshold`` are of the semantic stages now (not when it was decided); ``nearest`` are known exemplars,
    nearest first: (id, category or empty where harmless, cosine); ``siblings`` counts texts of other cases treated alike;
    ``unread`` where the encoder knows none of the text's words.
    """

    score: float = 0.0
    threshold: float = 1.0
    nearest: tuple[tuple[str, str, float], ...] = ()
    siblings: int = 0
    unread: bool = False


def reflect(case: Case, facts: Facts) -> str:
    """Some sentences: what happened, which stage was how far off, what lies nearest, and who else is concerned."""
    if case.outcome is Outcome.FALSE_NEGATIVE:
        parts = _missed(case, facts)
    elif case.outcome is Outcome.FALSE_POSITIVE:
        parts = _misfired(case, facts)
    elif case.outcome is Outcome.UNDECIDED:
        return "The labels do not suffice for a verdict: " + _labels(case)
    else:
        return "The gateway was right: " + _labels(case)
    if facts.unread:
        parts.append("The encoder knows none of its words, so no exemplar can be learnt from it; a regex or literal can.")
    if facts.siblings:
        parts.append(f"{facts.siblings} other labelled {'text is' if facts.siblings == 1 else 'texts are'} of the same kind.")
    return " ".join([*parts, _labels(case)])


def _missed(case: Case, facts: Facts) -> list[str]:
    told = case.trajectory
    parts = [f"An attack from origin {told.origin} passed ({told.action or 'it was not seen by this gateway'})."]
    if told.stages:
        stage, pattern, category, score = max(told.stages, key=lambda one: one[3])
        parts.append(f"The strongest finding was {category} by {stage} ({pattern}) at {score:.2f}, too little to block.")
    else:
        parts.append("No stage found anything.")
    if facts.threshold < 1:
        parts.append(f"By meaning it scores {facts.score:.2f}; {facts.threshold:.2f} would have blocked,"
                     f" so {max(0.0, facts.threshold - facts.score):.2f} were missing.")  # fmt: skip
    attack = next((one for one in facts.nearest if one[1]), None)
    harmless = next((one for one in facts.nearest if not one[1]), None)
    if attack:
        parts.append(f"The nearest known attack is {attack[0]} ({attack[1]}) at a similarity of {attack[2]:.2f}.")
    if harmless and (not attack or harmless[2] > attack[2]):
        parts.append(f"A harmless exemplar lies nearer: {harmless[0]} at {harmless[2]:.2f}.")
    return parts


def _misfired(case: Case, facts: Facts) -> list[str]:
    told = case.trajectory
    parts = [f"Harmless text from origin {told.origin} was stopped ({told.action})."]
    blamed = [one for one in told.stages if one[3] >= 0.5]
    if blamed:
        named = "; ".join(f"{pattern} ({category}, {stage}, {score:.2f})" for stage, pattern, category, score in blamed[:3])
        parts.append(f"What misfired: {named}.")
    harmless = next((one for one in facts.nearest if not one[1]), None)
    if harmless:
        parts.append(f"The nearest harmless exemplar is {harmless[0]} at a similarity of {harmless[2]:.2f}: too far to help.")
    return parts


def _labels(case: Case) -> str:
    attack = sum(label.said == "attack" for label in case.labels)
    benign = len(case.labels) - attack
    notes: Sequence[str] = [label.note for label in case.labels if label.note]
    said = f"Labelled attack by {attack}, harmless by {benign}."
    return f"{said} Note: {notes[-1]}" if notes else said
