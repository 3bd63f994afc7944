"""Questions: what replicas ask each other about one request, and who still owes an answer.

A question goes to a few peers at once. Each answers it, or says in a word why not; whoever asked decides how long that is
worth waiting for. Nothing is repeated: what a connection takes with it when it ends is not answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final

from gateway.sync import frames
from gateway.sync.commands import Judge, Send, Told
from gateway.sync.link import STALLED_SECONDS, Link, Misbehaved

MAX_ASKED: Final = 16
"""Questions to one peer that are not answered; a further one counts as refused. It bounds both ends: as many may a peer ask."""

MAX_ASKED_BYTES: Final = 4 * 2**20
"""Bytes of texts on their way to one peer: what it does not read is held here."""

MAX_JUDGED: Final = 64
"""Questions of all peers that are judged at once; they share the encoder with this replica's own traffic."""

BUSY: Final = "busy"
GONE: Final = "gone"
LATE: Final = "late"


class _Asked:
    """A question of ours: who was asked and has not answered, by connection, and who said what."""

    def __init__(self) -> None:
        self.waiting: dict[int, str] = {}
        self.told: dict[str, frames.Answer | str] = {}


class _Away:
    """A question on its way to one peer. ``key`` is None where nobody waits for its answer any more."""

    __slots__ = ("at", "key", "size")

    def __init__(self, key: int, size: int, at: float) -> None:
        self.key: int | None = key
        self.size, self.at = size, at


class Questions:
    """All questions of one node, in both directions."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._asked: dict[int, _Asked] = {}
        self._away: dict[int, dict[int, _Away]] = {}  # by connection and number
        self._judged: dict[int, set[int]] = {}  # questions of peers that are being judged, by connection
        self._number = 0

    def ask(
        self, key: int, question: frames.Question, count: int, links: Iterable[Link], now: float
    ) -> list[Send | Told]:
        """Ask so many peers, by chance among those that agree with us, or else among all.

        `Told` follows at once with those who cannot be asked, and again with every answer. Where fewer are connected nobody is
        asked, and it says nothing of anybody.
        """
        named = [link for link in links if link.node]
        if len(named) < count:
            return [Told(key, {}, ())]
        self._random.shuffle(named)
        named.sort(key=lambda link: link.differs_since is not None)
        asked = self._asked[key] = _Asked()
        size = question.size
        out: list[Send | Told] = []
        for link in named[:count]:
            away = self._away.setdefault(link.key, {})
            if len(away) >= MAX_ASKED or sum(one.size for one in away.values()) + size > MAX_ASKED_BYTES:
                asked.told[link.node] = BUSY
                continue
            self._number += 1
            away[self._number] = _Away(key, size, now)
            asked.waiting[link.key] = link.node
            numbered = frames.Question(self._number, question.knowledge, question.scope, question.left_ms, question.segments)
            out.append(Send(link.key, numbered))
        return [*out, self._stands(key)]

    def answer(self, link: Link, frame: frames.Answer) -> list[Told]:
        """A peer answers.

        Raises:
            Misbehaved: what nobody asked.
        """
        away = self._away.get(link.key, {}).pop(frame.number, None)
        if away is None:
            raise Misbehaved("an Answer to nothing")
        if away.key is None:
            return []  # it came too late
        return self._told(away.key, link.key, frame if frame.said == "verdict" else frame.said)

    def give_up(self, key: int) -> list[Told]:
        """Whoever asked waits no longer: those who did not answer are told of as late. Nothing where it is over already."""
        asked = self._asked.get(key)
        if asked is None:
            return []
        for link in asked.waiting:
            for away in self._away[link].values():
                if away.key == key:
                    away.key = None
        asked.told |= dict.fromkeys(asked.waiting.values(), LATE)
        asked.waiting.clear()
        return [self._stands(key)]

    def asks(self, link: Link, frame: frames.Question) -> list[Send | Judge]:
        """A peer asks.

        Raises:
            Misbehaved: more than may be asked at once, or more than a question holds.
        """
        mine = self._judged.setdefault(link.key, set())
        if len(mine) >= MAX_ASKED or frame.number in mine:
            raise Misbehaved("more questions than may be asked at once")
        if frame.size > frames.MAX_QUESTION:
            raise Misbehaved("a question that is too long")
        if sum(map(len, self._judged.values())) >= MAX_JUDGED:
            return [Send(link.key, frames.Answer(frame.number, "busy"))]
        mine.add(frame.number)
        return [Judge(link.key, frame)]

    def judged(self, link: int, answer: frames.Answer) -> list[Send]:
        """What we say of a `Judge`; nothing where the connection has ended meanwhile."""
        mine = self._judged.get(link, set())
        if answer.number not in mine:
            return []
        mine.discard(answer.number)
        return [Send(link, answer)]

    def closed(self, link: int) -> list[Told]:
        """A connection has ended."""
        self._judged.pop(link, None)
        out: list[Told] = []
        for away in self._away.pop(link, {}).values():
            if away.key is not None:
                out += self._told(away.key, link, GONE)
        return out

    def check(self, link: Link, now: float) -> None:
        """Raises:
            Misbehaved: the peer answers nothing.
        """
        away = self._away.get(link.key)
        if away and now - next(iter(away.values())).at > STALLED_SECONDS:
            raise Misbehaved("answers nothing")

    def _told(self, key: int, link: int, what: frames.Answer | str) -> list[Told]:
        asked = self._asked[key]
        asked.told[asked.waiting.pop(link)] = what
        return [self._stands(key)]

    def _stands(self, key: int) -> Told:
        asked = self._asked[key]
        if not asked.waiting:
            del self._asked[key]
        return Told(key, dict(asked.told), tuple(sorted(asked.waiting.values())))
