"""Replicas in network namespaces of their own: real processes, sockets and kernels over a network that does what we say.

It takes root and minutes, so it has a target of its own: `make test-sync-lab`.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dns_server import DnsServer
from gateways import Gateway, until
from sync_support import pattern

from bench.netns import Network
from bench.sync_lab import ReplicaProcess, SyncLab
from gateway.sync import certificates
from gateway.sync.membership import LOST_SECONDS
from patterns.entries import Signer, Trust
from patterns.signing import public_text
from patterns.store import Store

pytestmark = pytest.mark.lab

PORT = 7443
NOTICED_SECONDS = 60.0
"""After so long both ends have noticed that a connection leads nowhere (`link.SILENT_SECONDS`), on a busy machine too."""

FOUND_SECONDS = LOST_SECONDS + 90.0
"""After so long those that no word came of were dialled themselves, however few that leads to."""


class Replicas:
    """Replicas by name, each in a namespace, all of which are told of each other."""

    def __init__(self, network: Network, lab: SyncLab, names: list[str]) -> None:
        self.network, self.lab, self.names = network, lab, names

    def start(self, name: str, shift: float = 0.0, **settings: Any) -> ReplicaProcess:
        addresses = [f"{self.network.address(one)}:{PORT}" for one in self.names]
        mine = addresses[self.names.index(name)]
        peers = [one for one in addresses if one != mine]
        return self.lab.start(name, mine, settings.pop("peers", peers), self.network.prefix(name), shift, **settings)

    def all(self, **settings: Any) -> list[ReplicaProcess]:
        """All of them, connected to each other and agreeing."""
        found = [self.start(name, **settings) for name in self.names]
        for one in found:
            one.connected(1)
        return found

    def __getitem__(self, name: str) -> ReplicaProcess:
        return self.lab.replicas[name]

    def agree(self, entries: int, seconds: float = 60.0) -> None:
        """Wait until all that run hold the same, and so many entries."""
        def same() -> bool:
            told = [one.status()["status"] for one in self.lab.replicas.values() if one.process.poll() is None]
            return len({one["digest"] for one in told}) == 1 and told[0]["entries"] == entries

        until(same, seconds)

    def parted(self) -> None:
        """Wait until nobody is connected to whom the network keeps from it."""
        def noticed() -> bool:
            return all(
                self.network.reach(name, peer["node"])
                for name, one in self.lab.replicas.items() if one.process.poll() is None
                for peer in one.status()["status"]["peers"]
            )

        until(noticed, NOTICED_SECONDS)


@pytest.fixture
def replicas(request: pytest.FixtureRequest) -> Iterator[Replicas]:
    names = [f"r{number}" for number in range(getattr(request, "param", 5))]
    with Network(names) as network, SyncLab() as lab:
        yield Replicas(network, lab, names)


def transports(one: ReplicaProcess) -> set[str]:
    return {peer["transport"] for peer in one.status()["status"]["peers"]}


@pytest.mark.parametrize(("delay", "loss", "limit"), [(0.0, 0.0, 0.3), (0.05, 0.05, 1.0)], ids=["quiet", "lossy"])
def test_a_promotion_reaches_all_in_time(replicas: Replicas, delay: float, loss: float, limit: float) -> None:
    ones = replicas.all()
    replicas.network.delay, replicas.network.loss = delay, loss
    took = []
    for number in range(100):
        begin = time.time()
        ones[number % len(ones)].order("promote", f"p{number}")
        took.append(max(one.held(f"p{number}") for one in ones) - begin)
    took.sort()
    print(f"{delay * 1000:.0f} ms, {loss:.0%}: p50 {took[49] * 1000:.0f} ms, p99 {took[98] * 1000:.0f} ms, {took[99] * 1000:.0f} ms")
    assert took[98] <= limit
    assert replicas.network.dropped > 0 or not loss


def halves(network: Network) -> None:
    network.partition([["r0", "r1", "r2"]])


def one_alone(network: Network) -> None:
    network.partition([["r3"]])


def islands(network: Network) -> None:
    network.partition([["r0", "r5"], ["r1", "r2"], ["r3", "r6"]])


def one_way(network: Network) -> None:
    """Nobody hears r2, who hears everybody."""
    for number in range(7):
        network.block("r2", f"r{number}")


def flapping(network: Network) -> None:
    for number in range(6):
        halves(network) if number % 2 else one_alone(network)
        time.sleep(1.5)


@pytest.mark.parametrize("replicas", [7], indirect=True)
def test_partitions_of_every_shape_heal_and_all_agree(replicas: Replicas) -> None:
    ones = replicas.all()
    made = 0
    for shape in (halves, one_alone, islands, one_way, flapping):
        shape(replicas.network)
        for number, one in enumerate(ones):  # everywhere something of its own, and something that all change
            one.order("promote", f"{shape.__name__}-{number}")
            one.order("promote", f"{shape.__name__}-all", f"as r{number} has it")
        for number, one in enumerate(ones):
            one.held(f"{shape.__name__}-{number}")
        replicas.parted()
        ones[0].order("remove", f"{shape.__name__}-0")
        replicas.network.heal()
        made += len(ones) + 1
        replicas.agree(made)
    assert not any(one.status()["status"]["refused"] for one in ones)


@pytest.mark.parametrize("replicas", [7], indirect=True)
def test_who_reaches_few_is_reached_over_others(replicas: Replicas) -> None:
    ones = replicas.all()
    all_hold_what_is_made_far_apart(replicas, ones[0], ones[6], lambda a, b: b - a == 1)  # each reaches its neighbours
    begin = time.time()
    ones[3].order("promote", "from-the-middle")  # now they have found each other
    assert max(one.held("from-the-middle") for one in ones) - begin < 1.0
    all_hold_what_is_made_far_apart(replicas, ones[1], ones[5], lambda a, b: not a < 3 < b)  # two groups that one bridges


def all_hold_what_is_made_far_apart(
    replicas: Replicas, one: ReplicaProcess, other: ReplicaProcess, reaches: Callable[[int, int], bool]
) -> None:
    """Part all pairs of places that do not reach each other, and see that it is no loss."""
    network, size = replicas.network, len(replicas.names)
    network.heal()
    for a, b in itertools.combinations(range(size), 2):
        if not reaches(a, b):
            network.sever(f"r{a}", f"r{b}")
    replicas.parted()
    made = [f"of-{writer.name}" for writer in (one, other)]
    for writer, identity in zip((one, other), made, strict=True):
        writer.order("promote", identity)
    for reader in replicas.lab.replicas.values():
        for identity in made:
            reader.held(identity, FOUND_SECONDS)


def test_without_udp_midway_it_falls_back_and_comes_back(replicas: Replicas) -> None:
    ones = replicas.all()
    assert all(transports(one) == {"quic"} for one in ones)
    replicas.network.udp_blocked = True
    ones[0].order("promote", "while-udp-is-cut")
    for one in ones:
        one.held("while-udp-is-cut")
    until(lambda: all(transports(one) == {"tcp"} for one in ones), 60)
    for one in ones:
        one.connected(2)
    begin = time.time()
    ones[1].order("promote", "over-tcp")
    assert max(one.held("over-tcp") for one in ones) - begin < 1.0
    replicas.network.udp_blocked = False
    until(lambda: all(transports(one) == {"quic"} for one in ones), 90)
    ones[2].order("promote", "over-quic-again")
    for one in ones:
        one.held("over-quic-again")


@pytest.mark.parametrize("replicas", [3], indirect=True)
def test_a_name_whose_addresses_change_is_followed(replicas: Replicas) -> None:
    network = replicas.network
    address = {name: network.address(name) for name in replicas.names}
    network.nameserver(network.address(""))
    with DnsServer(network.address(""), "replicas.test") as server:
        found = {"discover": f"replicas.test:{PORT}", "peers": []}
        r0, r1 = replicas.start("r0", **found), replicas.start("r1", **found)
        until(lambda: server.asked >= 2)
        assert [one.status()["status"]["summary"] for one in (r0, r1)] == [f"r{n} knows of no other replica" for n in range(2)]
        server.addresses = (address["r0"], address["r1"])
        for one in (r0, r1):
            one.connected(1)
        r1.kill()
        r2 = replicas.start("r2", peers=[])  # which asks nobody: that it is there only the name tells
        server.addresses = (address["r0"], address["r2"])
        r0.order("promote", "for-whoever-is-there")
        r2.held("for-whoever-is-there")
        assert {peer["node"] for peer in r2.status()["status"]["peers"]} == {"r0"}


@pytest.mark.parametrize("replicas", [3], indirect=True)
def test_one_that_was_away_for_a_week_catches_up(replicas: Replicas) -> None:
    week = 7 * 86_400.0
    for name in replicas.names:
        replicas.start(name, shift=-week)
    for number in range(50):
        replicas["r0"].order("promote", f"p{number}")
    replicas.agree(50)
    for name in replicas.names:
        replicas[name].stop()
    lab = replicas.lab
    lab.again("r0", clock_shift=0.0)
    lab.again("r1", clock_shift=0.0)
    for number in range(50):
        replicas["r0"].order(*(("remove", f"p{number}") if number % 2 else ("promote", f"p{number}", "changed meanwhile")))
    for number in range(500):
        replicas["r1"].order("promote", f"new-{number}")
    until(lambda: replicas["r1"].status()["status"]["entries"] == 550)
    away = lab.again("r2", clock_shift=0.0)
    assert away.status()["status"]["entries"] >= 50
    replicas.agree(550)


def test_clocks_that_are_minutes_off_harm_nobody(replicas: Replicas) -> None:
    shifts = {"r0": 0.0, "r1": 280.0, "r2": -280.0, "r3": 0.0}
    ones = [replicas.start(name, shift=shift) for name, shift in shifts.items()]
    for one in ones:
        one.connected(2)
    for number in range(10):  # each change is made by one who has seen the last, so the last one stands, whatever its clock
        writer = ones[number % len(ones)]
        writer.order("promote", "shared", f"change {number}")
        for one in ones:
            until(lambda one=one, number=number: one.status()["status"]["entries"] and _body(one, "shared") == f"change {number}")  # type: ignore[misc]
    ahead = replicas.start("r4", shift=1_200.0)
    ahead.order("promote", "from-the-future")
    ahead.held("shared")
    until(lambda: any(one.status()["status"]["refused"].get("future") for one in ones))
    ones[3].order("promote", "after")
    for one in ones:
        one.held("after")
    assert all(one.status()["status"]["entries"] == 2 for one in ones)
    ahead.stop()
    replicas.lab.again("r4", clock_shift=0.0)  # its clock was set; its entry waits until the others' clocks are there


def _body(one: ReplicaProcess, identity: str) -> str:
    store = Store(Path(one.configuration["folder"]) / "patterns.db", Trust([]), Signer(Ed25519PrivateKey.generate()), "reader")
    try:
        found = store.patterns().get(identity)
        return found.body if found else ""
    finally:
        store.close()


def test_certificates_and_their_authority_are_renewed_under_load(replicas: Replicas) -> None:
    ones = replicas.all()
    folder = replicas.lab.folder
    made = 0

    def load(seconds: float) -> None:
        nonlocal made
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ones[made % 4].order("promote", f"p{made}")  # the fifth is killed later on
            made += 1
            time.sleep(0.02)

    def issue(authority: Path) -> None:
        for name in replicas.names:
            certificates.issue(authority, name, folder)

    for _ in range(3):
        issue(folder / "ca")
        load(3.0)
    new = certificates.init_authority(folder / "ca-2").authority.read_bytes()
    trusted = folder / "ca" / "ca.pem"
    trusted.write_bytes(trusted.read_bytes() + new)
    load(7.0)  # all have read the two
    issue(folder / "ca-2")
    load(7.0)
    trusted.write_bytes(new)
    load(7.0)
    replicas.agree(made)
    replicas["r4"].kill()
    load(2.0)
    ones[4] = replicas.lab.again("r4")  # it knows nobody's certificate, and nobody knows its own
    load(2.0)
    replicas.agree(made)
    assert not any(one.status()["counts"]["strangers"] for one in ones)


def test_a_snapshot_that_is_cut_goes_on(replicas: Replicas) -> None:
    full = replicas.start("r0")
    full.order("fill", 10_000)
    full.count(10_000)
    fresh = replicas.start("r1")
    fresh.count(1_000)
    replicas.network.sever("r0", "r1")
    replicas.parted()
    before = fresh.status()["status"]["entries"]
    assert 1_000 <= before < 10_000
    replicas.network.heal()
    fresh.count(10_000, 60)
    replicas.agree(10_000)
    assert full.status()["status"]["peers"][0]["sent"] < 10_000  # what was taken before was not sent again


class Traffic:
    """Callers that ask one gateway after another, and note which requests failed."""

    def __init__(self, gateways: list[Gateway]) -> None:
        self.gateways = gateways
        self.asked = 0
        self.failed: list[tuple[int, str]] = []
        self.down: set[int] = set()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(len(gateways))]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self, number: int) -> None:
        body = {"model": "echo", "messages": [{"role": "user", "content": "how far is it to the coast"}]}
        while not self._over.is_set():
            excused = number in self.down
            try:
                reply = httpx.post(f"{self.gateways[number].url}/v1/chat/completions", json=body, timeout=30, trust_env=False)
                fault = "" if reply.status_code == 200 else f"HTTP {reply.status_code}"
            except httpx.HTTPError as error:
                fault = repr(error)
            self.asked += 1
            if fault and not excused and number not in self.down:  # down when it was asked, or before it had answered
                self.failed.append((number, fault))
            time.sleep(0.02)


@pytest.mark.parametrize("replicas", [3], indirect=True)
def test_gateways_killed_in_a_loop_under_traffic_lose_nothing(replicas: Replicas, tmp_path: Path) -> None:
    network, key = replicas.network, Ed25519PrivateKey.generate()
    chance = random.Random(6)

    def start(number: int) -> Gateway:
        name = replicas.names[number]
        files = certificates.issue(replicas.lab.folder / "ca", name, tmp_path)
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        sync = {
            "listen": f"{network.address(name)}:{PORT}", "node": name, "ca": str(files.authority),
            "peers": [f"{network.address(one)}:{PORT}" for one in replicas.names if one != name],
            "certificate": str(files.certificate), "key": str(files.key),
        }  # fmt: skip
        settings = {
            "sync": sync, "learning": {"trusted_keys": [public_text(key.public_key())]},
            "limits": {"ready_grace_seconds": 0, "drain_seconds": 5}, "open": True,
        }  # fmt: skip
        return Gateway(folder, settings, 1, {}, host=network.address(name), prefix=network.prefix(name))

    def store(number: int) -> Store:
        folder = Path(gateways[number].settings["data_dir"])
        return Store(folder / "patterns.db", Trust([key.public_key()]), Signer(key), f"desk-{number}")

    def promote(number: int, identity: str) -> None:
        one = store(number)
        one.revise({identity: pattern(identity)}, "ada", "seen", time.time())
        one.close()
        made.add(identity)

    def holds_all(number: int) -> bool:
        one = store(number)
        try:
            return one.patterns().keys() == made
        finally:
            one.close()

    made: set[str] = set()
    gateways = [start(number) for number in range(3)]
    try:
        with Traffic(gateways) as traffic:
            for round_ in range(4):
                victim = chance.randrange(3)
                promote(victim, f"just-before-{round_}")
                traffic.down.add(victim)
                gateways[victim].signal(signal.SIGKILL)
                gateways[victim].process.wait()
                for number in range(3):
                    promote(number, f"meanwhile-{round_}-{number}")
                gateways[victim] = start(victim)
                traffic.down.discard(victim)
                until(lambda: all(map(holds_all, range(3))), 60)
        assert traffic.failed == []
        assert traffic.asked > 100
    finally:
        for gateway in gateways:
            gateway.stop()
