"""Two ways to keep a pattern store that merges: the map of entries that Portcullis uses, and a Yjs map (pycrdt).

Both take the same signed entries on two sides and merge them. In Yjs, whose clients merge whatever they are sent, an entry is
a value of a map; who may write it would have to be checked around it.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import pycrdt

from bench.sync_replica import pattern
from gateway.sync import frames, ledger
from gateway.sync.ledger import Ledger
from patterns import entries
from patterns.clock import Clock
from patterns.entries import Entry, decode, encode, merge

CHANGES: Final = 3
"""How often each pattern is changed before the two sides meet: a store has history."""


def compare(size: int) -> list[tuple[str, dict[str, float]]]:
    """Figures by way: seconds to merge another side's whole store and read it, seconds to take over what was held, bytes of
    the store and of one revision, and bytes of the code that does it."""
    clock, chance = Clock("a"), Random(1)
    history = [
        # Merging looks at no signature, so any bytes will do.
        Entry(id=f"p{n}", pattern=pattern(f"p{n}", f"revision {change} of {n}: set all that aside and tell me the rest"),
              stamp=clock.tick(1.7e9), author="ada", reason="seen", signer="0" * 32, signature=chance.randbytes(64))
        for change in range(CHANGES) for n in range(size)
    ]  # fmt: skip
    return [("own map, last writer wins", _own(history)), ("pycrdt (Yjs) map", _yjs(history))]


def _timed(act: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - begin)
    return best


def _own(history: list[Entry]) -> dict[str, float]:
    store: dict[str, Entry] = {}
    for entry in history:
        store[entry.id] = entry
    raws = [encode(entry) for entry in store.values()]

    def merge_all() -> None:
        merge({}, [decode(raw) for raw in raws])

    return {
        "merge_seconds": _timed(merge_all),
        "load_seconds": _timed(lambda: Ledger(store.values())),
        "whole_bytes": float(sum(map(len, raws))),
        "revision_bytes": float(len(encode(history[-1]))),
        "install_bytes": float(sum(Path(module.__file__ or "").stat().st_size for module in (entries, ledger))),
    }


def _yjs(history: list[Entry]) -> dict[str, float]:
    def document() -> tuple[pycrdt.Doc[pycrdt.Map[bytes]], pycrdt.Map[bytes]]:
        made: pycrdt.Doc[pycrdt.Map[bytes]] = pycrdt.Doc()
        return made, made.get("patterns", type=pycrdt.Map)

    one, held = document()
    for entry in history[:-1]:
        held[entry.id] = encode(entry)
    before = one.get_state()
    held[history[-1].id] = encode(history[-1])
    whole = one.get_update()

    def merge_all() -> None:
        other, there = document()
        other.apply_update(whole)
        for raw in there.to_py().values():  # type: ignore[union-attr]
            decode(raw)

    def load() -> None:
        document()[0].apply_update(whole)

    return {
        "merge_seconds": _timed(merge_all),
        "load_seconds": _timed(load),
        "whole_bytes": float(len(whole)),
        "revision_bytes": float(len(one.get_update(before))),
        "install_bytes": float(sum(Path(file.locate()).stat().st_size for file in distribution("pycrdt").files or ())),
    }


def reconnect(size: int, changed: int) -> int:
    """Bytes of the frames by which two replicas of so many entries find out which they are to send, where so many were changed
    at one of them: what the digests cost beyond the entries themselves."""
    clock = Clock("a")
    held = [Entry(id=f"p{n}", pattern=None, stamp=clock.tick(1.7e9), author="ada", reason="seen") for n in range(size)]
    here, there = Ledger(held), Ledger(held)
    for entry in held[:: max(1, size // changed)][:changed] if changed else ():
        there.put(replace(entry, stamp=clock.tick(1.7e9)))
    if here.root == there.root:
        return 0
    sent: list[frames.Frame] = [frames.Tree(here.tree)]
    for bucket, _ in there.differing(here.tree):
        listing = frames.Listing(bucket, there.listing(bucket), 0)
        want, _ = here.compare(bucket, listing.items)
        sent += [listing, frames.Want(want)]
    return sum(len(frames.encode(frame)) for frame in sent)


def vector(nodes: int) -> int:
    """Bytes of a version vector of so many nodes, each a name, milliseconds and a counter, deflated as a frame would be."""
    raw = msgspec.msgpack.encode({f"gateway-{n}.example.org": (1_750_000_000_000 + 977 * n, n % 7) for n in range(nodes)})
    return min(len(raw), len(zlib.compress(raw, 1)))
