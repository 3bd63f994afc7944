"""Feeds: patterns pulled on a schedule from files, folders and HTTPS, and proposed like anybody else's.

A feed can be wrong, broken, replaced or hostile. It is fetched within bounds (`gateway.learning.pulling`), again only when it
changed, and what it brings is a proposal that passes its trial and an approval before it acts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from gateway.learning.pulling import FeedFault, Pulled, pull
from gateway.learning.settings import FeedSettings
from gateway.state.base import StateUnavailable
from patterns import convert
from patterns.schema import Pattern

MAX_PROPOSED: Final = 200
"""Patterns proposed from one pull: what people can look at. The rest waits for the next pull."""

MAX_REFUSED: Final = 20_000
"""Refused patterns remembered of a feed, the latest ones: a hundred pulls of one file that brings nothing else."""

_log = logging.getLogger(__name__)


class Feeds:
    """Pulls feeds that are due. ``propose`` takes a pattern and where it comes from, and returns why it refused it, if it did;
    ``known`` tells the bodies of what is known already by id, empty of one that is gone."""

    def __init__(
        self, settings: Callable[[], Sequence[FeedSettings]], propose: Callable[[Pattern, str], Awaitable[str | None]],
        known: Callable[[], Awaitable[Mapping[str, str]]],
    ) -> None:  # fmt: skip
        self._settings = settings
        self._propose = propose
        self._known = known
        self._marks: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._refused: dict[str, dict[int, None]] = {}
        self.faults: dict[str, str] = {}
        self.pulled: dict[str, int] = {}

    async def run(self, now: float | None = None) -> None:
        """Pull what is due, and propose what is new in it."""
        now = time.time() if now is None else now
        for feed in self._settings():
            if now < self._due.get(feed.name, 0.0):
                continue
            self._due[feed.name] = now + feed.every_seconds
            try:
                await self._one(feed)
                self.faults.pop(feed.name, None)
            except FeedFault as error:
                self.faults[feed.name] = str(error)
                _log.error("a feed brought nothing, or not all of it: %s", error)
            except StateUnavailable:
                del self._due[feed.name]  # what is left of it waits for the state and no longer
                raise

    async def _one(self, feed: FeedSettings) -> None:
        left, mark = 0, self._marks.get(feed.name, "")
        broken: list[str] = []
        refused = self._refused.setdefault(feed.name, {})  # else what is refused each time would keep away what comes after it
        for pulled in await pull(feed, mark):
            try:
                found = await asyncio.to_thread(_read, feed, pulled)
            except FeedFault as error:
                broken.append(str(error))
                continue
            for fault in found.faults[:10]:
                _log.warning("a feed's entry is left out: %s: %s%s", feed.name, pulled.name, fault.removeprefix(feed.name))
            fresh = [one for one in _fresh(found.patterns, await self._known()) if hash(one) not in refused]
            for pattern in fresh[:MAX_PROPOSED]:
                if await self._propose(pattern, f"from feed {feed.name}"):
                    refused[hash(pattern)] = None
                    if len(refused) > MAX_REFUSED:
                        del refused[next(iter(refused))]
            self.pulled[feed.name] = self.pulled.get(feed.name, 0) + min(len(fresh), MAX_PROPOSED)
            left += max(0, len(fresh) - MAX_PROPOSED)
            mark = pulled.mark
        if broken:
            raise FeedFault("; ".join(broken))
        if not left:  # a folder's files have one mark: what is left of any of them is pulled again
            self._marks[feed.name] = mark


def _fresh(patterns: Sequence[Pattern], known: Mapping[str, str]) -> list[Pattern]:
    """What is new in a feed: of ids that are not known, and of known ones what says something else by now, under an id of its
    own, since what acts is replaced by nobody but people."""
    fresh = {}
    for pattern in patterns:
        if known.get(pattern.id) not in (None, "", pattern.body):
            pattern = replace(pattern, id=convert.other_id(pattern))
        if pattern.id not in known:
            fresh[pattern.id] = pattern
    return list(fresh.values())


def _read(feed: FeedSettings, pulled: Pulled) -> convert.Import:
    if pulled.fault:
        raise FeedFault(pulled.fault)
    try:
        form = feed.format or convert.guess(pulled.name, pulled.data)
        return convert.convert(pulled.data, form, feed.name, f"feed {feed.name}")
    except convert.Unreadable as error:
        raise FeedFault(f"{error} ({pulled.name})") from None
    except Exception as error:  # of an error of ours, too, no other file knows anything
        raise FeedFault(f"{feed.name}: cannot be read: {type(error).__name__}: {str(error)[:200]} ({pulled.name})") from error
