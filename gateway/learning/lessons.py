"""From cases to lessons: what labels say of every pattern and labeller, why outcomes were wrong, and what would have helped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from detectors.semantic.prototypes import Prototype
from gateway.decisions import new_id
from gateway.learning.book import Book
from gateway.learning.evidence import Labelled, Spoken, matched, spoken, standings
from gateway.learning.promotion import Rules, suspects
from gateway.learning.reflection import reflect
from gateway.learning.stages import STATES
from gateway.learning.teacher import Group, Teacher
from gateway.learning.values import Case, Outcome, Proposal, Stage
from gateway.live import Live
from patterns.schema import Kind, Pattern, Severity

_REWRITTEN = (Stage.PROPOSED, Stage.FAILED)
"""Stages in which the engine may write its own proposal anew: nobody has decided on it."""


class Lessons:
    """One pass over all cases. ``rules`` and ``live`` give what holds now."""

    def __init__(
        self, book: Book, live: Callable[[], Live], teacher: Callable[[], Teacher], rules: Callable[[], Rules]
    ) -> None:
        self._book = book
        self._live = live
        self._teacher = teacher
        self._rules = rules

    async def learn(self, now: float) -> None:
        """Count what labels say, find lessons in all cases that have none, and answer those that nothing answers."""
        cases = [case async for case in self._book.cases()]
        proposals = [proposal async for proposal in self._book.all_proposals()]
        labelled = await asyncio.to_thread(self._teacher().labelled, cases)
        engine = self._live().engine
        learnt = tuple(engine.cascade.prototypes)
        about = await self._count(cases, labelled, learnt, proposals)
        open_ = {one.id: one for one in proposals if one.stage in _REWRITTEN and one.author == "engine"}
        settled = {one.id for one in proposals if one.stage not in (*_REWRITTEN, Stage.REJECTED)}
        rejected = [frozenset(one.cases) for one in proposals if one.stage is Stage.REJECTED]
        waiting: dict[Outcome, list[Case]] = {Outcome.FALSE_NEGATIVE: [], Outcome.FALSE_POSITIVE: []}
        for case in cases:
            if case.outcome in waiting and case.proposal not in settled:
                waiting[case.outcome].append(case)
            elif case.outcome is not Outcome.UNDECIDED and not case.lesson:
                await self._lesson(case, 0)
        for some in waiting.values():
            for group in await asyncio.to_thread(self._teacher().groups, sorted(some, key=lambda case: case.at)):
                if not any(before >= {case.id for case in group.cases} for before in rejected):
                    await self._answer(group, open_, labelled, learnt, now)
        await self._narrow(now, {pattern.id: pattern for pattern in engine.generation.patterns}, about, proposals)

    async def _count(
        self, cases: Sequence[Case], labelled: Labelled, learnt: Sequence[Prototype], proposals: Sequence[Proposal]
    ) -> dict[str, Spoken]:
        """What all labels together say of patterns, proposals and labellers: counted anew, so that a verdict that changed
        counts as what it is now."""
        by_pattern = matched(cases, labelled, learnt)
        kinds = {ready.pattern.id: ready.pattern for ready in learnt}
        about = {id: spoken(kinds.get(id, _ATTACK), some) for id, some in by_pattern.items()}
        for id, said in about.items():
            await self._book.set_spoken(id, said.confirmed, said.refuted, said.spoken_for, said.spoken_against)
        known = {case.id: case for case in cases}
        for proposal in proposals:
            if proposal.stage not in STATES:
                continue
            own = {id: known[id] for id in proposal.cases if id in known}
            later = {case.id: case for case in by_pattern.get(proposal.pattern.id, ()) if own or case.at >= proposal.at}
            await self._book.change_proposal(proposal.id, _told(spoken(proposal.pattern, (later | own).values(), own)))
        for by, record in standings(cases).items():
            await self._book.set_standing(by, record)
        return about

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
                await self._book.change_case(case.id, _answered(id))

    async def _lesson(self, case: Case, siblings: int) -> Case:
        views = await asyncio.to_thread(self._teacher().read, case)
        vector = None if views is None else views.embedding
        facts = await asyncio.to_thread(self._teacher().facts, case, vector, siblings)
        lesson = reflect(case, facts)
        if lesson == case.lesson:
            return case
        return await self._book.change_case(case.id, lambda old: replace(old, lesson=lesson) if old else None) or case

    async def _keep(self, proposal: Proposal) -> None:
        """Write a proposal anew; one that was voted on and changed must be voted on again."""
        stage = Stage.PROPOSED if proposal.trial and proposal.trial.passed else Stage.FAILED

        def change(old: Proposal | None) -> Proposal | None:
            if old is None:
                return replace(proposal, stage=stage)
            if old.stage not in _REWRITTEN:
                return None
            votes = old.votes if (old.pattern, old.stage) == (proposal.pattern, stage) else ()
            new = replace(proposal, stage=stage, at=old.at, since=old.since, votes=votes)
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


def _answered(id: str) -> Callable[[Case | None], Case | None]:
    return lambda old: old and replace(old, proposal=id)


_ATTACK = Pattern(id="any", kind=Kind.REGEX, body="x", category="", severity=Severity.LOW, reach=1)
"""What is no learnt exemplar finds attacks or values: a label that says attack agrees with it."""
