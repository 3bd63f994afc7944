"""A replica's part in the protocol, over all of its connections: the whole of it but sockets, certificates and the store.

Calls tell it what happened, at what time; it returns commands. It keeps the ledger, spreads what is new, answers
comparisons, follows receipts, knows the members and decides whom to dial. The same code runs in the gateway and, a thousand
times in one process, in the simulation.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.sync import frames
from gateway.sync.commands import Apply, Close, Command, Dial, Send, Warn
from gateway.sync.frames import Frame
from gateway.sync.gossip import Gossip
from gateway.sync.intake import Intake
from gateway.sync.ledger import Ledger
from gateway.sync.link import BATCH_BYTES, Link, Misbehaved
from gateway.sync.membership import LOST_SECONDS, MAX_MEMBERS, Directory
from gateway.sync.neighbours import Neighbours
from gateway.sync.questions import Questions
from gateway.sync.receipts import Receipts, Track
from patterns.entries import Entry

TICK_SECONDS: Final = 0.5
"""How often a shell calls `Node.tick`."""

MAX_LINKS: Final = 64
"""Connections at once, dialled and accepted; membership makes six to nine, about."""

SPARE_LINKS: Final = 32
"""Connections beyond these that are taken for as long as it takes to say who else there is: a seed that is full still helps."""

MAX_EARLY: Final = 64
"""Frames kept that overtook their connection's Hello on another stream."""

MAX_EARLY_BYTES: Final = 8 * BATCH_BYTES
"""Bytes of memory that these may take, a megabyte: a Hello that was lost is sent again before more has overtaken it. A frame
unfolds two hundredfold, and who has not named itself may have many connections."""

MAX_REFUSALS: Final = 1_000
"""Entries refused from one connection before it is ended: whoever relays verified them first, so a few mean that trust differs
for a moment, and a thousand mean a fault or an attack."""

SETTLED_SECONDS: Final = 0.3
"""How long after the last bulk entries neighbours are asked whether they differ."""



class Node:
    """One replica.

    Attributes:
        links: the open connections by key. refused: entries and more, by reason. conflicts: entries that came from elsewhere
            and replaced another one. entries_sent, entries_received: over all connections there were.
    """

    def __init__(
        self, name: str, incarnation: bytes, directory: Directory, ledger: Ledger, *,
        quorum: int | None = None, allowed: frozenset[str] | None = None,
    ) -> None:
        """
        Args:
            name: this node's. incarnation: 16 random bytes, new at every start.
            quorum: how many nodes make one; None is a majority of the known members.
            allowed: the names of nodes that may connect; None are all whose certificate we trust.
        """
        self.name = name
        self.directory = directory
        self.ledger = ledger
        self.links: dict[int, Link] = {}
        self.receipts = Receipts()
        self.refused: Counter[str] = Counter()
        self.conflicts = 0
        self.entries_sent = self.entries_received = 0  # entries
        self._incarnation = incarnation
        self._quorum = quorum
        self._allowed = allowed
        self._early: dict[int, list[Frame]] = {}
        self._hosts: dict[int, str] = {}
        self._differed: dict[str, tuple[float, float]] = {}  # by node: since when it did, and when it left
        self._intake = Intake(ledger)
        self._questions = Questions(directory.random)
        self._bulk_at: float | None = None
        self._gossip = Gossip(directory)
        self._neighbours = Neighbours(directory)

    @property
    def quorum(self) -> int:
        """How many nodes, this one included, must hold a revision."""
        return self._quorum or (len(self.directory) + 1) // 2 + 1

    # Connections

    def opened(
        self, key: int, names: tuple[str, ...], dialed: str | None, transport: str, host: str, now: float, version: int = 1
    ) -> list[Command]:
        """A connection stands.

        Args:
            key: names it. names: what the peer's certificate calls it. dialed: the address that we dialled, None where the
            peer did. transport: "quic" or "tcp". host: where the peer is, as its packets say. version: what both speak.
        """
        if dialed is not None:
            self._neighbours.stands(dialed)
        if len(self.links) >= MAX_LINKS + SPARE_LINKS:
            self.refused["connection"] += 1
            return [Close(key, "too many connections")]
        self.links[key] = Link(key, names, dialed, transport, now)
        self._hosts[key] = host
        ledger = self.ledger
        said = self.name, self._incarnation, self.directory.address, ledger.root, len(ledger), int(now * 1000)
        return [Send(key, frames.Hello(*said) if version < 2 else frames.HelloSince(*said, ledger.marks()))]

    def unreachable(self, address: str, now: float) -> list[Command]:
        """An address that was to be dialled cannot be reached."""
        self._neighbours.failed(address, now)
        return []

    def closed(self, key: int, now: float) -> list[Command]:
        """A connection is gone."""
        link = self.links.pop(key, None)
        self._early.pop(key, None)
        self._hosts.pop(key, None)
        if link is None:
            return []
        if link.dialed is not None:
            self._neighbours.failed(link.dialed, now)
        if link.differs_since is not None and len(self._differed) < MAX_MEMBERS:
            self._differed[link.node] = link.differs_since, now
        again = any(not one.node and covers(one.names, link.node) for one in self.links.values())
        return list(self._questions.closed(link, again))

    def received(self, key: int, frame: Frame, now: float) -> list[Command]:
        """A frame came."""
        link = self.links.get(key)
        if link is None:
            return []
        link.heard(now)
        try:
            if link.node:
                return self._handle(link, frame, now)
            if isinstance(frame, frames.Hello):
                return self._hello(link, frame, now)
            if not _overtakes(link, frame):
                raise Misbehaved(f"its {type(frame).__name__} came before its Hello")
            early = self._early.setdefault(key, [])
            early.append(frame)
            if len(early) > MAX_EARLY or sum(map(_held, early)) > MAX_EARLY_BYTES:
                raise Misbehaved("too much before its Hello")
            return []
        except Misbehaved as error:
            return self._end(link, str(error), now)

    def broken(self, key: int, why: str, now: float) -> list[Command]:
        """What came on a connection was no frame."""
        self.refused["frame"] += 1
        link = self.links.get(key)
        return self._end(link, why, now) if link else []

    def unread(self, key: int, now: float) -> list[Command]:
        """The peer does not take what it is sent."""
        link = self.links.get(key)
        if link is None:
            return []
        self.refused["unread"] += 1
        return self._end(link, "it reads nothing of what it asks for", now)

    def _end(self, link: Link, reason: str, now: float) -> list[Command]:
        out = self.closed(link.key, now)
        who = link.node or link.dialed or ", ".join(link.names) or "a peer"
        out += [Send(link.key, frames.Bye(reason[:200])), Close(link.key, reason)]
        return [*out, Warn(who, f"connection ended: {reason}")]

    # The store

    def changed(self, entries: Iterable[Entry], now: float) -> list[Command]:
        """These entries stand in the store from now on: made here, or merged from a peer."""
        out: list[Command] = []
        touched: set[int] = set()
        for entry in entries:
            before = self.ledger.get(entry.id)
            held = self.ledger.put(entry)
            if held is None:
                continue
            source, fresh = self._intake.origin(held.fingerprint)
            if source is not None and before is not None:
                self.conflicts += 1
            if not fresh:
                self._bulk_at = now
                continue
            self.receipts.begin(held.fingerprint, source, now)
            if source in self.links:
                out.append(Send(source, frames.Holds(held.fingerprint, [self.name])))
            for link in self.links.values():
                if link.node and link.key != source:
                    link.push(entry.id)
                    touched.add(link.key)
        for key in touched:
            out += self._fill(self.links[key], now)
        return out

    def applied(self, key: int, batch: int, refused: Mapping[str, str], now: float) -> list[Command]:
        """The entries of an `Apply` are durable, but for those in ``refused``: by id, the reason in a word."""
        self.refused.update(refused.values())
        not_taken = self._intake.done(key, batch, refused)
        link = self.links.get(key)
        return [] if link is None else self._acknowledge(link, batch, not_taken, now)

    def replication(self, fingerprint: bytes) -> Track | None:
        """Who holds a revision that was made here or passed through lately."""
        return self.receipts.get(fingerprint)

    def failed(self, key: int, batch: int, now: float) -> list[Command]:
        """The store did not take an `Apply` for a reason of its own. The peer will send it again on the next connection."""
        self._intake.done(key, batch, {})
        link = self.links.get(key)
        return self._end(link, "our store takes nothing now", now) if link else []

    def tick(self, now: float) -> list[Command]:
        """What is due; call it every `TICK_SECONDS`."""
        self.ledger.advance(now)
        out: list[Command] = []
        if self._bulk_at is not None and now - self._bulk_at >= SETTLED_SECONDS:
            self._bulk_at = None
            for link in self.links.values():
                link.hurry()
        for link in list(self.links.values()):
            try:
                out += [Send(link.key, frame) for frame in link.tick(self.ledger, now)]
                self._questions.check(link, now)
            except Misbehaved as error:
                out += self._end(link, str(error), now)
        self.receipts.forget(now)
        out += self._gossip.tick(self.links.values(), now)
        return out + self._review(now) + self._dial(now)

    def leave(self, now: float) -> list[Command]:
        """Say farewell to everybody."""
        out: list[Command] = [*self._gossip.farewell(self.links.values(), now)]
        for key in list(self.links):
            out += [Send(key, frames.Bye("leaving")), Close(key, "leaving"), *self.closed(key, now)]
        return out

    # Questions

    def ask(self, key: int, question: frames.Question, count: int, now: float) -> list[Command]:
        """Ask so many peers what they say of some texts; `Told` follows, with ``key``."""
        return list(self._questions.ask(key, question, count, self.links.values(), now))

    def give_up(self, key: int) -> list[Command]:
        """Wait no longer for the answers to a question."""
        return list(self._questions.give_up(key))

    def judged(self, link: int, answer: frames.Answer) -> list[Command]:
        """What we say of a `Judge`; nothing where the connection has ended meanwhile."""
        out = self._questions.judged(link, answer)
        return list(out) if link in self.links else []

    # Frames

    def _handle(self, link: Link, frame: Frame, now: float) -> list[Command]:
        ledger = self.ledger
        match frame:
            case frames.Entries():
                return self._entries(link, frame, now)
            case frames.Ack():
                for one in link.ack(frame, now).values():
                    self._held_by(one, [link.node], now)
                return self._fill(link, now)
            case frames.Holds():
                return self._holds(link, frame, now)
            case frames.Ping():
                return [*self._sends(link, link.ping(frame, ledger, now)), *self._fill(link, now)]
            case frames.Pong():
                return self._sends(link, link.pong(frame, ledger, now))
            case frames.Tree():
                return [*self._sends(link, link.tree(frame, ledger, now)), *self._fill(link, now)]
            case frames.Listing():
                return [*self._sends(link, link.listing(frame, ledger, now)), *self._fill(link, now)]
            case frames.Want():
                link.want(frame, ledger)
                return self._fill(link, now)
            case frames.Members():
                self._gossip.heard(link, frame.members, now)
                return []
            case frames.Question():
                return list(self._questions.asks(link, frame))
            case frames.Answer():
                return list(self._questions.answer(link, frame))
            case frames.Bye():
                return [*self.closed(link.key, now), Close(link.key, frame.reason)]
            case frames.Hello():
                raise Misbehaved("a second Hello")

    def _hello(self, link: Link, frame: frames.Hello, now: float) -> list[Command]:
        if frame.node == self.name:
            return self._met_own_name(link, frame, now)
        if not covers(link.names, frame.node):
            self.refused["name"] += 1
            raise Misbehaved(f"it calls itself {frame.node!r}, and its certificate is for {', '.join(link.names) or 'nobody'}")
        if self._allowed is not None and frame.node not in self._allowed:
            self.refused["name"] += 1
            raise Misbehaved(f"{frame.node!r} is not in sync.allow")
        compare = link.hello(frame, self.ledger, now)
        since, ended = self._differed.pop(link.node, (now, now))
        if link.differs_since is not None and now - ended < LOST_SECONDS:  # a connection that breaks on and on is no agreement
            link.differs_since = since
        if link.address.startswith(":"):
            link.address = self._hosts[link.key] + link.address
        out: list[Command] = []
        twin = next((one for one in self.links.values() if one is not link and one.node == frame.node), None)
        if twin is not None:
            loser = self._worse(link, twin, frame)
            if loser.dialed is not None:
                self._neighbours.answered(loser.dialed, frame.node)
            self.links.pop(loser.key)
            out += self._questions.closed(loser, again=True)
            out += [Send(loser.key, frames.Bye("connected twice")), Close(loser.key, "connected twice")]
            if loser is link:
                return out
        if link.dialed is not None:
            self._neighbours.answered(link.dialed, frame.node)
        out += [*self._sends(link, compare), *self._fill(link, now)]
        out += self._questions.named(link, now)
        out += self._gossip.met(link, now)
        if link.dialed is None and len(self.links) > MAX_LINKS:
            out += self.closed(link.key, now)
            return [*out, Send(link.key, frames.Bye("too many connections")), Close(link.key, "too many connections")]
        for early in self._early.pop(link.key, []):
            out += self.received(link.key, early, now)
        return out

    def _met_own_name(self, link: Link, frame: frames.Hello, now: float) -> list[Command]:
        if frame.incarnation == self._incarnation:
            if link.dialed is not None:
                self.directory.met_ourselves(link.dialed)
            self.closed(link.key, now)
            return [Close(link.key, "this is ourselves")]
        self.refused["name"] += 1
        raise Misbehaved(f"another replica calls itself {self.name!r}: give each its own sync.node")

    def _worse(self, link: Link, twin: Link, frame: frames.Hello) -> Link:
        """Which of two connections to one node ends, so that both ends choose the same one."""
        if twin.incarnation != frame.incarnation:  # it has started anew; the old connection is dead
            return twin
        if link.transport != twin.transport:  # whoever dialed: TCP is for where UDP does not get through
            return twin if link.transport == "quic" else link
        if (link.dialed is None) == (twin.dialed is None):
            return twin
        ours, theirs = (link, twin) if link.dialed is not None else (twin, link)
        return theirs if self.name < frame.node else ours

    def _entries(self, link: Link, frame: frames.Entries, now: float) -> list[Command]:
        link.entries(frame)
        self.entries_received += len(frame.entries)
        arrived = self._intake.arrive(link.key, frame, now)
        self.refused.update(arrived.refused.values())
        link.owe(arrived.removed)
        if arrived.wanted:
            return [Apply(link.key, frame.batch, arrived.wanted, frame.fresh), *self._fill(link, now)]
        return [*self._acknowledge(link, frame.batch, list(arrived.refused), now), *self._fill(link, now)]

    def _acknowledge(self, link: Link, batch: int, refused: list[bytes], now: float) -> list[Command]:
        out: list[Command] = [Send(link.key, link.acknowledge(batch, refused, now))]
        if refused:
            out.append(Warn(link.node, f"{len(refused)} of its entries were refused"))
        if link.refused > MAX_REFUSALS:
            return out + self._end(link, "too many of its entries were refused", now)
        return out

    def _held_by(self, one: bytes, nodes: list[str], now: float) -> int | None:
        return self.receipts.note(one, nodes, self.quorum, now)

    def _holds(self, link: Link, frame: frames.Holds, now: float) -> list[Command]:
        source = self._held_by(frame.fingerprint, frame.nodes, now)
        return [Send(source, frame)] if source in self.links and source != link.key else []

    def _fill(self, link: Link, now: float) -> list[Command]:
        before = link.sent
        out = self._sends(link, link.fill(self.ledger, now))
        self.entries_sent += link.sent - before
        return out

    def _sends(self, link: Link, out: Iterable[Frame]) -> list[Command]:
        return [Send(link.key, frame) for frame in out]

    # Whom to dial

    def _dial(self, now: float) -> list[Command]:
        return [Dial(address) for address in self._neighbours.dial(self.links.values(), MAX_LINKS - len(self.links), now)]

    def _review(self, now: float) -> list[Command]:
        unneeded, lost = self._neighbours.review(self.links.values(), MAX_LINKS - len(self.links), now)
        out: list[Command] = []
        for link in unneeded:
            assert link.dialed is not None
            out += self.closed(link.key, now)
            self.directory.reached(link.dialed)
            out += [Send(link.key, frames.Bye("no longer needed")), Close(link.key, "no longer needed")]
        return out + [Dial(address) for address in lost]


def covers(names: Iterable[str], node: str) -> bool:
    """Whether a certificate for ``names`` is one for ``node``; ``*.`` stands for one label (RFC 6125, section 6.4.3)."""
    return any(name == node or (name.startswith("*.") and node.partition(".")[2] == name[2:] != "") for name in names)


def _overtakes(link: Link, frame: Frame) -> bool:
    """Whether the frame may come before its connection's Hello: as bulk that answers nothing, where bulk has a stream."""
    return link.transport == "quic" and Send(link.key, frame).bulk and not isinstance(frame, frames.Listing)


def _held(frame: Frame) -> int:
    """Bytes of memory that a frame takes which overtook a Hello. Many small texts take more than they say."""
    match frame:
        case frames.Entries():
            return sum(map(sys.getsizeof, frame.entries))
        case frames.Question():
            return sum(sum(map(sys.getsizeof, (one, one.text, one.origin))) for one in frame.segments)
    return 0
