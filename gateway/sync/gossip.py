"""What members say of themselves, passed on: each neighbour is told what it does not know yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.sync import frames
from gateway.sync.commands import Send
from gateway.sync.link import Link, Misbehaved
from gateway.sync.membership import ANNOUNCE_SECONDS, MAX_MEMBERS, Directory

SPREAD_SECONDS: Final = 2.0
"""How long news of members are gathered: of a thousand nodes, some thirty have news in this time, and go in one frame."""

MAX_MEMBERS_FRAME: Final = 128


class Gossip:
    """The news of members that wait to be passed on."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._news: dict[str, frames.Member] = {}
        self._announced_at = self._spread_at = float("-inf")

    def met(self, link: Link, now: float) -> list[Send]:
        """A new neighbour named itself: remember it, and tell it whom we know."""
        member = frames.Member(link.node, link.address, int(now * 1000), False)
        self._learn([member], now)
        link.told[link.node] = member.seen_ms
        return _framed(link, [self._directory.announce(now), *self._directory.untold(link.told, MAX_MEMBERS)])

    def heard(self, link: Link, members: Iterable[frames.Member], now: float) -> None:
        """A neighbour tells of members.

        Raises:
            Misbehaved: of more than there can be.
        """
        for member in members:
            link.told[member.node] = max(member.seen_ms, link.told.get(member.node, -1))
        if len(link.told) > 2 * MAX_MEMBERS:
            raise Misbehaved("it invents members")
        self._learn(members, now)

    def tick(self, links: Iterable[Link], now: float) -> list[Send]:
        """What is due: a word of our own, and the news that were gathered."""
        if not 0 <= now - self._announced_at < ANNOUNCE_SECONDS:
            self._announced_at = now
            self._news[self._directory.node] = self._directory.announce(now)
        if not self._news or 0 <= now - self._spread_at < SPREAD_SECONDS:
            return []
        self._spread_at = now
        return self._spread(links)

    def farewell(self, links: Iterable[Link], now: float) -> list[Send]:
        """We leave."""
        self._news[self._directory.node] = self._directory.announce(now, left=True)
        return self._spread(links)

    def _learn(self, members: Iterable[frames.Member], now: float) -> None:
        self._news.update({one.node: one for one in self._directory.learn(members, now)})

    def _spread(self, links: Iterable[Link]) -> list[Send]:
        news, self._news = self._news.values(), {}
        out: list[Send] = []
        for link in links:
            fresh = [one for one in news if link.node and link.told.get(one.node, -1) < one.seen_ms]
            link.told.update({one.node: one.seen_ms for one in fresh})
            out += _framed(link, fresh)
        return out


def _framed(link: Link, members: list[frames.Member]) -> list[Send]:
    steps = range(0, len(members), MAX_MEMBERS_FRAME)
    return [Send(link.key, frames.Members(members[at : at + MAX_MEMBERS_FRAME])) for at in steps]
