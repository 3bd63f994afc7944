"""The interface of the state, and the values that pass through it.

Every method may raise `StateUnavailable` and nothing else for a fault that is the store's. Each store is safe
to use from many tasks of one event loop, and several processes may share one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.keys import StoredKey
from gateway.records.decision_records import labels
from gateway.records.decisions import AnyDecision, KeptTexts, Record, first_id, is_id

MAX_PAGE: Final = 1_000
"""Decisions in one page: about a megabyte of JSON."""

EXPIRE_STEP: Final = 500
"""Decisions removed in one transaction, which holds up whoever writes for a few milliseconds."""


class StateUnavailable(Exception):  # noqa: N818 - reads as the condition that it is
    """The store did not do what it was asked: it is gone, full, read-only, late or broken.

    ``what`` names the store without any credential, ``why`` what it said.
    """

    def __init__(self, what: str, why: str) -> None:
        self.what = what
        self.why = why
        super().__init__(f"{what}: {why}")


class KeyExists(Exception):  # noqa: N818 - reads as the condition that it is
    """A key with this id is already stored."""


class Versioned(NamedTuple):
    """A named value and how often it was written, from 1."""

    value: bytes
    version: int


class Change(NamedTuple):
    """A document to be written over the version that was read (0: there was none)."""

    kind: str
    id: str
    body: bytes
    version: int


class Event(NamedTuple):
    """What a stream gave somebody to work on. ``deliveries`` counts how often it was given, this time included."""

    id: str
    body: bytes
    deliveries: int


class Settled(StrEnum):
    """What came of settling events."""

    DONE = "done"
    CONFLICT = "conflict"  # somebody else wrote one of the documents meanwhile: nothing was written
    GONE = "gone"  # one of the events is another's by now, or nobody's: nothing was written


class Backlog(NamedTuple):
    """What waits in a stream: events nobody has taken, events taken and not settled, the age in seconds of the oldest of
    both, and how many ever had to go to make room."""

    waiting: int
    pending: int
    oldest: float
    dropped: int


class Page(NamedTuple):
    """Decisions, newest first. ``cursor`` continues after them; None where there are no more.

    A page may be short, even empty, and still have a cursor: the store looked as far as one call may.
    """

    decisions: tuple[Record, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which decisions to list; None means any.

    ``category`` is ``category`` or ``category.subcategory``; ``since`` (inclusive) and ``until`` (exclusive)
    are UNIX seconds, taken in whole milliseconds.
    """

    action: str | None = None
    tenant: str | None = None
    category: str | None = None
    wire: str | None = None
    since: float | None = None
    until: float | None = None

    def matches(self, decision: AnyDecision) -> bool:
        """True where the decision has what is asked for, its time aside."""
        return (
            self.action in (None, decision.action)
            and self.tenant in (None, decision.tenant)
            and self.wire in (None, decision.wire)
            and (self.category is None or self.category in labels(decision))
        )

    def bounds(self, cursor: str | None) -> tuple[str, str]:
        """The ids to look at: from the first (inclusive) up to the second (exclusive).

        Raises:
            ValueError: the cursor is none that a page gave.
        """
        low = first_id(0.0 if self.since is None else self.since)
        high = _AFTER_ALL if self.until is None else first_id(self.until)
        return low, high if cursor is None else min(high, _position(cursor))


ANY: Final = Filter()

_AFTER_ALL: Final = 34 * "f"  # sorts after every id, which has 32 digits
_CURSOR: Final = "c1-"  # names the kind of cursor, so that another kind can follow


def cursor_at(last: str) -> str:
    """The cursor that continues after decision ``last``."""
    return _CURSOR + last


def _position(cursor: str) -> str:
    last = cursor.removeprefix(_CURSOR)
    if not cursor.startswith(_CURSOR) or not is_id(last):
        raise ValueError("cursor: wanted the one that the page before gave")
    return last


def checked_limit(limit: int) -> int:
    """Return ``limit`` if a page may be that long.

    Raises:
        ValueError: it is not between 1 and `MAX_PAGE`.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit: got {limit}; wanted 1 to {MAX_PAGE}")
    return limit


class State(ABC):
    """A store."""

    what: str
    """Names the store for people, without any credential."""

    @abstractmethod
    async def ping(self) -> None:
        """Return when the store answers.

        Raises:
            StateUnavailable: it does not.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of it. Further calls raise `StateUnavailable`; closing again does nothing."""

    @abstractmethod
    async def put_key(self, key: StoredKey) -> None:
        """Store a new key, which nobody can have revoked yet.

        Raises:
            KeyExists: its id is taken.
        """

    @abstractmethod
    async def key(self, key_id: str) -> StoredKey | None:
        """The key with this id, whether or not it still opens anything."""

    @abstractmethod
    async def keys(self) -> list[StoredKey]:
        """Every key ever made, oldest first."""

    @abstractmethod
    async def revoke_key(self, key_id: str, now: float) -> bool:
        """Revoke a key at ``now``; a second time changes nothing. False where there is no such key."""

    @abstractmethod
    async def own_key(self, key_id: str, owner: str) -> StoredKey | None:
        """Say whose a key is; the key as it is then, somebody else's where that was said first. None: there is no such key."""

    @abstractmethod
    async def keys_version(self) -> int:
        """A number that changes whenever a key is put, owned or revoked; cheap to ask for."""

    @abstractmethod
    async def append(self, decisions: Sequence[AnyDecision], kept: Sequence[KeptTexts] = ()) -> None:
        """Store records, each of them whole or not at all, and kept texts. Storing the same again changes nothing.

        After an error some may be stored.
        """

    @abstractmethod
    async def decision(self, decision_id: str) -> Record | None:
        """The record with this id."""

    @abstractmethod
    async def decisions(self, only: Filter = ANY, limit: int = 100, cursor: str | None = None) -> Page:
        """List records, newest first.

        Paging to the end yields each record that was there at the start exactly once, whatever arrives
        meanwhile.

        Raises:
            ValueError: ``limit`` or ``cursor`` is not usable.
        """

    @abstractmethod
    async def kept_texts(self, decision_id: str, now: float) -> KeptTexts | None:
        """The texts kept of a decision, unless they expired by ``now``."""

    @abstractmethod
    async def expire(self, now: float, before: float, keep: int) -> int:
        """Remove decisions older than ``before`` and all but the newest ``keep``, and texts that expired by
        ``now``.

        Kept texts go with their decision. Returns how many decisions were removed.
        """

    @abstractmethod
    async def get(self, name: str) -> Versioned | None:
        """The value last written under ``name``."""

    @abstractmethod
    async def swap(self, name: str, value: bytes, version: int) -> int | None:
        """Write ``value`` if the stored version is still ``version`` (0: nothing is stored); return the new
        version.

        None means that somebody else was first and nothing was written.
        """

    # Documents: what people and the learning loop write, few and small beside the decisions.

    @abstractmethod
    async def put(self, kind: str, id: str, body: bytes, version: int) -> int | None:
        """Write a document if its stored version is still ``version`` (0: there is none); return the new version.

        None means that somebody else was first and nothing was written.
        """

    @abstractmethod
    async def document(self, kind: str, id: str) -> Versioned | None:
        """The document of this kind and id."""

    @abstractmethod
    async def documents(self, kind: str, limit: int = 100, before: str | None = None) -> list[tuple[str, Versioned]]:
        """Documents of a kind with their ids, greatest id first; ``before`` (exclusive) continues a listing.

        Raises:
            ValueError: ``limit`` is not usable.
        """

    @abstractmethod
    async def remove(self, kind: str, id: str) -> bool:
        """Remove a document; False where there is none."""

    # Fleeting values: worth having for a while, and no loss. Whoever writes one seals it (`gateway.redaction.sealing`).

    @abstractmethod
    async def put_fleeting(self, values: Mapping[str, bytes], expires_at: float) -> None:
        """Keep values by name until ``expires_at`` (UNIX seconds), over what was there."""

    @abstractmethod
    async def fleeting(self, names: Sequence[str], now: float) -> list[bytes | None]:
        """The values by these names, in order; None for one that is not there or expired by ``now``."""

    @abstractmethod
    async def tally(self, who: str, values: Mapping[str, int], expires_at: float) -> list[tuple[int, int]]:
        """Say what ``who`` has counted so far, by name; what all came to and how many they are, in order.

        Saying the same again, or less, changes nothing. What was said is gone at the ``expires_at`` it was first said with.
        """

    # Streams: work that is dealt out among all workers of all replicas. An event is given to one of them, and again, to whoever
    # asks, when it was not settled for a while: so its work may be done twice, and what `settle` writes is written once.

    @abstractmethod
    async def emit(self, stream: str, bodies: Sequence[bytes], now: float, most: int, *, make_room: bool) -> int | None:
        """Put events at the end of a stream that holds ``most`` of them.

        Where that would be more, the oldest go (``make_room``; returns how many, which `backlog` adds up), or none is taken
        (returns None).
        """

    @abstractmethod
    async def claim(self, stream: str, who: str, count: int, idle_seconds: float, now: float) -> list[Event]:
        """Take up to so many events to work on: first those that somebody took and has not settled for ``idle_seconds``, then
        those that nobody has taken, oldest first."""

    @abstractmethod
    async def settle(self, stream: str, who: str, ids: Sequence[str], changes: Sequence[Change] = ()) -> Settled:
        """End the work on events that ``who`` holds, which leave the stream, and write what came of it: all or nothing."""

    @abstractmethod
    async def backlog(self, stream: str, now: float) -> Backlog:
        """What waits in a stream."""
