"""What ``bench learning`` teaches with: the shipped engine with a memory of what the encoder read, and labellers' school."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from detectors.engine import Engine
from detectors.semantic.judge import Reading
from detectors.semantic.learnt import made_ready
from detectors.semantic.prototypes import Prototypes
from detectors.values import Origin, Segment
from gateway import live
from gateway.config.settings import Settings
from gateway.learning.evidence import ATTACKS, matched, speaking, spoken
from gateway.learning.promotion import Rules, failing, step
from gateway.learning.quorum import Record, judged, weight
from gateway.learning.records import heard
from gateway.learning.teacher import Teacher
from gateway.learning.values import Case, Label, Outcome, Proposal, ProposalKind, Stage, Trajectory, case_id
from gateway.screening.policy import Action, Direction, evaluate
from patterns.schema import Pattern

HONEST: Final = ("ada", "bob", "cy", "dee")

class Text(NamedTuple):
    """A text and who says it; of a family, also the template that it is a wording of."""

    text: str
    origin: Origin
    sentence: str = ""


class Bench:
    """The engine over the packs, and a memory of what the encoder read."""

    def __init__(self, cache: Path) -> None:
        self.live = live.build(Settings(data_dir=cache), 1, time.time())
        self.base: Engine = self.live.packs
        model = self.base.cascade.model
        assert model is not None, "the benchmark needs the model"
        self.model = model
        self.teacher = Teacher(model)
        self._read: dict[str, Reading] = {}

    def stopped(self, engine: Engine, text: Text) -> bool:
        """Whether ``balanced`` blocks a request with this text."""
        segments = [Segment(text.text, "user", text.origin, 0, ())]
        screening = engine.screen(segments, "")
        readings = [self.reading(window.text) for window in screening.asked]
        verdict = screening.close(readings).verdict
        return evaluate(self.live.default.policy, verdict, segments, Direction.REQUEST).action is Action.BLOCK

    def share(self, engine: Engine, texts: Sequence[Text]) -> float:
        return sum(self.stopped(engine, text) for text in texts) / len(texts) if texts else float("nan")

    def case(self, text: Text, attack: bool, at: int) -> Case:
        """A text as the gateway judged it, with one analyst's true word."""
        segments = [Segment(text.text, "user", text.origin, 0, ())]
        found = self.base.judge(segments, "")
        verdict = found.verdict
        action = evaluate(self.live.default.policy, verdict, segments, Direction.REQUEST).action
        seen = Trajectory(
            origin=text.origin, action=action, stopped=action in (Action.BLOCK, Action.REDACT), score=verdict.score,
            stages=tuple((one.detector, one.pattern, one.category, one.score) for one in verdict.findings),
            read="encoder" in found.stages[0],
        )  # fmt: skip
        said = "attack" if attack else "benign"
        label = Label(f"{at}", HONEST[at % len(HONEST)], "analyst", said, "", "", 1.0, float(at))
        return judged(Case(id=case_id(b"bench", text.text), at=float(at), text=text.text, views=self.teacher.views(text.text),
                           trajectory=seen).with_label(label))  # fmt: skip

    def learn(self, labelled: Sequence[tuple[Text, Outcome]], name: str) -> dict[str, Pattern]:
        """The patterns that labels lead to, where their trials pass."""
        school = School(self, rules=None)
        school.week([Said(*one, HONEST[at % len(HONEST)]) for at, one in enumerate(labelled)], name)
        return school.learnt

    def learn_in_turn(self, wrong: Sequence[Text], outcome: Outcome, name: str, count: int) -> tuple[list[Text], School]:
        """The same of labels that come one after another, and what was learnt between them acts: each is of the first text
        that is still judged wrongly. What is labelled, and what knows it."""
        school = School(self, rules=None)
        labelled: list[Text] = []
        while len(labelled) < count:
            left = (text for text in wrong if self.stopped(school.engine, text) is (outcome not in ATTACKS))
            text = next((text for text in left if text not in labelled), None)
            if text is None:
                break
            school.week([Said(text, outcome, HONEST[len(labelled) % len(HONEST)])], f"{name}-{len(labelled)}")
            labelled.append(text)
        return labelled, school

    def taught(self, patterns: dict[str, Pattern], known: Engine | None = None) -> Engine:
        return self.base.renewed(patterns, 2, 0.0, known)

    def reading(self, window: str) -> Reading:
        """What the encoder read of a window, once."""
        if window not in self._read:
            self._read[window] = self.model.read(window)
        return self._read[window]


class Said(NamedTuple):
    """One label: what the gateway's action on a text was, by the word of one analyst."""

    text: Text
    outcome: Outcome
    by: str


class School:
    """What is labelled and learnt over some weeks, as `gateway.learning.lessons` and `gateway.learning.stages` do it.

    ``rules`` None takes every proposal that passed its trial for approved; else they decide.
    """

    def __init__(self, bench: Bench, rules: Rules | None) -> None:
        self._bench = bench
        self._rules = rules
        self._cases: dict[str, Case] = {}
        self._records: dict[str, Record] = {}
        self._made: dict[str, Proposal] = {}
        self.engine = bench.base

    @property
    def learnt(self) -> dict[str, Pattern]:
        return {proposal.pattern.id: proposal.pattern for proposal in self._made.values()}

    def week(self, labels: Sequence[Said], name: str) -> None:
        """Take labels, let what they lead to act, and what they speak against act no longer."""
        for at, (text, outcome, by) in enumerate(labels):
            case = self._cases.get(text.text) or self._case(text)
            said = "attack" if outcome in ATTACKS else "benign"
            trust = weight("analyst", self._records.get(by, Record()))
            label = Label(f"{name}-{at}", by, "analyst", said, "", "", trust, case.at)
            self._cases[text.text] = judged(case.with_label(label))
        cases = self._weighed()
        for outcome in (Outcome.FALSE_NEGATIVE, Outcome.FALSE_POSITIVE):
            self._answer(cases, outcome, name)
        self._demote(cases)
        self.engine = self._bench.taught(self.learnt, self.engine)

    def _case(self, text: Text) -> Case:
        stopped = self._bench.stopped(self.engine, text)  # to call harmless what passes anyway teaches nothing
        return Case(
            id=case_id(b"bench", text.text), at=float(len(self._cases)), text=text.text,
            views=self._bench.teacher.views(text.text), trajectory=Trajectory(origin=text.origin, stopped=stopped),
        )  # fmt: skip

    def _weighed(self) -> list[Case]:
        """All cases, each label with what its labeller's word is worth now."""
        cases = list(self._cases.values())
        found = heard(cases, self._bench.teacher.labelled(cases), tuple(self._prototypes()))
        self._records = found.records
        return found.cases

    def _answer(self, cases: Sequence[Case], outcome: Outcome, name: str) -> None:
        teacher = self._bench.teacher
        answered = {id for proposal in self._made.values() for id in proposal.cases}
        labelled = teacher.labelled(cases)
        cases = [case for case in cases if case.outcome is outcome and case.id not in answered]
        for number, group in enumerate(teacher.groups(cases) if cases else []):
            standing = tuple(self._prototypes())
            made = teacher.propose(case_id(b"bench", f"{name}-{outcome}-{number}"), group, 0.0, labelled, standing)
            for proposal in made:
                if proposal.trial is None or not proposal.trial.passed:
                    continue
                if self._rules is None or step(proposal, self._rules, 0.0) is not None:
                    id = f"{proposal.pattern.id}.{name.replace('_', '-')}.{number}"
                    self._made[id] = replace(proposal, pattern=replace(proposal.pattern, id=id), stage=Stage.ACTIVE)

    def _prototypes(self) -> Prototypes:
        return made_ready(self.learnt.values(), self._bench.model, self.engine.cascade.prototypes)

    def _demote(self, cases: Sequence[Case]) -> None:
        standing = tuple(self._prototypes())
        pardons = {id for one in self._made.values() if one.kind is ProposalKind.BENIGN for id in one.cases}
        labelled = self._bench.teacher.labelled(cases)
        reached = speaking(matched(cases, labelled, standing), labelled, standing, pardons)
        for id, proposal in list(self._made.items()):
            own = {case.id: case for case in cases if case.id in proposal.cases}
            about = own | {case.id: case for case in reached.get(id, ())}
            said = spoken(proposal.pattern, about.values(), own)
            told = replace(proposal, confirmed=said.confirmed, refuted=said.refuted, spoken_for=said.spoken_for,
                           spoken_against=said.spoken_against)  # fmt: skip
            if failing(told, self._rules or Rules()):
                del self._made[id]
