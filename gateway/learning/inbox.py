"""What the learning loop is told, as streams in the state that the workers of all replicas share the work on.

A label that was taken is an event of `FEEDBACK`: reading its text and making it part of its case is work for whichever worker
claims it first. What was seen of the traffic (`Watched`) is an event of `TRAJECTORIES`. An event that a worker did not settle,
because it was killed, is claimed by another `IDLE_SECONDS` later. Nothing is counted twice by that: a label has an id, and what
was seen is written in the one step that settles the events it was told in. Where the configuration has a ``secret``, events
are sealed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from gateway.learning import events
from gateway.learning.book import Book, Listed
from gateway.learning.events import Spoken, Watched
from gateway.learning.stages import OUT
from gateway.learning.teacher import Teacher
from gateway.redaction.sealing import Sealer
from gateway.state.base import Backlog, Event, Settled, State, StateUnavailable
from gateway.telemetry.metrics import Metrics

FEEDBACK: Final = "feedback"
TRAJECTORIES: Final = "trajectories"

MOST: Final = {FEEDBACK: 20_000, TRAJECTORIES: 5_000}
"""Events that wait at most. A label beyond is refused, since whoever gave it can give it again; of what was seen the oldest
goes, after some twenty minutes of two workers."""

CLAIMED: Final = {FEEDBACK: 8, TRAJECTORIES: 20}
"""Events claimed at a time: labels cost some 10 ms each, and several workers are to have some; what was seen is added up."""

IDLE_SECONDS: Final = 60.0
"""When an event is given to another worker: far longer than reading eight texts takes."""

MAX_DELIVERIES: Final = 5
"""How often an event is tried. One whose work fails each time, or ends its worker, is given up, and counted."""

STOP_SECONDS: Final = 3.0
"""How long the events at hand may take when the worker ends."""

TRIES: Final = 20
"""How often what was seen is added up anew because others wrote meanwhile."""

RESULTS: Final = ("told", "done", "repeated", "failed", "unreadable")

_UID: Final = 16

_log = logging.getLogger(__name__)


class Full(Exception):  # noqa: N818 - reads as the condition that it is
    """So many labels wait already that no more are taken."""


class Inbox:
    """The streams from one worker's side. `begin` says how events are written; `nudge` has the work done that waits.

    Args:
        text_seconds: gives for how long a text may be kept.
    """

    def __init__(
        self, state: State, book: Book, teacher: Callable[[], Teacher], text_seconds: Callable[[], float], name: str
    ) -> None:
        self._state, self._book, self._teacher = state, book, teacher
        self._text_seconds = text_seconds
        self._name = name
        self._sealer: Sealer | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = self._stopping = self._waits = False
        self.results: Counter[tuple[str, str]] = Counter()
        self.backlog: dict[str, Backlog] = {}

    def register(self, metrics: Metrics) -> None:
        """Count what came of events, and tell what waits: the worker that learns knows it, for all."""
        metrics.count(
            "portcullis_learning_events", "What the learning loop was told, by what came of it.", ("stream", "result"),
            lambda: {(stream, result): float(self.results[stream, result]) for stream in MOST for result in RESULTS},
        )  # fmt: skip
        for name, text, at in (
            ("waiting", "Events that no worker has taken yet.", 0), ("pending", "Events taken and not settled.", 1),
            ("oldest_seconds", "Age of the oldest event that is not settled.", 2),
            ("dropped", "Events that had to go unread, since there were too many, as the state counts them.", 3),
        ):  # fmt: skip
            metrics.gauge(f"portcullis_learning_{name}", text, ("stream",), lambda at=at: self._told(at), "max")  # type: ignore[misc]

    def begin(self, secret: bytes | None) -> None:
        """``secret``: the configuration's, which the state does not hold; None where it has none."""
        self._sealer = None if secret is None else Sealer(secret, "event")

    async def stop(self) -> None:
        """End the work after the event at hand; what is left of it, other workers claim."""
        self._stopping = True
        if self._task is not None and (await asyncio.wait([self._task], timeout=STOP_SECONDS))[1]:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def say(self, event: Spoken, now: float) -> None:
        """Tell of a label; it is durable when this returns.

        Raises:
            Full: too many wait.
            StateUnavailable: the state does not answer.
        """
        body = self._sealed(events.encode(event))
        if await self._state.emit(FEEDBACK, [body], now, MOST[FEEDBACK], make_room=False) is None:
            raise Full
        self.results[FEEDBACK, "told"] += 1
        self.nudge()

    async def report(self, seen: int, matches: Counter[str], now: float) -> None:
        """Tell what was seen since the last time.

        Raises:
            StateUnavailable: the state does not answer.
        """
        bodies = [self._sealed(events.encode(part)) for part in events.parts(seen, matches, now)]
        if bodies:
            await self._state.emit(TRAJECTORIES, bodies, now, MOST[TRAJECTORIES], make_room=True)
            self.results[TRAJECTORIES, "told"] += len(bodies)

    def nudge(self) -> asyncio.Task[None]:
        """Have the work done that waits, as far as no other worker takes it; the task ends when there is none left to take."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name="learning inbox")
        return self._task

    async def look(self, now: float) -> None:
        """See what waits.

        Raises:
            StateUnavailable: the state does not answer.
        """
        self.backlog = {stream: await self._state.backlog(stream, now) for stream in MOST}

    def _told(self, at: int) -> dict[tuple[str, ...], float]:
        return {(stream,): float(told[at]) for stream, told in self.backlog.items()}

    async def _work(self) -> None:
        try:
            while self._again:
                self._again = False
                while not self._stopping and (await self._some(FEEDBACK) or await self._some(TRAJECTORIES)):
                    pass
        except StateUnavailable as error:
            if not self._waits:  # once: with the state gone this is tried twice a second
                _log.warning("what the learning loop was told waits: %s", error)
            self._waits = True
        else:
            self._waits = False

    async def _some(self, stream: str) -> bool:
        """Do some of the work that waits; False where none does."""
        found = await self._state.claim(stream, self._name, CLAIMED[stream], IDLE_SECONDS, time.time())
        usable = [event for event in found if not await self._given_up(stream, event)]
        for some in [usable] if stream == TRAJECTORIES else [[event] for event in usable]:
            try:
                await (self._add_up(some) if stream == TRAJECTORIES else self._hear(*some))
            except StateUnavailable:
                raise
            except Exception as error:  # whatever it was: it is tried again later, and what follows is heard
                _log.error("an event of the stream %s could not be used: %s", stream, type(error).__name__)
        return bool(found)

    async def _given_up(self, stream: str, event: Event) -> bool:
        if event.deliveries <= MAX_DELIVERIES:
            return False
        if await self._state.settle(stream, self._name, [event.id]) is Settled.DONE:
            self.results[stream, "unreadable" if self._opened(event) is None else "failed"] += 1
            _log.error("an event of the stream %s was tried %d times and is given up", stream, MAX_DELIVERIES)
        return True

    async def _hear(self, event: Event) -> None:
        body = self._opened(event)
        if body is None:
            return  # another replica may know the secret that it was sealed by
        spoken = events.decode_spoken(body)
        label = spoken.label
        if spoken.text and not spoken.views:
            spoken = replace(spoken, views=await asyncio.to_thread(self._teacher().views, spoken.text))
        if time.time() - label.at > self._text_seconds():
            spoken = replace(spoken, text="")
        case = await self._book.change_case(spoken.case, lambda old: events.heard(old, spoken))
        case = case or await self._book.case(spoken.case)
        repeated = case is not None and any(one.by == label.by and events.repeats(one, label) for one in case.labels)
        if not repeated:
            listed = Listed(label.id, spoken.case, label.by, label.role, label.said, label.category, label.note, label.at)
            await self._book.add_label(listed)
            await self._book.mark_dirty()
        if await self._state.settle(FEEDBACK, self._name, [event.id]) is Settled.DONE:
            self.results[FEEDBACK, "repeated" if repeated else "done"] += 1

    async def _add_up(self, found: Sequence[Event]) -> None:
        read: dict[str, Watched] = {}
        for event in found:
            with suppress(ValueError):  # what is none is given up in the end, and keeps no other from being counted
                if (body := self._opened(event)) is not None:
                    read[event.id] = events.decode_watched(body)
        if not read:
            return
        told = events.together(read.values())
        for _ in range(TRIES):
            changes = await self._book.counted(told.seen, told.matches, told.at, OUT)
            done = await self._state.settle(TRAJECTORIES, self._name, list(read), changes)
            if done is not Settled.CONFLICT:
                self.results[TRAJECTORIES, "done"] += len(read) if done is Settled.DONE else 0
                return

    def _sealed(self, body: bytes) -> bytes:
        if self._sealer is None:
            return body
        uid = os.urandom(_UID)
        return uid + self._sealer.seal(self._sealer.name(uid), body)

    def _opened(self, event: Event) -> bytes | None:
        if self._sealer is None:
            return event.body if event.body[:1] == b"{" else None
        return self._sealer.open(self._sealer.name(event.body[:_UID]), event.body[_UID:])
