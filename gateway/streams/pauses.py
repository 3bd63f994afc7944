"""Streams in which nothing came for a moment: one timer for all of them.

Each with a timer of its own would be woken twenty times a second while words come, to find that they do.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, Protocol

PAUSE: Final = 0.05
"""Seconds of an upstream's silence after which what it said is judged although it is less than a step."""

EARLY: Final = 0.002
"""Seconds by which a timer may go off too early: libuv counts milliseconds."""


class Pausing(Protocol):
    """Who is told of a pause."""

    def paused(self) -> None:
        """Nothing came for `PAUSE`."""


class Pauses:
    """Tells those of one event loop in which nothing came for `PAUSE`, once each."""

    __slots__ = ("_timer", "_waiting")

    def __init__(self) -> None:
        self._waiting: OrderedDict[Pausing, float] = OrderedDict()  # by when each is told, the first one first
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, one: Pausing) -> bool:
        return one in self._waiting

    def came(self, one: Pausing, now: float, loop: asyncio.AbstractEventLoop) -> None:
        """Something came ``now`` (loop time), so the next pause is later than was thought."""
        self._waiting[one] = now + PAUSE
        self._waiting.move_to_end(one)
        if self._timer is None:
            self._timer = loop.call_at(now + PAUSE, self._ring, loop)

    def forget(self, one: Pausing) -> None:
        """It need not be told any more."""
        self._waiting.pop(one, None)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        try:
            while self._waiting and next(iter(self._waiting.values())) - now <= EARLY:
                self._waiting.popitem(last=False)[0].paused()
        finally:  # one that fails keeps nobody else waiting
            self._timer = loop.call_at(next(iter(self._waiting.values())), self._ring, loop) if self._waiting else None
