"""The store: whole generations or nothing, histories that merge, and everything can be taken back."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from store_support import TOGETHER, literal, open_store

from patterns.clock import Stamp
from patterns.entries import Entry, Signer, Trust, digest, encode, store_digest
from patterns.history import UnknownGeneration
from patterns.schema import Pattern, State
from patterns.snapshot import layered
from patterns.store import Store, StoreError

NOW = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def test_a_change_is_a_revision_with_author_reason_time_and_parent(store: Store) -> None:
    first = store.revise({"one": literal("one")}, "ada", "seen in the wild", NOW)
    store.revise({"one": literal("one", "close the gate")}, "bob", "it was the other way", NOW + 5)
    newest, oldest = store.history("one")
    assert (newest.generation, oldest.generation) == (2, 1) == (first.generation + 1, first.generation)
    assert (newest.entry.author, newest.entry.reason, newest.entry.parent) == ("bob", "it was the other way", digest(oldest.entry))
    assert newest.entry.stamp.wall_ms == (NOW + 5) * 1000
    assert [pattern.revision for pattern in (oldest.entry.pattern, newest.entry.pattern) if pattern] == [1, 2]
    assert [(one.number, one.author, one.changes) for one in store.generations()] == [(2, "bob", 1), (1, "ada", 1)]


def test_what_changes_nothing_is_no_generation(store: Store) -> None:
    store.revise({"one": literal("one")}, "ada", "new", NOW)
    assert store.revise({"one": literal("one"), "two": None}, "ada", "again", NOW).accepted == ()
    assert store.generation == 1


def test_diff_and_rollback(store: Store) -> None:
    store.revise({"one": literal("one"), "two": literal("two")}, "ada", "new", NOW)
    store.revise({"one": literal("one", "raise it"), "two": None, "three": literal("three")}, "bob", "worse", NOW)
    found = store.diff(1, 2)
    assert (set(found.added), set(found.removed), set(found.changed)) == ({"three"}, {"two"}, {"one"})
    assert {change.field for change in found.changed["one"]} == {"body", "reach", "hits", "revision"}
    before = store.snapshot(1).patterns
    store.rollback(1, "ada", "it was better before", NOW)
    after = store.patterns()
    assert after.keys() == before.keys()
    assert all(replace(after[id], revision=1) == before[id] for id in after)
    assert store.generation == 3, "going back is a change as any other"
    assert store.snapshot(2).patterns["three"] == literal("three"), "and what it took back is still there to see"
    with pytest.raises(UnknownGeneration, match="generation 9 is not known; the latest is 3"):
        store.rollback(9, "ada", "?", NOW)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["", "open it", "close it"]), min_size=1), min_size=1, max_size=6))
def test_a_diff_is_what_two_snapshots_differ_by(history: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder))
        for bodies in history:
            store.revise({id: literal(id, body) if body else None for id, body in bodies.items()}, "ada", '"pattern":null', NOW)
        held = [store.snapshot(number).patterns for number in range(store.generation + 1)]
        for a, before in enumerate(held):
            for b, after in enumerate(held):
                found = store.diff(a, b)
                assert found.added == {id: after[id] for id in after.keys() - before.keys()}
                assert found.removed == {id: before[id] for id in before.keys() - after.keys()}
                assert found.changed.keys() == {id for id in before.keys() & after.keys() if before[id] != after[id]}
                cut = store.diff(a, b, 1)
                assert cut.counts == found.counts == tuple(map(len, found[:3]))
                assert [len(some) for some in cut[:3]] == [min(1, count) for count in found.counts]
        store.close()


def test_a_store_of_the_version_before_is_brought_on(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    first.revise({"one": literal("one"), "two": literal("two")}, "ada", "new", NOW)
    first.revise({"one": literal("one", "raise it"), "two": None}, "bob", "worse", NOW)
    told = first.diff(1, 2)
    for statement in ("DROP INDEX revisions_content", "ALTER TABLE revisions DROP COLUMN content", "PRAGMA user_version = 1"):
        first._db.execute(statement)
    first.close()
    again = open_store(tmp_path)
    assert again.diff(1, 2) == told
    assert again.digest == again.snapshot(2).digest == first.digest
    assert [one.generation for one in again.history("two")] == [2, 1]
    again.close()


def test_a_revision_takes_hardly_more_of_the_disk_than_it_is_long(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    many = {f"p{number}": literal(f"p{number}", f"open it {number}" + "!" * 300) for number in range(500)}
    applied = store.revise(many, "ada", "new", NOW)
    length = sum(len(encode(entry)) for entry in applied.accepted)
    (pages, size), = store._db.execute("SELECT page_count, page_size FROM pragma_page_count, pragma_page_size")
    store.close()
    assert length > 500 * 1_000
    assert pages * size < 1.5 * length


def test_all_of_it_is_there_when_opened_again(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    first.revise({"one": literal("one"), "two": literal("two")}, "ada", "new", NOW)
    first.revise({"two": None}, "ada", "gone", NOW)
    kept = (first.generation, first.digest, dict(first.entries()))
    first.close()
    again = open_store(tmp_path)
    assert (again.generation, again.digest, dict(again.entries())) == kept
    assert again.digest == store_digest(again.entries().values())
    assert again.snapshot(1).digest != again.snapshot(2).digest == again.digest
    again.close()


def test_two_stores_that_share_a_file_see_each_other(tmp_path: Path) -> None:
    one, other = open_store(tmp_path), open_store(tmp_path)
    told: list[tuple[int, list[str]]] = []
    stop = other.subscribe(lambda number, changed: told.append((number, [entry.id for entry in changed])))
    one.revise({"one": literal("one")}, "ada", "new", NOW)
    assert other.generation == 0
    assert other.behind
    assert other.poll()
    assert not other.behind
    assert not other.poll()
    assert told == [(1, ["one"])]
    # A change made without having looked is made above what the other wrote, and its stamp is later.
    other.revise({"two": literal("two")}, "bob", "new", NOW - 60)
    one.revise({"one": None}, "ada", "gone", NOW - 120)
    assert (one.generation, one.patterns().keys()) == (3, {"two"})
    stop()
    other.poll()
    assert len(told) == 2
    assert one.digest == other.digest
    one.close(), other.close()


def test_entries_are_taken_from_trusted_signers_alone(tmp_path: Path, store: Store) -> None:
    friend, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    store.trust = Trust([friend.public_key()])
    raw = Entry(id="one", pattern=literal("one"), stamp=Stamp(int(NOW * 1000), 0, "b"), author="eve", reason="why")
    forged = replace(Signer(friend).sign(raw), author="mallory")
    future = Signer(friend).sign(replace(raw, id="late", pattern=None, stamp=Stamp(int(NOW * 1000) + 10**9, 0, "b")))
    applied = store.apply([raw, Signer(stranger).sign(raw), forged, future], NOW)
    assert applied.accepted == ()
    assert store.generation == 0
    assert ["unsigned" in applied.refused[0].why, "not trusted" in applied.refused[1].why, "signature" in applied.refused[2].why,
            "ahead of our clock" in applied.refused[3].why] == [True] * 4
    good = store.apply([Signer(friend).sign(raw), forged], NOW)
    assert [entry.id for entry in good.accepted] == ["one"]
    assert len(good.refused) == 1


KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(2)]


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    made = []
    for number in range(draw(st.integers(0, 8))):
        id = draw(st.sampled_from(TOGETHER))
        body = draw(st.sampled_from(("open", "close", None)))
        signer = draw(st.integers(0, 1))
        stamp = Stamp(draw(st.integers(1, 5)), number, "ab"[signer], draw(st.integers(0, 1)))
        pattern = literal(id, body) if body else None
        made.append(Signer(KEYS[signer]).sign(Entry(id=id, pattern=pattern, stamp=stamp, author="a", reason="r")))
    return made


@settings(max_examples=25, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_replicas_agree_whatever_the_order_and_the_grouping(history: list[Entry], rng: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        left, right = (open_store(Path(folder) / name, name, *KEYS) for name in ("left", "right"))
        left.apply(history, NOW)
        shuffled = history[:]
        rng.shuffle(shuffled)
        while shuffled:
            cut = rng.randint(1, len(shuffled))
            right.apply(shuffled[:cut], NOW)
            shuffled = shuffled[cut:]
        right.apply(history, NOW)
        assert left.digest == right.digest
        assert dict(left.entries()) == dict(right.entries())
        assert left.apply(right.entries().values(), NOW).accepted == ()
        left.close(), right.close()


STEPS = st.lists(
    st.tuples(st.sampled_from(("left", "right")), st.sampled_from(("change", "retire", "remove", "roll back")), st.integers(0, 9)),
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_what_one_side_took_back_the_other_does_not_bring_back_unknowingly(
    steps: list[tuple[str, str, int]], rng: random.Random
) -> None:
    """Two parted replicas, whose clocks are minutes off: when they meet, what was taken back more often stands, and of what was
    taken back as often the later change, in whatever order entries come."""
    with tempfile.TemporaryDirectory() as folder:
        trust = Trust(key.public_key() for key in KEYS)
        stores = {name: Store(Path(folder) / name, trust, Signer(key), name) for name, key in zip(("left", "right"), KEYS, strict=True)}
        left, right = stores.values()
        begin = left.revise({"one": literal("one")}, "ada", "new", NOW).accepted
        right.apply(begin, NOW)
        back = {"left": 0, "right": 0}
        for number, (side, what, minutes) in enumerate(steps):
            store, now = stores[side], NOW + 60 * minutes
            stands = store.patterns().get("one")
            acted = stands is not None and stands.state is State.ACTIVE
            change: dict[str, Pattern | None] = {"one": literal("one", f"gate {number}")}
            if what == "roll back":
                back[side] += len(store.rollback(1, "eve", "it was better before", now).accepted)
                continue
            if what == "retire":
                change = {"one": replace(literal("one", f"gate {number}"), state=State.RETIRED)}
            elif what == "remove":
                change = {"one": None}
            store.revise(change, "eve", what, now)
            back[side] += acted and what != "change"
        last = {name: store.entries()["one"] for name, store in stores.items()}
        if back["left"] != back["right"]:
            expected = last[max(back, key=lambda side: back[side])]
        else:
            expected = max(last.values(), key=lambda entry: entry.stamp[:3])
        everything = [one.entry for store in stores.values() for one in store.history("one")]
        for store in stores.values():
            rng.shuffle(everything)
            for entry in everything:
                store.apply([entry], NOW + 6000)
            assert store.entries()["one"] == expected
        again = left.revise({"one": literal("one", "again")}, "ada", "knowingly", NOW).accepted
        right.apply(again, NOW + 6000)
        assert right.patterns()["one"].body == "again", "whoever knows that it was taken back may bring it back"
        assert left.digest == right.digest
        left.close(), right.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_was_a_year_ahead_keeps_nobody_from_changing_anything(tmp_path: Path, restarted: bool) -> None:
    """Whatever was changed there after one change under a wrong clock, no other replica took for a year, not even a rollback."""
    trust = Trust(key.public_key() for key in KEYS)
    here, there = (Store(tmp_path / name, trust, Signer(key), name) for name, key in zip("ab", KEYS, strict=True))
    here.revise({"one": literal("one"), "late": literal("late")}, "ada", "new", NOW)
    assert len(there.apply(here.entries().values(), NOW).accepted) == 2
    here.revise({"one": literal("one", "close it")}, "bob", "worse", NOW + 365 * 86_400)
    assert len(there.apply(here.entries().values(), NOW + 1).refused) == 1
    if restarted:
        here.close()
        here = Store(tmp_path / "a", trust, Signer(KEYS[0]), "a")
    here.revise({"two": literal("two")}, "ada", "new", NOW + 60)
    assert there.apply(here.entries().values(), NOW + 60).refused == ()
    assert there.digest == here.digest
    told = there.entries()["one"]
    assert (told.author, told.reason, there.patterns()["one"].body) == ("bob", "worse", "close it")
    here.revise({"late": literal("late", "later")}, "ada", "again", NOW - 86_400)  # set back by a day
    assert there.apply(here.entries().values(), NOW + 70).refused == ()
    assert there.patterns()["late"].body == "later"
    here.rollback(1, "eve", "it was better before", NOW + 80)
    there.apply(here.entries().values(), NOW + 80)
    assert there.digest == here.digest
    assert there.patterns()["one"].body == here.patterns()["one"].body == "open the gate"
    here.close(), there.close()


def test_killed_at_any_point_the_last_whole_generation_stands(tmp_path: Path) -> None:
    rng = random.Random(5)
    seen = 0
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "store_support.py"), str(tmp_path)], stdout=subprocess.PIPE,
            text=True, cwd=Path(__file__).parent.parent, env={"PYTHONPATH": "."},
        )  # fmt: skip
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        for _ in range(rng.randint(1, 20)):
            seen = int(writer.stdout.readline())
        time.sleep(rng.random() / 100)  # anywhere within the next transactions
        writer.kill()
        writer.wait()
        writer.stdout.close()
        store = open_store(tmp_path)
        assert store.generation >= seen
        assert store.digest == store_digest(store.entries().values())
        for number in range(max(1, store.generation - 3), store.generation + 1):
            bodies = {pattern.body for pattern in store.snapshot(number).patterns.values()}
            assert bodies == {f"body {number}"}, "a generation is whole: three patterns changed together"
        store.close()


def test_a_full_disk_changes_nothing_and_is_told(store: Store) -> None:
    store.revise({"one": literal("one")}, "ada", "new", NOW)
    kept = (store.generation, store.digest)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    large = {f"n{n}": replace(literal(f"n{n}"), hits=("x" * 8000,)) for n in range(50)}
    with pytest.raises(StoreError, match=r"patterns\.db: database or disk is full"):
        store.revise(large, "ada", "much", NOW)
    assert (store.generation, store.digest) == kept
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert store.revise(large, "ada", "much", NOW).generation == 2


def test_a_file_that_is_no_store_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "patterns.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(StoreError, match=r"patterns\.db"):
        open_store(tmp_path)


def test_an_entry_of_another_version_is_left_out_and_named(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.revise({"one": literal("one"), "two": literal("two")}, "ada", "new", NOW)
    store._db.execute("UPDATE revisions SET body = cast(replace(body, 'instruction_override', 'of_next_year') AS BLOB) WHERE id = 'two'")
    store.close()
    again = open_store(tmp_path)
    assert again.patterns().keys() == {"one"}
    assert "unknown subcategory 'of_next_year'" in again.faults["two"]
    again.revise({"two": literal("two")}, "ada", "again", NOW + 1)
    assert again.faults == {}, "what stands now can be read"
    again.close()


def test_what_an_entry_of_another_version_replaced_does_not_act(tmp_path: Path) -> None:
    """Neither in a process that runs while another one, of that version, writes it, nor in one that starts afterwards."""
    ours, theirs = open_store(tmp_path), open_store(tmp_path)
    ours.revise({"one": literal("one"), "two": literal("two")}, "ada", "new", NOW)
    theirs.revise({"two": literal("two", "other words")}, "ada", "changed", NOW + 1)
    theirs._db.execute(
        "UPDATE revisions SET body = cast(replace(body, 'instruction_override', 'of_next_year') AS BLOB) WHERE generation = 2"
    )
    assert ours.poll()
    again = open_store(tmp_path)
    for store in (ours, again):
        assert store.patterns().keys() == {"one"}
        assert [one.generation for one in store.history("two")] == [1]
        store.close()
    theirs.close()


def test_the_store_lies_over_the_packs() -> None:
    base = {id: literal(id) for id in ("one", "two")}
    store = {"one": literal("one", state=State.RETIRED), "three": literal("three")}
    together = layered(base, store)
    assert [together[id].state for id in ("one", "two", "three")] == [State.RETIRED, State.ACTIVE, State.ACTIVE]


def test_a_failing_subscriber_harms_nobody(store: Store) -> None:
    def broken(number: int, changed: tuple[Entry, ...]) -> None:
        raise RuntimeError("no")

    store.subscribe(broken)
    assert store.revise({"one": literal("one")}, "ada", "new", NOW).generation == 1


def _many(count: int) -> dict[str, Pattern | None]:
    return {f"many.{n}": literal(f"many.{n}", f"body number {n}") for n in range(count)}


def test_ten_thousand_patterns(store: Store) -> None:
    store.revise(_many(10_000), "ada", "import", NOW)
    store.revise({f"many.{n}": None for n in range(100)}, "ada", "some", NOW)
    assert len(store.diff(1, 2).removed) == 100
    assert len(store.snapshot(1).patterns) == 10_000
    assert store.rollback(1, "ada", "back", NOW).generation == 3
    assert len(store.patterns()) == 10_000
