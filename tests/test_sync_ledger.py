"""The ledger: equal digests mean equal stores, and a comparison finds exactly what differs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sync_support import entry

from gateway.sync.frames import BUCKETS
from gateway.sync.ledger import HORIZON_DAYS, Ledger
from patterns.clock import Stamp
from patterns.entries import Entry, later

stamps = st.builds(Stamp, st.integers(1, 3), st.integers(0, 1), st.sampled_from("ab"))
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


@given(st.lists(aged, max_size=30), st.lists(st.integers(0, 2 * HORIZON_DAYS), max_size=3))
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
