"""``python -m bench sync-scale``: clusters of a hundred and a thousand replicas, by simulation (`bench.simnet`).

The nodes are the gateway's own code; network, clocks and chance are not. What is measured is time by the simulated clock,
frames and bytes; a seed decides all of it, so the same seed prints the same fingerprint, on any machine.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.machine import machine, versions
from bench.report import Goal
from bench.simnet import Cluster, Replica, Weather
from bench.sync_replica import KEY, pattern
from gateway.sync.ledger import HORIZON_DAYS
from patterns.clock import Clock
from patterns.entries import Entry, Signer

NAME: Final = "sync-scale"
HELP: Final = "clusters of a hundred and a thousand replicas with loss, churn, partitions and long absence, by simulation"

WEATHER: Final = Weather(delay=0.02, jitter=0.01, loss=0.02)
"""Replicas in three data centres of one continent, over links that lose two packets of a hundred."""

SKEW_SECONDS: Final = 120.0
"""Clocks are off by up to two minutes."""

PROMOTIONS: Final = 5

CARRIERS: Final = ("Entries", "Ack", "Holds")
"""Frames that a revision costs."""

CHURN_SECONDS: Final = 10.0
"""While a twentieth of all replicas crash and come back, one after another."""

Figures = dict[str, Any]
Curve = list[tuple[float, float]]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="replicas (default: 100 1000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same run (default: 1)")
    parser.add_argument("--plots", type=Path, help="a folder to draw into")
    parser.add_argument("--out", type=Path, help="write the result as JSON too")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: all goals met; 1: one missed."""
    figures = {str(size): simulate(size, arguments.seed, arguments.plots) for size in arguments.sizes}
    sizes = list(figures.items())
    print(report.table(
        f"By simulation, seed {arguments.seed}", ("figure", *(f"{size} replicas" for size, _ in sizes)),
        [(name, *(one[name] for _, one in sizes)) for name in sizes[0][1]],
    ))  # fmt: skip
    goals = [Goal(f"{name}_at_{size}_at_most", one[name], wanted) for size, one in sizes
             for name, wanted in (("spread_seconds_largest", 1.0), ("connections_mean", 12.0))]  # fmt: skip
    report.finish(NAME, machine(), versions(), figures, goals, arguments.out)
    return 0 if all(goal.met for goal in goals) else 1


def simulate(size: int, seed: int, plots: Path | None = None) -> Figures:
    """Promotions in peace, a partition with edits on both sides, churn, and a long absence.

    Raises:
        RuntimeError: replicas did not agree in time. The message has the seed.
    """
    return _Simulation(size, seed).run(plots)


class _Simulation:
    """One run. ``curves``: by what happened, the share of replicas that hold it over time."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self.cluster = Cluster(size, seed, WEATHER, skew=SKEW_SECONDS)
        self.signer = Signer(KEY)
        self.curves: dict[str, list[Curve]] = {}
        self.began = time.perf_counter()

    def run(self, plots: Path | None) -> Figures:
        cluster, size = self.cluster, self.size
        self._say("begins")
        cluster.run(10.0)
        links = [len(replica.node.links) for replica in cluster.replicas.values() if replica.node]
        self._say("connected")
        spread, frames, bytes_ = self._promotions()
        healed = self._partition()
        churned = self._churn()
        returned = self._away()
        if plots is not None:
            _plot(plots, size, self.curves)
        return {
            "connections_mean": statistics.mean(links), "connections_largest": max(links),
            "spread_seconds_mean": statistics.mean(spread), "spread_seconds_largest": max(spread),
            "frames_per_revision_and_replica": frames, "bytes_per_revision_and_replica": bytes_,
            "healed_seconds": healed, "after_churn_seconds": churned,
            "after_absence_seconds": returned,
            "sent_megabytes_per_replica": sum(one.sent_bytes for one in cluster.replicas.values()) / size / 1e6,
            "simulated_seconds": cluster.elapsed, "real_seconds": time.perf_counter() - self.began,
            "fingerprint": self._fingerprint(),
        }  # fmt: skip

    def _promotions(self) -> tuple[list[float], float, float]:
        """Seconds until all hold each of them; and frames and bytes of one for a replica, receipts included."""
        cluster, size = self.cluster, self.size
        before = self._spent()
        spread = []
        for number in range(PROMOTIONS):
            spread.append(self._until_held(self._make(number * size // PROMOTIONS, f"p{number}"), "in peace", 10.0))
            cluster.run(1.0)
        frames, size_ = (after - first for after, first in zip(self._spent(), before, strict=True))
        self._say("promotions done")
        return spread, frames / PROMOTIONS / size, size_ / PROMOTIONS / size

    def _spent(self) -> tuple[int, int]:
        """Frames and bytes so far of what carries revisions."""
        cluster = self.cluster
        return sum(cluster.kinds[kind] for kind in CARRIERS), sum(cluster.sizes[kind] for kind in CARRIERS)

    def _partition(self) -> float:
        """Seconds from the healing of a partition into halves until both halves hold what either one made."""
        cluster, size = self.cluster, self.size
        cluster.partition([[f"n{number}" for number in range(size // 2)]])
        cluster.run(8.0)
        made = [self._make(0, "left"), self._make(size - 1, "right"), self._make(1, "both"), self._make(size - 2, "both")]
        cluster.run(3.0)
        cluster.heal()
        begin = cluster.elapsed
        for one in (made[0], made[1], max(made[2], made[3], key=lambda entry: entry.stamp)):
            self._until_held(one, "after a partition", 60.0)
        self._say("partition healed")
        return cluster.elapsed - begin

    def _churn(self) -> float:
        """Seconds that a promotion takes to reach all after a twentieth crashed and came back, one after another."""
        cluster, size = self.cluster, self.size
        victims = cluster.random.sample(sorted(cluster.replicas), max(1, size // 20))
        pause = CHURN_SECONDS / len(victims)
        for number, name in enumerate(victims):
            cluster.crash(name)
            cluster.run(pause)
            if number % 5 == 0:
                self._make(int(cluster.random.random() * size), f"churn-{number}")
            cluster.start(name)
        took = self._until_held(self._make(size // 3, "last"), "after churn", 60.0)
        self._agree()
        self._say("churn done")
        return took

    def _away(self) -> float:
        """Seconds until all agree that a pattern is removed, when a twentieth that holds it comes back after the horizon."""
        cluster, size = self.cluster, self.size
        away = cluster.random.sample(sorted(cluster.replicas), max(1, size // 20))
        for name in away:
            cluster.crash(name)
        cluster.run(5.0)
        there = next(number for number in range(size) if f"n{number}" not in away)
        self._make(there, "p0", removed=True)
        cluster.run(10.0)
        cluster.skip(86_400.0 * (HORIZON_DAYS + 1))
        for name in cluster.replicas:
            cluster.start(name)
        begin = cluster.elapsed
        cluster.run(60.0, lambda: cluster.converged() and not any(_holds(one, "p0") for one in cluster.replicas.values()))
        self._agree()
        if any(_holds(one, "p0") for one in cluster.replicas.values()):
            raise RuntimeError(f"a removed pattern came back among {size} replicas; seed {self.seed}")
        self._say("those away are back")
        return cluster.elapsed - begin

    def _make(self, number: int, identity: str, removed: bool = False) -> Entry:
        def made(clock: Clock, now: float) -> Entry:
            standing = None if removed else pattern(identity, f"{identity} as n{number} has it")
            return self.signer.sign(Entry(id=identity, pattern=standing, stamp=clock.tick(now), author="ada", reason="seen"))

        return self.cluster.make(f"n{number}", made)

    def _until_held(self, one: Entry, when: str, limit: float) -> float:
        curve: Curve = []
        cluster = self.cluster
        begin = cluster.elapsed

        def whole() -> bool:
            share = cluster.holders(one) / self.size
            if not curve or share != curve[-1][1]:
                curve.append((cluster.elapsed - begin, share))
            return share == 1.0

        cluster.run(limit, whole)
        self.curves.setdefault(when, []).append(curve)
        if curve[-1][1] < 1.0:
            raise RuntimeError(f"{one.id} reached {curve[-1][1]:.1%} of {self.size} replicas in {limit} s; seed {self.seed}")
        return cluster.elapsed - begin

    def _agree(self) -> None:
        self.cluster.run(60.0, self.cluster.converged)
        if not self.cluster.converged():
            raise RuntimeError(f"{self.size} replicas do not agree after 60 s; seed {self.seed}")

    def _fingerprint(self) -> str:
        """Of all that was sent and of what is held: equal for equal runs."""
        told = [(name, one.sent_frames, one.sent_bytes) for name, one in sorted(self.cluster.replicas.items())]
        roots = sorted({one.node.ledger.root for one in self.cluster.replicas.values() if one.node})
        return hashlib.sha256(repr((told, roots)).encode()).hexdigest()[:16]

    def _say(self, what: str) -> None:
        print(f"bench: {self.size} replicas, {time.perf_counter() - self.began:.0f} s: {what}", file=sys.stderr, flush=True)


def _holds(replica: Replica, identity: str) -> bool:
    one = replica.store.get(identity)
    return one is not None and one.pattern is not None


def _plot(folder: Path, size: int, curves: dict[str, list[Curve]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(6.4, 3.4))
    for (when, ones), color in zip(curves.items(), ("#2f6f8f", "#b5552b", "#6a8f2f"), strict=False):
        for number, curve in enumerate(ones):
            axes.step([x for x, _ in curve], [100 * y for _, y in curve], where="post", color=color, alpha=0.8,
                      label=when if number == 0 else None)  # fmt: skip
    axes.set(xlabel="seconds", ylabel="% of replicas that hold it", ylim=(0, 103),
             title=f"{size} replicas, {WEATHER.delay * 1000:.0f} ms one way, {WEATHER.loss:.0%} loss")  # fmt: skip
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(folder / f"sync-{size}.svg", metadata={"Date": None})
    pyplot.close(figure)
