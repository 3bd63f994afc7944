"""Two ways to keep a pattern store that merges: the map of entries that Portcullis uses, and a Yjs map (pycrdt).

Both take the same signed entries on two sides and merge them. In Yjs, whose clients merge whatever they are sent, an entry is
a value of a map; who may write it would have to be checked around it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from random import Random
from typing import Final

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


def reconnect(size: int, changed: int, nodes: int = 0) -> int:
    """Bytes of the frames by which one replica finds out what it missed of so many entries, where so many were changed at
    another: what that costs beyond the entries themselves.

    Args:
        nodes: how many made the entries, which then are found by version vectors, one each way; 0: by comparing buckets.
    """
    clocks = [Clock(f"gateway-{number}.example.org") for number in range(nodes or 1)]
    ticks = [clocks[number % len(clocks)].tick(1.7e9) for number in range(size)]
    held = [Entry(id=f"p{n}", pattern=None, stamp=stamp, author="ada", reason="seen") for n, stamp in enumerate(ticks)]
    here, there = Ledger(held), Ledger(held)
    missed = held[:: max(1, size // changed)][:changed] if changed else []
    for number, entry in enumerate(missed):
        there.put(replace(entry, stamp=clocks[number % len(clocks)].tick(1.7e9)))
    if here.root == there.root:
        return 0
    sent: list[frames.Frame] = []
    if nodes:
        asked, told = here.marks(), there.marks()
        assert asked is not None
        assert len(there.since(asked)) == changed
        said = "gateway", bytes(16), ":7443", here.root, size, 0
        return sum(
            len(frames.encode(frames.HelloSince(*said, marks))) - len(frames.encode(frames.Hello(*said)))
            for marks in (asked, told)
        )
    sent.append(frames.Tree(here.tree))
    for bucket, _ in there.differing(here.tree):
        listing = frames.Listing(bucket, there.listing(bucket), 0)
        want, _ = here.compare(bucket, listing.items)
        sent += [listing, frames.Want(want)]
    return sum(len(frames.encode(frame)) for frame in sent)
