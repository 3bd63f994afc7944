"""One connection between two replicas, without the connection: frames in, frames out, time as an argument.

Two lanes lead out. What was just made goes on the *fresh* lane; whatever a comparison showed to be missing, a newcomer's
snapshot included, on the *bulk* lane. Both are sets of ids, not of entries: a revision that is overtaken while it waits is
never sent, and a peer that reads slowly holds back no more memory than the ids of the store. Batches are acknowledged, and
only so many may be on their way; a snapshot that is cut off goes on with the buckets that still differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.sync import frames
from gateway.sync.frames import Frame
from gateway.sync.ledger import Ledger

BATCH_BYTES: Final = 128 * 2**10
"""Bytes of entries in one batch, unless a single one is larger: some hundred ordinary entries, verified in a few
milliseconds each batch, so that whoever applies them is not held up for long."""

BATCH_ENTRIES: Final = 128

FRESH_WINDOW: Final = 32
"""Batches of fresh entries that may be unacknowledged."""

BULK_WINDOW: Final = 32
"""Batches of bulk that may be unacknowledged: four megabytes, of which the peer's store works on two."""

PING_SECONDS: Final = 2.5
"""How often an idle connection is tried, by either end in turn, and digests are compared."""

SILENT_SECONDS: Final = 8.0
"""A peer from which nothing came for so long is gone."""

HELLO_SECONDS: Final = 10.0
"""How long a new connection may stay without a Hello."""

STALLED_SECONDS: Final = 60.0
"""A batch that is not acknowledged for so long: the peer takes nothing, and the connection is worth nothing."""

TREE_SECONDS: Final = 1.0
"""The least time between two comparisons on one connection; they cost both sides work."""

REFUSED_SECONDS: Final = 60.0
"""When an entry that was refused is tried again: clocks are set right, and trust is changed, while connections stand."""

MAX_REFUSED: Final = 4_096
"""Fingerprints remembered as refused by, or refused from, one peer."""


class Batch(NamedTuple):
    """Entries on their way: which, of what revision, and since when."""

    ids: dict[str, bytes]
    fresh: bool
    sent_at: float


class Misbehaved(Exception):  # noqa: N818
    """The peer did what the protocol does not allow; the connection ends with this reason."""


class Link:
    """The state of one connection.

    Attributes:
        key: names the connection for its shell. names: what the peer's certificate calls it.
        dialed: the address that we dialled, None where the peer did. transport: "quic" or "tcp".
        node: the peer's name, empty until its Hello. digest, held, pending: what it last said of itself.
        differs_since: when its digest began to differ from ours, None while both agree.
    """

    def __init__(
        self, key: int, names: tuple[str, ...], dialed: str | None, transport: str, now: float
    ) -> None:
        self.key = key
        self.names = names
        self.dialed = dialed
        self.transport = transport
        self.since = now
        self.node = ""
        self.incarnation = b""
        self.address = ""
        self.digest = b""
        self.held = 0
        self.pending = 0
        self.differs_since: float | None = None
        self.round_trip: float | None = None
        self.skew_ms = 0
        self.told: dict[str, int] = {}  # by node, the `seen_ms` that the peer knows
        self.refused_by_peer: dict[bytes, float] = {}  # by fingerprint, when
        self.refused_from_peer: dict[bytes, float] = {}
        self.sent = self.received = self.refused = 0  # entries
        self._fresh: dict[str, None] = {}
        self._bulk: dict[str, None] = {}
        self._away: dict[int, Batch] = {}
        self._unanswered: set[int] = set()  # batches of the peer that we have not acknowledged
        self._number = 0
        self._heard_at = now
        self._ping_at = now + PING_SECONDS
        self._pings: dict[int, float] = {}
        self._comparing = False
        self._listed = 0  # listings still to come
        self._tree_at = 0.0
        self._their_tree_at = -TREE_SECONDS

    # What waits

    @property
    def outstanding(self) -> int:
        """Revisions that the peer lacks, as far as we know: waiting, or on their way and not acknowledged."""
        return len(self._fresh) + len(self._bulk) + sum(len(batch.ids) for batch in self._away.values())

    def oldest(self, now: float) -> float:
        """Seconds since the oldest unacknowledged batch was sent."""
        return max((now - batch.sent_at for batch in self._away.values()), default=0.0)

    def push(self, identity: str) -> None:
        """Send an entry that was just made or just arrived, ahead of bulk."""
        self._bulk.pop(identity, None)
        self._fresh[identity] = None

    def owe(self, identities: Iterable[str]) -> None:
        """Send entries that a comparison showed to be missing."""
        for identity in identities:
            if identity not in self._fresh:
                self._bulk[identity] = None

    def fill(self, ledger: Ledger, now: float) -> list[Frame]:
        """The batches that may leave now."""
        out: list[Frame] = []
        for fresh, queue, window in ((True, self._fresh, FRESH_WINDOW), (False, self._bulk, BULK_WINDOW)):
            away = sum(batch.fresh is fresh for batch in self._away.values())
            while queue and away < window:
                batch = self._batch(queue, ledger, fresh, now)
                if batch is not None:
                    out.append(batch)
                    away += 1
        return out

    def _batch(self, queue: dict[str, None], ledger: Ledger, fresh: bool, now: float) -> Frame | None:
        raws: list[bytes] = []
        ids: dict[str, bytes] = {}
        size = 0
        while queue and len(raws) < BATCH_ENTRIES:
            identity = next(iter(queue))
            held = ledger.get(identity)
            if held is not None and raws and size + len(held.raw) > BATCH_BYTES:
                break
            del queue[identity]
            if held is None or _lately(self.refused_by_peer, held.fingerprint, now):
                continue
            raws.append(held.raw)
            ids[identity] = held.fingerprint
            size += len(held.raw)
        if not raws:
            return None
        self._number += 1
        self._away[self._number] = Batch(ids, fresh, now)
        self.sent += len(raws)
        return frames.Entries(self._number, fresh, raws)

    def hurry(self) -> None:
        """Let the next tick ping, so that digests are compared now."""
        self._ping_at = 0.0

    # What comes

    def heard(self, now: float) -> None:
        self._heard_at = now

    def hello(self, frame: frames.Hello, ledger: Ledger, now: float) -> list[Frame]:
        """The peer named itself. Where digests differ, owe it what is later than its version vector; whether that was all,
        digests tell. Where it gave none, whoever dialled begins to compare buckets."""
        if self.node:
            raise Misbehaved("a second Hello")
        self.node, self.incarnation, self.address = frame.node, frame.incarnation, frame.address
        self.skew_ms = frame.wall_ms - int(now * 1000)
        self._note(frame.digest, frame.held, 0, ledger, now)
        if self.differs_since is None:
            return []
        if not isinstance(frame, frames.HelloSince) or frame.marks is None:
            return self.compare(ledger, now) if self.dialed is not None else []
        missing = ledger.since(frame.marks)
        self.owe(missing)
        if not missing:
            self.hurry()
        return []

    def ping(self, frame: frames.Ping, ledger: Ledger, now: float) -> list[Frame]:
        self.skew_ms = frame.wall_ms - int(now * 1000)
        self._ping_at = max(self._ping_at, now + PING_SECONDS)  # its ping served both of us
        self._note(frame.digest, frame.held, frame.pending, ledger, now)
        return [frames.Pong(frame.number, ledger.root, len(ledger), self.outstanding), *self._anti_entropy(ledger, now)]

    def pong(self, frame: frames.Pong, ledger: Ledger, now: float) -> list[Frame]:
        sent_at = self._pings.pop(frame.number, None)
        if sent_at is None:
            raise Misbehaved("a Pong without a Ping")
        self.round_trip = now - sent_at
        self._note(frame.digest, frame.held, frame.pending, ledger, now)
        return self._anti_entropy(ledger, now)

    def tree(self, frame: frames.Tree, ledger: Ledger, now: float) -> list[Frame]:
        """The peer asks where we differ: list what we hold there, or send it where the peer holds nothing."""
        if 0 <= now - self._their_tree_at < TREE_SECONDS / 2:  # not where our clock went back
            raise Misbehaved("comparisons without a pause")
        self._their_tree_at = now
        differing = ledger.differing(frame.digests)
        listed = []
        for bucket, empty_there in differing:
            if empty_there:
                self.owe(ledger.ids(bucket))
            else:
                listed.append(bucket)
        left = len(listed)
        out: list[Frame] = []
        for bucket in listed:
            left -= 1
            out.append(frames.Listing(bucket, ledger.listing(bucket), left))
        return out

    def listing(self, frame: frames.Listing, ledger: Ledger, now: float) -> list[Frame]:
        if not self._comparing:
            raise Misbehaved("a Listing that nobody asked for")
        self._comparing = frame.left > 0
        want, send = ledger.compare(frame.bucket, frame.items)
        self.owe(send)
        prints = {item.id: item.fingerprint for item in frame.items}
        want = [identity for identity in want if not _lately(self.refused_from_peer, prints[identity], now)]
        return [frames.Want(want)] if want else []

    def want(self, frame: frames.Want, ledger: Ledger) -> None:
        """The peer asks for entries: also for what it refused before, which it may take by now."""
        for identity in frame.ids:
            if (held := ledger.get(identity)) is not None:
                self.refused_by_peer.pop(held.fingerprint, None)
                self.owe([identity])

    def entries(self, frame: frames.Entries) -> None:
        """Note a batch that came; `acknowledge` must follow."""
        if len(self._unanswered) >= FRESH_WINDOW + BULK_WINDOW or frame.batch in self._unanswered:
            raise Misbehaved("more batches than may be on their way")
        self._unanswered.add(frame.batch)
        self.received += len(frame.entries)

    def acknowledge(self, batch: int, refused: list[bytes], now: float) -> Frame:
        self._unanswered.discard(batch)
        # What was refused before and tried again when that is due says nothing new of the peer.
        known = self.refused_from_peer
        self.refused += sum(one not in known or _lately(known, one, now) for one in refused)
        _remember(self.refused_from_peer, refused, now)
        return frames.Ack(batch, refused)

    def ack(self, frame: frames.Ack, now: float) -> dict[str, bytes]:
        """A batch of ours is durable there; returns its ids and fingerprints without those that were refused."""
        batch = self._away.pop(frame.batch, None)
        if batch is None:
            raise Misbehaved("an Ack for nothing")
        _remember(self.refused_by_peer, frame.refused, now)
        refused = set(frame.refused)
        return {identity: one for identity, one in batch.ids.items() if one not in refused}

    # Time

    def tick(self, ledger: Ledger, now: float) -> list[Frame]:
        """What is due.

        Raises:
            Misbehaved: the peer is silent, never named itself, or acknowledges nothing.
        """
        if not self.node and now - self.since > HELLO_SECONDS:
            raise Misbehaved("no Hello")
        if now - self._heard_at > SILENT_SECONDS:
            raise Misbehaved("silent")
        if self.oldest(now) > STALLED_SECONDS:
            raise Misbehaved("acknowledges nothing")
        self._heard_at = min(self._heard_at, now)
        if not self.node or self._ping_at - 2 * PING_SECONDS <= now < self._ping_at:
            return []
        self._ping_at = now + 2 * PING_SECONDS  # the peer's turn is between ours
        self._number += 1
        self._pings[self._number] = now
        for number in [number for number, at in self._pings.items() if now - at > SILENT_SECONDS]:
            del self._pings[number]
        return [frames.Ping(self._number, ledger.root, len(ledger), self.outstanding, int(now * 1000))]

    def compare(self, ledger: Ledger, now: float) -> list[Frame]:
        """Find what differs by comparing buckets, unless that was begun just now."""
        if 0 <= now - self._tree_at < TREE_SECONDS:
            return []
        self._tree_at = now
        self._comparing = True
        return [frames.Tree(ledger.tree)]

    def _anti_entropy(self, ledger: Ledger, now: float) -> list[Frame]:
        quiet = self.outstanding == 0 and self.pending == 0 and not self._unanswered
        return self.compare(ledger, now) if self.differs_since is not None and quiet else []

    def _note(self, digest: bytes, held: int, pending: int, ledger: Ledger, now: float) -> None:
        self.digest, self.held, self.pending = digest, held, pending
        if digest == ledger.root:
            self.differs_since = None
            ledger.agree()
        elif self.differs_since is None:
            self.differs_since = now


def _lately(refused: dict[bytes, float], fingerprint: bytes, now: float) -> bool:
    return now - refused.get(fingerprint, -REFUSED_SECONDS) < REFUSED_SECONDS


def _remember(known: dict[bytes, float], more: Iterable[bytes], now: float) -> None:
    for one in more:
        known[one] = now
    while len(known) > MAX_REFUSED:
        del known[next(iter(known))]
