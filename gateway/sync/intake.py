"""Entries that peers send: looked at before the store sees them, and remembered until it has taken or refused them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gateway.sync import frames
from gateway.sync.ledger import Ledger, fingerprint
from patterns.clock import MAX_AHEAD_MS
from patterns.entries import MAX_ENTRY, Entry, EntryError, decode, encode


class Arrived(NamedTuple):
    """What became of a batch: what the store should verify and merge, what was refused, with the reason in a word, and the ids
    of patterns that were removed so long ago that the peer cannot know."""

    wanted: list[Entry]
    refused: dict[bytes, str]
    removed: list[str]


class Intake:
    """The batches that the store is looking at."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._origins: dict[bytes, tuple[int, bool]] = {}
        self._batches: dict[tuple[int, int], tuple[dict[str, bytes], list[bytes]]] = {}

    def origin(self, fingerprint: bytes) -> tuple[int | None, bool]:
        """The connection that a revision comes from, None where it was made here; and whether it is fresh."""
        return self._origins.get(fingerprint, (None, True))

    def arrive(self, link: int, frame: frames.Entries, now: float) -> Arrived:
        """Look at a batch. Where something of it is wanted, `done` must follow."""
        prints: dict[str, bytes] = {}
        wanted: list[Entry] = []
        refused: dict[bytes, str] = {}
        removed: list[str] = []
        for raw in frame.entries:
            one = fingerprint(raw)
            try:
                entry = self._read(raw, now, removed)
            except EntryError as error:
                refused[one] = _reason(raw, error)
                continue
            if entry is not None and entry.id not in prints and one not in self._origins:
                prints[entry.id] = one
                self._origins[one] = (link, frame.fresh)
                wanted.append(entry)
        if wanted:
            self._batches[link, frame.batch] = prints, list(refused)
        return Arrived(wanted, refused, removed)

    def done(self, link: int, batch: int, refused: Iterable[str]) -> list[bytes]:
        """The store is through with a batch and refused the entries with these ids; returns the fingerprints of all refused."""
        prints, before = self._batches.pop((link, batch))
        for one in prints.values():
            self._origins.pop(one, None)
        return before + [prints[identity] for identity in refused]

    def _read(self, raw: bytes, now: float, removed: list[str]) -> Entry | None:
        """The entry, if it is later than what is held; None if not, and where a removal beyond the horizon is held against it,
        its id joins ``removed``.

        Raises:
            EntryError: it cannot be taken.
        """
        if len(raw) > MAX_ENTRY:
            raise EntryError("oversized")
        entry = decode(raw)
        held = self._ledger.get(entry.id)
        if held is not None and (held.raw == raw or held.stamp > entry.stamp):
            if entry.pattern is not None and held.tomb and self._ledger.beyond(held.stamp):
                removed.append(entry.id)
            return None
        if held is None and entry.pattern is None and self._ledger.beyond(entry.stamp):
            return None  # the removal of what is not here
        if entry.stamp.wall_ms > int(now * 1000) + MAX_AHEAD_MS:
            raise EntryError("future")
        if encode(entry) != raw:  # replicas name an entry by its bytes, so there must be one way to write it
            raise EntryError("not written as encode() does")
        return entry


def _reason(raw: bytes, error: EntryError) -> str:
    if len(raw) > MAX_ENTRY:
        return "oversized"
    return "future" if str(error) == "future" else "malformed"
