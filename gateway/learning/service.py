"""The learning loop of a worker: what is counted of every request, and one pass after another by whoever holds the lease.

Labels are answered at once (`intake`), and they and what was counted are streams that all workers share the work on (`inbox`);
what follows from them is worked out behind, on a thread (`lessons`), and patterns move through their stages (`stages`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import orjson

from gateway.keys import Permission
from gateway.learning.book import Book
from gateway.learning.expiry import EXPIRE_SECONDS, expire
from gateway.learning.inbox import Inbox
from gateway.learning.intake import Intake
from gateway.learning.lessons import Lessons
from gateway.learning.stages import Stages
from gateway.learning.teacher import Teacher
from gateway.learning.tuner import Tuner
from gateway.learning.values import OPEN, Stage
from gateway.live import Live
from gateway.records.decisions import new_id
from gateway.screening.inspection import Inspected
from gateway.state.base import State, StateUnavailable
from patterns.store import Store

PASS_SECONDS: Final = 0.5
"""How often the worker with the lease looks at new cases and at proposals that are due."""

LEASE_SECONDS: Final = 10.0
"""How long a lease holds; another worker takes over when its holder has not renewed it for so long."""

SKEW_SECONDS: Final = 300.0
"""How far apart workers' clocks may be. A lease that ends later was taken before a clock went back, and nobody may hold it."""

_LEASE: Final = "learning-lease"

_log = logging.getLogger(__name__)


class Learning:
    """See the module. ``live`` gives what serves now, ``owners`` whose a key is by its id; ``may`` as `Stages` has it."""

    def __init__(
        self, state: State, store: Store, live: Callable[[], Live], may: Callable[[str, Permission], bool],
        owners: Callable[[], Mapping[str, str]] = dict,
    ) -> None:  # fmt: skip
        self.book = Book(state, lambda by: owners().get(by, by))
        self._owners = owners
        self._known: tuple[Mapping[str, str], int] | None = None
        self.store = store
        self._state = state
        self._live = live
        self._teacher: Teacher | None = None
        self._tuner: Tuner | None = None
        self._name = new_id(time.time())
        kept = lambda: live().settings.retention.text_seconds  # noqa: E731
        self.inbox = Inbox(state, self.book, lambda: self.teacher, kept, self._name)
        self.intake = Intake(state, self.book, self.inbox, live, lambda: self.teacher)
        self.stages = Stages(self.book, store, live, lambda: self.teacher, may)
        self.lessons = Lessons(self.book, live, lambda: self.teacher, lambda: self.stages.rules)
        self._matches: Counter[str] = Counter()
        self._seen = 0
        self._work = asyncio.Lock()
        self._dirty = 0
        self._expired = 0.0
        self.leads = False

    def begin(self, secret: bytes, *, seals: bool) -> None:
        """Take the secret that keys texts' hashes; ``seals``: it is one that the state does not hold."""
        self.intake.begin(secret)
        self.inbox.begin(secret if seals else None)

    @property
    def teacher(self) -> Teacher:
        model = self._live().engine.cascade.model
        if self._teacher is None or self._teacher.model is not model:
            self._teacher = Teacher(model)
        return self._teacher

    @property
    def tuner(self) -> Tuner:
        if self._tuner is None or self._tuner.teacher is not self.teacher:
            self._tuner = Tuner(self.teacher, self._live().settings.data_dir / "cache")
        return self._tuner

    def observe(self, *sides: Inspected | None) -> None:
        """Count a screened request, and which patterns matched in it or in its reply: each once, for a reply may repeat what it
        answers. Called for every request: it only adds numbers."""
        self._seen += 1
        if any(side is not None and side.judged.verdict.findings for side in sides):
            told = (side.judged.verdict.findings for side in sides if side is not None)
            self._matches.update({finding.pattern for some in told for finding in some})

    async def report(self, now: float) -> None:
        """Tell the loop what was counted since the last time, and do what work waits in it, whoever told of it.

        Raises:
            StateUnavailable: the state does not answer; what was counted is told the next time.
        """
        seen, self._seen = self._seen, 0
        matches, self._matches = self._matches, Counter()
        try:
            await self.inbox.report(seen, matches, now)
        except StateUnavailable:
            self._seen += seen
            self._matches += matches
            raise
        await self.inbox.nudge()

    async def stop(self) -> None:
        """Tell what was not told yet."""
        try:
            await self.inbox.report(self._seen, self._matches, time.time())
        except StateUnavailable as error:
            _log.warning("what was counted of the last requests is lost: %s", error)
        await self.inbox.stop()

    async def run(self, now: float) -> bool:
        """One pass: lessons and proposals from new labels, and the moves that are due. False without the lease."""
        if self._work.locked():
            return False
        async with self._work:
            led, self.leads = self.leads, await self._lease(now)
            if not self.leads:
                self.inbox.backlog = {}
                return False
            known, self._known = self._known, (self._owners(), await self.book.anew())
            if not led or self._known != known:
                self.lessons.forget()
            if known is not None and self._known != known:  # two who spoke were one, or what somebody said was taken back
                self._dirty = -1
            await self.inbox.look(now)
            if now - self._expired >= EXPIRE_SECONDS:
                await self._expire(now)
            dirty = await self.book.dirty()
            if dirty != self._dirty:
                await self.lessons.learn(now)
                self._dirty = dirty
            await self.lessons.tune(now, lambda: self.tuner)
            async for proposal in self.book.all_proposals():
                if proposal.stage in OPEN or proposal.stage in (Stage.ACTIVE, Stage.DEMOTED):
                    await self.stages.advance(proposal, now)
            return True

    async def _expire(self, now: float) -> None:
        retention = self._live().settings.retention
        done = await expire(self.book, now, retention.text_seconds, retention.label_seconds)
        self._expired = now
        if any(done):
            self.lessons.forget()
            _log.info("kept long enough: %s", ", ".join(f"{count} {what}" for what, count in done._asdict().items() if count))

    async def _lease(self, now: float) -> bool:
        found = await self._state.get(_LEASE)
        if found is not None:
            holder, until = orjson.loads(found.value)
            if holder != self._name and now < until < now + SKEW_SECONDS:
                return False
            if holder == self._name and until - now > LEASE_SECONDS / 2:
                return True
        mine = orjson.dumps([self._name, now + LEASE_SECONDS])
        return await self._state.swap(_LEASE, mine, found.version if found else 0) is not None
