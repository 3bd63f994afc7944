"""The ledger: equal digests mean equal stores, and a comparison finds exactly what differs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sync_support import entry

from gateway.sync.frames import BUCKETS, MAX_MARKS, Mark
from gateway.sync.ledger import HORIZON_DAYS, MAX_REPEATED, Ledger
from patterns.clock import Stamp
from patterns.entries import Entry, later

stamps = st.builds(Stamp, st.integers(1, 3), st.integers(0, 1), st.sampled_from("ab"), st.integers(0, 1))
made = st.builds(entry, st.sampled_from([f"p{n}" for n in range(30)]), stamps, st.sampled_from(["one", "two", None]))
stores = st.lists(made, max_size=40).map(lambda entries: {one.id: one for one in entries})


@given(stores, stores)
def test_equal_roots_mean_equal_stores(a: dict[str, Entry], b: dict[str, Entry]) -> None:
    one, other = Ledger(a.values()), Ledger(reversed(list(b.values())))
    assert (one.root == other.root) == (a == b)
    assert (one.differing(other.tree) == []) == (a == b)


@given(stores, stores)
def test_a_comparison_moves_what_differs_and_nothing_else(a: dict[str, Entry], b: dict[str, Entry]) -> None:
    one, other = Ledger(a.values()), Ledger(b.values())
    first, second = dict(a), dict(b)
    for bucket, empty_there in other.differing(one.tree):
        if empty_there:
            assert not one.ids(bucket)
            want, send = other.ids(bucket), []
        else:
            want, send = one.compare(bucket, other.listing(bucket))
        for identity in want:
            assert first.get(identity) != second[identity]
            a[identity] = later(a[identity], b[identity]) if identity in a else b[identity]
        for identity in send:
            assert second.get(identity) != first[identity]
            b[identity] = later(first[identity], b[identity]) if identity in b else first[identity]
    assert a == b


def test_putting_the_same_entry_again_is_no_change() -> None:
    one = entry("p", Stamp(1, 0, "a"))
    ledger = Ledger([one])
    root = ledger.root
    assert ledger.put(one) is None
    assert ledger.root == root
    assert ledger.put(entry("p", Stamp(2, 0, "a"))) is not None
    assert ledger.root != root


DAY_MS = 86_400_000
TODAY = 1_750_000_000 - 1_750_000_000 % 86_400 + 3_600.0
aged = st.builds(
    lambda days, identity, body: entry(identity, Stamp(int(TODAY * 1000) - days * DAY_MS, 0, "a"), body),
    st.integers(0, 3 * HORIZON_DAYS), st.sampled_from([f"p{n}" for n in range(10)]), st.sampled_from(["one", None]),
)  # fmt: skip


@given(st.lists(aged, max_size=30), st.lists(st.integers(-HORIZON_DAYS, 2 * HORIZON_DAYS), max_size=3))
def test_tombstones_beyond_the_horizon_are_held_and_not_exchanged(put: list[Entry], waits: list[int]) -> None:
    ledger, now = Ledger(now=TODAY), TODAY
    standing: dict[str, Entry] = {}
    for number, one in enumerate(put):
        standing[one.id] = later(standing[one.id], one) if one.id in standing else one
        if standing[one.id] is one:
            ledger.put(one)
        if number < len(waits):
            now += 86_400.0 * waits[number]
            ledger.advance(now)
    exchanged = {
        one.id: one for one in standing.values() if one.pattern is not None or one.stamp.wall_ms >= horizon_ms(now)
    }
    assert {identity for bucket in range(BUCKETS) for identity in ledger.ids(bucket)} == exchanged.keys()
    assert len(ledger) == len(exchanged)
    assert ledger.root == Ledger(exchanged.values(), now).root  # as a newcomer has it
    for identity, one in standing.items():
        held = ledger.get(identity)
        assert held is not None
        assert held.stamp == one.stamp


def horizon_ms(now: float) -> int:
    return (int(now) // 86_400 - HORIZON_DAYS) * DAY_MS


def test_replicas_whose_clocks_are_minutes_off_have_one_horizon_nearly_always() -> None:
    old = [entry(f"p{days}", Stamp(int(TODAY * 1000) - days * DAY_MS, 0, "a"), None) for days in range(2 * HORIZON_DAYS)]
    assert Ledger(old, TODAY - 300).root == Ledger(old, TODAY + 300).root


class Replicas:
    """Three ledgers between which entries go in any order, or get lost."""

    def __init__(self) -> None:
        self.ledgers = {name: Ledger(node=name) for name in "abc"}
        self.stores: dict[str, dict[str, Entry]] = {name: {} for name in "abc"}
        self.now = 0

    def put(self, name: str, one: Entry) -> None:
        held = self.stores[name].get(one.id)
        if held is None or later(held, one) is one:
            self.stores[name][one.id] = one
            self.ledgers[name].put(one)

    def make(self, name: str, identity: str) -> None:
        self.now += 1
        self.put(name, entry(identity, Stamp(self.now, 0, name)))

    def compare(self, one: str, other: str) -> bool:
        """What a ping does: both learn whether they hold the same."""
        same = self.ledgers[one].root == self.ledgers[other].root
        for name in (one, other) if same else ():
            self.ledgers[name].agree()
        return same

    def send(self, source: str, to: str) -> int:
        """All that is later than what ``to`` says it has; how many of these it had."""
        marks = self.ledgers[to].marks()
        assert marks is not None
        known = 0
        for identity in self.ledgers[source].since(marks):
            known += self.stores[to].get(identity) == self.stores[source][identity]
            self.put(to, self.stores[source][identity])
        return known


names = st.sampled_from("abc")
moves = st.lists(st.one_of(
    st.tuples(st.just("make"), names, st.sampled_from([f"p{n}" for n in range(12)])),
    st.tuples(st.just("lose"), names, names),  # one entry of the first arrives at the second, and none before it
    st.tuples(st.just("compare"), names, names),
    st.tuples(st.just("meet"), names, names),
    st.tuples(st.just("restart"), names, names),
), max_size=40)  # fmt: skip


@given(moves)
def test_a_version_vector_finds_what_was_missed_or_the_digest_says_that_it_did_not(history: list[tuple[str, str, str]]) -> None:
    all_of = Replicas()
    for what, one, other in history:
        match what:
            case "make":
                all_of.make(one, other)
            case "lose" if all_of.stores[one]:
                all_of.put(other, list(all_of.stores[one].values())[-1])
            case "compare":
                all_of.compare(one, other)
            case "restart":
                all_of.ledgers[one] = Ledger(all_of.stores[one].values(), node=one)
            case "meet":
                all_of.send(one, other)
                all_of.send(other, one)
                assert all_of.compare(one, other) == (all_of.stores[one] == all_of.stores[other])
    # Without loss, agreement needs nothing but vectors, whoever missed what.
    whole = Replicas()
    for what, one, other in history:
        if what == "make":
            whole.make(one, other)
        elif what in ("meet", "compare") and one != other:
            whole.send(one, other)
            whole.send(other, one)
            assert whole.compare(one, other)
            assert whole.send(one, other) == whole.send(other, one) == 0, "what both hold is not sent again"


def test_a_vector_of_too_many_nodes_or_too_long_ago_is_none() -> None:
    ledger = Ledger([entry(f"p{n}", Stamp(1, 0, f"node {n}")) for n in range(MAX_MARKS + 1)])
    assert ledger.marks() is None
    ledger = Ledger([entry("p", Stamp(1, 0, "a"))], node="b")
    for number in range(MAX_REPEATED + 1):
        ledger.put(entry(f"mine {number}", Stamp(9, number, "b")))
    assert ledger.marks() == [Mark("a", 1, 0), Mark("b", 9, MAX_REPEATED)]
    for number in range(MAX_REPEATED + 1):
        assert ledger.marks() is not None
        ledger.put(entry(f"theirs {number}", Stamp(9, number, "a")))
    assert ledger.marks() is None
    ledger.agree()
    assert ledger.marks() == [Mark("a", 9, MAX_REPEATED), Mark("b", 9, MAX_REPEATED)]
