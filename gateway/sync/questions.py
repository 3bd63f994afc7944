"""Questions: what replicas ask each other about one request, and who still owes an answer.

A question goes to a few peers at once. Each answers it, or says in a word why not; whoever asked decides how long that is
worth waiting for. A question is the peer's, not the connection's: where two replicas dialled each other at once, and one of the
connections ends, it goes out again over the one that stays. What a peer takes with it when it leaves is not answered.
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
"""Questions of all peers that are judged at once; they share the encoder with this replica's own traffic. Those of a connection
that has ended count until they were judged: who comes back on and on asks no more."""

NOWHERE: Final = -1
"""Instead of a connection: the question waits for one."""

BUSY: Final = "busy"
GONE: Final = "gone"
LATE: Final = "late"


class _Asked:
    """A question of ours: who was asked and has not answered, and who said what."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.told: dict[str, frames.Answer | str] = {}


class _Away:
    """A question on its way to one peer. ``key`` is None where nobody waits for its answer any more."""

    __slots__ = ("at", "key", "link", "question")

    def __init__(self, key: int, link: int, question: frames.Question, at: float) -> None:
        self.key: int | None = key
        self.link, self.question, self.at = link, question, at


class Questions:
    """All questions of one node, in both directions."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._asked: dict[int, _Asked] = {}
        self._away: dict[str, dict[int, _Away]] = {}  # by peer and number
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
            away = self._away.setdefault(link.node, {})
            if len(away) >= MAX_ASKED or sum(one.question.size for one in away.values()) + size > MAX_ASKED_BYTES:
                asked.told[link.node] = BUSY
                continue
            self._number += 1
            numbered = frames.Question(self._number, question.knowledge, question.scope, question.left_ms, question.segments)
            away[self._number] = _Away(key, link.key, numbered, now)
            asked.waiting.add(link.node)
            out.append(Send(link.key, numbered))
        return [*out, self._stands(key)]

    def answer(self, link: Link, frame: frames.Answer) -> list[Told]:
        """A peer answers.

        Raises:
            Misbehaved: what nobody asked.
        """
        away = self._away.get(link.node, {}).pop(frame.number, None)
        if away is None:
            raise Misbehaved("an Answer to nothing")
        if away.key is None:
            return []  # it came too late
        return self._told(away.key, link.node, frame if frame.said == "verdict" else frame.said)

    def give_up(self, key: int) -> list[Told]:
        """Whoever asked waits no longer: those who did not answer are told of as late. Nothing where it is over already."""
        asked = self._asked.get(key)
        if asked is None:
            return []
        for node in asked.waiting:
            away = self._away[node]
            for number in [number for number, one in away.items() if one.key == key]:
                away[number].key = None
                if away[number].link == NOWHERE:
                    del away[number]
        asked.told |= dict.fromkeys(asked.waiting, LATE)
        asked.waiting.clear()
        return [self._stands(key)]

    def asks(self, link: Link, frame: frames.Question) -> list[Send | Judge]:
        """A peer asks.

        Raises:
            Misbehaved: more than may be asked at once, or more than a question holds.
        """
        mine = self._judged.get(link.key, set())
        if len(mine) >= MAX_ASKED or frame.number in mine:
            raise Misbehaved("more questions than may be asked at once")
        if frame.size > frames.MAX_QUESTION:
            raise Misbehaved("a question that is too long")
        if sum(map(len, self._judged.values())) >= MAX_JUDGED:
            return [Send(link.key, frames.Answer(frame.number, "busy"))]
        self._judged.setdefault(link.key, set()).add(frame.number)
        return [Judge(link.key, frame)]

    def judged(self, link: int, answer: frames.Answer) -> list[Send]:
        """What we say of a `Judge`."""
        mine = self._judged.get(link, set())
        if answer.number not in mine:
            return []
        mine.discard(answer.number)
        if not mine:
            del self._judged[link]
        return [Send(link, answer)]

    def closed(self, link: Link, again: bool) -> list[Told]:
        """A connection has ended. ``again``: its peer has another one to us, or one stands that may turn out to be such."""
        away = self._away.get(link.node, {})
        out: list[Told] = []
        for number, one in [(number, one) for number, one in away.items() if one.link == link.key]:
            if one.key is not None and again:
                one.link = NOWHERE
                continue
            del away[number]
            if one.key is not None:
                out += self._told(one.key, link.node, GONE)
        return out

    def named(self, link: Link, now: float) -> list[Send]:
        """A connection is the peer's from here on: what it was asked over another one goes out again."""
        out = []
        for one in self._away.get(link.node, {}).values():
            if one.link == NOWHERE:
                one.link, one.at = link.key, now
                out.append(Send(link.key, one.question))
        return out

    def check(self, link: Link, now: float) -> None:
        """Raises:
            Misbehaved: the peer answers nothing.
        """
        away = self._away.get(link.node)
        if away and now - next(iter(away.values())).at > STALLED_SECONDS:
            raise Misbehaved("answers nothing")

    def _told(self, key: int, node: str, what: frames.Answer | str) -> list[Told]:
        asked = self._asked[key]
        asked.waiting.discard(node)
        asked.told[node] = what
        return [self._stands(key)]

    def _stands(self, key: int) -> Told:
        asked = self._asked[key]
        if not asked.waiting:
            del self._asked[key]
        return Told(key, dict(asked.told), tuple(sorted(asked.waiting)))
