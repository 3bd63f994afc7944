"""Replicas over real sockets: QUIC and TCP, certificates, falling back and coming back."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from sync_cluster import Cluster, Quiet, connected, in_cluster, promote, rendered, until
from sync_support import APPROVER, TRUST

from bench.lossy import LossyRelay
from bench.processes import free_port
from gateway.sync import certificates, dialer, quic, service, status, turn
from gateway.sync.addresses import bound
from gateway.sync.faults import CertificateFault
from gateway.sync.frames import PROTOCOLS, Member
from gateway.sync.service import SyncService
from gateway.sync.settings import SyncSettings
from gateway.sync.wire import Wire
from gateway.telemetry.metrics import Metrics
from patterns.store import Store


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


def test_where_tcp_is_blocked_quic_may_take_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "HEAD_START_SECONDS", 0.2)
    monkeypatch.setattr(quic, "CONNECT_SECONDS", 1.0)

    async def story(cluster: Cluster) -> None:
        cluster.ports["a"] = free_port()
        relay = LossyRelay(cluster.ports["a"], delay=0.02)
        await relay.start()
        relay.udp_blocked = True
        await cluster.start("a", advertise=f"127.0.0.1:{relay.port}")
        b = await cluster.start("b", f"127.0.0.1:{relay.port}", advertise=f"127.0.0.1:{free_port()}")
        await until(lambda: connected(b, "tcp") and not b._quic.wires)
        # The network is turned round: what is tried first from now on, since it worked before, fails at once.
        monkeypatch.undo()
        relay.udp_blocked, relay.tcp_blocked = False, True
        relay.cut()
        await until(lambda: not connected(b))
        await until(lambda: connected(b, "quic"))
        await relay.close()

    in_cluster(story, tmp_path)


def test_an_address_that_cannot_be_looked_up_is_one_that_is_not_reached(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(cluster: Cluster) -> None:
        wrong = ["gateway..example.org:7443", f"{'a' * 64}.example.org:7443"]  # no DNS name: a label is empty, or too long
        a = await cluster.start("a")
        assert a.node is not None
        now = time.time()
        a.node.directory.learn([Member(f"m{n}", one, int(now * 1000), False) for n, one in enumerate(wrong)], now)  # a peer says so
        await until(lambda: a.node.directory._trials.keys() >= set(wrong))  # type: ignore[union-attr]
        assert "a task failed" not in caplog.text

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
