"""Clocks and trust that change under replicas: what was refused is taken once it may be, and nobody waits for a time to come again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sync_support import KEY, STRANGER, TRUST, entry, promotion

from bench.simnet import Cluster
from gateway.sync.link import REFUSED_SECONDS
from patterns.clock import MAX_AHEAD_MS, Clock
from patterns.entries import Entry, Trust


def by_a_stranger(identity: str) -> Callable[[Clock, float], Entry]:
    return lambda clock, now: entry(identity, clock.tick(now), signer=STRANGER)


def connected(cluster: Cluster) -> dict[str, float]:
    """Since when each replica's one connection stands."""
    return {name: next(iter(one.node.links.values())).since for name, one in cluster.replicas.items() if one.node}


@pytest.mark.parametrize("old", [False, True])
def test_what_came_from_a_clock_that_was_ahead_is_taken_when_its_time_has_come(old: bool) -> None:
    """It was never asked for again until somebody restarted: one of two replicas went without it for good."""
    cluster = Cluster(2, 1, trust=TRUST)
    cluster.versions = {"n1": 1} if old else {}
    cluster.replicas["n0"].skew = MAX_AHEAD_MS / 1000 + 100
    cluster.run(10.0)
    before = connected(cluster)
    cluster.make("n0", promotion("early"))
    cluster.run(20.0)
    refusing = cluster.replicas["n1"]
    assert refusing.node is not None
    assert refusing.node.refused["future"] == 1
    assert refusing.store == {}
    cluster.run(100 + 2 * REFUSED_SECONDS, cluster.converged)
    assert refusing.store.keys() == {"early"}
    assert connected(cluster) == before
    assert refusing.node.refused["future"] <= 4, "once a minute"


def test_what_a_stranger_signed_is_taken_when_its_key_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(2, 1, trust=TRUST)
    cluster.run(10.0)
    before = connected(cluster)
    cluster.replicas["n0"].store["his"] = made = by_a_stranger("his")(cluster.replicas["n0"].clock, cluster.now)
    assert cluster.replicas["n0"].node is not None
    cluster._do(cluster.replicas["n0"], cluster.replicas["n0"].node.changed([made], cluster.now))
    cluster.run(20.0)
    assert cluster.replicas["n1"].store == {}
    monkeypatch.setattr(cluster, "_trust", Trust([KEY.public_key(), STRANGER._key.public_key()]))
    cluster.run(2 * REFUSED_SECONDS, cluster.converged)
    assert cluster.replicas["n1"].store.keys() == {"his"}
    assert connected(cluster) == before


@pytest.mark.parametrize("back", [60.0, 500.0])
def test_a_clock_that_went_back_keeps_nobody_from_being_reached(back: float) -> None:
    """Who had tried an address in vain tried it again when the time that it had noted came once more."""
    cluster = Cluster(3, 1, trust=TRUST, seeds=1)
    cluster.run(30.0)
    cluster.partition([["n1"]])
    cluster.run(700.0)  # the others have forgotten it
    cluster.replicas["n1"].skew -= back
    cluster.run(30.0)
    cluster.heal()
    cluster.make("n0", promotion("x"))
    assert cluster.run(60.0, cluster.converged) < 10
