"""One worker of a machine speaks with other replicas, and there is always one that will."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from gateway.sync import turn
from gateway.sync.addresses import bound
from gateway.sync.turn import Turn


def test_who_cannot_listen_when_its_turn_has_come_tries_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It kept the turn and did nothing with it, so that no worker spoke with other replicas any more."""
    monkeypatch.setattr(turn, "LOCK_SECONDS", 0.01)
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    made: list[socket.socket] = []
    tried = asyncio.Event()

    async def run() -> None:
        tried.set()
        made.extend(bound("127.0.0.1", port))

    async def story() -> None:
        killed = Turn(tmp_path / "lock")
        assert killed.take()
        waiting = asyncio.create_task(Turn(tmp_path / "lock").await_and(run))
        killed.leave()
        async with asyncio.timeout(20):
            for _ in range(3):
                tried.clear()
                await tried.wait()
            taken.close()
            await waiting
        assert not killed.take()

    asyncio.run(story())
    assert len(made) == 2
    for one in made:
        one.close()
    [told] = [record.getMessage() for record in caplog.records]
    assert "ddress already in use" in told, "once a minute"


def test_who_is_to_end_takes_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two workers end, the second one took over from the first, and came back to replicas that had heard a farewell."""
    monkeypatch.setattr(turn, "LOCK_SECONDS", 0.01)
    ran: list[bool] = []

    async def run() -> None:
        ran.append(True)

    async def story() -> None:
        first, second = Turn(tmp_path / "lock"), Turn(tmp_path / "lock")
        assert first.take()
        waiting = asyncio.create_task(second.await_and(run))
        await asyncio.sleep(0)  # it has tried once
        second.stand_back()
        first.leave()
        async with asyncio.timeout(20):
            await waiting
        assert first.take(), "nobody has it"
        first.leave()

    asyncio.run(story())
    assert not ran
