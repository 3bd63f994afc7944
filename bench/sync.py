"""``python -m bench sync``: replicas in processes of their own on loopback, and a thousand more in simulation.

Measured: how fast a promotion reaches all, over QUIC and over TCP; a snapshot of 10,000 patterns to a newcomer; bytes of a
revision; CPU of an idle cluster; a handshake beside a resumption; the own map beside pycrdt's; convergence by simulation.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.lossy import LossyRelay
from bench.machine import machine, versions
from bench.report import Goal
from bench.simnet import Cluster, Weather
from bench.sync_lab import SyncLab
from bench.sync_map import compare
from bench.sync_replica import KEY, pattern
from gateway.sync import certificates
from gateway.sync.service import SyncService, bound
from gateway.sync.settings import SyncSettings
from patterns.clock import Clock
from patterns.entries import Entry, Signer, Trust
from patterns.store import Store

NAME: Final = "sync"
HELP: Final = "propagation between replicas, snapshots, idle cost, handshakes, and clusters of up to a thousand by simulation"

SNAPSHOT: Final = 10_000
IDLE_SECONDS: Final = 20.0
HANDSHAKE_DELAY: Final = 0.025
"""One-way delay under which handshakes are compared: 50 ms of round trip."""

Figures = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--promotions", type=int, default=100, help="how many are timed, for each transport (default: 100)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000], help="clusters to simulate (default: 100 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation: the same seed is the same run")
    parser.add_argument("--quick", action="store_true", help="smaller everything, to see whether it works")
    parser.add_argument("--plots", type=Path, help="a folder to draw the simulation into")
    parser.add_argument("--out", type=Path, help="write the result as JSON too")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: all goals met; 1: one missed."""
    figures: Figures = {}
    promotions = 10 if arguments.quick else arguments.promotions
    snapshot = 1_000 if arguments.quick else SNAPSHOT
    for transport in ("quic", "tcp"):
        figures[transport] = {**propagation(transport, promotions), **newcomer(transport, snapshot)}
    figures["idle"] = idle(11, 5.0 if arguments.quick else IDLE_SECONDS)
    figures["handshake"] = asyncio.run(handshakes(5 if arguments.quick else 20))
    figures["map"] = dict(compare(snapshot))
    sizes = [20] if arguments.quick else arguments.sizes
    figures["simulation"] = {str(size): simulate(size, arguments.seed, arguments.plots) for size in sizes}
    _tables(figures, snapshot)
    goals = [
        Goal("propagation_p99_ms_at_most", figures["quic"]["p99_ms"], 300.0),
        Goal("snapshot_seconds_at_most", figures["quic"]["snapshot_seconds"], 3.0),
        Goal("idle_cpu_percent_at_most", figures["idle"]["cpu_percent"], 0.5),
    ]
    report.finish(NAME, machine(), versions(), figures, goals, arguments.out)
    return 0 if all(goal.met for goal in goals) else 1


def propagation(transport: str, promotions: int) -> Figures:
    """Five replicas: from the order to promote until the last one holds it durably, and what it cost on the wire."""
    with SyncLab() as lab:
        replicas = lab.cluster(5, transport=transport)
        time.sleep(1.0)
        before = sum(_sent(one.status()) for one in replicas)
        took = []
        for number in range(promotions):
            begin = time.time()
            replicas[number % 5].order("promote", f"p{number}")
            took.append(max(one.held(f"p{number}") for one in replicas) - begin)
        sent = sum(_sent(one.status()) for one in replicas) - before
    return {
        "p50_ms": statistics.median(took) * 1000,
        "p99_ms": sorted(took)[max(0, round(0.99 * len(took)) - 1)] * 1000,
        "bytes_per_revision_and_replica": sent / promotions / 5,
    }


def newcomer(transport: str, size: int) -> Figures:
    """A replica with nothing joins one with everything."""
    with SyncLab() as lab:
        full = lab.start("full", transport=transport)
        full.order("fill", size)
        full.count(size)
        fresh = lab.start("fresh", peers=[full.configuration["sync"]["listen"]], transport=transport)
        begin = time.time()
        took = fresh.count(size) - begin
        sent = _sent(full.status())
    return {"snapshot_seconds": took, "snapshot_bytes": sent}


def idle(size: int, seconds: float) -> Figures:
    """A cluster in which nothing happens: CPU of a replica, averaged over all, and bytes."""
    with SyncLab() as lab:
        replicas = lab.cluster(size)
        time.sleep(15.0)  # until connections that are not needed have been ended
        first = [one.status() for one in replicas]
        time.sleep(seconds)
        last = [one.status() for one in replicas]
    spent = [b["cpu"] - a["cpu"] for a, b in zip(first, last, strict=True)]
    links = [len(one["status"]["peers"]) for one in last]
    sent = [_sent(b) - _sent(a) for a, b in zip(first, last, strict=True)]
    return {
        "cpu_percent": 100 * statistics.mean(spent) / seconds, "cpu_percent_largest": 100 * max(spent) / seconds,
        "connections": statistics.mean(links), "bytes_per_second": statistics.mean(sent) / seconds,
    }  # fmt: skip


def _sent(status: Figures) -> int:
    return sum(status["counts"]["sent"].values())


async def handshakes(rounds: int) -> Figures:
    """From dialling until the peer's Hello is there: a full QUIC handshake, 0-RTT, and TLS over TCP, at 50 ms of round trip."""
    with SyncLab() as lab:
        server = _service(lab, "server", ())
        await server.start()
        assert server.settings.listen is not None
        relay = LossyRelay(int(server.settings.listen.rpartition(":")[2]), delay=HANDSHAKE_DELAY)
        await relay.start()
        client = _service(lab, "client", ())
        await client.start()
        address = f"127.0.0.1:{relay.port}"
        took: dict[str, list[float]] = {"quic_full": [], "quic_0rtt": [], "tcp": []}
        for _ in range(rounds):
            for kind, times in took.items():
                if kind == "quic_full":
                    client._quic.visited.clear()
                times.append(await _greeted(client, address, kind == "tcp"))
        resumed = client._quic.resumptions
        await client.close()
        await server.close()
        await relay.close()
    return {**{f"{kind}_ms": statistics.median(times) * 1000 for kind, times in took.items()}, "resumed": resumed}


async def _greeted(client: SyncService, address: str, tcp: bool) -> float:
    node = client.node
    assert node is not None
    begin = time.perf_counter()
    endpoint: Any = client._tcp if tcp else client._quic
    dial = asyncio.ensure_future(endpoint.dial(address, "127.0.0.1", int(address.rpartition(":")[2])))
    while not any(link.node for link in node.links.values()):  # noqa: ASYNC110 - what is measured is not disturbed
        await asyncio.sleep(0.0005)
    took = time.perf_counter() - begin
    wire = await dial
    await asyncio.sleep(4 * HANDSHAKE_DELAY)  # the ticket for next time
    wire.close("measured")
    while node.links:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return took


def _service(lab: SyncLab, name: str, peers: tuple[str, ...]) -> SyncService:
    udp, tcp = bound("127.0.0.1", 0)
    port = tcp.getsockname()[1]
    udp.close()
    tcp.close()
    files = certificates.issue(lab.folder / "ca", name, lab.folder)
    settings = SyncSettings(
        listen=f"127.0.0.1:{port}", node=name, advertise="127.0.0.1:1", peers=peers, ca=files.authority,
        certificate=files.certificate, key=files.key,
    )  # fmt: skip
    store = Store(lab.folder / name / "patterns.db", Trust([KEY.public_key()]), Signer(KEY), name)
    return SyncService(settings, store, lab.folder / name)


# Simulation


def simulate(size: int, seed: int, plots: Path | None) -> Figures:
    """A cluster with 20 ms of delay and 1 % of loss: one promotion, one partition with edits on both sides, some churn."""
    begin = time.perf_counter()
    cluster = Cluster(size, seed, Weather(0.02, 0.01, 0.01))
    signer, clock_of = Signer(KEY), {}

    def make(name: str, identity: str) -> Entry:
        def made(clock: Clock, now: float) -> Entry:
            clock_of[name] = clock
            return signer.sign(
                Entry(id=identity, pattern=pattern(identity), stamp=clock.tick(now), author="ada", reason="seen")
            )

        return cluster.make(name, made)

    cluster.run(20.0)
    links = [len(replica.node.links) for replica in cluster.replicas.values() if replica.node]
    base = _totals(cluster)
    cluster.run(10.0)
    quiet = _totals(cluster)
    curves, spread = {}, []
    for number in range(5):
        one = make(f"n{number * size // 5}", f"one-{number}")
        curve: list[tuple[float, float]] = []
        start = cluster.now

        def whole(one: Entry = one, curve: list[tuple[float, float]] = curve, start: float = start) -> bool:
            held = cluster.holders(one)
            if not curve or held / size != curve[-1][1]:
                curve.append((cluster.now - start, held / size))
            return held == size

        spread.append(cluster.run(10.0, whole))
        curves[number] = curve
        cluster.run(2.0)
    busy = _totals(cluster)
    quiet_rate = [(quiet[i] - base[i]) / 10.0 for i in (0, 1)]
    passed = sum(spread) + 10.0
    half = [f"n{number}" for number in range(size // 2)]
    cluster.partition([half])
    cluster.run(15.0)
    left, right = make("n0", "left"), make(f"n{size - 1}", "right")
    cluster.run(5.0)
    cluster.heal()
    healed = cluster.run(60.0, lambda: cluster.holders(left) == cluster.holders(right) == size)
    for number in range(max(1, size // 20)):
        cluster.crash(f"n{number * 7 % size}")
    cluster.run(3.0)
    for name, replica in cluster.replicas.items():
        if replica.node is None:
            cluster.start(name)
    last = make(f"n{size // 3}", "last")
    churned = cluster.run(60.0, lambda: cluster.holders(last) == size and cluster.converged())
    if plots is not None:
        _plot(plots, size, list(curves.values()))
    return {
        "spread_seconds": statistics.mean(spread), "spread_seconds_largest": max(spread),
        "connections": statistics.mean(links), "connections_largest": max(links),
        "frames_per_revision_and_node": max(0.0, (busy[0] - quiet[0] - quiet_rate[0] * passed) / 5 / size),
        "bytes_per_revision_and_node": max(0.0, (busy[1] - quiet[1] - quiet_rate[1] * passed) / 5 / size),
        "idle_bytes_per_second_and_node": quiet_rate[1] / size,
        "healed_seconds": healed, "after_churn_seconds": churned, "real_seconds": time.perf_counter() - begin,
    }  # fmt: skip


def _totals(cluster: Cluster) -> tuple[int, int]:
    replicas = cluster.replicas.values()
    return sum(one.sent_frames for one in replicas), sum(one.sent_bytes for one in replicas)


def _plot(folder: Path, size: int, curves: list[list[tuple[float, float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(6, 3.2))
    for curve in curves:
        axes.step([x * 1000 for x, _ in curve], [100 * y for _, y in curve], where="post", color="#2f6f8f", alpha=0.7)
    axes.set(xlabel="milliseconds since the promotion", ylabel="% of replicas that hold it", ylim=(0, 103),
             title=f"{size} replicas, 20–30 ms one way, 1 % loss")  # fmt: skip
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(folder / f"sync-{size}.svg")
    pyplot.close(figure)


def _tables(figures: Figures, snapshot: int) -> None:
    print(report.table(
        "Five replicas on loopback", ("", "p50 ms", "p99 ms", "bytes/revision", f"{snapshot:,} patterns, s", "MB"),
        [(name, one["p50_ms"], one["p99_ms"], one["bytes_per_revision_and_replica"], one["snapshot_seconds"],
          one["snapshot_bytes"] / 1e6) for name in ("quic", "tcp") for one in (figures[name],)],
    ))  # fmt: skip
    print(report.table("An idle cluster of 11", ("figure", "value"), list(figures["idle"].items())))
    print(report.table("Until the peer's Hello, at 50 ms of round trip", ("figure", "value"),
                       list(figures["handshake"].items())))  # fmt: skip
    ways = list(figures["map"].items())
    print(report.table(f"{snapshot:,} entries, each changed three times", ("", *ways[0][1]),
                       [(name, *one.values()) for name, one in ways]))  # fmt: skip
    sizes = list(figures["simulation"].items())
    if sizes:
        print(report.table("By simulation", ("figure", *(f"{size} nodes" for size, _ in sizes)),
                           [(name, *(one[name] for _, one in sizes)) for name in sizes[0][1]]))  # fmt: skip
    sys.stdout.flush()
