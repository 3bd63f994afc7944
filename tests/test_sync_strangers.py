"""Strangers, replays and floods over real sockets: refused, counted, bounded, and others are served on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from pathlib import Path

import pytest
from sync_cluster import Cluster, connected, in_cluster, promote, until
from sync_support import pattern

from bench.lossy import LossyRelay
from gateway.sync import certificates, frames, link, quic, service, tcp
from gateway.sync.frames import PROTOCOLS


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
    monkeypatch.setattr(link, "TREE_SECONDS", 0.0)  # it asks faster than it may

    async def story(cluster: Cluster) -> None:
        a = await cluster.start("a")
        a.store.revise({f"p{number}": pattern(f"p{number}") for number in range(2_000)}, "ada", "seen", time.time())
        await until(lambda: a.node and len(a.node.ledger) == 2_000)
        files = certificates.issue(tmp_path / "ca", "greedy", tmp_path)
        context = ssl.create_default_context(cafile=files.authority)
        context.check_hostname = False
        context.load_cert_chain(files.certificate, files.key)
        context.set_alpn_protocols(list(PROTOCOLS[1:]))
        _, writer = await asyncio.open_connection("127.0.0.1", cluster.ports["a"], ssl=context, limit=2**12)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert a.node is not None
        writer.write(frames.encode(frames.Hello("greedy", b"g" * 16, ":1", a.node.ledger.root, 0, int(time.time() * 1000))))
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                while not a.node.refused["unread"]:
                    writer.write(frames.encode(frames.Tree(b"x" * 2_048)))
                    await writer.drain()
                    await asyncio.sleep(0)
        assert a.node.refused == {"unread": 1}
        await until(lambda: not a._tcp.accepted)
        b = await cluster.start("b", "a")
        await until(lambda: connected(b))
        writer.transport.abort()

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
        await until(lambda: not a._tcp.handshakes)  # a turn of the loop after they were counted
        b = await cluster.start("b", "a", transport="tcp")
        await until(lambda: connected(b, "tcp"))

    in_cluster(story, tmp_path)
