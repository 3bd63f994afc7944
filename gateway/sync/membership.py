"""Who there is, and whom to connect to.

Addresses come from the configuration, from DNS and from gossip: each node says of itself where it is and when it said so,
and the latest word stands. From the same list every node picks a few peers to dial: the next on a ring, which keeps all
connected, and some at random places of the ring, which keep ways short; in a small cluster, all. That is a handful of
connections each, in a cluster of any size, and word spreads in a logarithm of its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Final, NamedTuple

from gateway.sync.frames import Member

FANOUT: Final = 3
"""Peers that a node dials; about as many dial it. A random graph in which each node dials three is connected, and stays so
when a third of it is gone."""

FEW: Final = 9
"""So many other nodes are all dialled: as many as a policy may ask for their verdict (`settings.ConsensusSettings`), so
that none of a small cluster lacks a connection for it."""

MAX_MEMBERS: Final = 4_096
"""Members remembered; a peer that invents them cannot fill memory."""

FORGET_SECONDS: Final = 600.0
"""A member of which nothing was heard for so long is forgotten; it is heard of again when it is back."""

ANNOUNCE_SECONDS: Final = 60.0
"""How often a node says that it is still there."""

LOST_SECONDS: Final = 2.5 * ANNOUNCE_SECONDS
"""A member of whom no word came for so long is not connected to us over anybody: it is gone, or neighbours of ours and of its
own do not reach each other. Then it is dialled itself."""

SOUGHT: Final = 2
"""Lost members that are dialled at a time, by chance: of a thousand that are lost, each is tried by somebody soon."""

AHEAD_MS: Final = 600_000
"""How far ahead of our clock a member may claim to have spoken; later than that, nothing newer could ever replace it."""

FIRST_RETRY: Final = 0.25
LAST_RETRY: Final = 5.0
"""Seconds between attempts to reach an address: doubled from the first to the last, and spread by chance."""


class _Trial(NamedTuple):
    failures: int
    again_at: float

    def due(self, now: float) -> bool:
        return not now < self.again_at <= now + LAST_RETRY  # later than that it is where our clock went back


class Directory:
    """The members of a cluster, as one node knows them."""

    def __init__(self, node: str, address: str, fixed: Iterable[str], random: Random) -> None:
        """``fixed``: addresses from the configuration, which are never forgotten."""
        self.node = node
        self.address = address
        self.random = random
        self._fixed = dict.fromkeys(fixed)
        self._found: dict[str, None] = {}  # by DNS
        self._members: dict[str, Member] = {}
        self._heard: dict[str, float] = {}  # when, by our clock, a member's last word came
        self._began: float | None = None
        self._present = 0  # of them, those that did not leave
        self._trials: dict[str, _Trial] = {}
        self._ours: dict[str, None] = {}  # addresses at which we met ourselves
        self._ring_known: list[str] | None = None

    @property
    def members(self) -> list[Member]:
        """The other nodes that are there, by what was heard of them."""
        return [member for member in self._members.values() if not member.left]

    def __len__(self) -> int:
        """How many other nodes are there."""
        return self._present

    def found(self, addresses: Iterable[str]) -> None:
        """What DNS says now; it replaces what it said before."""
        self._found = dict.fromkeys(addresses)
        self._ring_known = None

    def announce(self, now: float, left: bool = False) -> Member:
        """What this node says of itself."""
        return Member(self.node, self.address, int(now * 1000), left)

    def learn(self, members: Iterable[Member], now: float) -> list[Member]:
        """Take notice of members; returns those that were news."""
        news = []
        limit = int(now * 1000) + AHEAD_MS
        for member in members:
            known = self._members.get(member.node)
            if known is not None and known.seen_ms >= member.seen_ms:  # first: of a thousand members most are old news
                continue
            if member.node == self.node or member.seen_ms > limit or not _dialable(member.address):
                continue
            if known is None and (len(self._members) >= MAX_MEMBERS or _age(member, now) > FORGET_SECONDS):
                continue
            self._members[member.node] = member
            self._heard[member.node] = now
            self._present += (not member.left) - (known is not None and not known.left)
            news.append(member)
            if known is None or (known.address, known.left) != (member.address, member.left):
                self._ring_known = None
        return news

    def forget(self, now: float) -> set[str]:
        """Drop those of whom nothing was heard; returns all addresses that are left."""
        for node in [node for node, member in self._members.items() if _age(member, now) > FORGET_SECONDS]:
            self._present -= not self._members.pop(node).left
            del self._heard[node]
        self._ring_known = None
        addresses = set(self._addresses())
        self._trials = {address: trial for address, trial in self._trials.items() if address in addresses}
        return addresses

    def untold(self, told: dict[str, int], limit: int) -> list[Member]:
        """Members of whom a peer has not been told the latest; noted in ``told`` as if it were."""
        news = []
        for member in self._members.values():
            if told.get(member.node, -1) < member.seen_ms:
                told[member.node] = member.seen_ms
                news.append(member)
                if len(news) == limit:
                    break
        return news

    def met_ourselves(self, address: str) -> None:
        self._ours[address] = None
        self._ring_known = None

    def failed(self, address: str, now: float) -> None:
        """It could not be reached, or the connection ended."""
        failures = self._trials.get(address, _Trial(0, 0.0)).failures + 1
        pause = min(FIRST_RETRY * 2 ** min(failures - 1, 10), LAST_RETRY)
        self._trials[address] = _Trial(failures, now + pause * self.random.uniform(0.5, 1.0))

    def reached(self, address: str) -> None:
        self._trials.pop(address, None)

    def to_dial(self, connected: Iterable[str], dialing: Iterable[str], now: float) -> list[str]:
        """The addresses to dial now.

        Args:
            connected: addresses to which there is a connection, whoever dialled it. dialing: those under way.
        """
        busy = set(dialing)
        have = set(connected)
        chosen: list[str] = []
        ring = self._ring()
        for start in self._starts(len(ring)):
            # From each place of the ring, the first that is connected, under way or can be tried. One that failed lately is
            # tried again when its pause is over; until then the next one stands in for it.
            for step in range(len(ring)):
                address = ring[(start + step) % len(ring)]
                if address in have or address in busy:
                    break
                trial = self._trials.get(address)
                if trial is None or trial.due(now):
                    chosen.append(address)
                    busy.add(address)
                    if trial is None:
                        break
                    # it failed before: the one after it is wanted as well
        return chosen

    def surplus(self, connected: Iterable[str]) -> set[str]:
        """Of the addresses to which there is a connection, those that stood in for another one and no longer need to."""
        have = set(connected)
        ring = self._ring()
        needed = set()
        for start in self._starts(len(ring)):
            order = (ring[(start + step) % len(ring)] for step in range(len(ring)))
            needed.add(next((address for address in order if address in have), ""))
        return have - needed

    def lost(self, busy: Iterable[str], aliases: Mapping[str, str], now: float) -> list[str]:
        """Addresses to try because no word of anybody there came lately.

        Args:
            busy: addresses that are connected or being dialled. aliases: the node that answered at an address, as far as known.
        """
        if self._began is None:
            self._began = now
        lately = now - LOST_SECONDS
        if self._began > lately:
            return []
        heard = {node for node, at in self._heard.items() if at > lately}
        known = {member.address for node, member in self._members.items() if node in heard}
        skip = known | set(busy) | {address for address, node in aliases.items() if node in heard}
        lost = [
            address for address in self._ring()
            if address not in skip and (address not in self._trials or self._trials[address].due(now))
        ]
        return self.random.sample(lost, min(SOUGHT, len(lost)))

    def _starts(self, size: int) -> list[int]:
        if size <= FEW:
            return list(range(size))
        seeds = (blake2b(f"{self.node} {number}".encode(), digest_size=8).digest() for number in range(1, FANOUT))
        return [0, *(int.from_bytes(seed, "big") % size for seed in seeds)]

    def _ring(self) -> list[str]:
        """All addresses but ours in the order of their hashes, from ours on."""
        if self._ring_known is None:
            here = _place(self.address)
            others = sorted(self._addresses(), key=_place)
            after = [address for address in others if _place(address) > here]
            self._ring_known = after + [address for address in others if _place(address) < here]
        return self._ring_known

    def _addresses(self) -> list[str]:
        known = {**self._fixed, **self._found, **{m.address: None for m in self._members.values() if not m.left}}
        return [address for address in known if address != self.address and address not in self._ours]


@lru_cache(MAX_MEMBERS)
def _place(address: str) -> bytes:
    return blake2b(address.encode(), digest_size=8).digest()


def _dialable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65_536


def _age(member: Member, now: float) -> float:
    return now - member.seen_ms / 1000
