"""Which conditions are told, and when: once when they begin, again after a while, and when they are over. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from gateway.notify.conditions import Condition

CALM_SECONDS: Final = 60.0
"""How long a condition must be gone before it counts as over: one that comes and goes is told once."""

MINUTE: Final = 60.0


class Notice(NamedTuple):
    """Something to tell. ``id`` is the same for all notices of one outbreak; ``times`` counts them from 1."""

    id: str
    condition: Condition
    state: Literal["firing", "resolved"]
    since: float
    times: int
    held_back: int
    """Other notices that the rate limit has held back so far."""


class _Open:
    """A condition that holds, or held until a moment ago."""

    __slots__ = ("condition", "seen", "since", "told", "told_at")

    def __init__(self, condition: Condition, now: float) -> None:
        self.condition = condition
        self.since = self.seen = now
        self.told = 0
        self.told_at = 0.0


class Ledger:
    """Remembers what was told."""

    def __init__(self, source: str, repeat_seconds: float, per_minute: int) -> None:
        """``source`` names this replica; ``per_minute`` bounds notices of new and repeated conditions."""
        self._source = source
        self._repeat = repeat_seconds
        self._per_minute = per_minute
        self._room = float(per_minute)
        self._room_at = 0.0
        self._open: dict[tuple[str, str], _Open] = {}
        self.held_back = 0

    def step(self, now: float, found: Iterable[Condition]) -> list[Notice]:
        """What to tell at ``now``, when ``found`` is what is wrong. What is over is always told, the graver goes first."""
        for condition in found:
            key = (condition.name, condition.key)
            one = self._open.get(key)
            if one is None:
                one = self._open[key] = _Open(condition, now)
            one.condition, one.seen = condition, now
        over = [key for key, one in self._open.items() if now - one.seen >= CALM_SECONDS]
        notices = [self._notice(one, "resolved") for key in over if (one := self._open.pop(key)).told]
        due = [one for one in self._open.values() if not one.told or now - one.told_at >= self._repeat]
        self._refill(now)
        for one in sorted(due, key=lambda one: (one.condition.severity != "critical", one.since)):
            if self._room < 1:
                self.held_back += 1
                continue
            self._room -= 1
            one.told += 1
            one.told_at = now
            notices.append(self._notice(one, "firing"))
        return notices

    def _refill(self, now: float) -> None:
        passed = max(0.0, now - self._room_at)
        self._room = min(float(self._per_minute), self._room + passed / MINUTE * self._per_minute)
        self._room_at = now

    def _notice(self, one: _Open, state: Literal["firing", "resolved"]) -> Notice:
        condition = one.condition
        name = "/".join(part for part in (self._source, condition.name, condition.key, str(int(one.since))) if part)
        return Notice(name, condition, state, one.since, one.told, self.held_back)
