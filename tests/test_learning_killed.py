"""A gateway is killed while it holds what it claimed of the streams that replicas share: the next one takes all of it over."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gateways import Gateway, until
from redis_servers import redis_server

from gateway.learning import events
from gateway.learning.book import Book
from gateway.learning.events import Spoken, Watched
from gateway.learning.inbox import FEEDBACK, TRAJECTORIES
from gateway.learning.values import Label, Trajectory
from gateway.records.decisions import new_id
from gateway.state.base import Backlog, State, StateUnavailable
from gateway.state.opening import open_state

IMPATIENT = {"gateway.learning.inbox.IDLE_SECONDS": 1.0}
"""What somebody took is anybody's after a second."""

LABELS = 480
SEEN = 4_800


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path}/shared.db"
    else:
        with redis_server(tmp_path / "redis") as server:
            yield server.url


def use(url: str, story: Callable[[State], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        state = open_state(url)
        try:
            return await story(state)
        finally:
            await state.close()

    return asyncio.run(run())


def label(number: int) -> Spoken:
    now = time.time()
    seen = Trajectory("d" * 32, 3, "acme", "user", "allow", False, 0.25, (), True)
    said = Label(new_id(now), "ann", "analyst", "attack", "", "", 1.0, now)
    return Spoken(label=said, case=f"case {number:04}", text=f"text number {number}", trajectory=seen)


def put(url: str, stream: str, made: list[Spoken] | list[Watched]) -> None:
    async def story(state: State) -> None:
        assert await state.emit(stream, [events.encode(one) for one in made], time.time(), 10_000, make_room=False) == 0

    use(url, story)


def kill_while_it_holds(gateway: Gateway, url: str, stream: str) -> None:
    """Stop it again and again until it stands in the middle of its work, and kill it there."""
    def halted() -> bool:
        return Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def holds() -> bool:
        gateway.signal(signal.SIGSTOP)
        until(halted)
        try:
            left = backlog(url, stream)
            if left.pending and left.waiting:
                return True
        except StateUnavailable:  # it stands within a transaction
            pass
        gateway.signal(signal.SIGCONT)
        return False

    until(holds)
    gateway.process.kill()
    gateway.process.wait(10)


def backlog(url: str, stream: str) -> Backlog:
    found: Backlog = use(url, lambda state: state.backlog(stream, time.time()))
    return found


def test_what_a_killed_gateway_held_the_next_one_does_once(tmp_path: Path, url: str) -> None:
    def start(name: str) -> Gateway:
        (folder := tmp_path / name).mkdir()
        settings = {"state": url, "limits": {"ready_grace_seconds": 0, "drain_seconds": 5}}
        return Gateway(folder, settings, 1, {}, constants=IMPATIENT)

    labels = [label(number) for number in range(LABELS)]
    put(url, FEEDBACK, labels)
    put(url, TRAJECTORIES, [Watched(3, {"p.one": 2}, 1.0)] * SEEN)
    for stream in (FEEDBACK, TRAJECTORIES):  # labels go first
        gateway = start(f"killed-with-{stream}")
        kill_while_it_holds(gateway, url, stream)
        assert backlog(url, stream).pending
    last = start("last")
    until(lambda: all(backlog(url, stream)[:2] == (0, 0) for stream in (FEEDBACK, TRAJECTORIES)))
    with last.client() as client:
        assert client.get("/readyz").status_code == 200
    assert last.stop() == 0

    async def outcome(state: State) -> None:
        book = Book(state)
        assert sorted(one.id for one in await book.labels(1_000, None)) == sorted(one.label.id for one in labels)
        cases = [case async for case in book.cases()]
        heard = sorted((case.id, *(one.id for one in case.labels)) for case in cases)
        assert heard == [(one.case, one.label.id) for one in labels]
        assert (await book.effect("p.one")).hits == 2 * SEEN

    use(url, outcome)
