"""A hybrid logical clock: stamps that follow real time, and never run backwards or tie between nodes.

After Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed Databases" (2014): a stamp
is the greatest wall-clock reading seen so far and a counter for what happened within it. Time is an argument.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

MAX_AHEAD_MS: Final = 10 * 60_000
"""How far a foreign stamp may lie ahead of our clock. Minutes of skew are ordinary; a stamp of next year would win for good."""

MAX_COUNTER: Final = 2**31 - 1
"""The counter travels as a signed 32-bit number; a millisecond in which more happened than that never was."""


class Stamp(NamedTuple):
    """When a change was made: milliseconds since 1970, a counter within them, and the node that made it. Totally ordered.

    ``taken``: how often what is changed was taken back until then, as far as whoever changes it knows. It goes before the time:
    of two changes that were made without knowledge of each other, the one that takes back stands, whichever came later.
    """

    wall_ms: int
    counter: int
    node: str
    taken: int = 0

    def __lt__(self, other: tuple[object, ...]) -> bool:
        return _order(self) < _order(other)

    def __le__(self, other: tuple[object, ...]) -> bool:
        return _order(self) <= _order(other)

    def __gt__(self, other: tuple[object, ...]) -> bool:
        return _order(self) > _order(other)

    def __ge__(self, other: tuple[object, ...]) -> bool:
        return _order(self) >= _order(other)


def _order(stamp: Any) -> tuple[int, int, int, str]:
    return stamp[3], stamp[0], stamp[1], stamp[2]


ZERO: Final = Stamp(0, 0, "")


class FutureStamp(ValueError):  # noqa: N818 - reads as the condition that it is
    """A stamp lies further ahead of our clock than `MAX_AHEAD_MS`."""


class Clock:
    """The clock of one node."""

    def __init__(self, node: str, last: Stamp = ZERO) -> None:
        self.node = node
        self._wall_ms, self._counter = last.wall_ms, last.counter

    def tick(self, now: float, taken: int = 0) -> Stamp:
        """A stamp for a change made here at ``now`` (UNIX seconds), later than every stamp made or seen before that was taken
        back no more often."""
        wall_ms = int(now * 1000)
        if wall_ms > self._wall_ms:
            self._wall_ms, self._counter = wall_ms, 0
        else:
            self._counter += 1
        return Stamp(self._wall_ms, self._counter, self.node, taken)

    def set_right(self, now: float) -> None:
        """Follow ``now`` again after it was, or what was seen was, further ahead than `MAX_AHEAD_MS`: what is stamped so nobody
        else would take until that time has come."""
        if self._wall_ms > int(now * 1000) + MAX_AHEAD_MS:
            self._wall_ms = int(now * 1000)

    def observe(self, stamp: Stamp, now: float) -> None:
        """Take notice of a foreign stamp, so that what is made here from now on is later.

        Raises:
            FutureStamp: it lies too far ahead; nothing is taken notice of.
        """
        if stamp.wall_ms > int(now * 1000) + MAX_AHEAD_MS:
            raise FutureStamp(f"stamp {stamp.wall_ms} is more than {MAX_AHEAD_MS // 60_000} minutes ahead of our clock")
        if (stamp.wall_ms, stamp.counter) > (self._wall_ms, self._counter):
            self._wall_ms, self._counter = stamp.wall_ms, stamp.counter
