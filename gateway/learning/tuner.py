"""Makes proposals that correct the model: a bar moved for a category and origin, and its last layer trained further.

Synchronous, on a thread as `teacher`, and like it changes nothing. The corpora must have been read first (`Tuner.advance`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.semantic.corrections import Correction, log_odds, probability, ready, write_head
from detectors.values import Origin
from gateway.learning import head, trial
from gateway.learning.evidence import ATTACKS, Labelled, says, spoken
from gateway.learning.head import Texts
from gateway.learning.readings import ATTACKS as CATEGORIES
from gateway.learning.readings import Judged, Readings
from gateway.learning.teacher import Teacher
from gateway.learning.thresholds import Asked, Move
from gateway.learning.values import Case, Outcome, Proposal, ProposalKind, Trial
from patterns.schema import Kind, Pattern, Severity, State

SHARES: Final = (1.0, 0.7, 0.5, 0.35)
"""How much of a trained head is tried, in this order, until a trial passes: what it costs grows faster than what it brings."""

_ACTING: Final = (State.ACTIVE, State.CANARY)


class Tuner:
    """See the module. ``cache`` is the folder where what was read of the corpora is kept, or None."""

    def __init__(self, teacher: Teacher, cache: Path | None) -> None:
        assert teacher.model is not None, "without a model there is nothing to correct"
        self.teacher = teacher
        self._model = teacher.model
        self._cache = cache

    def advance(self) -> bool:
        """Read on in the corpora; True once that is done."""
        return self._readings.advance()

    def bars(self, preset: str) -> dict[str, float]:
        """The score from which a preset blocks, by origin."""
        return {origin.value: bar for origin, bar in self._model.calibration.thresholds[preset].items()}

    def threshold(self, id: str, asked: Asked, now: float, bar: float, acting: Iterable[Correction] = ()) -> Proposal:
        """The best move that its trial lets pass; where there is none, the best one with what speaks against it."""
        tried = [(move, *self._move(id, asked, move, bar, acting)) for move in asked.moves]
        move, pattern, found = next((one for one in tried if one[2].passed), tried[0])
        known = {case.id: case for case in asked.cases}
        changed = [known[one] for one in (*move.righted, *move.wronged)]
        moved = probability(log_odds(bar) + move.by)
        wrong = [case for case in asked.cases if case.outcome in (Outcome.FALSE_POSITIVE, Outcome.FALSE_NEGATIVE)]
        stopped = sum(case.outcome is Outcome.FALSE_POSITIVE for case in wrong)
        return self._spoken(Proposal(
            id=id, kind=ProposalKind.THRESHOLD, pattern=pattern, at=now, since=now, author="engine", trial=found,
            cases=tuple(case.id for case in changed),
            reflection=f"Of {len(asked.cases)} labelled texts from origin {asked.origin} that the model alone judged to be"
                       f" {asked.category}, {len(wrong)} were judged wrongly: {stopped} harmless ones were stopped and"
                       f" {len(wrong) - stopped} attacks passed.",
            expected=f"the bar for {asked.category} from {asked.origin} moves from a probability of {bar:.2f} to {moved:.2f}:"
                     f" {len(move.righted)} of these texts are judged rightly that were not, {len(move.wronged)} wrongly that"
                     " were right",
        ), changed)  # fmt: skip

    def head(
        self, id: str, labelled: Labelled, side: Sequence[Origin], now: float, bars: dict[str, float],
        acting: Iterable[Correction] = (),
    ) -> Proposal:  # fmt: skip
        """A head trained on labelled texts of one side, tried on texts that it was not shown."""
        judged = self._readings.judged(side[0])
        read = judged.read  # what the front stage settles is judged by it alone
        totals = judged.total + _shift([one for one in acting if _concerns(one, side[0])], judged)
        attack = np.array([case.outcome in ATTACKS for case in labelled.cases])
        texts = Texts(labelled.vectors, np.array([log_odds(case.trajectory.score) for case in labelled.cases], np.float32),
                      attack.astype(np.float32))  # fmt: skip
        known = Texts(judged.vectors[read], totals[read], (1 / (1 + np.exp(-totals[read]))).astype(np.float32))
        learnt = head.fit(texts, known)
        own, others = head.held_out(texts, known)
        shift = np.zeros(len(totals))
        shift[read] = others
        bar = np.array([log_odds(bars[case.trajectory.origin]) for case in labelled.cases])
        at = log_odds(bars[side[0].value])
        before = texts.log_odds >= bar

        def tried(share: float) -> tuple[float, int, int, Trial]:
            after = texts.log_odds + share * own >= bar
            righted = int(((after == attack) & (before != attack)).sum())
            wronged = int(((after != attack) & (before == attack)).sum())
            stopped = (read & (total >= at) for total in (judged.total, totals, totals + share * shift))
            changed = trial.Changed(judged.attack, *stopped)
            return share, righted, wronged, trial.correction(changed, len(labelled.cases), righted, wronged, self._texts)

        tries = [tried(share) for share in SHARES]
        share, righted, wronged, found = next((one for one in tries if one[3].passed), tries[0])
        pattern = Pattern(
            id=f"learnt.head.{id[-12:]}", kind=Kind.HEAD,
            body=write_head(share * learnt.weights.astype(np.float32), share * learnt.offset, self._model.encoder.digest),
            category=_commonest(labelled.cases), severity=Severity.HIGH, reach=None,
            origins=frozenset(origin.value for origin in side), provenance=f"trained on {len(labelled.cases)} labelled texts",
        )  # fmt: skip
        wrong = int((before != attack).sum())
        return self._spoken(Proposal(
            id=id, kind=ProposalKind.HEAD, pattern=pattern, at=now, since=now, author="engine", trial=found,
            cases=tuple(case.id for case in labelled.cases),
            reflection=f"Of {len(labelled.cases)} labelled texts that the encoder read, it judged {wrong} wrongly, of more"
                       " kinds than one exemplar answers.",
            expected="its last layer is trained further on them: of texts like these, each left out in turn,"
                     f" {righted} are judged rightly that were not and {wronged} wrongly that were right",
        ), labelled.cases, labelled)  # fmt: skip

    def _move(
        self, id: str, asked: Asked, move: Move, bar: float, acting: Iterable[Correction]
    ) -> tuple[Pattern, Trial]:
        pattern = Pattern(
            id=f"learnt.threshold.{id[-12:]}", kind=Kind.THRESHOLD, body=f"{move.by:+.2f}", category=asked.category,
            severity=Severity.HIGH, reach=None, origins=frozenset({asked.origin}),
            provenance=f"learnt from {len(asked.cases)} labelled texts",
        )  # fmt: skip
        origin = Origin(asked.origin)
        judged = self._readings.judged(origin)
        now_acting = [one for one in acting if _concerns(one, origin)]
        at = log_odds(bar)
        totals = [judged.total, judged.total + _shift(now_acting, judged)]
        totals.append(totals[1] + _shift([ready(pattern, self._model.encoder.digest)], judged))
        changed = trial.Changed(judged.attack, *(judged.read & (total >= at) for total in totals))
        return pattern, trial.correction(changed, len(asked.cases), len(move.righted), len(move.wronged), self._texts)

    def _spoken(self, proposal: Proposal, cases: Sequence[Case], labelled: Labelled | None = None) -> Proposal:
        """The proposal with what the labellers of its texts say of them."""
        one = ready(proposal.pattern, self._model.encoder.digest)
        opinion = says(proposal.pattern, labelled, one) if labelled else says(proposal.pattern)
        said = spoken(proposal.pattern, cases, {case.id for case in cases}, opinion)
        found = proposal.trial or Trial()
        return replace(
            proposal, supporters=said.supporters, spoken_for=said.spoken_for, spoken_against=said.spoken_against,
            trial=found._replace(against=(*found.against, *trial.by_labellers(said))),
        )  # fmt: skip

    @property
    def _texts(self) -> tuple[str, ...]:
        return (*self.teacher.corpus.harmless, *self.teacher.corpus.hostile)

    @cached_property
    def _readings(self) -> Readings:
        return Readings(self._model, self.teacher.corpus, self._cache)


def _concerns(one: Correction, origin: Origin) -> bool:
    return one.pattern.state in _ACTING and (not one.pattern.origins or origin in one.pattern.origins)


def _shift(corrections: Iterable[Correction], judged: Judged) -> npt.NDArray[np.float32]:
    """What corrections add to the log-odds of each text of the corpora."""
    total = np.zeros(len(judged.total), np.float32)
    for one in corrections:
        if one.weights is not None:
            total += judged.vectors @ one.weights + np.float32(one.offset)
        else:
            total += np.where(judged.category == CATEGORIES.index(one.pattern.category), np.float32(one.offset), np.float32(0))
    return total


def _commonest(cases: Sequence[Case]) -> str:
    """The category that most of the attacks are of; a head is told under it and concerns all."""
    named = [case.category.partition(".")[0] for case in cases if case.category and case.outcome in ATTACKS]
    named = [name for name in named if name in CATEGORIES]
    return max(sorted(set(named)), key=named.count) if named else CATEGORIES[0]
