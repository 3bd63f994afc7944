"""Labelled texts of one kind: those that a prototype of one of them would find among the others. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.semantic.prototypes import LEAST_CLOSENESS, Background
from gateway.learning import trial

Floats = npt.NDArray[np.float32]

BELONGS: Final = 0.25
"""Texts are of one kind from this closeness to each other on; one that is less close to all others of its group together is
taken out of it: mislabelled, or of another kind. A prototype's bar (`LEAST_CLOSENESS`) is higher: it has to tell them from
everything else, not from other labelled texts. Both are told by the texts alone, undrawn: else whoever calls a harmless text an
attack would have it grouped with real ones, and be one of those who labelled their kind."""


def kinds(vectors: Floats, background: Background) -> list[list[int]]:
    """The rows of ``vectors``, float32 (n, 384) of unit length, of one kind together; each stands in one list."""
    near = np.array([background.kinship(vectors[at : at + 1], vectors) for at in range(len(vectors))])
    linked = (near + near.T) / 2 >= BELONGS
    found: list[list[int]] = []
    left = set(range(len(vectors)))
    while left:
        members = _component(linked, min(left))
        left -= members
        kept, others = _coherent(sorted(members), vectors, background)
        found += [kept, *([one] for one in others)]
    return found


def _component(linked: npt.NDArray[np.bool_], start: int) -> set[int]:
    found, waiting = {start}, [start]
    while waiting:
        for other in np.flatnonzero(linked[waiting.pop()]).tolist():
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _coherent(members: list[int], vectors: Floats, background: Background) -> tuple[list[int], list[int]]:
    """Take out what the others do not teach: of a group of four or more whoever does not belong, and of one of three or more
    that a trial would not take for one kind, the least close until it would."""
    others: list[int] = []
    while len(members) >= 3:
        closeness = [
            float(background.kinship(vectors[[m for m in members if m != one]], vectors[one : one + 1])[0]) for one in members
        ]
        worst = int(np.argmin(closeness))
        foreign = len(members) >= 4 and closeness[worst] < BELONGS
        found = sum(one >= LEAST_CLOSENESS for one in closeness)
        if not foreign and found >= trial.LEAST_CAUGHT * len(members):
            break
        others.append(members.pop(worst))
    return members, others
