"""What a snapshot costs whoever takes it: few generations, few wake-ups, and no packet that found no room."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from sync_support import APPROVER, STRANGER, TRUST, entry

from gateway.sync import addresses
from gateway.sync.applier import APPLIERS, APPLY_BATCHES, Applier
from gateway.sync.commands import Apply, Command
from gateway.sync.ledger import Ledger
from gateway.sync.membership import Directory
from gateway.sync.node import Node
from gateway.sync.quic import PACE_SECONDS, Pacer, QuicPacketPacer
from patterns.clock import Stamp
from patterns.store import Store

SIZE = 1_200  # bytes of a datagram


def batch(number: int, fresh: bool = False) -> Apply:
    return Apply(1, number, [entry(f"p{number}", Stamp(1_000 + number, 0, "peer"))], fresh)


class Taking:
    """An applier with a store and a node, and the batches that it was through with."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "patterns.db", TRUST, APPROVER, "here")
        node = Node("here", b"i" * 16, Directory("here", "here:1", (), Random(1)), Ledger())
        node.applied = self._applied  # type: ignore[method-assign, assignment]
        node.failed = self._failed  # type: ignore[method-assign, assignment]
        self.applier = Applier(self.store, node, self._do)
        self.done: list[int] = []
        self.failed: list[int] = []
        self.refused: dict[str, str] = {}
        self.changed = asyncio.Event()

    def _applied(self, _link: int, number: int, refused: dict[str, str], _now: float) -> list[Command]:
        self.refused |= refused
        self.done.append(number)
        return []

    def _failed(self, _link: int, number: int, _now: float) -> list[Command]:
        self.failed.append(number)
        return []

    def _do(self, _commands: Iterable[Command]) -> None:
        self.changed.set()

    async def until(self, numbers: Iterable[int]) -> None:
        wanted = set(numbers)
        async with asyncio.timeout(20):
            while not wanted <= set(self.done):
                self.changed.clear()
                await self.changed.wait()


def test_bulk_that_comes_piece_by_piece_is_one_generation_and_what_is_fresh_waits_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        taking = Taking(tmp_path)
        tasks = [asyncio.ensure_future(taking.applier.run()) for _ in range(APPLIERS)]
        for number in range(APPLY_BATCHES - 1):
            taking.applier.add(batch(number))
            await asyncio.sleep(0)
        await taking.until(range(APPLY_BATCHES - 1))
        assert taking.store.generation == 1
        monkeypatch.setattr("gateway.sync.applier.GATHER_SECONDS", 3_600.0)
        taking.applier.add(batch(100))
        taking.applier.add(batch(101, fresh=True))
        await taking.until([100, 101])
        for number in range(200, 200 + APPLY_BATCHES):
            taking.applier.add(batch(number))
        await taking.until(range(200, 200 + APPLY_BATCHES))
        assert not taking.refused
        for task in tasks:
            task.cancel()
        taking.store.close()

    asyncio.run(story())


def test_a_forgery_with_the_stamp_of_what_stands_is_refused(tmp_path: Path) -> None:
    """Its sender would count this replica among those that hold it."""

    async def story() -> None:
        taking = Taking(tmp_path)
        task = asyncio.ensure_future(taking.applier.run())
        taking.applier.add(batch(1, fresh=True))
        await taking.until([1])
        stamp = Stamp(1_001, 0, "peer")
        forged = [entry("p1", stamp, "other", STRANGER), entry("p1", Stamp(5, 0, "peer"), "older", STRANGER)]
        for number, one in enumerate(forged, 2):
            taking.refused.clear()
            taking.applier.add(Apply(1, number, [one], True))
            await taking.until([number])
            assert taking.refused == {"p1": "untrusted"}
        task.cancel()
        taking.store.close()

    asyncio.run(story())


def test_a_store_that_cannot_be_read_for_a_while_is_written_again_afterwards(tmp_path: Path) -> None:
    async def story() -> None:
        taking = Taking(tmp_path)
        tasks = [asyncio.ensure_future(taking.applier.run()) for _ in range(APPLIERS)]
        with closing(sqlite3.connect(tmp_path / "patterns.db", isolation_level=None)) as other:
            other.execute("INSERT INTO generations VALUES (1, '', 0, '', '', 0, 'no clock')")
            for number in range(1, APPLIERS + 2):
                taking.applier.add(batch(number, fresh=True))
                async with asyncio.timeout(20):
                    while number not in taking.failed:
                        taking.changed.clear()
                        await taking.changed.wait()
            other.execute("DELETE FROM generations")
        taking.applier.add(batch(100, fresh=True))
        await taking.until([100])
        for task in tasks:
            task.cancel()
        taking.store.close()

    asyncio.run(story())


def sent(pacer: QuicPacketPacer, seconds: float) -> tuple[int, int]:
    """How many packets a connection that always has some sends, and how often it wakes up for it."""
    now, packets, woken = 0.0, 0, 0
    while now < seconds:
        woken += 1
        while (due := pacer.next_send_time(now=now)) is None:
            pacer.update_after_send(now=now)
            packets += 1
        now = due
    return packets, woken


@pytest.mark.parametrize(("window", "round_trip"), [(400_000, 0.1), (60_000, 0.02), (12_000, 0.05), (2_400, 0.3)])
def test_packets_leave_several_at_a_time_at_the_rate_that_congestion_allows(window: int, round_trip: float) -> None:
    ours, theirs = Pacer(max_datagram_size=SIZE), QuicPacketPacer(max_datagram_size=SIZE)
    for one in (ours, theirs):
        one.update_rate(window, round_trip)
    packets, woken = sent(ours, 10.0)
    most, often = sent(theirs, 10.0)  # which rounds up at each of its many turns
    assert 0.99 * 10.0 * window / round_trip / SIZE <= packets <= most
    assert woken <= min(often, 1.1 * 10.0 / PACE_SECONDS)


def test_a_burst_finds_room_while_nobody_reads() -> None:
    with addresses.datagrams(socket.AF_INET) as reader, addresses.datagrams(socket.AF_INET) as writer:
        reader.bind(("127.0.0.1", 0))
        room = reader.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        allowed = int(Path("/proc/sys/net/core/rmem_max").read_text())
        assert room >= 2 * min(addresses.RECEIVE_BYTES, allowed)
        burst = room // 4_096
        for number in range(burst):
            writer.sendto(number.to_bytes(4, "big").ljust(SIZE), reader.getsockname())
        assert [int.from_bytes(reader.recv(SIZE)[:4], "big") for _ in range(burst)] == list(range(burst))
