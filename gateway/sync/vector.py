"""Version vectors: up to which change of each node a replica holds everything, so that a peer can send just what came later.

A vector that is raised with every entry that comes would lie: entries overtake each other, and whoever sends them may be cut
off in between. So it is raised when a peer holds the very same, as digests tell, to the latest of what both hold; of its own
changes a node always holds all. Where a vector is wrong all the same (a change that neither had, a store that was restored
from a backup), too little is sent, digests still differ, and buckets are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from patterns.clock import Stamp

Reached = tuple[int, int]
"""Milliseconds and counter of a stamp."""

NOTHING: Reached = (-1, 0)


def reached(stamp: Stamp) -> Reached:
    return stamp.wall_ms, stamp.counter


class Vector:
    """The vector of one replica, whose node is ``own``. ``latest`` is what was ever held, by node."""

    def __init__(self, own: str) -> None:
        self._own = own
        self.latest: dict[str, Reached] = {}
        self._whole: dict[str, Reached] = {}  # up to which nothing is missing
        self._agreed = b""

    def note(self, stamp: Stamp) -> None:
        """An entry of this stamp is held."""
        if reached(stamp) > self.latest.get(stamp.node, NOTHING):
            self.latest[stamp.node] = reached(stamp)

    def agree(self, root: bytes) -> None:
        """A peer holds the same, whose digest is ``root``."""
        if root != self._agreed:
            self._whole, self._agreed = self.latest.copy(), root

    def whole(self) -> Mapping[str, Reached]:
        """Up to which nothing is missing, by node."""
        own = self.latest.get(self._own)
        return self._whole if own is None else {**self._whole, self._own: own}


def later(stamps: Iterable[tuple[str, Stamp]], than: Mapping[str, Reached]) -> list[str]:
    """Of (id, stamp) the ids of those later than a vector, in the order of their stamps: where they are cut off, what came is
    what is oldest."""
    found = [(stamp, identity) for identity, stamp in stamps if stamp[:2] > than.get(stamp.node, NOTHING)]
    return [identity for _, identity in sorted(found)]
