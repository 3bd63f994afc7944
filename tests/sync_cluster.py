"""Sync services of one process on loopback, for tests of what goes over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from sync_support import APPROVER, TRUST, pattern

from bench.processes import free_port
from gateway.sync import certificates
from gateway.sync.ledger import fingerprint
from gateway.sync.service import SyncService
from gateway.sync.settings import SyncSettings
from gateway.sync.wire import Wire
from gateway.telemetry.metrics import Exposition, Metrics
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
