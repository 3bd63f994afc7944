"""Cases in the memory of the worker that learns: a pass reads what labels came for, not all that was ever labelled.

The state keeps all cases; of more than `MOST` the worker remembers, of each labeller as many as of any other, those with a
verdict first, then the latest. So nobody's flood of labels fills its memory, or pushes out what others labelled.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.learning.book import Book
from gateway.learning.evidence import fair_share
from gateway.learning.values import Case, Outcome
from gateway.state.base import MAX_PAGE

OVERLAP_SECONDS: Final = 120.0
"""How far before the last look labels are looked at again: one may be written some time after its id was made, and the
clocks of replicas differ."""

WHOLE_SECONDS: Final = 3600.0
"""How often everything is read all the same, for what a clock that is further off than that hid."""

MOST: Final = 20_000
"""Cases remembered: some 5 kB each with their embeddings, and their texts where those are kept."""

FORGOTTEN: Final = 0.1
"""The share of them that goes when there are more: not at every label that comes."""


class Remembered:
    """See the module. ``cases`` holds them by id, as of the last `refresh`."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.cases: dict[str, Case] = {}
        self._seen: dict[str, float] = {}
        self._looked = 0.0
        self._whole: float | None = None

    def forget(self) -> None:
        """Read everything anew at the next look: another worker may have changed cases meanwhile."""
        self._whole = None

    async def refresh(self, now: float) -> list[Case]:
        """Read what changed; returns the cases that did, of those remembered."""
        since = self._looked - OVERLAP_SECONDS
        whole = self._whole is None or now - self._whole >= WHOLE_SECONDS
        found = await self._all() if whole else await self._labelled(since)
        if whole:
            self._whole = now
            self.cases = {id: case for id, case in self.cases.items() if id in found}
        changed = [case for id, case in found.items() if self.cases.get(id) != case]
        self.cases = await _bounded(self.cases | {case.id: case for case in changed})
        self._looked = now
        return [case for case in changed if case.id in self.cases]

    async def _all(self) -> dict[str, Case]:
        found: dict[str, Case] = {}
        async for case in self._book.cases():
            found[case.id] = case
            if len(found) > MOST:
                found = await _bounded(found)
        return found

    async def _labelled(self, since: float) -> dict[str, Case]:
        """The cases of labels that came since, but for those that were seen."""
        self._seen = {id: at for id, at in self._seen.items() if at >= since}
        wanted: set[str] = set()
        before: str | None = None
        while page := await self._book.labels(MAX_PAGE, before):
            recent = [label for label in page if label.at >= since]
            wanted |= {label.case for label in recent if label.id not in self._seen}
            self._seen |= {label.id: label.at for label in recent}
            if len(recent) < len(page):
                break
            before = page[-1].id
        return {id: case for id in sorted(wanted) if (case := await self._book.case(id)) is not None}


async def _bounded(cases: dict[str, Case]) -> dict[str, Case]:
    """The cases, or most of them where they are too many."""
    if len(cases) <= MOST:
        return cases
    order = sorted(cases.values(), key=lambda case: (case.outcome is Outcome.UNDECIDED, -case.at))
    kept = await asyncio.to_thread(fair_share, order, MOST - int(MOST * FORGOTTEN))
    return {case.id: case for case in kept}
