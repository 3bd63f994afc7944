"""The ledger: equal digests mean equal stores, and a comparison finds exactly what differs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sync_support import entry

from gateway.sync.ledger import Ledger
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
