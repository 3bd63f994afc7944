"""Which bars labels ask to move: for findings of one category from one origin that the model alone decided. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from detectors.semantic.corrections import log_odds
from gateway.learning.evidence import ATTACKS
from gateway.learning.trial import LEAST_RIGHTED, MOST_WRONGED
from gateway.learning.values import Case, Outcome

STEPS: Final = tuple(round(0.25 * step, 2) for step in range(-6, 7) if step)
"""Moves looked at, in log-odds: up to 1.5 either way, which takes a probability of 0.90 to 0.67 or to 0.98."""

_ALONE: Final = 0.9
"""From this score on a finding of another stage blocks under ``balanced``: moving the model's bar would change nothing."""


class Asked(NamedTuple):
    """What cases say of one bar. ``moves`` are those worth trying, best first, each with what it would change."""

    category: str
    origin: str
    cases: tuple[Case, ...]
    moves: tuple[Move, ...]


class Move(NamedTuple):
    """One move: ``by`` in log-odds (above 0: harder to reach), the ids of the cases that it sets right and makes wrong."""

    by: float
    righted: tuple[str, ...]
    wronged: tuple[str, ...]


def asked(cases: Iterable[Case], bars: Mapping[str, float]) -> list[Asked]:
    """The bars that decided cases ask to move.

    Args:
        bars: the score from which the gateway's policy blocks, by origin.
    """
    cells: defaultdict[tuple[str, str], list[tuple[Case, float]]] = defaultdict(list)
    for case in cases:
        if case.outcome is not Outcome.UNDECIDED and (found := _alone(case)) is not None:
            category, score = found
            if case.trajectory.origin in bars:
                cells[category, case.trajectory.origin].append((case, score))
    wanted = []
    for (category, origin), some in sorted(cells.items()):
        if moves := _moves(some, bars[origin]):
            wanted.append(Asked(category, origin, tuple(case for case, _ in some), moves))
    return wanted


def _moves(some: Sequence[tuple[Case, float]], bar: float) -> tuple[Move, ...]:
    above = np.array([log_odds(score) for _, score in some]) - log_odds(bar)
    attack = np.array([case.outcome in ATTACKS for case, _ in some])
    right_now = (above >= 0) == attack
    found = []
    for by in STEPS:
        right = (above >= by) == attack
        righted = [some[at][0].id for at in np.flatnonzero(right & ~right_now).tolist()]
        wronged = [some[at][0].id for at in np.flatnonzero(right_now & ~right).tolist()]
        if len(righted) >= LEAST_RIGHTED and len(wronged) <= MOST_WRONGED * len(righted):
            found.append(Move(by, tuple(righted), tuple(wronged)))
    return tuple(sorted(found, key=lambda move: (len(move.wronged) - len(move.righted), abs(move.by))))


def _alone(case: Case) -> tuple[str, float] | None:
    """Category and score of the encoder's finding, where no other stage decided."""
    judged = [one for one in case.trajectory.stages if one[0] == "encoder"]
    if not judged or any(one[0] not in ("encoder", "shadow") and one[3] >= _ALONE for one in case.trajectory.stages):
        return None
    _, _, category, score = max(judged, key=lambda one: one[3])
    return category.partition(".")[0], score
