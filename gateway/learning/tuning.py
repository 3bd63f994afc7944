"""Which corrections of the model labels are many enough for, and which proposal of it each would write anew. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from detectors.semantic.corrections import Correction
from detectors.values import Origin
from gateway.learning.evidence import ATTACKS, HARMLESS, Labelled, fair_share
from gateway.learning.thresholds import Asked, asked
from gateway.learning.tuner import Tuner
from gateway.learning.values import REWRITTEN, Case, Outcome, Proposal, ProposalKind, Stage

LEAST_CASES: Final = 40
"""Labelled texts that a head is trained from at least: a few kinds of them, where prototypes answer one."""

LEAST_WRONG: Final = 20
"""Of these, how many the gateway must have judged wrongly: where it is right there is nothing to learn."""

MOST_CASES: Final = 400
"""Labelled texts that a head is trained from at most, of each labeller as many as of any other while he has more."""

MORE: Final = 1.25
"""A head that waits for a decision is trained anew when there are so many times the texts that it was made from."""

SIDES: Final = ((Origin.USER,), (Origin.DOCUMENT, Origin.TOOL_RESULT))
"""Origins that share a head: what a user may say can be an attack in a document."""

_WRONG: Final = (Outcome.FALSE_NEGATIVE, Outcome.FALSE_POSITIVE)
_WATCHED: Final = (Stage.SHADOW, Stage.CANARY)

Work = Callable[[Tuner, str, float, tuple[Correction, ...]], Proposal]
"""Makes a proposal: takes the tuner, an id for a new one, the time, and the corrections that stand."""


class Tuning(NamedTuple):
    """What a pass saw. ``settled`` are the ids of proposals that answer their cases by now."""

    cases: Sequence[Case]
    labelled: Labelled
    proposals: Sequence[Proposal]
    settled: frozenset[str]

    def work(self, bars: Mapping[str, float]) -> list[Work]:
        """The proposals to be made; ``bars`` as `thresholds.asked`."""
        open_cases = [case for case in self.cases if case.outcome not in _WRONG or case.proposal not in self.settled]
        cells = [(one.category, one.origin) for one in asked(open_cases, bars)]
        found: list[Work] = []
        for category, origin in cells:
            before = [one for one in self.proposals if one.kind is ProposalKind.THRESHOLD
                      and (one.pattern.category, one.pattern.origins) == (category, frozenset({origin}))]  # fmt: skip
            left = _undecided(open_cases, before)
            for wanted in asked(left or (), bars):
                best = wanted.moves[0]
                if (wanted.category, wanted.origin) != (category, origin) or _same(before, {*best.righted, *best.wronged}):
                    continue
                found.append(partial(_threshold, _rewritten(before), wanted, bars[origin]))
        for side in SIDES:
            before = [one for one in self.proposals if one.kind is ProposalKind.HEAD
                      and one.pattern.origins == frozenset(origin.value for origin in side)]  # fmt: skip
            left = _undecided(self.labelled.cases, before)
            chosen = self._texts(left or (), side, before)
            if chosen is not None:
                found.append(partial(_head, _rewritten(before), chosen, side, dict(bars)))
        return found

    def _texts(self, left: Sequence[Case], side: Sequence[Origin], before: Sequence[Proposal]) -> Labelled | None:
        """The texts to train a head from; None where they are too few, or hardly more than those of one that waits."""
        decided = [
            case for case in left
            if case.trajectory.read and Origin(case.trajectory.origin) in side and case.outcome is not Outcome.UNDECIDED
        ]  # fmt: skip
        wrong = sum(case.outcome in _WRONG and case.proposal not in self.settled for case in decided)
        waits = max((len(one.cases) for one in before if one.stage in REWRITTEN), default=0)
        kinds = {case.outcome in ATTACKS for case in decided if case.outcome in ATTACKS | HARMLESS}
        if len(kinds) < 2 or len(decided) < max(LEAST_CASES, MORE * waits) or wrong < LEAST_WRONG:
            return None
        chosen = {case.id for case in fair_share(sorted(decided, key=lambda case: -case.at), MOST_CASES)}
        places = [at for at, case in enumerate(self.labelled.cases) if case.id in chosen]
        known = self.labelled
        return Labelled(tuple(known.cases[at] for at in places), known.vectors[places], known.quoting[places])


def _undecided(cases: Sequence[Case], before: Sequence[Proposal]) -> list[Case] | None:
    """The cases that no earlier proposal of the sort was decided on; None while one is being watched."""
    if any(one.stage in _WATCHED for one in before):
        return None
    decided = {id for one in before if one.stage not in REWRITTEN for id in one.cases}
    return [case for case in cases if case.id not in decided]


def _rewritten(before: Sequence[Proposal]) -> str:
    """The id of the proposal that is written anew, empty where there is none."""
    return next((one.id for one in before if one.stage in REWRITTEN and one.author == "engine"), "")


def _same(before: Sequence[Proposal], cases: set[str]) -> bool:
    """Whether a proposal that waits says this already."""
    return any(one.stage is Stage.PROPOSED and set(one.cases) == cases for one in before)


def _threshold(
    known: str, wanted: Asked, bar: float, tuner: Tuner, id: str, now: float, acting: tuple[Correction, ...]
) -> Proposal:
    return tuner.threshold(known or id, wanted, now, bar, acting)


def _head(
    known: str, texts: Labelled, side: Sequence[Origin], bars: dict[str, float], tuner: Tuner, id: str, now: float,
    acting: tuple[Correction, ...],
) -> Proposal:  # fmt: skip
    return tuner.head(known or id, texts, side, now, bars, acting)
