"""A proposal's way: made by a person or the engine, voted on, moved from stage to stage, and taken back.

From the shadow on its pattern stands in the store, with the state of its stage; everything here that changes what acts goes
through `Stages.enter`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from detectors.semantic.prototypes import PrototypeError
from gateway.keys import Permission, Principal
from gateway.learning.book import Book
from gateway.learning.promotion import Rules, approved, speaks_for_itself, step
from gateway.learning.pulling import FeedFault
from gateway.learning.teacher import Teacher
from gateway.learning.values import MAX_NOTE, Proposal, ProposalKind, Refused, Stage, Vote, encode_proposal
from gateway.live import Live
from gateway.records.decisions import new_id
from gateway.state.base import StateUnavailable
from patterns.clock import ZERO, Stamp
from patterns.schema import WATCHING, Pattern, PatternError
from patterns.schema import State as PatternState
from patterns.store import Store, StoreError

STATES: Final = {Stage.SHADOW: PatternState.SHADOW, Stage.CANARY: PatternState.CANARY, Stage.ACTIVE: PatternState.ACTIVE,
                 Stage.DEMOTED: PatternState.RETIRED}  # fmt: skip
"""The state of a pattern in the store by its proposal's stage."""

OUT: Final = (Stage.SHADOW, Stage.CANARY, Stage.ACTIVE)
"""The stages in which a proposal's pattern is matched."""

TAKES_AWAY: Final = frozenset({ProposalKind.RETIRE, ProposalKind.NARROW})
"""Proposals about a pattern that stands already."""

MOST_OPEN: Final = 1_000
"""Proposals of one author that may wait for a decision: more than people look at, and each pass of the loop reads all."""

MOST_OPEN_BYTES: Final = 4_000_000
"""Bytes of one author's waiting proposals: a thousand of the longest are 240 MB, and each pass of the loop reads all."""

LATE_SECONDS: Final = 60.0
"""When it is told that a pattern has not come to this machine."""

_STAGES: Final = {state: stage for stage, state in STATES.items()}

_STANDS: Final = "a pattern with this id stands or is proposed already; give it another id, and propose to retire that one"

_GONE: Final = "it is not matched any more: there is nothing left to take away"

_log = logging.getLogger(__name__)


class Stages:
    """See the module."""

    def __init__(
        self, book: Book, store: Store, live: Callable[[], Live], teacher: Callable[[], Teacher],
        may: Callable[[str, Permission], bool],
    ) -> None:  # fmt: skip
        """``may``: whether somebody has a key now that may do so for all tenants. Of one who has none any more no vote counts,
        and nobody's labels without one let anything act without a vote: keys of one tenant are made by its own operator."""
        self._book = book
        self._store = store
        self._live = live
        self._teacher = teacher
        self._may = may
        self.moves = Counter[str]()
        self._late: set[str] = set()

    @property
    def rules(self) -> Rules:
        chosen = self._live().settings.learning
        return Rules(
            approvals=chosen.approvals, automatic=chosen.automatic, labellers=chosen.labellers, precision=chosen.precision,
            shadow_seconds=chosen.shadow_seconds, canary_seconds=chosen.canary_seconds,
            canary_percent=chosen.canary_percent, watched_requests=chosen.watched_requests,
        )  # fmt: skip

    async def propose(
        self, principal: Principal, pattern: Pattern, reason: str, now: float, retire: bool = False,
        run: Callable[[Callable[[], Proposal]], Awaitable[Proposal]] = asyncio.to_thread,
    ) -> Proposal:  # fmt: skip
        """A person's own pattern, or the wish to retire a standing one, as a proposal. ``run`` makes and tries it on a thread.

        Raises:
            Refused: it cannot be tried.
        """
        by = principal.person or "local"
        before = [one async for one in self._book.all_proposals()]
        waiting = [one for one in before if one.author == by and one.stage is Stage.PROPOSED]
        if len(waiting) >= MOST_OPEN:
            raise Refused(429, f"{MOST_OPEN} proposals of this author wait for a decision: have some approved or rejected")
        if sum(len(encode_proposal(one)) for one in waiting) >= MOST_OPEN_BYTES:
            raise Refused(429, f"proposals of this author with {MOST_OPEN_BYTES} bytes of patterns and examples wait for a"
                               " decision: have some approved or rejected")  # fmt: skip
        if not retire:
            busy = {one.pattern.id for one in before if one.stage in (Stage.PROPOSED, *OUT)}
            if pattern.id in busy or self._stands(pattern):
                raise Refused(409, f"{pattern.id}: {_STANDS}")

        def make() -> Proposal:
            if retire:
                return self._teacher().retire(new_id(now), pattern, by, reason, now)
            proposed = self._teacher().calibrated(replace(pattern, state=PatternState.PROPOSED))
            return self._teacher().by_hand(new_id(now), proposed, by, reason, now, self._live().engine.generation.patterns)

        try:
            made = await run(make)
        except (PatternError, PrototypeError) as error:
            raise Refused(422, str(error)) from None
        await self._book.change_proposal(made.id, lambda _: made)
        return made

    async def propose_from_feed(self, pattern: Pattern, where: str) -> str | None:
        """Propose what a feed brought; what cannot be tried is told in the log, and why is returned.

        Raises:
            FeedFault: so much that feeds brought waits for a decision that no more is taken.
        """
        feed = Principal("feed", "*", None, frozenset())
        try:
            await self.propose(feed, pattern, where, time.time())
        except Refused as error:
            if error.status == 429:
                raise FeedFault(f"{where}: {error}") from None
            _log.warning("a feed's pattern is left out: %s", error)
            return str(error)
        return None

    async def known(self) -> dict[str, str]:
        """The bodies of all patterns that stand or were ever proposed by id; empty of one that is gone."""
        found = {proposal.pattern.id: proposal.pattern.body async for proposal in self._book.all_proposals()}
        found |= {id: entry.pattern.body if entry.pattern else found.get(id, "") for id, entry in self._store.entries().items()}
        return found | {pattern.id: pattern.body for pattern in self._live().engine.generation.patterns}

    async def vote(self, principal: Principal, id: str, approves: bool, reason: str, now: float) -> Proposal:
        """Approve or reject; a later vote of the same person replaces the earlier one.

        A rejection takes back what is watched or acts already, at any time.

        Raises:
            Refused: there is no such proposal, it is decided, or the voter has no vote on it.
        """
        if len(reason) > MAX_NOTE:
            raise Refused(422, f"reason: at most {MAX_NOTE} characters")
        by = principal.person or "local approver"  # without keys one person is both; with keys, two are needed

        def change(proposal: Proposal | None) -> Proposal:
            if proposal is None:
                raise Refused(404, "there is no such proposal")
            if not proposal.open and (approves or proposal.stage is not Stage.ACTIVE):
                raise Refused(409, f"the proposal is {proposal.stage} already")
            if approves and principal.key and speaks_for_itself(proposal, by):
                who = "proposes" if by == proposal.author else "alone labelled its texts"
                raise Refused(403, f"whoever {who} does not approve: ask a second person")
            if approves and self._hides(proposal):
                raise Refused(409, f"{proposal.pattern.id}: {_STANDS}")
            if approves and self._gone(proposal):
                raise Refused(409, f"{proposal.pattern.id}: {_GONE}")
            votes = (*(vote for vote in proposal.votes if vote.by != by), Vote(by, approves, reason, now))
            if not approves and proposal.stage is Stage.PROPOSED:
                return replace(proposal, votes=votes, stage=Stage.REJECTED, since=now, reason=reason)
            return replace(proposal, votes=votes)

        changed = await self._book.change_proposal(id, change)
        assert changed is not None
        while not approves and changed.stage in OUT:  # somebody may move it on meanwhile
            changed = await self.enter(changed, Stage.DEMOTED, reason or "rejected", now, by)
        if approves:
            return await self.advance(changed, now)
        await self._book.mark_dirty()  # what it would have answered speaks against others again
        return changed

    async def promote(self, principal: Principal, id: str, reason: str, now: float) -> Proposal:
        """Let a proposal move one stage on before its time of watching is over.

        Raises:
            Refused: there is no such proposal, or something other than time holds it.
        """
        proposal = await self._book.proposal(id)
        if proposal is None:
            raise Refused(404, "there is no such proposal")
        proposal = await self._followed(proposal, now)
        if proposal.stage in (Stage.ACTIVE, Stage.DEMOTED, Stage.REJECTED):
            raise Refused(409, f"the proposal is {proposal.stage} already")
        if self._hides(proposal):
            raise Refused(409, f"{proposal.pattern.id}: {_STANDS}")
        if self._gone(proposal):
            raise Refused(409, f"{proposal.pattern.id}: {_GONE}")
        move = step(self._counted(proposal), self.rules, now, force=True)
        if move is None:
            against = "; ".join(proposal.trial.against) if proposal.trial else "it was not tried"
            why = f"its trial failed: {against}" if against else "it has not enough approvals of others than its author"
            raise Refused(409, f"the proposal stays {proposal.stage}: {why}")
        return await self.enter(proposal, move.to, reason or move.reason, now, principal.person or "local")

    async def advance(self, proposal: Proposal, now: float) -> Proposal:
        """Make the move that is due, if one is. Where the store says something else of its pattern by now, that is followed;
        and what another machine let stand is first to have come to this one."""
        proposal = await self._followed(proposal, now)
        if proposal.stage is Stage.DEMOTED:
            return proposal
        if self._stamp(proposal) < proposal.stamp:
            if proposal.id not in self._late and now - proposal.since > LATE_SECONDS:
                self._late.add(proposal.id)
                _log.warning("proposal %s waits: its pattern %s is not in this machine's pattern store as another one left it",
                             proposal.id, proposal.pattern.id)  # fmt: skip
            return proposal
        self._late.discard(proposal.id)
        if self._gone(proposal):
            return await self.enter(proposal, Stage.DEMOTED, _GONE, now, "rules") if proposal.stage in OUT else proposal
        move = step(self._counted(proposal), self._rules_for(proposal), now)
        rejected = any(not vote.approves for vote in proposal.votes)  # and brought back by a rollback: no further by itself
        if move is None or self._hides(proposal) or (rejected and move.to is not Stage.DEMOTED):
            return proposal
        voted = proposal.stage is Stage.PROPOSED and approved(self._counted(proposal), self.rules)
        return await self.enter(proposal, move.to, move.reason, now, proposal.votes[-1].by if voted else "rules")

    def _counted(self, proposal: Proposal) -> Proposal:
        counts = tuple(vote for vote in proposal.votes if not vote.approves or self._may(vote.by, Permission.APPROVE))
        return replace(proposal, votes=counts)

    def _rules_for(self, proposal: Proposal) -> Rules:
        rules = self.rules
        heard = sum(self._may(by, Permission.LABEL) for by in proposal.supporters) if rules.automatic else 0
        return rules._replace(automatic=rules.automatic and heard >= rules.labellers)

    async def enter(self, proposal: Proposal, to: Stage, reason: str, now: float, by: str) -> Proposal:
        """Let a proposal's pattern stand in the store with its new state, and then say so. Where somebody else moved it
        meanwhile, what he said stands, and the store is made to say it too: he may have written to it before this did."""
        stamp = await self._revise(proposal, to, reason, now, by)

        def moved(old: Proposal | None) -> Proposal | None:
            if old is None or (old.stage, old.pattern) != (proposal.stage, proposal.pattern):
                return None  # somebody else moved it, or it was written anew and nobody has approved that
            return replace(old, stage=to, since=now, reason=reason, watched=0, alarms=0, stamp=stamp)

        if (changed := await self._book.change_proposal(proposal.id, moved)) is not None:
            self.moves[to] += 1
            _log.info("proposal %s (%s) is now %s: %s", proposal.id, proposal.pattern.id, to, reason)
            return changed
        while (standing := await self._book.proposal(proposal.id)) is not None and standing.stage is not to:
            await self._revise(replace(proposal, stage=to), standing.stage, standing.reason, now, by)
            to = standing.stage
        return standing or proposal

    async def _revise(self, proposal: Proposal, to: Stage, reason: str, now: float, by: str) -> Stamp:
        change = await asyncio.to_thread(self._change, proposal, to)
        if change:
            why = f"{to}: {reason}"[:MAX_NOTE]
            try:
                made = await asyncio.to_thread(
                    self._store.revise, change, by, why, now, proposal.stamp, takes_back=to not in OUT
                )
            except StoreError as error:
                raise StateUnavailable("pattern store", str(error)) from None
            if own := [entry for entry in made.accepted if entry.id in change]:
                return own[0].stamp
        return self._stamp(proposal)

    def _change(self, proposal: Proposal, to: Stage) -> dict[str, Pattern | None]:
        """What the store must hold for a proposal in a stage."""
        pattern = proposal.pattern
        if proposal.kind not in TAKES_AWAY:
            rollout = self.rules.canary_percent if to is Stage.CANARY else 100
            return {pattern.id: replace(pattern, state=STATES.get(to, PatternState.RETIRED), rollout=rollout)}
        if to is Stage.SHADOW or (to not in OUT and proposal.stage is not Stage.ACTIVE):
            return {}  # while it is watched, what it would take away goes on acting
        return {pattern.id: pattern if to is Stage.ACTIVE else self._before(pattern)}

    def _hides(self, proposal: Proposal) -> bool:
        """Whether the pattern of a proposal that is about to be watched would take the place of another one."""
        return proposal.stage is Stage.PROPOSED and proposal.kind not in TAKES_AWAY and self._stands(proposal.pattern)

    def _gone(self, proposal: Proposal) -> bool:
        """Whether what a proposal would take away was taken back already: narrowed, it would come back."""
        if proposal.kind not in TAKES_AWAY or not proposal.open:
            return False
        id = proposal.pattern.id
        entry = self._store.entries().get(id)
        if entry is not None and entry.pattern is not None:
            return entry.pattern.state not in WATCHING
        return all(one.id != id for one in self._live().packs.generation.patterns)

    def _stands(self, pattern: Pattern) -> bool:
        """Whether another pattern with this id acts or is watched: one in the shadow must not take its place."""
        entry = self._store.entries().get(pattern.id)
        if entry is None or entry.pattern is None:
            return any(one.id == pattern.id for one in self._live().packs.generation.patterns)
        known = entry.pattern
        own = replace(known, state=pattern.state, rollout=pattern.rollout, revision=pattern.revision) == pattern
        return known.state in _STAGES and known.state is not PatternState.RETIRED and not own

    def _before(self, pattern: Pattern) -> Pattern | None:
        """What stood in the store before ``pattern`` did; None where it was a pack's."""
        for revision in self._store.history(pattern.id):
            before = revision.entry.pattern
            if before is None or replace(before, revision=pattern.revision) != pattern:
                return before
        return None

    async def follow_store(self, now: float) -> None:
        """After a rollback: proposals whose patterns no longer stand in the store are demoted."""
        async for proposal in self._book.all_proposals():
            await self._followed(proposal, now)

    async def _followed(self, proposal: Proposal, now: float) -> Proposal:
        """A proposal whose pattern somebody changed in the store since it entered its stage, here or on any replica, stands
        where the store says: what was rolled back does not come back because its time of watching is over."""
        if proposal.stage is Stage.DEMOTED:
            return await self._kept_back(proposal, now)
        if proposal.stage not in OUT or proposal.kind in TAKES_AWAY or self._stamp(proposal) < proposal.stamp:
            return proposal
        entry = self._store.entries().get(proposal.pattern.id)
        state = entry.pattern.state if entry and entry.pattern else None
        retired = proposal.stage is Stage.ACTIVE and state is PatternState.RETIRED  # by a proposal to, which may be taken back
        if retired or state is STATES[proposal.stage]:
            return proposal
        return await self._as_stored(proposal, _STAGES.get(state, Stage.DEMOTED) if state else Stage.DEMOTED, now)

    async def _kept_back(self, proposal: Proposal, now: float) -> Proposal:
        """A demoted proposal whose pattern is matched all the same: whoever let it act was killed before he heard that it was
        taken back, or somebody brought it back, by a rollback, say, and has to find a proposal that he can reject."""
        entry = self._store.entries().get(proposal.pattern.id)
        if proposal.kind in TAKES_AWAY or entry is None or entry.pattern is None or entry.stamp <= proposal.stamp:
            return proposal
        state = entry.pattern.state
        if state not in WATCHING or self._stands(proposal.pattern):
            return proposal
        async for other in self._book.all_proposals():
            if other.pattern.id == proposal.pattern.id and other.stage in OUT:
                return proposal
        settles = entry.stamp.wall_ms < (proposal.since + LATE_SECONDS) * 1000
        if entry.stamp.taken > proposal.stamp.taken or not settles:
            return await self._as_stored(proposal, _STAGES[state], now)
        stamp = await self._revise(proposal, Stage.DEMOTED, proposal.reason, now, "rules")
        return await self._book.change_proposal(
            proposal.id, lambda old: replace(old, stamp=stamp) if old and old.stage is Stage.DEMOTED else None
        ) or proposal  # fmt: skip

    async def _as_stored(self, proposal: Proposal, stage: Stage, now: float) -> Proposal:
        entry = self._store.entries().get(proposal.pattern.id)
        reason = f"{entry.reason} ({entry.author}, {entry.stamp.node})" if entry else "the pattern store lost its pattern"

        def moved(old: Proposal | None) -> Proposal | None:
            if old is None or (old.stage, old.stamp) != (proposal.stage, proposal.stamp):
                return None
            return replace(old, stage=stage, reason=reason, since=now, stamp=self._stamp(proposal))

        changed = await self._book.change_proposal(proposal.id, moved)
        if changed is not None:
            self.moves[stage] += 1
            _log.info("proposal %s (%s) is %s, as the store has it: %s", proposal.id, proposal.pattern.id, stage, reason)
        return changed or await self._book.proposal(proposal.id) or proposal

    def _stamp(self, proposal: Proposal) -> Stamp:
        """Of what stands in this machine's store of a proposal's pattern."""
        entry = self._store.entries().get(proposal.pattern.id)
        return entry.stamp if entry else ZERO
