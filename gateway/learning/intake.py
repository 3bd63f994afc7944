"""Labels as they come in: who may say what how often, what it is about, and the case that it becomes part of."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from detectors.values import Origin, Segment
from gateway.keys import Principal
from gateway.learning import quorum
from gateway.learning.book import Book
from gateway.learning.events import Spoken, repeats, when
from gateway.learning.inbox import Full, Inbox
from gateway.learning.teacher import Teacher
from gateway.learning.trajectory import of_decision
from gateway.learning.values import MAX_NOTE, MAX_TEXT, Label, Refused, Said, Trajectory, case_id
from gateway.live import Live
from gateway.records.decisions import is_id, new_id
from gateway.screening.policy import Action, Direction, evaluate
from gateway.state.base import State
from patterns import taxonomy

MAX_LABELLERS: Final = 10_000
"""Labellers of whom a worker remembers when they have a turn again: it asks nobody for as long."""

MAX_RECENT: Final = 4_096
"""Labels remembered by the worker that took them, for those that are not part of their cases yet."""

RECENT_SECONDS: Final = 60.0
"""How long they are."""

FULL_SECONDS: Final = 5
"""When whoever was refused a label because too many wait may give it again: hundreds were read by then."""

APP_SHARE: Final = 10
"""An application's key gets this fraction of a person's labels a minute."""


class Given(NamedTuple):
    """What somebody said: of a decision, or of a text, or of both."""

    label: str
    decision_id: str = ""
    text: str = ""
    category: str = ""
    note: str = ""
    origin: str = "user"


class Intake:
    """Takes labels. ``live`` gives what serves now, ``teacher`` what reads texts."""

    def __init__(
        self, state: State, book: Book, inbox: Inbox, live: Callable[[], Live], teacher: Callable[[], Teacher]
    ) -> None:
        self._state = state
        self._book = book
        self._inbox = inbox
        self._live = live
        self._teacher = teacher
        self._key = b""
        self._next: dict[str, float] = {}  # when a labeller has a turn again
        self._turns = asyncio.Lock()
        self._recent: OrderedDict[tuple[str, str], Label] = OrderedDict()  # by labeller and case
        self.labels = Counter[str]()

    def begin(self, key: bytes) -> None:
        """Take the secret that keys texts' hashes."""
        self._key = key

    async def take(self, principal: Principal, role: str, given: Given, now: float) -> str:
        """Take a label: it is durable when this returns, and soon part of its case. Returns its id, the same for the same word
        of the same labeller on the same text.

        Raises:
            Refused: it is wrong, names nothing that is known, comes too fast, or too many wait.
        """
        _check(given)
        await self._slow_down(principal, role, now)
        trajectory, text = await self._trajectory(principal, given, now)
        subject = text or f"decision {trajectory.decision}"
        id = case_id(self._key, subject)
        by = principal.person or "local"
        standing = await self._book.standing(by)
        label = Label(new_id(now), by, role, given.label, given.category, given.note, quorum.weight(role, standing), now)
        if (known := await self._said(label, id)) is not None:
            return known.id
        keeps = bool(text) and await asyncio.to_thread(self._may_keep, text)
        # What may not be kept is read here: nothing of it goes further than its embedding.
        views = await asyncio.to_thread(self._teacher().views, text) if text and not keeps else ""
        spoken = Spoken(label=label, case=id, text=text if keeps else "", views=views, trajectory=trajectory)
        try:
            await self._inbox.say(spoken, now)
        except Full:
            raise Refused(503, "too many labels wait to be read: give it again later", FULL_SECONDS) from None
        self._recent[by, id] = label
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        self.labels[given.label] += 1
        return label.id

    async def _said(self, label: Label, case: str) -> Label | None:
        """The same word of the same labeller on the same text, if it is the last that he said of it."""
        found = await self._book.case(case)
        words = [one for one in found.labels if one.by == label.by] if found else []
        if (recent := self._recent.get((label.by, case))) is not None and label.at - recent.at < RECENT_SECONDS:
            words.append(recent)
        last = max(words, key=when, default=None)
        return last if last is not None and repeats(last, label) else None

    async def _trajectory(self, principal: Principal, given: Given, now: float) -> tuple[Trajectory, str]:
        if given.decision_id:
            record = await self._state.decision(given.decision_id) if is_id(given.decision_id) else None
            if record is None or not principal.sees(record.tenant):
                raise Refused(404, "decision_id: there is no decision with this id, or it has expired")
            told = of_decision(record, await self._state.kept_texts(given.decision_id, now), given.text)
            return told.trajectory, given.text or told.text
        live = self._live()
        segments = [Segment(given.text, "user", Origin(given.origin), 0, ())]
        found = await asyncio.to_thread(live.engine.twin().judge, segments, "")
        verdict = found.verdict
        stages = tuple((one.detector, one.pattern, one.category, one.score) for one in verdict.findings[:20])
        action = evaluate(live.default.policy, verdict, segments, Direction.REQUEST).action
        stopped = action in (Action.BLOCK, Action.REDACT)
        return Trajectory(
            "", verdict.generation, principal.tenant, given.origin, action, stopped, verdict.score, stages,
            "encoder" in found.stages[0],
        ), given.text  # fmt: skip

    def _may_keep(self, text: str) -> bool:
        """Whether retention lets a labelled text be kept as text. What holds values is not kept where they are redacted."""
        keeps = self._live().settings.retention.text
        if keeps == "redacted":
            verdict = self._live().engine.twin().judge([Segment(text, "user", Origin.USER, 0, ())], "").verdict
            return not any(not taxonomy.is_attack(one.category) for one in verdict.findings)
        return keeps == "full"

    async def _slow_down(self, principal: Principal, role: str, now: float) -> None:
        a_minute = float(self._live().settings.learning.labels_per_minute)
        if role == "app":
            a_minute = max(1.0, a_minute / APP_SHARE)
        by = principal.person or "local"
        wait = self._next.get(by, now) - now
        if not 0 < wait <= 60 / a_minute:  # longer: the clock went back
            async with self._turns:  # those of one worker do not start over for each other
                wait = await self._book.turn(by, a_minute, now)
        if wait:
            if len(self._next) >= MAX_LABELLERS:
                self._next.clear()
            self._next[by] = now + wait
            why = f"too many labels: at most {a_minute:.0f} a minute are taken from one labeller"
            raise Refused(429, why, math.ceil(wait))


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
