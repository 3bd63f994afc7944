"""A simulated cluster: the nodes are real (`gateway.sync.node`), the network, the clock and chance are not.

One seed decides everything, so that a run which fails can be run again. A connection delivers each lane's frames in order,
as QUIC does: a lost packet shows as a delay of whole retransmissions. A partition cuts connections, which both ends notice
some time later.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from gateway.sync import frames
from gateway.sync.commands import Apply, Close, Command, Dial, Judge, Send, Told
from gateway.sync.ledger import Ledger
from gateway.sync.membership import Directory
from gateway.sync.node import TICK_SECONDS, Node
from patterns.clock import Clock, FutureStamp
from patterns.entries import Entry, EntryError, Trust, merge

BEGIN: Final = 1_750_000_000.0
"""The UNIX time at which a simulation begins."""

RETRANSMIT_SECONDS: Final = 0.2
"""What one lost packet costs at least, before the round trip."""

NOTICE_SECONDS: Final = 2.0
"""How long it takes both ends to notice that a connection is cut."""


@dataclass(slots=True)
class Weather:
    """How the network behaves: one-way delay in seconds, its spread, and the share of packets lost."""

    delay: float = 0.005
    jitter: float = 0.002
    loss: float = 0.0


@dataclass(slots=True)
class Replica:
    """One simulated gateway: a node and the store that outlives its crashes."""

    name: str
    skew: float
    clock: Clock
    store: dict[str, Entry] = field(default_factory=dict)
    node: Node | None = None
    sent_frames: int = 0
    sent_bytes: int = 0


@dataclass(slots=True)
class _Wire:
    """A connection: the two ends, by replica and key, and when each direction's lanes are free again."""

    ends: tuple[str, str]
    alive: bool = True
    busy: dict[tuple[str, bool], float] = field(default_factory=dict)


LATEST: Final = frames.version_of(frames.PROTOCOLS[0])


class Cluster:
    """Simulated replicas named ``n0``, ``n1``, …"""

    def __init__(
        self, size: int, seed: int, weather: Weather | None = None, *, trust: Trust | None = None, skew: float = 0.0,
        seeds: int | None = None,
    ) -> None:
        """
        Args:
            trust: verifies entries; None takes them unverified, for scale. skew: the most that a clock is off, in seconds.
            seeds: how many addresses each node is configured with; None is all of them.
        """
        self.random = Random(seed)
        self.weather = weather or Weather()
        self.now = BEGIN
        self.kinds: Counter[str] = Counter()  # frames that were sent, by their name
        self.sizes: Counter[str] = Counter()  # and their bytes
        self.told: dict[int, Told] = {}  # how questions stand, by key
        self.versions: dict[str, int] = {}  # of the protocol, where a replica does not speak the latest
        self._trust = trust
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._skipped = 0.0
        self._changes = 0  # of stores, and of who runs
        self._wires: dict[int, _Wire] = {}
        self._keys = 0
        self._reaches: Callable[[str, str], bool] = _everybody
        self.replicas: dict[str, Replica] = {}
        self._addresses = [f"n{number}:1" for number in range(size)]
        self._seeds = self._addresses if seeds is None else self._addresses[:seeds]
        for number in range(size):
            self.add(f"n{number}", skew)

    @property
    def elapsed(self) -> float:
        """Seconds that have passed, without those of `skip`."""
        return self.now - BEGIN - self._skipped

    # What a test does

    def add(self, name: str, skew: float = 0.0) -> Replica:
        """A new replica with an empty store."""
        replica = Replica(name, self.random.uniform(-skew, skew), Clock(name))
        self.replicas[name] = replica
        self.start(name)
        return replica

    def start(self, name: str) -> None:
        """Start a replica, with what its store holds."""
        replica = self.replicas[name]
        directory = Directory(name, f"{name}:1", self._seeds, Random(self.random.random()))
        incarnation = self.random.randbytes(16)
        self._changes += 1
        node = replica.node = Node(name, incarnation, directory, Ledger(replica.store.values(), self.now + replica.skew, name))
        self._at(self.now + self.random.uniform(0, TICK_SECONDS), lambda: self._tick(replica, node))

    def crash(self, name: str) -> None:
        """Kill a replica; its store stays."""
        self.replicas[name].node = None
        self._changes += 1
        self._cut(lambda wire: name in wire.ends)

    def leave(self, name: str) -> None:
        """Stop a replica in an orderly way."""
        replica = self.replicas[name]
        assert replica.node is not None
        self._do(replica, replica.node.leave(self.now + replica.skew))
        replica.node = None
        self._changes += 1

    def partition(self, groups: Sequence[Iterable[str]]) -> None:
        """Only replicas of one group reach each other; those in no group are a group."""
        group = {name: number for number, names in enumerate(groups, 1) for name in names}
        self.shape(lambda one, other: group.get(one, 0) == group.get(other, 0))

    def shape(self, reaches: Callable[[str, str], bool]) -> None:
        """Only pairs of which this is true reach each other; it must be true of both orders or of none."""
        self._reaches = reaches
        self._cut(lambda wire: not reaches(*wire.ends))

    def heal(self) -> None:
        self._reaches = _everybody

    def make(self, name: str, entry: Callable[[Clock, float], Entry]) -> Entry:
        """An approver promotes something at a replica."""
        replica = self.replicas[name]
        made = entry(replica.clock, self.now + replica.skew)
        self._merge(replica, [made])
        return made

    def ask(self, name: str, key: int, question: frames.Question, count: int) -> None:
        """A replica asks others; every replica answers that it finds nothing."""
        replica = self.replicas[name]
        assert replica.node is not None
        self._do(replica, replica.node.ask(key, question, count, self.now + replica.skew))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> float:
        """Let time pass, at most ``seconds`` or until something is so; returns the seconds that passed.

        ``until`` is asked whenever a store has changed or a replica has come or gone, and may depend on nothing else.
        """
        begin, asked_at = self.now, -1
        while True:
            if until is not None and asked_at != self._changes:
                asked_at = self._changes
                if until():
                    return self.now - begin
            if not self._queue or self._queue[0][0] > begin + seconds:
                break
            self.now, _, act = heapq.heappop(self._queue)
            act()
        self.now = begin + seconds
        return seconds

    def skip(self, seconds: float) -> None:
        """Let time pass in which no replica runs at all: a cluster that was switched off."""
        for name, replica in self.replicas.items():
            if replica.node is not None:
                self.crash(name)
        self._queue.clear()
        self.now += seconds
        self._skipped += seconds

    def converged(self) -> bool:
        """Whether all that run hold the same."""
        return len({replica.node.ledger.root for replica in self.replicas.values() if replica.node}) <= 1

    def holders(self, entry: Entry) -> int:
        return sum(replica.store.get(entry.id) == entry for replica in self.replicas.values())

    # How it goes on

    def _at(self, when: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, act))

    def _tick(self, replica: Replica, node: Node) -> None:
        if replica.node is node:
            self._do(replica, node.tick(self.now + replica.skew))
            self._at(self.now + TICK_SECONDS, lambda: self._tick(replica, node))

    def _merge(self, replica: Replica, entries: Iterable[Entry]) -> None:
        changes = merge(replica.store, entries)
        self._changes += bool(changes)
        replica.store |= changes
        if replica.node is not None:
            self._do(replica, replica.node.changed(changes.values(), self.now + replica.skew))

    def _do(self, replica: Replica, commands: list[Command]) -> None:
        node = replica.node
        assert node is not None
        for command in commands:
            match command:
                case Send(link, frame):
                    self._send(replica, link, frame, command.bulk)
                case Close(link, _):
                    self._at(self.now, lambda link=link: self._close(link))  # type: ignore[misc]
                case Dial(address):
                    self._dial(replica, node, address)
                case Apply(link, batch, entries, _):
                    self._apply(replica, link, batch, entries)
                case Judge(link, question):
                    self._do(replica, node.judged(link, frames.Answer(question.number, "verdict")))
                case Told(key):
                    self.told[key] = command
                case _:
                    pass

    def _send(self, replica: Replica, key: int, frame: frames.Frame, bulk: bool) -> None:
        wire = self._wires.get(key // 2)
        if wire is None or not wire.alive:
            return
        raw = frames.encode(frame)
        replica.sent_frames += 1
        replica.sent_bytes += len(raw)
        self.kinds[type(frame).__name__] += 1
        self.sizes[type(frame).__name__] += len(raw)
        weather, lane = self.weather, (replica.name, bulk)
        delay = weather.delay + self.random.uniform(0, weather.jitter)
        while self.random.random() < weather.loss:
            delay += RETRANSMIT_SECONDS + 2 * weather.delay
        at = wire.busy[lane] = max(wire.busy.get(lane, 0.0), self.now + delay)
        self._at(at, lambda: self._deliver(wire, key ^ 1, raw))

    def _deliver(self, wire: _Wire, key: int, raw: bytes) -> None:
        replica = self.replicas[wire.ends[key & 1]]
        if wire.alive and replica.node is not None:
            for frame in frames.Reader().feed(raw):
                self._do(replica, replica.node.received(key, frame, self.now + replica.skew))

    def _dial(self, replica: Replica, node: Node, address: str) -> None:
        other = self.replicas.get(address.partition(":")[0])

        def arrive() -> None:
            if replica.node is not node:
                return
            if other is None or other.node is None or not self._reaches(replica.name, other.name):
                self._do(replica, node.unreachable(address, self.now + replica.skew))
                return
            self._keys += 1
            key = 2 * self._keys
            self._wires[self._keys] = _Wire((replica.name, other.name))
            ours, theirs = self.now + replica.skew, self.now + other.skew
            version = min(self.versions.get(name, LATEST) for name in (replica.name, other.name))
            self._do(replica, node.opened(key, (other.name,), address, "quic", other.name, ours, version))
            self._do(other, other.node.opened(key + 1, (replica.name,), None, "quic", replica.name, theirs, version))

        self._at(self.now + 3 * self.weather.delay, arrive)

    def _close(self, key: int) -> None:
        wire = self._wires.pop(key // 2, None)
        if wire is not None:
            after = max([self.now, *wire.busy.values()])  # what was sent before arrives
            self._at(after + self.weather.delay, lambda: self._notice(key // 2, wire))

    def _cut(self, which: Callable[[_Wire], bool]) -> None:
        for number, wire in list(self._wires.items()):
            if which(wire):
                wire.alive = False
                del self._wires[number]
                self._at(self.now + self.random.uniform(0, NOTICE_SECONDS), lambda n=number, w=wire: self._notice(n, w))  # type: ignore[misc]

    def _notice(self, number: int, wire: _Wire) -> None:
        wire.alive = False
        for side, name in enumerate(wire.ends):
            replica = self.replicas[name]
            if replica.node is not None:
                self._do(replica, replica.node.closed(2 * number + side, self.now + replica.skew))

    def _apply(self, replica: Replica, link: int, batch: int, entries: list[Entry]) -> None:
        refused: dict[str, str] = {}
        taken: list[Entry] = []
        for entry in entries:
            try:
                if self._trust is not None:
                    self._trust.verify(entry)
                replica.clock.observe(entry.stamp, self.now + replica.skew)
            except FutureStamp:
                refused[entry.id] = "future"
            except EntryError:
                refused[entry.id] = "untrusted"
            else:
                taken.append(entry)
        self._merge(replica, taken)
        assert replica.node is not None
        self._do(replica, replica.node.applied(link, batch, refused, self.now + replica.skew))


def _everybody(_one: str, _other: str) -> bool:
    return True
