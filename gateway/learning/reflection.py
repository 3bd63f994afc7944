"""Why an outcome was wrong, in words that an analyst can check. Pure, and the same words for the same facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.learning.values import Case, Outcome


class Facts(NamedTuple):
    """What is known beside the case itself.

    ``score`` and ``threshold`` are of the semantic stages now (not when it was decided); ``nearest`` are known exemplars,
    nearest first: (id, category or empty where harmless, cosine); ``siblings`` counts texts of other cases treated alike;
    ``unread`` where the encoder knows none of the text's words; ``pardons`` are the learnt harmless kinds that it is of.
    """

    score: float = 0.0
    threshold: float = 1.0
    nearest: tuple[tuple[str, str, float], ...] = ()
    siblings: int = 0
    unread: bool = False
    pardons: tuple[str, ...] = ()


_WATCHED: Final = "shadow"
"""The detector of findings that were recorded and not acted on."""


MOST: Final = 2_000
"""Code points of a proposal's reflection."""


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
    elif not case.text and not case.views:
        parts.append("No text of it was kept or sent along, so nothing can be learnt from it: label it again with its text.")
    if facts.siblings:
        parts.append(f"{facts.siblings} other labelled {'text is' if facts.siblings == 1 else 'texts are'} of the same kind.")
    return " ".join([*parts, _labels(case)])


def _missed(case: Case, facts: Facts) -> list[str]:
    told = case.trajectory
    parts = [f"An attack from origin {told.origin} passed ({told.action or 'it was not seen by this gateway'})."]
    acted = [one for one in told.stages if one[0] != _WATCHED]
    watched = [one for one in told.stages if one[0] == _WATCHED]
    if acted:
        stage, pattern, category, score = max(acted, key=lambda one: one[3])
        parts.append(f"The strongest finding was {category} by {stage} ({pattern}) at {score:.2f}, too little to block.")
    elif not watched:
        parts.append("No stage found anything.")
    if watched:
        _, pattern, category, score = max(watched, key=lambda one: one[3])
        parts.append(f"{pattern} ({category}) found it at {score:.2f} and did not act: it is only watched, or what it found"
                     " is of a learnt harmless kind.")  # fmt: skip
    if facts.pardons:
        parts.append(f"It is of what was learnt as harmless now: {', '.join(facts.pardons[:3])}.")
    if facts.score >= facts.threshold:
        parts.append(f"By meaning it scores {facts.score:.2f} now, which blocks from {facts.threshold:.2f} on.")
    elif facts.threshold < 1:
        parts.append(f"By meaning it scores {facts.score:.2f}; {facts.threshold:.2f} would have blocked,"
                     f" so {facts.threshold - facts.score:.2f} were missing.")  # fmt: skip
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
    blamed = sorted((one for one in told.stages if one[3] >= 0.5 and one[0] != _WATCHED), key=lambda one: -one[3])
    if blamed:
        named = "; ".join(f"{pattern} ({category}, {stage}, {score:.2f})" for stage, pattern, category, score in blamed[:3])
        parts.append(f"What misfired: {named}.")
    harmless = next((one for one in facts.nearest if not one[1]), None)
    attack = next((one for one in facts.nearest if one[1]), None)
    if harmless:
        parts.append(f"The nearest harmless exemplar is {harmless[0]} at a similarity of {harmless[2]:.2f}.")
    if attack and (not harmless or attack[2] > harmless[2]):
        parts.append(f"A known attack lies nearer: {attack[0]} ({attack[1]}) at {attack[2]:.2f}.")
    return parts


def _labels(case: Case) -> str:
    attack = sum(label.said == "attack" for label in case.labels)
    benign = len(case.labels) - attack
    notes: Sequence[str] = [label.note for label in case.labels if label.note]
    said = f"Labelled attack by {attack}, harmless by {benign}."
    return f"{said} Note: \u201c{notes[-1]}\u201d." if notes else said


def together(lessons: Sequence[str]) -> str:
    """The reflections of cases that one proposal answers, one a line, the first ones where they are long."""
    found: list[str] = []
    for number, lesson in enumerate(dict.fromkeys(filter(None, lessons)), 1):
        if sum(map(len, found)) + len(lesson) > MOST:
            return "\n".join([*found, f"\u2026 and of {len(lessons) - len(found)} more texts."])
        found.append(f"{number}. {lesson}")
    return "\n".join(found) if len(found) > 1 else "".join(lessons[:1])
