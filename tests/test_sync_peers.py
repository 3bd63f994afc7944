"""One replica, and a peer whose every word the test writes: what is answered, refused, counted and bounded."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from sync_support import APPROVER, STRANGER, TRUST, entry, promotion

from bench.simnet import BEGIN, Cluster
from gateway.sync import frames
from gateway.sync.commands import LONG_QUESTION, Apply, Close, Command, Judge, Send, Warn
from gateway.sync.ledger import Ledger, fingerprint
from gateway.sync.link import BATCH_ENTRIES, BULK_WINDOW, FRESH_WINDOW, SILENT_SECONDS, Link
from gateway.sync.membership import FANOUT, MAX_MEMBERS, Directory
from gateway.sync.neighbours import Neighbours
from gateway.sync.node import MAX_EARLY, MAX_EARLY_BYTES, MAX_LINKS, MAX_REFUSALS, SPARE_LINKS, Node, covers
from patterns.clock import MAX_AHEAD_MS, Stamp
from patterns.entries import decode, encode

HELLO_DIGEST = b"d" * 16

LONG = frames.Question(1, b"k" * 16, "tenant", 500, [frames.Said(b"x" * (LONG_QUESTION + 1), False, "user", 0, False)])
"""A question that travels with bulk."""


class Peer:
    """A node with one open connection, from the peer's point of view."""

    def __init__(self, names: tuple[str, ...] = ("peer",), allowed: frozenset[str] | None = None, version: int = 1) -> None:
        self.now = BEGIN
        directory = Directory("here", "here:1", (), Random(1))
        self.node = Node("here", b"i" * 16, directory, Ledger(), allowed=allowed)
        self.node.opened(1, names, None, "quic", "10.0.0.9", self.now, version)

    def say(self, frame: frames.Frame) -> list[Command]:
        return self.node.received(1, frame, self.now)

    def hello(self, name: str = "peer", incarnation: bytes = b"j" * 16) -> list[Command]:
        return self.say(frames.Hello(name, incarnation, ":7", HELLO_DIGEST, 0, int(self.now * 1000)))

    def ended(self, commands: list[Command]) -> str:
        """Why the connection was ended; empty where it was not."""
        return next((one.reason for one in commands if isinstance(one, Close)), "")

    def offer(self, *raws: bytes, batch: int = 1) -> list[Command]:
        return self.say(frames.Entries(batch, True, list(raws)))


def acks(commands: list[Command]) -> list[frames.Ack]:
    return [one.frame for one in commands if isinstance(one, Send) and isinstance(one.frame, frames.Ack)]


def good(identity: str = "p", wall: float = BEGIN, **more: object) -> bytes:
    return encode(entry(identity, Stamp(int(wall * 1000), 0, "peer"), **more))  # type: ignore[arg-type]


def test_what_is_missing_comes_with_the_answer_to_a_hello() -> None:
    def answered(marks: list[frames.Mark] | None) -> list[str]:
        peer = Peer(version=2)
        made = [entry(f"p{number}", Stamp(number, 0, "here" if number < 3 else "elsewhere")) for number in range(5)]
        peer.node.changed(made, BEGIN)
        commands = peer.say(frames.HelloSince("peer", b"j" * 16, ":7", HELLO_DIGEST, 0, 0, marks))
        sent = [one.frame for one in commands if isinstance(one, Send) and isinstance(one.frame, frames.Entries)]
        return [decode(raw).id for one in sent for raw in one.entries]

    assert answered([]) == ["p0", "p1", "p2", "p3", "p4"]
    assert answered([frames.Mark("here", 1, 0)]) == ["p2", "p3", "p4"]
    assert answered([frames.Mark("here", 2, 0), frames.Mark("elsewhere", 9, 0)]) == []
    assert answered(None) == []


def test_nothing_but_a_hello_is_said_to_who_has_not_named_itself() -> None:
    """So nothing else is early data, which others may replay."""
    node = Node("here", b"i" * 16, Directory("here", "here:1", ("there:1",), Random(1)), Ledger())
    segment = frames.Said(b"hello", False, "user", 0, False)
    commands = [
        *node.opened(1, ("peer",), "there:1", "quic", "10.0.0.9", BEGIN, 2),
        *node.changed([entry("p", Stamp(int(BEGIN * 1000), 0, "here"))], BEGIN),
        *node.ask(1, frames.Question(0, b"k" * 16, "tenant", 500, [segment]), 1, BEGIN),
        *node.received(1, frames.Entries(1, False, [good()]), BEGIN),
        *node.received(1, LONG, BEGIN),
        *(command for second in range(9) for command in node.tick(BEGIN + second)),
    ]
    said = [one.frame for one in commands if isinstance(one, Send)]
    assert [type(frame) for frame in said] == [frames.HelloSince]


@pytest.mark.parametrize("version", [1, 2])
def test_who_speaks_the_first_version_is_told_no_vector(version: int) -> None:
    node = Node("here", b"i" * 16, Directory("here", "here:1", (), Random(1)), Ledger())
    [first] = node.opened(1, ("peer",), None, "quic", "10.0.0.9", BEGIN, version)
    assert isinstance(first, Send)
    assert isinstance(first.frame, frames.HelloSince) is (version == 2)


def test_a_peer_is_who_its_certificate_says() -> None:
    peer = Peer()
    assert "its certificate is for peer" in peer.ended(peer.hello("other"))
    peer = Peer(names=())
    assert "for nobody" in peer.ended(peer.hello())
    peer = Peer(allowed=frozenset({"friend"}))
    assert "not in sync.allow" in peer.ended(peer.hello())
    assert peer.node.refused == {"name": 1}
    peer = Peer(names=("*.cluster",))
    assert peer.ended(peer.hello("a.cluster")) == ""


def test_wildcards_cover_one_label() -> None:
    assert covers(["*.b.c"], "a.b.c")
    assert not covers(["*.b.c"], "b.c")
    assert not covers(["*.b.c"], "x.a.b.c")
    assert not covers(["*."], "a")
    assert not covers([], "a")


def test_a_replica_that_uses_our_name_is_told() -> None:
    peer = Peer(names=("here",))
    assert "another replica calls itself 'here'" in peer.ended(peer.hello("here"))
    peer = Peer(names=("here",))
    assert peer.ended(peer.hello("here", b"i" * 16)) == "this is ourselves"


@pytest.mark.parametrize("name", ["above", "peer"])  # before our own name, and after it
@pytest.mark.parametrize("first", ["quic", "tcp"])
def test_of_two_connections_the_one_over_quic_stays_whoever_dialed_it(name: str, first: str) -> None:
    for ours in ("quic", "tcp"):
        node = Node("here", b"i" * 16, Directory("here", "here:1", (), Random(1)), Ledger())
        hello = frames.Hello(name, b"j" * 16, ":7", HELLO_DIGEST, 0, int(BEGIN * 1000))
        for key, transport in enumerate((first, "tcp" if first == "quic" else "quic")):
            node.opened(key, (name,), "there:1" if transport == ours else None, transport, "10.0.0.9", BEGIN)
            node.received(key, hello, BEGIN)
        assert [link.transport for link in node.links.values()] == ["quic"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{}", "malformed"),
        (b"\xff\x00", "malformed"),
        (good() + b" ", "malformed"),
        (b'"' + b"x" * 300_000 + b'"', "oversized"),
        (good(wall=BEGIN + MAX_AHEAD_MS / 1000 + 1), "future"),
        (good().replace(b"raise the portcullis", b"(" * 20), None),
    ],
)
def test_an_entry_that_cannot_be_taken_is_refused_and_counted(raw: bytes, reason: str | None) -> None:
    peer = Peer()
    peer.hello()
    commands = peer.offer(raw)
    if reason is None:  # well-formed and forged: the store's own check refuses it
        [wanted] = [one for one in commands if isinstance(one, Apply)]
        commands = peer.node.applied(1, wanted.batch, {"p": "untrusted"}, peer.now)
        reason = "untrusted"
    assert [ack.refused for ack in acks(commands)] == [[fingerprint(raw)]]
    assert peer.node.refused == {reason: 1}
    assert any(isinstance(one, Warn) and one.node == "peer" for one in commands)
    assert len(peer.node.ledger) == 0


def test_a_forgery_is_relayed_by_nobody() -> None:
    cluster = Cluster(3, 11, trust=TRUST)
    cluster.run(5.0)
    forged = cluster.make("n0", lambda clock, now: entry("evil", clock.tick(now), signer=STRANGER))
    honest = cluster.make("n0", promotion("good"))
    cluster.run(60.0)
    assert cluster.holders(forged) == 1
    assert cluster.holders(honest) == 3
    refused = [replica.node.refused for replica in cluster.replicas.values() if replica.node]
    assert sum(one["untrusted"] for one in refused) <= 2 * (FANOUT + 2)  # once a connection, not at every comparison


def test_an_entry_that_was_replayed_changes_nothing() -> None:
    peer = Peer()
    peer.hello()
    old, new = good(), good(wall=BEGIN + 1, body="newer")
    peer.node.changed([entry("p", Stamp(int(BEGIN * 1000) + 1000, 0, "peer"), "newer")], peer.now)
    for raw in (old, new, old):
        commands = peer.offer(raw)
        assert [ack.refused for ack in acks(commands)] == [[]]
        assert not any(isinstance(one, Apply) for one in commands)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (frames.Hello("peer", b"j" * 16, ":1", HELLO_DIGEST, 0, 0), "second Hello"),
        (frames.Pong(9, HELLO_DIGEST, 0, 0), "Pong without"),
        (frames.Ack(9, []), "Ack for nothing"),
        (frames.Listing(1, [], 0), "nobody asked for"),
    ],
)
def test_what_the_protocol_does_not_allow_ends_the_connection(frame: frames.Frame, says: str) -> None:
    peer = Peer()
    peer.hello()
    commands = peer.say(frame)
    assert says in peer.ended(commands)
    assert peer.node.links == {}


def test_a_flood_ends_the_connection() -> None:
    peer = Peer()
    peer.hello()
    for batch in range(FRESH_WINDOW + BULK_WINDOW + 1):
        commands = peer.offer(good(f"p{batch}"), batch=batch)
    assert "more batches" in peer.ended(commands)
    peer = Peer()
    peer.hello()
    for batch in range(MAX_REFUSALS + 1):
        commands = peer.offer(b"x%d" % batch, batch=batch)
    assert "too many of its entries" in peer.ended(commands)
    peer = Peer()
    peer.hello()
    tree = frames.Tree(bytes(2048))
    assert peer.ended([*peer.say(tree), *peer.say(tree)]) == "comparisons without a pause"
    peer = Peer()
    for batch in range(MAX_EARLY):
        assert peer.say(frames.Entries(batch, False, [b"x"])) == []
    assert peer.ended(peer.say(frames.Entries(MAX_EARLY, False, [b"x"]))) == "too much before its Hello"


def test_bulk_may_overtake_its_hello() -> None:
    peer = Peer()
    assert peer.say(frames.Entries(1, False, [good()])) == []
    assert peer.say(LONG) == []
    commands = peer.hello()
    assert [one.batch for one in commands if isinstance(one, Apply)] == [1]
    assert [one.question for one in commands if isinstance(one, Judge)] == [LONG]


@pytest.mark.parametrize(
    "frame",
    [
        frames.Ping(1, HELLO_DIGEST, 0, 0, 0), frames.Pong(1, HELLO_DIGEST, 0, 0), frames.Tree(bytes(2_048)),
        frames.Listing(1, [], 0), frames.Want(["p"]), frames.Entries(1, True, [b"x"]), frames.Ack(1, []),
        frames.Holds(HELLO_DIGEST, ["peer"]), frames.Members([frames.Member("m", "h:1", 1, False)]),
        frames.Question(1, b"k" * 16, "tenant", 500, [frames.Said(b"hello", False, "user", 0, False)]),
        frames.Answer(1, "busy"), frames.Bye("leaving"),
    ],
    ids=lambda frame: type(frame).__name__,
)  # fmt: skip
def test_what_never_comes_before_a_hello_is_refused_at_once(frame: frames.Frame) -> None:
    peer = Peer()
    commands = peer.say(frame)
    assert peer.ended(commands) == f"its {type(frame).__name__} came before its Hello"
    assert [type(one.frame) for one in commands if isinstance(one, Send)] == [frames.Bye]
    assert peer.node.links == {}


def test_over_one_stream_nothing_overtakes_a_hello() -> None:
    peer = Peer()
    peer.node.opened(2, ("peer",), None, "tcp", "10.0.0.9", peer.now)
    commands = peer.node.received(2, frames.Entries(1, False, [b"x"]), peer.now)
    assert peer.ended(commands) == "its Entries came before its Hello"


@pytest.mark.parametrize("frame", [
    frames.Entries(1, False, [bytes(frames.MAX_FRAME - 100)]),
    frames.Entries(1, False, [bytes(2_040)] * 512),
    frames.Question(1, b"k" * 16, "t", 500, [frames.Said(bytes(120_000), False, "", 0, False)] * 8),
    frames.Question(1, b"k" * 16, "t", 500, [frames.Said(bytes(9), False, "\U0001f600" + "x" * 99, 0, False)] * 8_192),
], ids=["an entry", "entries", "texts", "many texts"])  # fmt: skip
def test_what_comes_before_a_hello_may_hold_no_more_than_its_bound_unfolded(frame: frames.Frame) -> None:
    raw = frames.encode(frame)
    assert len(raw) < 20_000
    peer = Peer()
    tracemalloc.start()
    try:
        for _ in range(MAX_EARLY):
            [early] = frames.Reader().feed(raw)
            commands = peer.say(early)
            del early
            assert tracemalloc.get_traced_memory()[0] < 2 * MAX_EARLY_BYTES
            if commands:
                break
    finally:
        tracemalloc.stop()
    assert peer.ended(commands) == "too much before its Hello"


def test_connections_have_a_bound_and_whoever_is_full_still_tells_who_there_is() -> None:
    node = Node("here", b"i" * 16, Directory("here", "here:1", (), Random(1)), Ledger())
    for key in range(MAX_LINKS + 3):
        commands = node.opened(key, (f"p{key}",), None, "quic", "10.0.0.9", BEGIN)
        commands += node.received(key, frames.Hello(f"p{key}", b"%16d" % key, f"p{key}:1", HELLO_DIGEST, 0, 0), BEGIN)
        ended = [one.reason for one in commands if isinstance(one, Close)]
        assert ended == ([] if key < MAX_LINKS else ["too many connections"])
        told = [one.frame for one in commands if isinstance(one, Send) and isinstance(one.frame, frames.Members)]
        assert sum(len(frame.members) for frame in told) > min(key, MAX_LINKS - 1)
    for key in range(1_000, 1_000 + SPARE_LINKS):  # that have not named themselves
        assert not any(isinstance(one, Close) for one in node.opened(key, ("x",), None, "quic", "10.0.0.9", BEGIN))
    assert [type(one) for one in node.opened(2_000, ("x",), None, "quic", "10.0.0.9", BEGIN)] == [Close]
    assert len(node.links) == MAX_LINKS + SPARE_LINKS
    assert node.refused == {"connection": 1}


def test_a_silent_peer_and_one_that_never_speaks_are_let_go() -> None:
    peer = Peer()
    assert peer.ended(peer.node.tick(BEGIN + 11)) == "no Hello"
    peer = Peer()
    peer.hello()
    assert peer.ended(peer.node.tick(BEGIN + SILENT_SECONDS + 1)) == "silent"


def test_a_slow_reader_costs_a_window_and_no_more() -> None:
    peer = Peer()
    peer.hello()
    sent = 0
    for number in range(40 * BATCH_ENTRIES):
        one = entry(f"p{number}", Stamp(int(BEGIN * 1000), number, "here"), signer=APPROVER)
        sent += len([c for c in peer.node.changed([one], peer.now) if isinstance(c, Send)])
    assert sent == FRESH_WINDOW
    link: Link = peer.node.links[1]
    assert link.outstanding == 40 * BATCH_ENTRIES
    peer.now += 61.0
    link.heard(peer.now)
    assert peer.ended(peer.node.tick(peer.now)) == "acknowledges nothing"


def test_members_that_a_peer_invents_are_bounded() -> None:
    peer = Peer()
    peer.hello()
    wall = int(BEGIN * 1000)
    commands: list[Command] = []
    for number in range(100):
        many = [frames.Member(f"m{number}-{n}", f"h{number}-{n}:1", wall, False) for n in range(128)]
        commands = peer.say(frames.Members(many))
        if peer.ended(commands):
            break
    assert peer.ended(commands) == "it invents members"
    assert len(peer.node.directory) <= 4_096
    ahead = frames.Member("m", "h:1", wall + 10**9, False)
    assert peer.node.directory.learn([ahead], BEGIN) == []
    for address in ("no port", "h:\N{SUPERSCRIPT TWO}"):
        assert peer.node.directory.learn([frames.Member("m", address, wall, False)], BEGIN) == []


def test_who_moved_to_another_address_is_not_looked_for_where_it_was() -> None:
    """Pods come back with each other's addresses: who answers at one is whom its member says by now."""
    directory = Directory("here", "here:1", (), Random(1))
    neighbours = Neighbours(directory)
    wall = int(BEGIN * 1000)
    directory.learn([frames.Member("a", "one:1", wall, False)], BEGIN)
    neighbours.answered("one:1", "a")
    directory.learn([frames.Member("a", "two:1", wall + 1, False), frames.Member("b", "one:1", wall + 1, False)], BEGIN)
    link = Link(1, ("a",), None, "quic", BEGIN)
    link.node, link.address = "a", "two:1"
    neighbours.review([link], MAX_LINKS, BEGIN)
    assert neighbours.dial([link], MAX_LINKS, BEGIN) == ["one:1"]


def test_holders_that_a_peer_invents_are_bounded() -> None:
    peer = Peer()
    peer.hello()
    made = entry("p", Stamp(int(BEGIN * 1000), 0, "here"))
    peer.node.changed([made], BEGIN)
    for number in range(40):
        peer.say(frames.Holds(fingerprint(encode(made)), [f"m{number}-{n}" for n in range(256)]))
    track = peer.node.replication(fingerprint(encode(made)))
    assert track
    assert len(track.nodes) <= MAX_MEMBERS
