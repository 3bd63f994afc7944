"""``python -m bench sync``: replicas in processes of their own on loopback, in some four minutes.

Measured: how fast a promotion reaches all, over QUIC and over TCP, and over QUIC through a network that loses and delays; a
snapshot of 10,000 patterns to a newcomer; bytes of a revision; CPU of an idle cluster; a handshake beside a resumption; the
own map beside pycrdt's. A measurement that does not end in its time is reported as not made.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.lossy import LossyRelay
from bench.machine import machine, versions
from bench.processes import BenchError, free_port
from bench.report import Goal
from bench.sync_lab import SETTLED_SECONDS, ReplicaProcess, SyncLab
from bench.sync_map import compare, reconnect
from bench.sync_replica import KEY
from gateway.sync import certificates
from gateway.sync.addresses import bound
from gateway.sync.service import SyncService
from gateway.sync.settings import SyncSettings
from patterns.entries import Signer, Trust
from patterns.store import Store

NAME: Final = "sync"
HELP: Final = "propagation between replicas, snapshots, idle cost, handshakes, and the map beside pycrdt's"

SNAPSHOT: Final = 10_000
REPLICAS: Final = 5
IDLE_SECONDS: Final = 15.0
IDLE_REPLICAS: Final = 11
HANDSHAKE_DELAY: Final = 0.025
"""One-way delay under which handshakes are compared: 50 ms of round trip."""

HANDSHAKE_SECONDS: Final = 10.0
"""How long one may take, and its end."""

LOSS: Final = 0.05
DELAY: Final = 0.05
"""The bad network: of a hundred datagrams five are lost, and each takes 50 ms one way."""

Figures = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--promotions", type=int, default=60, help="how many are timed, for each network (default: 60)")
    parser.add_argument("--quick", action="store_true", help="smaller everything, to see whether it works")
    parser.add_argument("--out", type=Path, help="write the result as JSON too")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: all goals met; 1: one missed."""
    promotions = 10 if arguments.quick else arguments.promotions
    snapshot = 1_000 if arguments.quick else SNAPSHOT
    figures: Figures = {}
    for name, measure in (
        ("quic", lambda: propagation("quic", promotions)),
        ("tcp", lambda: propagation("tcp", promotions)),
        ("quic, lossy", lambda: propagation("quic", promotions, lossy=True)),
        ("snapshot by quic", lambda: newcomer("quic", snapshot)),
        ("snapshot by tcp", lambda: newcomer("tcp", snapshot)),
        ("idle", lambda: idle(IDLE_REPLICAS, 5.0 if arguments.quick else IDLE_SECONDS)),
        ("handshake", lambda: asyncio.run(handshakes(5 if arguments.quick else 20))),
        ("map", lambda: dict(compare(snapshot))),
        ("found", lambda: found(snapshot)),
    ):
        figures[name] = _measured(name, measure)
    _tables(figures, snapshot)
    goals = [
        Goal("propagation_p99_ms_at_most", _figure(figures, "quic", "p99_ms"), 300.0),
        Goal("lossy_propagation_p99_ms_at_most", _figure(figures, "quic, lossy", "p99_ms"), 1000.0),
        Goal("snapshot_seconds_at_most", _figure(figures, "snapshot by quic", "seconds"), 3.0),
        Goal("idle_cpu_percent_at_most", _figure(figures, "idle", "cpu_percent"), 0.5),
    ]
    report.finish(NAME, machine(), versions(), figures, goals, arguments.out)
    return 0 if all(goal.met for goal in goals) else 1


def _measured(name: str, measure: Callable[[], Figures]) -> Figures:
    begin = time.monotonic()
    try:
        return measure()
    except (BenchError, TimeoutError, OSError) as error:
        print(f"bench: {name} was not measured: {error!r}", file=sys.stderr)
        return {}
    finally:
        print(f"bench: {name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


def _figure(figures: Figures, name: str, figure: str) -> float:
    return float(figures[name].get(figure, math.nan))


def propagation(transport: str, promotions: int, lossy: bool = False) -> Figures:
    """Five replicas: from the order to promote until the last one holds it durably, and what it cost on the wire."""
    with SyncLab() as lab, _relays(REPLICAS if lossy else 0) as relays:
        replicas = _behind(lab, relays) if lossy else lab.cluster(REPLICAS, transport=transport)
        for relay in relays:
            relay.delay, relay.loss = DELAY, LOSS
        before = sum(_sent(one.status()) for one in replicas)
        took = []
        for number in range(promotions):
            begin = time.time()
            replicas[number % REPLICAS].order("promote", f"p{number}")
            took.append(max(one.held(f"p{number}") for one in replicas) - begin)
        sent = sum(_sent(one.status()) for one in replicas) - before
    return {
        "p50_ms": statistics.median(took) * 1000,
        "p99_ms": sorted(took)[max(0, round(0.99 * len(took)) - 1)] * 1000,
        "largest_ms": max(took) * 1000,
        "bytes_per_revision_and_replica": sent / promotions / REPLICAS,
    }


def _behind(lab: SyncLab, relays: Sequence[LossyRelay]) -> list[ReplicaProcess]:
    """Replicas that reach each other through relays only."""
    addresses = [f"127.0.0.1:{relay.port}" for relay in relays]
    found = [
        lab.start(f"r{number}", f"127.0.0.1:{relay.target}", addresses, advertise=address, transport="quic")
        for number, (relay, address) in enumerate(zip(relays, addresses, strict=True))
    ]
    for replica in found:
        replica.connected(2)
    return found


@contextlib.contextmanager
def _relays(number: int) -> Iterator[list[LossyRelay]]:
    """Relays that run on a thread, each with a port of its own to relay to."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    relays = [LossyRelay(free_port(), seed) for seed in range(number)]
    try:
        for relay in relays:
            asyncio.run_coroutine_threadsafe(relay.start(), loop).result(10)
        yield relays
    finally:
        for relay in relays:
            asyncio.run_coroutine_threadsafe(relay.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def newcomer(transport: str, size: int) -> Figures:
    """A replica with nothing joins one with everything."""
    with SyncLab() as lab:
        full = lab.start("full", transport=transport)
        full.order("fill", size)
        full.count(size)
        fresh = lab.start("fresh", peers=[full.configuration["sync"]["listen"]], transport=transport)
        begun = fresh.begun()
        took = fresh.count(size) - begun["at"]
        spent = fresh.status()["cpu"] - begun["cpu"]
        sent = _sent(full.status())
    return {"seconds": took, "bytes": sent, "cpu_seconds_of_the_newcomer": spent}


def idle(size: int, seconds: float) -> Figures:
    """A cluster in which nothing happens: CPU of a replica, averaged over all, and bytes."""
    with SyncLab() as lab:
        replicas = lab.cluster(size)
        time.sleep(SETTLED_SECONDS)
        first = [one.status() for one in replicas]
        time.sleep(seconds)  # what is measured is nothing
        last = [one.status() for one in replicas]
    spent = [b["cpu"] - a["cpu"] for a, b in zip(first, last, strict=True)]
    links = [len(one["status"]["peers"]) for one in last]
    sent = [_sent(b) - _sent(a) for a, b in zip(first, last, strict=True)]
    return {
        "cpu_percent": 100 * statistics.mean(spent) / seconds, "cpu_percent_largest": 100 * max(spent) / seconds,
        "connections": statistics.mean(links), "bytes_per_second": statistics.mean(sent) / seconds,
    }  # fmt: skip


def found(size: int) -> Figures:
    """Bytes that it takes to find what was missed, beyond the entries themselves, by how many these are."""
    return {f"{missed:,} of {size:,} missed, by buckets": reconnect(size, missed) for missed in (0, 1, 10, 100, 1_000)} | {
        f"100 of {size:,} missed, by vectors of {nodes:,} nodes": reconnect(size, 100, nodes) for nodes in (3, 10, 100, 1_000)
    }


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
                times.append(await _greeted(client, server, address, kind == "tcp"))
        resumed = client._quic.resumptions
        await client.close()
        await server.close()
        await relay.close()
    return {**{f"{kind}_ms": statistics.median(times) * 1000 for kind, times in took.items()}, "resumed": resumed}


async def _greeted(client: SyncService, server: SyncService, address: str, tcp: bool) -> float:
    """Seconds from dialling until the server's Hello is there.

    Raises:
        TimeoutError: it does not come. OSError: the server is not reached.
    """
    node = client.node
    assert node is not None
    assert server.node is not None
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        begin = time.perf_counter()
        endpoint: Any = client._tcp if tcp else client._quic
        dial = asyncio.ensure_future(endpoint.dial(address, "127.0.0.1", int(address.rpartition(":")[2])))
        while not any(link.node for link in node.links.values()):
            if dial.done():
                dial.result()
            await asyncio.sleep(0.0005)
        took = time.perf_counter() - begin
        wire = await dial
        await asyncio.sleep(4 * HANDSHAKE_DELAY)  # the ticket for next time
        wire.close("measured")
        # The server holds on to a closed QUIC connection for some round trips, and prefers it to another one over TCP.
        while node.links or server.node.links:  # noqa: ASYNC110
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


def _tables(figures: Figures, snapshot: int) -> None:
    print(report.table(
        f"{REPLICAS} replicas on loopback; lossy: {LOSS:.0%} lost, {DELAY * 1000:.0f} ms one way",
        ("", "p50 ms", "p99 ms", "largest ms", "bytes a revision and replica"), _rows(figures, ("quic", "tcp", "quic, lossy")),
    ))  # fmt: skip
    print(report.table(
        f"{snapshot:,} patterns to a newcomer", ("", "seconds", "bytes", "its CPU seconds"),
        _rows(figures, ("snapshot by quic", "snapshot by tcp")),
    ))  # fmt: skip
    print(report.table(f"An idle cluster of {IDLE_REPLICAS}", ("figure", "value"), list(figures["idle"].items())))
    print(report.table("Until the peer's Hello, at 50 ms of round trip", ("figure", "value"),
                       list(figures["handshake"].items())))  # fmt: skip
    print(report.table("Finding what differs", ("bytes for", "bytes"), list(figures["found"].items())))
    ways = list(figures["map"].items())
    if ways:
        print(report.table(f"{snapshot:,} entries, each changed three times", ("", *ways[0][1]),
                           [(name, *one.values()) for name, one in ways]))  # fmt: skip
    sys.stdout.flush()


def _rows(figures: Figures, names: Sequence[str]) -> list[tuple[object, ...]]:
    return [(name, *figures[name].values()) for name in names if figures[name]]
