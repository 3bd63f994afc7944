"""Names, addresses and their race."""

from __future__ import annotations

import asyncio

import pytest
from upstream_support import PATIENT, Loop, ask, both_loops, ok, run, saying, serving, until

from gateway.upstream import dial
from gateway.upstream.client import Upstream
from gateway.upstream.errors import ConnectFailed


class Made(dial.Abortable):
    """What an attempt to connect yields."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


async def attempt(seconds: float, made: Made | OSError) -> Made:
    await asyncio.sleep(seconds)
    if isinstance(made, OSError):
        raise made
    return made


def test_a_silent_address_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_DELAY", 0.01)

    async def test() -> None:
        loop = asyncio.get_running_loop()
        made, late = Made(), Made()
        assert await dial._race(loop, [attempt(60, late), attempt(0, made)]) is made
        assert await dial._race(loop, [attempt(0, OSError("no route")), attempt(0, made)]) is made
        assert await dial._race(loop, [attempt(0, made), attempt(0, late)]) is made
        assert await dial._race(loop, [attempt(0.02, made), attempt(0, OSError("no route"))]) is made
        with pytest.raises(OSError, match="the last"):
            await dial._race(loop, [attempt(0, OSError("the first")), attempt(0, OSError("the last"))])
        await asyncio.sleep(0)
        assert not late.aborted

    run(test())


def test_an_address_that_loses_the_race_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_DELAY", 0.001)
    go = asyncio.Event()
    begun: list[Made] = []

    async def waits(made: Made) -> Made:
        begun.append(made)
        await go.wait()
        return made

    async def test() -> None:
        racing = asyncio.ensure_future(dial._race(asyncio.get_running_loop(), [waits(Made()), waits(Made())]))
        await until(lambda: len(begun) == 2)
        go.set()
        won = await racing
        (lost,) = (made for made in begun if made is not won)
        await until(lambda: lost.aborted)
        assert not won.aborted

    run(test())


@both_loops
def test_a_name_is_resolved_and_its_addresses_tried(loop: Loop) -> None:
    async def test() -> None:
        async with serving(saying(ok())) as server:
            client = Upstream("test", f"http://localhost:{server.port}", [], timeouts=PATIENT)
            assert await ask(client) == b"hello"
            client.close()
        client = Upstream("test", "http://no-such-name.invalid", [], timeouts=PATIENT)
        with pytest.raises(ConnectFailed, match="name"):
            await ask(client)

    run(test(), loop)
