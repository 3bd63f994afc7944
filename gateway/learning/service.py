"""The learning loop of a worker: takes labels, keeps cases and proposals, and lets patterns move through their stages.

Labels are answered at once; what follows from them is worked out behind, on a thread, by whichever worker holds the lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import orjson

from detectors.semantic.prototypes import PrototypeError
from detectors.values import Origin, Segment
from gateway.decisions import is_id, new_id
from gateway.inspection import Inspected
from gateway.keys import Principal
from gateway.learning import quorum
from gateway.learning.book import Book, Listed
from gateway.learning.promotion import Rules, step, suspects
from gateway.learning.reflection import reflect
from gateway.learning.teacher import Group, Teacher
from gateway.learning.trajectory import of_decision
from gateway.learning.values import (
    MAX_NOTE,
    MAX_TEXT,
    Case,
    Label,
    Outcome,
    Proposal,
    ProposalKind,
    Said,
    Stage,
    Trajectory,
    Vote,
    case_id,
)
from gateway.live import Live
from gateway.policy import Action, Direction, evaluate
from gateway.state.base import State, StateUnavailable
from patterns import taxonomy
from patterns.schema import Pattern, PatternError
from patterns.schema import State as PatternState
from patterns.store import Store, StoreError

PASS_SECONDS: Final = 0.5
"""How often the worker with the lease looks at new cases and at proposals that are due."""

LEASE_SECONDS: Final = 10.0
"""How long a lease holds; another worker takes over when its holder has not renewed it for so long."""

MAX_PENDING: Final = 10_000
"""Cases that wait for their lesson. Labels beyond that are kept, and looked at when the next pass reads all cases."""

MAX_LABELLERS: Final = 10_000
"""Labellers whose rate is remembered by a worker."""

APP_SHARE: Final = 10
"""An application's key gets this fraction of a person's labels a minute."""

_LEASE: Final = "learning-lease"
_DIRTY: Final = "learning-dirty"
_STATES: Final = {Stage.SHADOW: PatternState.SHADOW, Stage.CANARY: PatternState.CANARY, Stage.ACTIVE: PatternState.ACTIVE,
                  Stage.DEMOTED: PatternState.RETIRED}  # fmt: skip

_STAGES: Final = {state: stage for stage, state in _STATES.items()}

TAKES_AWAY: Final = frozenset({ProposalKind.RETIRE, ProposalKind.NARROW})
"""Proposals about a pattern that stands already."""

_log = logging.getLogger(__name__)


class Refused(ValueError):  # noqa: N818 - reads as the condition that it is
    """A label, vote or proposal that is not taken; ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Given(NamedTuple):
    """What somebody said: of a decision, or of a text, or of both."""

    label: str
    decision_id: str = ""
    text: str = ""
    category: str = ""
    note: str = ""
    origin: str = "user"


class Learning:
    """See the module. ``live`` gives what serves now."""

    def __init__(self, state: State, store: Store, live: Callable[[], Live]) -> None:
        self.book = Book(state)
        self.store = store
        self._state = state
        self._live = live
        self._teacher: Teacher | None = None
        self._key = b""
        self._buckets: dict[str, tuple[float, float]] = {}
        self._matches: Counter[str] = Counter()
        self._seen = 0
        self._name = new_id(time.time())
        self._work = asyncio.Lock()
        self._dirty = 0
        self.leads = False
        self.labels = Counter[str]()
        self.moves = Counter[str]()

    def begin(self, key: bytes) -> None:
        """Take the secret that keys texts' hashes."""
        self._key = key

    @property
    def teacher(self) -> Teacher:
        model = self._live().engine.cascade.model
        if self._teacher is None or self._teacher.model is not model:
            self._teacher = Teacher(model)
        return self._teacher

    @property
    def rules(self) -> Rules:
        chosen = self._live().settings.learning
        return Rules(
            approvals=chosen.approvals, automatic=chosen.automatic, shadow_seconds=chosen.shadow_seconds,
            canary_seconds=chosen.canary_seconds, canary_percent=chosen.canary_percent, precision=chosen.precision,
        )  # fmt: skip

    # Labels

    async def label(self, principal: Principal, role: str, given: Given, now: float) -> str:
        """Take a label; returns its id, the same for the same word of the same labeller on the same text.

        Raises:
            Refused: it is wrong, names nothing that is known, or comes too fast.
        """
        _check(given)
        self._slow_down(principal, role, now)
        trajectory, text = await self._trajectory(principal, given, now)
        subject = text or f"decision {trajectory.decision}"
        id = case_id(self._key, subject)
        by = principal.key or "local"
        standing = await self.book.standing(by)
        label = Label(new_id(now), by, role, given.label, given.category, given.note, quorum.weight(role, standing), now)
        views = await asyncio.to_thread(self.teacher.views, text) if text else ""
        keeps = bool(text) and await asyncio.to_thread(self._may_keep, text)
        kept = text if keeps else ""
        taken = label.id

        def change(case: Case | None) -> Case | None:
            nonlocal taken
            if case is None:
                case = Case(id=id, at=now, text=kept, views=views, trajectory=trajectory)
            known = next((one for one in case.labels if one.by == by), None)
            if known and (known.said, known.category, known.note) == (label.said, label.category, label.note):
                taken = known.id
                return None
            return _judged(case.with_label(label))

        case = await self.book.change_case(id, change)
        if case is not None:
            await self.book.add_label(Listed(label.id, id, by, role, given.label, given.category, given.note, now))
            self.labels[given.label] += 1
            await self._mark_dirty()
        return taken

    async def _trajectory(self, principal: Principal, given: Given, now: float) -> tuple[Trajectory, str]:
        if given.decision_id:
            record = await self._state.decision(given.decision_id) if is_id(given.decision_id) else None
            if record is None or not principal.sees(record.tenant):
                raise Refused(404, "decision_id: there is no decision with this id, or it has expired")
            told = of_decision(record, await self._state.kept_texts(given.decision_id, now))
            return told.trajectory, given.text or told.text
        live = self._live()
        segments = [Segment(given.text, "user", Origin(given.origin), 0, ())]
        verdict = (await asyncio.to_thread(live.engine.twin().judge, segments, "")).verdict
        stages = tuple((one.detector, one.pattern, one.category, one.score) for one in verdict.findings[:20])
        action = evaluate(live.default.policy, verdict, segments, Direction.REQUEST).action
        stopped = action in (Action.BLOCK, Action.REDACT)
        return Trajectory(
            "", verdict.generation, principal.tenant, given.origin, action, stopped, verdict.score, stages,
        ), given.text  # fmt: skip

    def _may_keep(self, text: str) -> bool:
        """Whether retention lets a labelled text be kept as text. What holds values is not kept where they are redacted."""
        keeps = self._live().settings.retention.text
        if keeps == "redacted":
            verdict = self._live().engine.twin().judge([Segment(text, "user", Origin.USER, 0, ())], "").verdict
            return not any(not taxonomy.is_attack(one.category) for one in verdict.findings)
        return keeps == "full"

    def _slow_down(self, principal: Principal, role: str, now: float) -> None:
        a_minute = float(self._live().settings.learning.labels_per_minute)
        if role == "app":
            a_minute = max(1.0, a_minute / APP_SHARE)
        by = principal.key or "local"
        left, at = self._buckets.get(by, (a_minute, now))
        left = min(a_minute, left + (now - at) * a_minute / 60)
        if left < 1:
            raise Refused(429, f"too many labels: at most {a_minute:.0f} a minute are taken from one labeller")
        if len(self._buckets) >= MAX_LABELLERS:
            self._buckets.clear()
        self._buckets[by] = (left - 1, now)

    # Proposals

    async def propose(
        self, principal: Principal, pattern: Pattern, reason: str, now: float, retire: bool = False
    ) -> Proposal:
        """A person's own pattern, or the wish to retire a standing one, as a proposal.

        Raises:
            Refused: it cannot be tried.
        """
        by = principal.key or "local"

        def make() -> Proposal:
            if retire:
                return self.teacher.retire(new_id(now), pattern, by, reason, now)
            proposed = self.teacher.calibrated(replace(pattern, state=PatternState.PROPOSED))
            return self.teacher.by_hand(new_id(now), proposed, by, reason, now)

        try:
            made = await asyncio.to_thread(make)
        except (PatternError, PrototypeError) as error:
            raise Refused(422, str(error)) from None
        await self.book.change_proposal(made.id, lambda _: made)
        return made

    async def propose_from_feed(self, pattern: Pattern, where: str) -> None:
        """Propose what a feed brought; what cannot be tried is told in the log."""
        feed = Principal("feed", "*", None, frozenset())
        try:
            await self.propose(feed, pattern, where, time.time())
        except Refused as error:
            _log.warning("a feed's pattern is left out: %s", error)

    async def known(self) -> frozenset[str]:
        """The ids of all patterns that stand or were ever proposed."""
        found = {pattern.id for pattern in self._live().engine.generation.patterns} | set(self.store.entries())
        before: str | None = None
        while page := await self.book.proposals(before=before):
            found |= {one.pattern.id for one in page}
            before = page[-1].id
        return frozenset(found)

    async def vote(self, principal: Principal, id: str, approves: bool, reason: str, now: float) -> Proposal:
        """Approve or reject; a later vote of the same person replaces the earlier one.

        Raises:
            Refused: there is no such proposal, it is decided, or it is the voter's own.
        """
        if len(reason) > MAX_NOTE:
            raise Refused(422, f"reason: at most {MAX_NOTE} characters")
        by = principal.key or "local approver"  # without keys one person is both; with keys, two are needed

        def change(proposal: Proposal | None) -> Proposal:
            if proposal is None:
                raise Refused(404, "there is no such proposal")
            if not proposal.open:
                raise Refused(409, f"the proposal is {proposal.stage} already")
            if approves and by == proposal.author and principal.key:
                raise Refused(403, "whoever proposes does not approve: ask a second person")
            votes = (*(vote for vote in proposal.votes if vote.by != by), Vote(by, approves, reason, now))
            if not approves and proposal.stage is Stage.PROPOSED:
                return replace(proposal, votes=votes, stage=Stage.REJECTED, since=now, reason=reason)
            return replace(proposal, votes=votes)

        changed = await self.book.change_proposal(id, change)
        assert changed is not None
        if not approves and changed.stage in _STATES:
            return await self._enter(changed, Stage.DEMOTED, reason or "rejected", now, by)
        return await self._advance(changed, now) if approves else changed

    async def promote(self, principal: Principal, id: str, reason: str, now: float) -> Proposal:
        """Let a proposal move one stage on before its time of watching is over.

        Raises:
            Refused: there is no such proposal, or something other than time holds it.
        """
        proposal = await self.book.proposal(id)
        if proposal is None:
            raise Refused(404, "there is no such proposal")
        if proposal.stage in (Stage.ACTIVE, Stage.DEMOTED, Stage.REJECTED):
            raise Refused(409, f"the proposal is {proposal.stage} already")
        move = step(proposal, self.rules, now, force=True)
        if move is None:
            against = "; ".join(proposal.trial.against) if proposal.trial else "it was not tried"
            why = f"its trial failed: {against}" if against else "it has not enough approvals of others than its author"
            raise Refused(409, f"the proposal stays {proposal.stage}: {why}")
        return await self._enter(proposal, move.to, reason or move.reason, now, principal.key or "local")

    # The loop

    def observe(self, *sides: Inspected | None) -> None:
        """Count a screened request, and which patterns matched in it. Called for every request: it only adds numbers."""
        self._seen += 1
        for side in sides:
            if side is not None and side.judged.verdict.findings:
                self._matches.update({finding.pattern for finding in side.judged.verdict.findings})

    async def flush(self, now: float) -> None:
        """Write what was counted since the last time."""
        seen, self._seen = self._seen, 0
        matches, self._matches = self._matches, Counter()
        for pattern, count in matches.items():
            await self.book.add_effect(pattern, hits=count, last_seen=now)
        if not seen:
            return
        for proposal in await self.book.proposals():
            if proposal.stage in (Stage.SHADOW, Stage.CANARY, Stage.ACTIVE):
                alarms = matches.get(proposal.pattern.id, 0)
                await self.book.change_proposal(proposal.id, _counted(seen, alarms))

    async def run(self, now: float) -> bool:
        """One pass: lessons and proposals from new labels, and the moves that are due. False without the lease."""
        if self._work.locked():
            return False
        async with self._work:
            self.leads = await self._lease(now)
            if not self.leads:
                return False
            dirty = await self._state.get(_DIRTY)
            if dirty is not None and dirty.version != self._dirty:
                await self._learn(now)
                self._dirty = dirty.version
            for proposal in await self.book.proposals():
                if proposal.stage in (Stage.PROPOSED, Stage.SHADOW, Stage.CANARY, Stage.ACTIVE):
                    await self._advance(proposal, now)
            return True

    async def _learn(self, now: float) -> None:
        """Find lessons in all cases that have none, and answer those that nothing answers."""
        proposals = await self.book.proposals()
        open_ = {one.id: one for one in proposals if one.stage is Stage.PROPOSED and one.author == "engine"}
        undone = (Stage.PROPOSED, Stage.REJECTED, Stage.FAILED)
        settled = {one.id for one in proposals if one.stage not in undone}
        waiting: dict[Outcome, list[Case]] = {Outcome.FALSE_NEGATIVE: [], Outcome.FALSE_POSITIVE: []}
        async for case in self.book.cases():
            if case.outcome in waiting and case.proposal not in settled:
                waiting[case.outcome].append(case)
            elif case.outcome is not Outcome.UNDECIDED and not case.lesson:
                await self._lesson(case, 0)
        standing = {pattern.id: pattern for pattern in self._live().engine.generation.patterns}
        for cases in waiting.values():
            for group in await asyncio.to_thread(self.teacher.groups, sorted(cases, key=lambda case: case.at)):
                await self._answer(group, open_, now)
        await self._narrow(now, standing)

    async def _answer(self, group: Group, open_: Mapping[str, Proposal], now: float) -> None:
        """Propose what answers a group of cases, or change the open proposal that answered some of them."""
        told = tuple([await self._lesson(case, len(group.cases) - 1) for case in group.cases])
        ids = sorted({case.proposal for case in told if case.proposal in open_})
        if ids and set(open_[ids[0]].cases) == {case.id for case in told}:
            return
        id = ids[0] if ids else new_id(now)
        for proposal in await asyncio.to_thread(self.teacher.propose, id, group._replace(cases=told), now):
            await self._keep(proposal)
        for case in told:
            await self.book.change_case(case.id, _answered(id))

    async def _lesson(self, case: Case, siblings: int) -> Case:
        views = await asyncio.to_thread(self.teacher.read, case)
        vector = None if views is None else views.embedding
        facts = await asyncio.to_thread(self.teacher.facts, case, vector, siblings)
        lesson = reflect(case, facts)
        changed = await self.book.change_case(case.id, lambda old: replace(old, lesson=lesson) if old else None)
        await self._count_verdict(case)
        return changed or case

    async def _count_verdict(self, case: Case) -> None:
        """Once a case: what its verdict says of the patterns that had a part in it, and of its labellers."""
        if case.lesson:
            return
        right = case.outcome in (Outcome.TRUE_POSITIVE, Outcome.FALSE_NEGATIVE)
        matched = {stage[1] for stage in case.trajectory.stages}
        for pattern in matched:
            await self.book.add_effect(pattern, confirmed=int(right), refuted=int(not right))
        for proposal in await self.book.proposals() if matched else ():
            if proposal.pattern.id in matched and proposal.stage in _STATES:
                await self.book.change_proposal(proposal.id, _labelled(right))
        said = Said.ATTACK if right else Said.BENIGN
        if len(case.labels) > 1:
            for label in case.labels:
                await self.book.add_standing(label.by, int(label.said == said), int(label.said != said))

    async def _keep(self, proposal: Proposal) -> None:
        """Write a proposal anew; one that was voted on and changed must be voted on again."""
        stage = Stage.PROPOSED if proposal.trial and proposal.trial.passed else Stage.FAILED
        await self.book.change_proposal(
            proposal.id,
            lambda old: None if old and old.stage not in (Stage.PROPOSED, Stage.FAILED) else replace(proposal, stage=stage),
        )

    async def _narrow(self, now: float, standing: Mapping[str, Pattern]) -> None:
        effects = await self.book.effects()
        for id in suspects(effects, self.rules)[:10]:
            pattern, precision = standing.get(id), effects[id].precision
            if pattern is None or not pattern.kind.lexical or precision is None:
                continue
            asked = f"{id}@{pattern.revision}"
            if any(one.reason == asked or (one.pattern.id == id and one.open) for one in await self.book.proposals()):
                continue
            made = await asyncio.to_thread(self.teacher.narrow, new_id(now), pattern, precision, now)
            await self._keep(replace(made, reason=asked))

    async def _advance(self, proposal: Proposal, now: float) -> Proposal:
        move = step(proposal, self.rules, now)
        return proposal if move is None else await self._enter(proposal, move.to, move.reason, now, "rules")

    async def _enter(self, proposal: Proposal, to: Stage, reason: str, now: float, by: str) -> Proposal:
        """Let a proposal's pattern stand in the store with its new state, and then say so."""
        acting = replace(
            proposal.pattern, state=_STATES[to], rollout=self.rules.canary_percent if to is Stage.CANARY else 100
        )
        takes_away = proposal.kind in TAKES_AWAY
        change: dict[str, Pattern | None] = {acting.id: acting}
        if takes_away:  # while it is watched what it would take away goes on acting
            change = {} if to is Stage.SHADOW else {acting.id: None if to is Stage.DEMOTED else proposal.pattern}
        if change:
            try:
                await asyncio.to_thread(self.store.revise, change, by, f"{to}: {reason}"[:MAX_NOTE], now)
            except StoreError as error:
                raise StateUnavailable("pattern store", str(error)) from None

        def moved(old: Proposal | None) -> Proposal | None:
            if old is None or old.stage is not proposal.stage:
                return None  # somebody else moved it
            return replace(old, stage=to, since=now, reason=reason, watched=0, alarms=0)

        changed = await self.book.change_proposal(proposal.id, moved)
        self.moves[to] += 1
        _log.info("proposal %s (%s) is now %s: %s", proposal.id, proposal.pattern.id, to, reason)
        return changed or await self.book.proposal(proposal.id) or proposal

    async def follow_store(self, by: str, reason: str, now: float) -> None:
        """After a rollback: proposals whose patterns no longer stand in the store are demoted."""
        standing = self.store.patterns()
        for proposal in await self.book.proposals():
            if proposal.stage not in (Stage.SHADOW, Stage.CANARY, Stage.ACTIVE) or proposal.kind in TAKES_AWAY:
                continue
            known = standing.get(proposal.pattern.id)
            if known is None or known.state is not _STATES[proposal.stage]:
                stage = _STAGES.get(known.state, Stage.DEMOTED) if known else Stage.DEMOTED
                await self.book.change_proposal(proposal.id, _moved_by_hand(stage, f"rolled back by {by}: {reason}", now))

    async def _mark_dirty(self) -> None:
        found = await self._state.get(_DIRTY)
        await self._state.swap(_DIRTY, b"", found.version if found else 0)  # whoever was first marked it as well

    async def _lease(self, now: float) -> bool:
        found = await self._state.get(_LEASE)
        if found is not None:
            holder, until = orjson.loads(found.value)
            if holder != self._name and now < until:
                return False
            if holder == self._name and until - now > LEASE_SECONDS / 2:
                return True
        mine = orjson.dumps([self._name, now + LEASE_SECONDS])
        return await self._state.swap(_LEASE, mine, found.version if found else 0) is not None


def _judged(case: Case) -> Case:
    verdict = quorum.decide(case.labels)
    outcome = quorum.outcome(verdict.said, case.trajectory.stopped)
    lesson = case.lesson if outcome is case.outcome else ""
    return replace(case, outcome=outcome, category=verdict.category, lesson=lesson)


def _counted(seen: int, alarms: int) -> Callable[[Proposal | None], Proposal | None]:
    return lambda old: old and replace(old, watched=old.watched + seen, alarms=old.alarms + alarms)


def _moved_by_hand(stage: Stage, reason: str, now: float) -> Callable[[Proposal | None], Proposal | None]:
    return lambda old: old and replace(old, stage=stage, reason=reason, since=now)


def _labelled(right: bool) -> Callable[[Proposal | None], Proposal | None]:
    return lambda old: old and replace(old, confirmed=old.confirmed + right, refuted=old.refuted + (not right))


def _answered(id: str) -> Callable[[Case | None], Case | None]:
    return lambda old: old and replace(old, proposal=id)


def _check(given: Given) -> None:
    if given.label not in set(Said):
        raise Refused(422, f"label: got {given.label[:40]!r}; wanted {' or '.join(Said)}")
    if not given.decision_id and not given.text:
        raise Refused(422, "decision_id or text: one of the two is needed")
    if len(given.text) > MAX_TEXT:
        raise Refused(422, f"text: at most {MAX_TEXT} characters; send the part that matters")
    if len(given.note) > MAX_NOTE:
        raise Refused(422, f"note: at most {MAX_NOTE} characters")
    if given.origin not in set(Origin):
        raise Refused(422, f"origin: got {given.origin[:40]!r}; wanted one of {', '.join(Origin)}")
    if given.category:
        try:
            taxonomy.split(given.category)
        except ValueError as error:
            raise Refused(422, f"category: {error}") from None
