"""Hands entries that peers sent to the store, on threads: verifying and writing them takes milliseconds.

What came meanwhile goes together, as one generation, and what was just made goes first, and at once. Bulk waits for more of
it: a generation costs a write to the disk and a digest of the whole store, however few entries it brings.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from detectors.aside import yielded
from gateway.sync.commands import Apply, Command
from gateway.sync.link import BULK_WINDOW
from gateway.sync.node import Node
from patterns.store import Store, StoreError

APPLIERS: Final = 2
"""Threads that hand entries to the store: one's signatures are verified while another's entries are written."""

APPLY_BATCHES: Final = BULK_WINDOW // (2 * APPLIERS)
"""Batches that become one generation at most: while the store takes these, a peer may send as many again."""

GATHER_SECONDS: Final = 0.1
"""How long bulk waits for so many."""

_log = logging.getLogger(__name__)


class Applier:
    """What waits for the store. `add` a batch; `APPLIERS` tasks `run`, and tell ``do`` what the node makes of it."""

    def __init__(self, store: Store, node: Node, do: Callable[[Iterable[Command]], None]) -> None:
        self._store, self._node, self._do = store, node, do
        self._waiting: list[Apply] = []
        self._work = asyncio.Event()

    def add(self, batch: Apply) -> None:
        self._waiting.append(batch)
        if batch.fresh or len(self._waiting) >= APPLY_BATCHES:
            self._work.set()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._work.set)

    async def run(self) -> None:
        """Forever."""
        while True:
            await self._work.wait()
            self._work.clear()
            waiting = sorted(self._waiting, key=lambda one: not one.fresh)
            work, self._waiting = waiting[:APPLY_BATCHES], waiting[APPLY_BATCHES:]
            if self._waiting:
                self._work.set()
            if work:
                await self._apply(work)

    async def _apply(self, work: list[Apply]) -> None:
        everything = [entry for one in work for entry in one.entries]
        try:
            applied = await asyncio.to_thread(yielded, self._store.apply, everything, time.time())
        except StoreError as error:
            _log.error("pattern sync: the store takes nothing: %s", error)
            for one in work:
                self._do(self._node.failed(one.link, one.batch, time.time()))
            return
        unwanted = {id(refused.entry) for refused in applied.refused}
        for one in work:
            refused = {entry.id: "untrusted" for entry in one.entries if id(entry) in unwanted}
            self._do(self._node.applied(one.link, one.batch, refused, time.time()))
