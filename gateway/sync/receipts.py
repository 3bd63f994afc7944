"""Receipts: who holds a revision, told back to the node where it was made.

A revision spreads over many hops, and the node that made it talks to a few peers only. So each node that takes one says so
to the neighbour from which it came first, and passes on what later ones say: receipts travel the tree that the revision
grew. They are a lower bound: a receipt that is lost on the way makes a count too small, never too large.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from gateway.sync.membership import MAX_MEMBERS

MAX_TRACKED: Final = 4_096
"""Revisions followed at once; the oldest is forgotten first."""

TRACKED_SECONDS: Final = 300.0
"""How long a revision is followed."""


@dataclass(slots=True)
class Track:
    """One revision: where it came from (None: it was made here), since when, and who holds it besides us."""

    source: int | None
    at: float
    nodes: set[str] = field(default_factory=set)
    reached_at: float | None = None  # when the quorum was complete


class Receipts:
    """The revisions that are spreading."""

    def __init__(self) -> None:
        self._tracks: OrderedDict[bytes, Track] = OrderedDict()

    def begin(self, fingerprint: bytes, source: int | None, now: float) -> bool:
        """Follow a revision; False where it is followed already."""
        if fingerprint in self._tracks:
            return False
        self._tracks[fingerprint] = Track(source, now)
        while len(self._tracks) > MAX_TRACKED:
            self._tracks.popitem(last=False)
        return True

    def get(self, fingerprint: bytes) -> Track | None:
        return self._tracks.get(fingerprint)

    def note(self, fingerprint: bytes, nodes: Iterable[str], quorum: int, now: float) -> int | None:
        """These nodes hold it. Returns the link to tell, None where it was made here or is not followed."""
        track = self._tracks.get(fingerprint)
        if track is None:
            return None
        track.nodes.update(islice(nodes, MAX_MEMBERS - len(track.nodes)))  # no more than there can be, whatever a peer says
        if track.reached_at is None and len(track.nodes) + 1 >= quorum:
            track.reached_at = now
        return track.source

    def made_here(self) -> dict[bytes, Track]:
        """The revisions that were made here."""
        return {fingerprint: track for fingerprint, track in self._tracks.items() if track.source is None}

    def forget(self, now: float) -> None:
        while self._tracks:
            fingerprint, track = next(iter(self._tracks.items()))
            if now - track.at <= TRACKED_SECONDS:
                break
            del self._tracks[fingerprint]
