"""Feeds: patterns pulled on a schedule from files, folders and HTTPS, and proposed like anybody else's.

A feed can be wrong, broken, replaced or hostile. It is bounded in size and time, fetched again only when it changed (ETag),
and what it brings is a proposal that passes its trial and an approval before it acts.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gateway.learning.settings import FeedSettings
from patterns import convert
from patterns.schema import Pattern

MAX_BYTES: Final = 32 * 2**20
"""Bytes of one pull."""

SECONDS: Final = 30.0
"""How long one pull may take."""

MAX_PROPOSED: Final = 200
"""Patterns proposed from one pull: what people can look at. The rest waits for the next pull."""

_log = logging.getLogger(__name__)


class Pulled(NamedTuple):
    """What a pull gave: the bytes and the name they came under, and what tells whether they changed."""

    data: bytes
    name: str
    mark: str


class FeedFault(Exception):  # noqa: N818 - reads as the condition that it is
    """A feed that cannot be pulled; the message names it and says why."""


def pull(feed: FeedSettings, mark: str) -> list[Pulled]:
    """Fetch a feed; nothing where it is as it was at ``mark``. Blocks for up to `SECONDS`.

    Raises:
        FeedFault: it cannot be fetched, or is too large.
    """
    if feed.source.startswith("https://"):
        return _fetch(feed, mark)
    path = Path(feed.source.removeprefix("file:"))
    try:
        files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
        found = []
        for file in files:
            if file.stat().st_size > MAX_BYTES:
                raise FeedFault(f"{feed.name}: {file.name}: more than {MAX_BYTES} bytes")
            found.append((file.name, file.read_bytes()))
    except OSError as error:
        raise FeedFault(f"{feed.name}: {error.strerror or type(error).__name__}") from None
    now = hashlib.sha256(b"".join(name.encode() + data for name, data in found)).hexdigest()
    return [] if now == mark else [Pulled(data, name, now) for name, data in found]


def _fetch(feed: FeedSettings, mark: str) -> list[Pulled]:
    headers = {"user-agent": "portcullis", **({"if-none-match": mark} if mark else {})}
    opener = urllib.request.build_opener(_NoRedirect())
    try:
        with opener.open(urllib.request.Request(feed.source, headers=headers), timeout=SECONDS) as answer:
            data = answer.read(MAX_BYTES + 1)
            tag = answer.headers.get("etag") or hashlib.sha256(data).hexdigest()
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return []
        raise FeedFault(f"{feed.name}: the server answered {error.code}") from None
    except (OSError, ValueError) as error:
        raise FeedFault(f"{feed.name}: {getattr(error, 'reason', error)}") from None
    if len(data) > MAX_BYTES:
        raise FeedFault(f"{feed.name}: more than {MAX_BYTES} bytes")
    return [] if tag == mark else [Pulled(data, feed.source.rpartition("/")[2], tag)]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A feed's address is what the operator wrote, and no other."""

    def redirect_request(self, *_: object) -> None:
        return None


class Feeds:
    """Pulls feeds that are due. ``propose`` takes a pattern and where it comes from; ``known`` tells what is known already."""

    def __init__(
        self, settings: Callable[[], Sequence[FeedSettings]], propose: Callable[[Pattern, str], Awaitable[object]],
        known: Callable[[], Awaitable[frozenset[str]]],
    ) -> None:  # fmt: skip
        self._settings = settings
        self._propose = propose
        self._known = known
        self._marks: dict[str, str] = {}
        self._due: dict[str, float] = {}
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
            except (FeedFault, convert.Unreadable) as error:
                self.faults[feed.name] = str(error)
                _log.error("a feed brought nothing: %s", error)

    async def _one(self, feed: FeedSettings) -> None:
        for pulled in await asyncio.to_thread(pull, feed, self._marks.get(feed.name, "")):
            form = feed.format or convert.guess(pulled.name)
            found = await asyncio.to_thread(convert.convert, pulled.data, form, feed.name, f"feed {feed.name}")
            for fault in found.faults[:10]:
                _log.warning("a feed's entry is left out: %s", fault)
            known = await self._known()
            fresh = [pattern for pattern in found.patterns if pattern.id not in known]
            for pattern in fresh[:MAX_PROPOSED]:
                await self._propose(pattern, f"from feed {feed.name}")
            self.pulled[feed.name] = self.pulled.get(feed.name, 0) + min(len(fresh), MAX_PROPOSED)
            if len(fresh) <= MAX_PROPOSED:
                self._marks[feed.name] = pulled.mark
