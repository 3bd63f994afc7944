"""Replicas over real sockets: QUIC and TCP, certificates, falling back and coming back, strangers and floods."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from sync_support import APPROVER, TRUST, pattern

from bench.lossy import LossyRelay
from bench.processes import free_port
from gateway.metrics import Exposition, Metrics
from gateway.sync import certificates, dialer, frames, quic, service, status, tcp, turn
from gateway.sync.addresses import bound
from gateway.sync.certificates import CertificateFault
from gateway.sync.frames import PROTOCOLS
from gateway.sync.ledger import fingerprint
from gateway.sync.service import SyncService
from gateway.sync.settings import SyncSettings
from gateway.sync.wire import Wire
from patterns.entries import encode
from patterns.store import Store


class Cluster:
    """Sync services of this process, each with a store of its own, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services: dict[str, SyncService] = {}
        self.ports: dict[str, int] = {}
        if not (folder / "ca" / "ca.pem").exists():
            certificates.init_authority(folder / "ca")

    async def start(self, name: str, *peers: str, listen: int = 0, **settings: object) -> SyncService:
        port = self.ports.setdefault(name, listen or free_port())
        files = certificates.issue(self.folder / "ca", name, self.folder)
        made = SyncSettings.model_validate({
            "listen": f"127.0.0.1:{port}", "node": name, "ca": files.authority, "certificate": files.certificate,
            "key": files.key, "peers": [self.address(peer) for peer in peers], **settings,
        })  # fmt: skip
        store = Store(self.folder / f"{name}.db", TRUST, APPROVER, name)
        started = self.services[name] = SyncService(made, store, self.folder / name)
        await started.start()
        return started

    def address(self, name: str) -> str:
        return name if ":" in name else f"127.0.0.1:{self.ports[name]}"

    async def stop(self, name: str) -> None:
        one = self.services.pop(name)
        await one.close()
        one.store.close()

    async def close(self) -> None:
        for name in list(self.services):
            await self.stop(name)


def in_cluster(story: Callable[[Cluster], Awaitable[None]], folder: Path) -> None:
    async def run() -> None:
        cluster = Cluster(folder)
        try:
            await story(cluster)
        finally:
            await cluster.close()

    uvloop.run(run())  # as the gateway does


async def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def connected(one: SyncService, transport: str = "") -> int:
    assert one.node is not None
    return sum(bool(link.node) and transport in ("", link.transport) for link in one.node.links.values())


def rendered(metrics: Metrics) -> str:
    return Exposition(metrics, None).render().decode()


class Quiet:
    """Takes what transports tell, and says nothing."""

    def wire_closed(self, wire: Wire, reason: str) -> None: ...

    def wire_refused(self, reason: str, host: str) -> None: ...


def promote(one: SyncService, identity: str) -> bytes:
    """Returns the revision's fingerprint."""
    applied = one.store.revise({identity: pattern(identity)}, "ada", "seen", time.time())
    return fingerprint(encode(applied.accepted[0]))


@pytest.mark.parametrize("transport", ["quic", "tcp"])
def test_a_promotion_reaches_all_and_is_acknowledged(tmp_path: Path, transport: str) -> None:
    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a", transport=transport)
        b = await cluster.start("b", "a", transport=transport)
        c = await cluster.start("c", "b", transport=transport)
        await until(lambda: connected(c) and len(c.node.directory) == 2)  # type: ignore[union-attr]
        made = promote(c, "p")
        await until(lambda: all("p" in one.store.entries() for one in (a, b, c)))
        await until(lambda: c.node and (track := c.node.replication(made)) and track.nodes == {"a", "b"})
        assert {link.transport for link in b.node.links.values()} == {transport}  # type: ignore[union-attr]
        c.store.revise({"p": None}, "ada", "wrong", time.time())
        await until(lambda: "p" not in a.store.patterns())

    in_cluster(story, tmp_path)


def test_what_happened_while_one_was_away_is_caught_up_and_it_returns_without_a_handshake(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        b = await cluster.start("b")
        a = await cluster.start("a", "b", advertise="127.0.0.1:1")  # so that it is always a that dials
        await until(lambda: connected(a, "quic") and len(a._quic.visited._kept))
        await cluster.stop("b")
        for number in range(300):
            promote(a, f"p{number}")
        b = await cluster.start("b")
        promote(b, "from-b")
        assert not connected(b)
        await until(lambda: len(b.store.entries()) == 301 and "from-b" in a.store.entries())
        # a's ticket is of the process that ended: b asked for the certificate again. The next one is good.
        await until(lambda: len(a._quic.visited._kept))
        before = a._quic.resumptions
        [link] = a.node.links.values()  # type: ignore[union-attr]
        a._peers[link.key].wire.close("a test")
        await until(lambda: a._quic.resumptions > before and connected(a))
        await until(lambda: any(wire.resumed for wire in b._quic.accepted - b._quic.half_open))
        promote(a, "after")
        await until(lambda: "after" in b.store.entries())

    in_cluster(story, tmp_path)


class Recorder(LossyRelay):
    """Remembers what clients sent until they were first answered."""

    def __init__(self, target: int) -> None:
        super().__init__(target, delay=0.02)
        self.first: list[bytes] = []
        self.answered = False

    def from_client(self, data: bytes, addr: object) -> None:
        if not self.answered:
            self.first.append(data)
        super().from_client(data, addr)

    def to_client(self, data: bytes, addr: object) -> None:
        self.answered = True
        super().to_client(data, addr)


def test_early_data_that_is_replayed_says_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        b = await cluster.start("b", advertise="127.0.0.1:1")  # so that nobody dials past the relay
        promote(b, "p")
        relay = Recorder(cluster.ports["b"])
        await relay.start()
        address = f"127.0.0.1:{relay.port}"
        a = await cluster.start("a", advertise="127.0.0.1:1")
        for resumptions in (0, 1):
            relay.first.clear()
            relay.answered = False
            wire = await a._quic.dial(address, "127.0.0.1", relay.port)
            await until(lambda: connected(a) and connected(b) and len(a._quic.visited._kept))
            assert a._quic.resumptions == resumptions
            wire.close("a test")
            await until(lambda: not b._quic.accepted and not connected(b))
        assert relay.first
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as eavesdropper:
            for data in relay.first:
                eavesdropper.sendto(data, ("127.0.0.1", cluster.ports["b"]))
            await until(lambda: b._quic.half_open)
            eavesdropper.settimeout(5)
            assert await asyncio.to_thread(eavesdropper.recv, 2_000)  # its first packet was read and answered
        assert b.node is not None
        assert not b.node.links
        assert not any(wire.resumed for wire in b._quic.half_open)
        await relay.close()

    in_cluster(story, tmp_path)


def test_without_udp_it_falls_back_to_tcp_and_returns_to_quic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "UPGRADE_SECONDS", 0.5)
    monkeypatch.setattr(dialer, "HEAD_START_SECONDS", 0.2)
    monkeypatch.setattr(quic, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(quic, "IDLE_SECONDS", 2.0)
    monkeypatch.setattr("gateway.sync.link.PING_SECONDS", 0.3)
    monkeypatch.setattr("gateway.sync.link.SILENT_SECONDS", 1.5)

    async def story(cluster: Cluster) -> None:
        cluster.ports["a"] = free_port()
        relay = LossyRelay(cluster.ports["a"])
        await relay.start()
        # Each tells where it is, and the other would dial it there, past the relay: so a tells of the relay, b of nothing.
        a = await cluster.start("a", advertise=f"127.0.0.1:{relay.port}")
        b = await cluster.start("b", f"127.0.0.1:{relay.port}", advertise=f"127.0.0.1:{free_port()}")
        await until(lambda: connected(b, "quic"))
        metrics = Metrics()
        status.register(metrics, b)
        relay.udp_blocked = True
        await until(lambda: connected(b, "tcp"))
        await until(lambda: 'portcullis_sync_peers{state="agrees",transport="tcp"} 1.0' in rendered(metrics))
        assert "portcullis_sync_fallbacks_total 1.0" in rendered(metrics)
        promote(b, "p")
        await until(lambda: "p" in a.store.entries())
        relay.udp_blocked = False
        await until(lambda: connected(b, "quic") and not connected(b, "tcp"))
        assert 'transport="quic"} 1.0' in rendered(metrics)
        assert 'transport="tcp"} 1.0' not in rendered(metrics)
        promote(a, "q")
        await until(lambda: "q" in b.store.entries())
        await relay.close()

    in_cluster(story, tmp_path)


def test_a_connection_survives_a_change_of_address(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        relay = LossyRelay(cluster.ports["a"], delay=0.005)
        await relay.start()
        b = await cluster.start("b", f"127.0.0.1:{relay.port}", transport="quic", listen=free_port())
        await until(lambda: connected(b))
        [key] = [link.key for link in b.node.links.values() if link.dialed]  # type: ignore[union-attr]
        relay.rebind()
        promote(b, "p")
        await until(lambda: "p" in a.store.entries(), 5.0)
        promote(a, "q")
        await until(lambda: "q" in b.store.entries(), 5.0)
        assert key in b.node.links  # type: ignore[union-attr]
        await relay.close()

    in_cluster(story, tmp_path)


@pytest.mark.parametrize("transport", ["quic", "tcp"])
def test_a_certificate_of_another_authority_is_nobody(tmp_path: Path, transport: str) -> None:
    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        strangers = Cluster(tmp_path / "strangers")
        stranger = await strangers.start("b", cluster.address("a"), transport=transport)
        await until(lambda: a.counts.strangers)
        assert connected(a) == connected(stranger) == 0
        await strangers.close()

    (tmp_path / "strangers").mkdir()
    in_cluster(story, tmp_path)


def test_a_client_without_a_certificate_is_nobody(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        context = ssl.create_default_context(cafile=tmp_path / "ca" / "ca.pem")
        context.check_hostname = False
        context.set_alpn_protocols(list(PROTOCOLS))
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.ports["a"], ssl=context)
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert await reader.read(1) == b""
        writer.transport.abort()

        from aioquic.asyncio.client import connect
        from aioquic.quic.configuration import QuicConfiguration

        configuration = QuicConfiguration(alpn_protocols=list(PROTOCOLS), cadata=a.credentials.authority, server_name="a")
        async with connect("127.0.0.1", cluster.ports["a"], configuration=configuration) as client:
            async with asyncio.timeout(5):
                await client.wait_closed()
        await until(lambda: a.counts.strangers)
        assert a.node is not None
        assert not a.node.links

    in_cluster(story, tmp_path)


@pytest.mark.parametrize("offers", [["portcullis-sync/9", *PROTOCOLS], ["portcullis-sync/9", PROTOCOLS[-1]], ["portcullis-sync/9"]])
def test_a_later_version_is_met_in_the_one_that_both_speak(tmp_path: Path, offers: list[str]) -> None:
    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        files = certificates.issue(tmp_path / "ca", "later", tmp_path)
        context = ssl.create_default_context(cafile=files.authority)
        context.check_hostname = False
        context.load_cert_chain(files.certificate, files.key)
        context.set_alpn_protocols(offers)
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.ports["a"], ssl=context)
        spoken = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        said = b""
        with contextlib.suppress(OSError):
            said = await reader.read(64)
        writer.transport.abort()

        from aioquic.asyncio.client import connect
        from aioquic.quic.configuration import QuicConfiguration

        configuration = QuicConfiguration(alpn_protocols=offers, cadata=a.credentials.authority, server_name="a")
        configuration.load_cert_chain(files.certificate, files.key)
        if offers[1:]:
            assert spoken == offers[1]
            assert b"hello" in said
            async with connect("127.0.0.1", cluster.ports["a"], configuration=configuration) as client:
                assert client._quic.tls.alpn_negotiated == offers[1]
        else:
            assert (spoken, said) == (None, b"")
            with pytest.raises(ConnectionError):
                async with connect("127.0.0.1", cluster.ports["a"], configuration=configuration):
                    pass
            await until(lambda: a.counts.strangers == 2)

    in_cluster(story, tmp_path)


def test_garbage_and_floods_cost_little_and_end_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic, "MAX_CONNECTIONS", 40)

    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        b = await cluster.start("b", "a")
        await until(lambda: connected(b, "quic"))
        target = ("127.0.0.1", cluster.ports["a"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for size in (0, 1, 7, 20, 1200, 1500, 9000):
                for _ in range(20):
                    out.sendto(os.urandom(size), target)
            for _ in range(200):  # well-formed beginnings of connections that nobody goes on with
                head = bytes([0xC0]) + (1).to_bytes(4, "big") + b"\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
                out.sendto((head + b"\x00" + b"\x44\x90" + os.urandom(1300))[:1200], target)
        await asyncio.sleep(0.2)
        assert len(a._quic.accepted) <= 40
        promote(b, "p")
        await until(lambda: "p" in a.store.entries())

    in_cluster(story, tmp_path)


def test_who_asks_and_reads_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_UNSENT", 256 * 1024)

    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        files = certificates.issue(tmp_path / "ca", "greedy", tmp_path)
        context = ssl.create_default_context(cafile=files.authority)
        context.check_hostname = False
        context.load_cert_chain(files.certificate, files.key)
        context.set_alpn_protocols(list(PROTOCOLS))
        _, writer = await asyncio.open_connection("127.0.0.1", cluster.ports["a"], ssl=context, limit=2**12)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        digest = a.node.ledger.root  # type: ignore[union-attr]
        writer.write(frames.encode(frames.Hello("greedy", b"g" * 16, ":1", digest, 0, int(time.time() * 1000))))
        pings = frames.encode(frames.Ping(1, digest, 0, 0, int(time.time() * 1000))) * 1_000
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(30):
                while not a.node.refused["unread"]:  # type: ignore[union-attr]
                    writer.write(pings)
                    await writer.drain()
        assert a.node.refused == {"unread": 1}  # type: ignore[union-attr]
        await until(lambda: not a._tcp.accepted)
        b = await cluster.start("b", "a")
        await until(lambda: connected(b))
        writer.transport.abort()

    in_cluster(story, tmp_path)


def test_what_is_fresh_overtakes_bulk_on_the_wire(tmp_path: Path) -> None:
    class Owner(Quiet):
        def __init__(self) -> None:
            self.wires: list[Wire] = []
            self.got = {True: 0, False: 0}
            self.before = 0  # bytes of bulk that came ahead of what is fresh

        def wire_opened(self, wire: Wire, names: tuple[str, ...], dialed: str | None) -> None:
            self.wires.append(wire)

        def wire_received(self, wire: Wire, data: bytes, bulk: bool) -> None:
            self.before = self.before or (0 if bulk else self.got[True])
            self.got[bulk] += len(data)

    async def run() -> None:
        certificates.init_authority(tmp_path / "ca")
        owners, ends = [Owner(), Owner()], []
        for name, owner in zip("ab", owners, strict=True):
            ends.append(quic.QuicEndpoint(owner, certificates.read(certificates.issue(tmp_path / "ca", name, tmp_path))))
        udp, listener = bound("127.0.0.1", 0)
        listener.close()
        await ends[0].listen(udp)
        relay = LossyRelay(udp.getsockname()[1], delay=0.02)
        await relay.start()
        wire = await ends[1].dial("there", "127.0.0.1", relay.port)
        wire.send(bytes(1_500_000), True)
        wire.send(bytes(100), False)
        assert wire.unsent == 1_500_100
        await until(lambda: owners[0].got == {True: 1_500_000, False: 100})
        assert owners[0].before < 100_000
        await until(lambda: wire.unsent == 0)
        for end in ends:
            end.close()
        await relay.close()

    uvloop.run(run())


def test_development_needs_no_certificates_of_yours(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        for name in "ab":
            cluster.ports[name] = free_port()
            made = SyncSettings(
                listen=cluster.address(name), node=name, development=tmp_path / "shared",
                peers=[cluster.address("a")] if name == "b" else [],
            )  # fmt: skip
            one = SyncService(made, Store(tmp_path / f"{name}.db", TRUST, APPROVER, name), tmp_path / name)
            cluster.services[name] = one
            await one.start()
        a, b = cluster.services["a"], cluster.services["b"]
        await until(lambda: connected(a) and connected(b))
        promote(a, "p")
        await until(lambda: "p" in b.store.entries())

    in_cluster(story, tmp_path)


def test_tcp_connections_that_say_nothing_are_counted_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "MAX_HANDSHAKES_OF_A_HOST", 4)
    monkeypatch.setattr(tcp, "CONNECT_SECONDS", 1.0)

    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        with contextlib.ExitStack() as flood:
            for _ in range(30):
                flood.enter_context(socket.create_connection(("127.0.0.1", cluster.ports["a"])))
            await until(lambda: a.counts.strangers == 26)
            assert len(a._tcp.handshakes) == 4
            await until(lambda: a.counts.strangers == 30)  # those that were let in have run out of time
        assert not a._tcp.handshakes
        b = await cluster.start("b", "a", transport="tcp")
        await until(lambda: connected(b, "tcp"))

    in_cluster(story, tmp_path)


def test_certificates_are_renewed_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RENEWAL_SECONDS", 0.05)

    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        b = await cluster.start("b", "a")
        await until(lambda: connected(b))
        old = {one.credentials.chain[0].serial_number for one in (a, b)}
        for name in "ab":
            certificates.issue(tmp_path / "ca", name, tmp_path)
        await until(lambda: not old & {one.credentials.chain[0].serial_number for one in (a, b)})
        assert connected(a)
        c = await cluster.start("c", "a")
        await until(lambda: connected(c))
        promote(c, "p")
        await until(lambda: "p" in b.store.entries())
        (tmp_path / "a.pem").write_text("broken")
        await asyncio.sleep(0.2)
        promote(a, "q")
        await until(lambda: "q" in b.store.entries())

    in_cluster(story, tmp_path)


def test_who_ends_while_it_dials_ends_in_order(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        assert a._quic is not None
        dialing = asyncio.create_task(a._quic.dial("b", "127.0.0.1", free_port()))
        while not any(wire._transport for wire in a._quic.wires):  # it has a socket, and has not said whom it calls
            await asyncio.sleep(0)
        a._quic.close()
        dialing.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await dialing

    in_cluster(story, tmp_path)


def test_where_no_socket_can_be_made_replicas_still_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(cluster: Cluster) -> None:
        (tmp_path / "a" / "sync.sock").mkdir(parents=True)
        a = await cluster.start("a")
        b = await cluster.start("b", "a")
        await until(lambda: connected(b))
        promote(b, "p")
        await until(lambda: "p" in a.store.entries())

    in_cluster(story, tmp_path)
    assert "other workers of this machine cannot ask replicas" in caplog.text


def test_one_of_several_workers_runs_it_and_another_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "LOCK_SECONDS", 0.05)

    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        twin = SyncService(a.settings, a.store, tmp_path / "a")
        await twin.start()
        assert a.runs
        assert not twin.runs
        await a.close()
        await until(lambda: twin.runs)
        await twin.close()
        cluster.services.clear()

    in_cluster(story, tmp_path)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: (folder / "a.key").unlink(), "a.key: cannot be read"),
        (lambda folder: (folder / "a.key").write_text("x"), "a.key: wanted a private key"),
        (lambda folder: (folder / "a.pem").write_text("x"), "a.pem: wanted a certificate"),
        (lambda folder: (folder / "ca/ca.pem").write_text("x"), "ca.pem: wanted certificates"),
        (lambda folder: certificates.issue(folder / "ca", "b", folder).key.replace(folder / "a.key"), "not the key of"),
        (lambda folder: certificates.issue(folder / "ca", "a", folder, days=0), "expired on"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, break_it: Callable[[Path], object], says: str) -> None:
    certificates.init_authority(tmp_path / "ca")
    files = certificates.issue(tmp_path / "ca", "a", tmp_path)
    certificates.read(files)
    break_it(tmp_path)
    with pytest.raises(CertificateFault, match=says):
        certificates.read(files)
