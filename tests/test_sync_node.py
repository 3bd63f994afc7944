"""Replicas in a simulated network: they agree, whatever it does, and nobody makes them act on what nobody approved."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync_support import TRUST, promotion

from bench.simnet import BEGIN, Cluster, Weather
from gateway.sync.ledger import HORIZON_DAYS, Ledger, fingerprint
from gateway.sync.link import BATCH_ENTRIES, BULK_WINDOW
from gateway.sync.membership import FANOUT, FEW, LOST_SECONDS
from patterns.entries import Entry, encode, later

steps = st.one_of(
    st.tuples(st.just("make"), st.integers(0, 4), st.sampled_from(["x", "y", "z"])),
    st.tuples(st.just("remove"), st.integers(0, 4), st.sampled_from(["x", "y", "z"])),
    st.tuples(st.just("crash"), st.integers(0, 4), st.just("")),
    st.tuples(st.just("start"), st.integers(0, 4), st.just("")),
    st.tuples(st.just("split"), st.integers(1, 15), st.just("")),
    st.tuples(st.just("heal"), st.just(0), st.just("")),
    st.tuples(st.just("wait"), st.integers(1, 40), st.just("")),
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(steps, max_size=15), st.sets(st.integers(0, 4)))
def test_any_history_ends_in_agreement(seed: int, history: list[tuple[str, int, str]], old: set[int]) -> None:
    """Where some speak the protocol's first version, too."""
    cluster = Cluster(5, seed, Weather(0.02, 0.05, 0.05), trust=TRUST, skew=120.0)
    cluster.versions = {f"n{number}": 1 for number in old}
    made: list[Entry] = []
    for what, number, identity in history:
        name = f"n{number}"
        match what:
            case "make" | "remove":
                made.append(cluster.make(name, promotion(identity, None if what == "remove" else f"at {len(made)}")))
            case "crash" if cluster.replicas[name].node is not None:
                cluster.crash(name)
            case "start" if cluster.replicas[name].node is None:
                cluster.start(name)
            case "split":
                cluster.partition([[f"n{n}" for n in range(5) if number >> n & 1]])
            case "heal":
                cluster.heal()
            case "wait":
                cluster.run(number / 10)
            case _:
                pass
    cluster.heal()
    for name, replica in cluster.replicas.items():
        if replica.node is None:
            cluster.start(name)
    cluster.run(60.0)
    standing: dict[str, Entry] = {}
    for one in made:
        standing[one.id] = later(standing[one.id], one) if one.id in standing else one
    for replica in cluster.replicas.values():
        assert replica.store == standing
        assert replica.node is not None
        assert replica.node.ledger.root == Ledger(standing.values()).root
        assert not any(replica.node.refused.values())


def test_a_run_is_decided_by_its_seed() -> None:
    def story(seed: int) -> tuple[float, dict[str, int]]:
        cluster = Cluster(8, seed, Weather(loss=0.1), trust=TRUST)
        cluster.run(10.0)
        made = cluster.make("n0", promotion("p"))
        return cluster.run(10.0, lambda: cluster.holders(made) == 8), dict(cluster.kinds)

    assert story(7) == story(7)
    assert story(7) != story(8)


@pytest.mark.parametrize("seed", range(4))
def test_in_a_small_cluster_each_is_connected_to_each(seed: int) -> None:
    cluster = Cluster(FEW + 1, seed, Weather(0.05, 0.01, 0.05))
    cluster.run(10.0)
    assert [len(replica.node.links) for replica in cluster.replicas.values() if replica.node] == [FEW] * (FEW + 1)


def test_a_promotion_reaches_a_hundred_replicas_over_a_handful_of_connections_each() -> None:
    cluster = Cluster(100, 1, Weather(0.05, 0.01, 0.05))
    cluster.run(5.0)
    degrees = [len(replica.node.links) for replica in cluster.replicas.values() if replica.node]
    assert sum(degrees) / 100 < 3 * FANOUT
    assert max(degrees) <= 4 * FANOUT
    made = cluster.make("n42", promotion("p"))
    took = cluster.run(5.0, lambda: cluster.holders(made) == 100)
    assert took < 1.5
    cluster.run(3.0)
    node = cluster.replicas["n42"].node
    assert node is not None
    track = node.replication(fingerprint(encode(made)))
    assert track is not None
    assert track.reached_at is not None
    assert len(track.nodes) > 90


def test_one_seed_leads_to_all_and_a_name_may_change() -> None:
    cluster = Cluster(20, 2, seeds=1)
    cluster.run(10.0)
    assert [len(replica.node.directory) for replica in cluster.replicas.values() if replica.node] == [19] * 20
    cluster.add("renamed")
    cluster.leave("n7")
    cluster.run(20.0)
    for name, replica in cluster.replicas.items():
        if replica.node is not None and name != "renamed":
            known = {member.node for member in replica.node.directory.members}
            assert "renamed" in known
            assert "n7" not in known


def chain(one: int, other: int) -> bool:
    """Each reaches its two neighbours."""
    return abs(one - other) <= 1


def bridge(one: int, other: int) -> bool:
    """Two halves; one node reaches both."""
    low, high = sorted((one, other))
    return not low < 5 < high


@pytest.mark.parametrize(("reaches", "seed"), [(chain, 1), (chain, 2), (chain, 6), (bridge, 1)])
def test_who_reaches_few_is_reached_over_others(reaches: Callable[[int, int], bool], seed: int) -> None:
    cluster = Cluster(11, seed)
    places = list(range(11))
    Random(seed).shuffle(places)  # places on the ring come of names, so it depends on these whom a node tries first
    cluster.run(10.0)
    cluster.shape(lambda one, other: reaches(places[int(one[1:])], places[int(other[1:])]))
    cluster.run(LOST_SECONDS)
    for name in list(cluster.replicas):
        cluster.make(name, promotion(f"of-{name}"))
    assert cluster.run(90.0, cluster.converged) < 90.0
    cluster.run(200.0)
    made = cluster.make("n0", promotion("later"))  # what found each other stays together
    assert cluster.run(10.0, lambda: cluster.holders(made) == 11) < 5.0
    cluster.heal()
    cluster.run(60.0)
    assert max(len(replica.node.links) for replica in cluster.replicas.values() if replica.node) <= 10

ages = st.one_of(
    st.tuples(st.sampled_from(["make", "remove"]), st.integers(0, 3), st.sampled_from(["x", "y", "z"])),
    st.tuples(st.just("crash"), st.integers(0, 4), st.just("")),
    st.tuples(st.just("start"), st.integers(0, 4), st.just("")),
    st.tuples(st.just("new"), st.just(4), st.just("")),
    st.tuples(st.just("split"), st.integers(1, 15), st.just("")),
    st.tuples(st.just("wait"), st.just(100), st.just("")),
    st.tuples(st.just("days"), st.integers(1, 2 * HORIZON_DAYS), st.just("")),
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(ages, max_size=20))
def test_whoever_was_away_for_longer_than_the_horizon_brings_nothing_back(seed: int, history: list[tuple[str, int, str]]) -> None:
    cluster = Cluster(5, seed, Weather(0.02, 0.02, 0.02), trust=TRUST, skew=60.0)
    made: list[Entry] = []
    for what, number, identity in history:
        name = f"n{number}"
        match what:
            case "make" | "remove":
                made.append(cluster.make(name, promotion(identity, None if what == "remove" else f"at {len(made)}")))
            case "crash" if cluster.replicas[name].node is not None:
                cluster.crash(name)
            case "start" if cluster.replicas[name].node is None:
                cluster.start(name)
            case "new":  # with an empty disk
                if cluster.replicas[name].node is not None:
                    cluster.crash(name)
                cluster.replicas[name].store.clear()
                cluster.start(name)
            case "split":
                cluster.partition([[f"n{n}" for n in range(5) if number >> n & 1]])
            case "wait":
                cluster.run(number / 10)
            case "days":
                running = [one for one, replica in cluster.replicas.items() if replica.node is not None]
                cluster.skip(86_400.0 * number)
                for one in running:
                    cluster.start(one)
            case _:
                pass
    cluster.heal()
    for name, replica in cluster.replicas.items():
        if replica.node is None:
            cluster.start(name)
    cluster.run(60.0)
    standing: dict[str, Entry] = {}
    for one in made:
        standing[one.id] = later(standing[one.id], one) if one.id in standing else one
    acting = {identity: one for identity, one in standing.items() if one.pattern is not None}
    for replica in cluster.replicas.values():
        assert {identity: one for identity, one in replica.store.items() if one.pattern is not None} == acting
    assert cluster.converged()


def test_a_removal_beyond_the_horizon_is_not_sent_and_is_told_to_whoever_needs_it() -> None:
    cluster = Cluster(4, 8, trust=TRUST)
    for number in range(10):
        cluster.make("n0", promotion(f"p{number}"))
    cluster.run(20.0)
    cluster.crash("n3")  # and stays away, with all ten
    for number in range(5):
        cluster.make("n1", promotion(f"p{number}", None))
    cluster.run(20.0)
    cluster.skip(86_400.0 * (HORIZON_DAYS + 1))
    for name in ("n0", "n1", "n2"):
        cluster.start(name)
    newcomer = cluster.add("n4")
    cluster.run(20.0)
    assert newcomer.store.keys() == {f"p{number}" for number in range(5, 10)}
    cluster.start("n3")
    cluster.run(30.0)
    assert cluster.converged()
    for name, replica in cluster.replicas.items():
        assert {identity for identity, one in replica.store.items() if one.pattern is not None} == newcomer.store.keys(), name
    quiet = cluster.kinds["Entries"]
    cluster.run(60.0)
    assert cluster.kinds["Entries"] == quiet


def test_a_newcomer_gets_everything_and_a_cut_snapshot_goes_on() -> None:
    cluster = Cluster(3, 3, Weather(0.05), trust=TRUST)
    for number in range(6 * BATCH_ENTRIES):
        cluster.make("n0", promotion(f"p{number}"))
    cluster.run(20.0, cluster.converged)
    newcomer = cluster.add("n3")
    whole = 6 * BATCH_ENTRIES
    cluster.run(20.0, lambda: len(newcomer.store) > whole // 3)
    before = len(newcomer.store)
    assert before < whole
    cluster.crash("n3")
    sent = sum(replica.sent_bytes for replica in cluster.replicas.values())
    cluster.start("n3")
    cluster.run(20.0, lambda: len(newcomer.store) == whole)
    assert len(newcomer.store) == whole
    resumed = sum(replica.sent_bytes for replica in cluster.replicas.values()) - sent
    assert resumed < 0.8 * sent


def agreeing(size: int, old: bool = False) -> Cluster:
    """Two replicas that hold the same, of which ``n0`` made all."""
    cluster = Cluster(2, 5, Weather(0.01))
    cluster.versions = {"n1": 1} if old else {}
    cluster._merge(cluster.replicas["n0"], [promotion(f"p{n}")(cluster.replicas["n0"].clock, BEGIN) for n in range(size)])
    cluster.run(60.0, lambda: len(cluster.replicas["n1"].store) == size)
    cluster.run(10.0)
    assert cluster.converged()
    return cluster


@pytest.mark.parametrize(("away", "restarted"), [("n0", False), ("n1", False), ("n0", True), ("n1", True)])
@pytest.mark.parametrize("old", [False, True])
def test_who_was_away_is_sent_what_it_missed_and_nothing_is_compared(away: str, restarted: bool, old: bool) -> None:
    cluster = agreeing(1_000, old)
    cluster.partition([["n0"]])
    for number in range(100):
        cluster.make("n0", promotion(f"p{7 * number}", f"anew {number}"))
        cluster.make("n1", promotion(f"q{number}"))
    if restarted:
        cluster.crash(away)
    cluster.run(20.0)
    cluster.kinds.clear()
    cluster.sizes.clear()
    cluster.heal()
    if restarted:
        cluster.start(away)
    took = cluster.run(30.0, cluster.converged)
    cluster.run(10.0)
    assert {len(replica.store) for replica in cluster.replicas.values()} == {1_100}
    if old:
        assert cluster.kinds["Tree"] > 0
        assert not cluster.kinds["HelloSince"]
    else:
        assert not cluster.kinds["Hello"]
        assert not cluster.kinds["Tree"] + cluster.kinds["Listing"] + cluster.kinds["Want"]
        assert cluster.sizes["HelloSince"] < 250 * cluster.kinds["HelloSince"]
        assert cluster.sizes["Entries"] <= sum(len(encode(one)) for one in cluster.replicas["n0"].store.values()) * 0.2
    assert took < 5


@pytest.mark.parametrize("lost", [1, 300])
def test_a_store_from_a_backup_is_found_out_by_its_digest(lost: int) -> None:
    """It lacks what its vector says it has: its own changes, since it made one after they were lost."""
    cluster = agreeing(1_000)
    cluster.crash("n0")
    for number in range(1_000 - lost, 1_000):
        del cluster.replicas["n0"].store[f"p{number}"]
    cluster.start("n0")
    cluster.make("n0", promotion("since-then"))
    assert cluster.run(30.0, cluster.converged) < 15
    assert {len(replica.store) for replica in cluster.replicas.values()} == {1_001}
    assert cluster.kinds["Tree"] > 0


def test_a_snapshot_that_is_cut_is_not_sent_anew() -> None:
    cluster = Cluster(1, 4, Weather(0.01))
    first = cluster.replicas["n0"]
    cluster._merge(first, [promotion(f"p{n}")(first.clock, BEGIN) for n in range(4_000)])
    cluster.add("n1")
    cluster.run(30.0, lambda: len(cluster.replicas["n1"].store) >= 2_000)
    cluster.partition([["n0"]])
    cluster.run(20.0)
    had = len(cluster.replicas["n1"].store)
    cluster.kinds.clear()
    cluster.sizes.clear()
    cluster.heal()
    assert cluster.run(30.0, lambda: len(cluster.replicas["n1"].store) == 4_000) < 30
    weight = sum(len(encode(one)) for one in first.store.values()) / 4_000
    assert cluster.sizes["Entries"] < 1.3 * (4_000 - had) * weight


def test_an_urgent_revision_overtakes_a_snapshot() -> None:
    # A slow link, and a newcomer that has only begun to load.
    cluster = Cluster(2, 5, Weather(0.1, 0.0), trust=TRUST)
    for number in range(BATCH_ENTRIES * (BULK_WINDOW + 4)):
        cluster.make("n0", promotion(f"p{number}"))
    cluster.crash("n1")
    cluster.replicas["n1"].store.clear()
    cluster.start("n1")
    newcomer = cluster.replicas["n1"]
    cluster.run(20.0, lambda: len(newcomer.store) > BATCH_ENTRIES)
    urgent = cluster.make("n0", promotion("urgent"))
    cluster.run(20.0, lambda: cluster.holders(urgent) == 2)
    assert len(newcomer.store) < len(cluster.replicas["n0"].store)
