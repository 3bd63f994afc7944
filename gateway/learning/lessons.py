"""From cases to lessons: what labels say of every pattern and labeller, why outcomes were wrong, and what would have helped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from detectors.engine import Engine
from detectors.semantic.prototypes import Prototype
from gateway.learning.book import Book
from gateway.learning.evidence import Labelled, Spoken, says, speaking, spoken
from gateway.learning.promotion import Rules, suspects
from gateway.learning.quorum import Record
from gateway.learning.records import heard, weighed
from gateway.learning.reflection import reflect
from gateway.learning.remembered import Remembered
from gateway.learning.stages import OUT, STATES
from gateway.learning.teacher import Group, Teacher
from gateway.learning.tuner import Tuner
from gateway.learning.tuning import Tuning
from gateway.learning.values import REWRITTEN, Case, Outcome, Proposal, ProposalKind, Stage
from gateway.learning.wording import carried
from gateway.live import Live
from gateway.records.decisions import new_id
from patterns.schema import Kind, Pattern, Severity


class Lessons:
    """One pass after another over all cases. ``rules`` and ``live`` give what holds now.

    Attributes:
        about: what labels came to about each pattern in the latest pass; empty before the first.
    """

    def __init__(
        self, book: Book, live: Callable[[], Live], teacher: Callable[[], Teacher], rules: Callable[[], Rules]
    ) -> None:
        self._book = book
        self._live = live
        self._teacher = teacher
        self._rules = rules
        self.about: dict[str, Spoken] = {}
        self._remembered = Remembered(book)
        self._written: dict[str, Spoken | Record] = {}
        self._weights: dict[str, float] = {}
        self._answered: dict[frozenset[str], tuple[object, ...]] = {}
        self._tuning: Tuning | None = None

    def forget(self) -> None:
        """Another worker learnt meanwhile: take nothing for known."""
        self._remembered.forget()
        self._written.clear()
        self._answered.clear()

    async def learn(self, now: float) -> None:
        """Count what labels say, find lessons in all cases that have none, and answer those that nothing answers."""
        fresh = await self._remembered.refresh(now)
        cases = list(self._remembered.cases.values())
        proposals = [proposal async for proposal in self._book.all_proposals()]
        labelled = await asyncio.to_thread(self._teacher().labelled, cases)
        engine = self._live().engine
        learnt = tuple(engine.cascade.prototypes)
        cases, labelled, by_pattern, records = await asyncio.to_thread(heard, cases, labelled, learnt)
        fresh = weighed(fresh, records) + self._reweighed(cases, records)
        await self._write(records)
        open_ = {one.id: one for one in proposals if one.stage in REWRITTEN and one.author == "engine"}
        settled = {one.id for one in proposals if one.stage not in (*REWRITTEN, Stage.REJECTED)}
        rejected = [frozenset(one.cases) for one in proposals if one.stage is Stage.REJECTED]
        waiting: dict[Outcome, list[Case]] = {Outcome.FALSE_NEGATIVE: [], Outcome.FALSE_POSITIVE: []}
        for case in cases:
            if case.outcome in waiting and case.proposal not in settled:
                waiting[case.outcome].append(case)
                if not case.views and not case.lesson:  # it is in no group
                    await self._lesson(case, 0)
            elif case.outcome is not Outcome.UNDECIDED and not case.lesson:
                await self._lesson(case, 0)
        news = await asyncio.to_thread(self._teacher().labelled, fresh)
        answered, self._answered = self._answered, {}
        for some in waiting.values():
            for group in await asyncio.to_thread(self._teacher().groups, sorted(some, key=lambda case: case.at)):
                ids = frozenset(case.id for case in group.cases)
                if any(before >= ids for before in rejected):
                    continue
                known = (engine.generation.digest, *(case.labels for case in group.cases))
                if answered.get(ids) != known or self._teacher().concerns(group, news, learnt):
                    await self._answer(group, open_, labelled, learnt, now)
                self._answered[ids] = known
        told = [proposal async for proposal in self._book.all_proposals()]
        speak = speaking(by_pattern, labelled, learnt, _pardoning(told))
        self.about = about = await self._count(cases, labelled, speak, engine, told)
        await self._narrow(now, {pattern.id: pattern for pattern in engine.generation.patterns}, about, proposals)
        self._tuning = Tuning(cases, labelled, tuple(proposals), frozenset(settled))

    async def tune(self, now: float, tuner: Callable[[], Tuner]) -> None:
        """Answer what the last pass saw with corrections of the model. While our corpora are being read, only read on."""
        if self._tuning is None or self._teacher().model is None:
            return
        bars = tuner().bars(self._preset)
        work = self._tuning.work(bars)
        if work and not await asyncio.to_thread(tuner().advance):
            return
        self._tuning = None
        acting = tuple(self._live().engine.cascade.corrections)
        for one in work:
            await self._keep(await asyncio.to_thread(one, tuner(), new_id(now), now, acting))

    async def _count(
        self, cases: Sequence[Case], labelled: Labelled, by_pattern: Mapping[str, Sequence[Case]], engine: Engine,
        proposals: Sequence[Proposal],
    ) -> dict[str, Spoken]:  # fmt: skip
        """What all labels together say of patterns and proposals: counted anew, so that a verdict that changed counts as what
        it is now."""
        prototypes, corrections = engine.cascade.prototypes, engine.cascade.corrections
        opinions = {ready.pattern.id: says(ready.pattern) for ready in prototypes}
        opinions |= {one.pattern.id: says(one.pattern, labelled, one) for one in corrections}
        about = {id: spoken(_ATTACK, some, (), opinions.get(id)) for id, some in by_pattern.items()}
        for id, said in about.items():
            if self._written.get(id) != said:
                await self._book.set_spoken(id, said.confirmed, said.refuted, said.spoken_for, said.spoken_against)
                self._written[id] = said
        known = {case.id: case for case in cases}
        for proposal in proposals:
            if proposal.stage not in STATES:
                continue
            own = {id: known[id] for id in proposal.cases if id in known}
            later = {case.id: case for case in by_pattern.get(proposal.pattern.id, ()) if own or case.at >= proposal.at}
            said = spoken(proposal.pattern, (later | own).values(), own, opinions.get(proposal.pattern.id))
            if self._written.get(proposal.id) != said:
                await self._book.change_proposal(proposal.id, _told(said))
                self._written[proposal.id] = said
        return about

    async def _write(self, records: Mapping[str, Record]) -> None:
        for by, record in records.items():
            if self._written.get(f"labeller {by}") != record:
                await self._book.set_standing(by, record)
                self._written[f"labeller {by}"] = record

    def _reweighed(self, cases: Sequence[Case], records: Mapping[str, Record]) -> list[Case]:
        """The cases of labellers whose word is worth something else than in the pass before: to be heard anew."""
        before, self._weights = self._weights, {by: record.standing for by, record in records.items()}
        changed = {by for by in {*before, *self._weights} if before.get(by, 1.0) != self._weights.get(by, 1.0)}
        return [case for case in cases if any(one.by in changed for one in case.labels)] if changed else []

    async def _answer(
        self, group: Group, open_: Mapping[str, Proposal], labelled: Labelled, learnt: Sequence[Prototype], now: float
    ) -> None:
        """Propose what answers a group of cases, or change the open proposal that answered some of them."""
        told = tuple([await self._lesson(case, len(group.cases) - 1) for case in group.cases])
        ids = sorted({case.proposal for case in told if case.proposal in open_})
        id = ids[0] if ids else new_id(now)
        for proposal in await asyncio.to_thread(self._teacher().propose, id, group._replace(cases=told), now, labelled, learnt):
            await self._keep(proposal)
        for case in told:
            if case.proposal != id:
                await self._change(case.id, _answered(id))

    @property
    def _preset(self) -> str:
        """Whose bars count: where nothing is acted on, the ones that would be."""
        chosen = self._live().settings.policy.preset
        return "balanced" if chosen == "monitor" else chosen

    async def _lesson(self, case: Case, siblings: int) -> Case:
        views = await asyncio.to_thread(self._teacher().read, case)
        learnt = tuple(self._live().engine.cascade.prototypes)
        facts = await asyncio.to_thread(self._teacher().facts, case, views, siblings, self._preset, learnt)
        lesson = reflect(case, facts)
        if lesson != case.lesson:
            await self._change(case.id, lambda old: replace(old, lesson=lesson) if old else None)
        return replace(case, lesson=lesson)

    async def _change(self, id: str, change: Callable[[Case | None], Case | None]) -> None:
        """Change a case in the state and in memory."""
        if (changed := await self._book.change_case(id, change)) is not None:
            self._remembered.cases[id] = changed

    async def _keep(self, proposal: Proposal) -> None:
        """Write a proposal anew; one that was voted on and changed must be voted on again."""
        stage = Stage.PROPOSED if proposal.trial and proposal.trial.passed else Stage.FAILED

        def change(old: Proposal | None) -> Proposal | None:
            if old is None:
                return replace(proposal, stage=stage)
            if old.stage not in REWRITTEN:
                return None
            votes = old.votes if (old.pattern, old.stage) == (proposal.pattern, stage) else ()
            new = carried(old, replace(proposal, stage=stage, at=old.at, since=old.since, votes=votes))
            return None if new == old else new

        await self._book.change_proposal(proposal.id, change)

    async def _narrow(
        self, now: float, standing: Mapping[str, Pattern], about: Mapping[str, Spoken], proposals: Sequence[Proposal]
    ) -> None:
        effects = await self._book.effects()
        for id in suspects(effects, self._rules())[:10]:
            pattern, precision = standing.get(id), effects[id].precision
            if pattern is None or not pattern.kind.lexical or precision is None or id not in about:
                continue
            asked = f"{id}@{pattern.revision}"
            if any(one.reason == asked or (one.pattern.id == id and one.open) for one in proposals):
                continue
            made = await asyncio.to_thread(self._teacher().narrow, new_id(now), pattern, precision, now)
            await self._keep(replace(made, reason=asked, supporters=about[id].opponents))


def _told(said: Spoken) -> Callable[[Proposal | None], Proposal | None]:
    def change(old: Proposal | None) -> Proposal | None:
        if old is None:
            return None
        new = replace(
            old, confirmed=said.confirmed, refuted=said.refuted, spoken_for=said.spoken_for, spoken_against=said.spoken_against
        )
        return None if new == old else new

    return change


def _pardoning(proposals: Iterable[Proposal]) -> set[str]:
    """The cases that a harmless kind would let through which passed its trial and that nobody refused."""
    found: set[str] = set()
    for one in proposals:
        stands = one.stage in (Stage.PROPOSED, *OUT) and one.trial is not None and one.trial.passed
        if one.kind is ProposalKind.BENIGN and stands:
            found.update(one.cases)
    return found


def _answered(id: str) -> Callable[[Case | None], Case | None]:
    return lambda old: old and replace(old, proposal=id)


_ATTACK = Pattern(id="any", kind=Kind.REGEX, body="x", category="", severity=Severity.LOW, reach=1)
"""What is no learnt exemplar finds attacks or values: a label that says attack agrees with it."""
