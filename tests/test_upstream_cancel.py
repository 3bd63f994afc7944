"""Tasks that are cancelled wherever they wait: the pool is clean afterwards, and who waited behind them goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from upstream_support import (
    CLEAN,
    ONE,
    PATIENT,
    Asking,
    Loop,
    Peer,
    Server,
    ask,
    both_loops,
    chunked,
    held,
    ok,
    run,
    serving,
    until,
    upstream,
)

from gateway.upstream import dial
from gateway.upstream.client import Upstream
from gateway.upstream.errors import UpstreamError
from gateway.upstream.pool import PoolLimits
from gateway.upstream.retry import RetryPolicy


async def stuck_in_queue(server: Server) -> tuple[Upstream, int]:
    client = upstream(server.port, limits=ONE)
    first = asyncio.ensure_future(client.send(b"POST", b"/", []))
    await until(lambda: len(server.peers) == 1)
    asyncio.get_running_loop().call_later(0.05, first.cancel)
    return client, 1


async def stuck_in_head(server: Server) -> tuple[Upstream, int]:
    return upstream(server.port), 0


async def stuck_in_handshake(server: Server) -> tuple[Upstream, int]:
    return Upstream("test", f"https://127.0.0.1:{server.port}", [], timeouts=PATIENT, tls=dial.tls_context()), 0


async def stuck_in_pause(server: Server) -> tuple[Upstream, int]:
    patient = RetryPolicy(attempts=2, base=5)
    return upstream(server.port, retries=patient), 0


async def silent(peer: Peer) -> None:
    await peer.gone()


async def half(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
    await peer.gone()


async def unavailable(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nretry-after: 5\r\n\r\n")
    await peer.gone()


async def not_reading(peer: Peer) -> None:
    await peer.reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.1)
    await peer.gone()


STUCK = {
    "for a connection": (silent, stuck_in_queue, b""),
    "for the handshake": (silent, stuck_in_handshake, b""),
    "for the request to leave": (not_reading, stuck_in_head, b"x" * 2**25),
    "for the head": (silent, stuck_in_head, b""),
    "for the body": (half, stuck_in_head, b""),
    "to try again": (unavailable, stuck_in_pause, b""),
}


@both_loops
@pytest.mark.parametrize("name", STUCK)
def test_cancelling_one_who_waits_leaves_nothing(name: str, loop: Loop) -> None:
    handler, prepare, body = STUCK[name]

    async def test() -> None:
        async with serving(handler) as server:
            client, before = await prepare(server)
            asker, heard = Asking(), name == "for the head"
            asking = asyncio.ensure_future(ask(client, body, asker))
            await until(lambda: len(server.peers) > 0 and (asker.unanswered or not heard))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asking), 0.03)
            assert not asking.done()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert asker.unanswered == heard, "the upstream has all of it, and said nothing"
            assert (client.pool.in_use, client.pool.waiting) == (before, 0)
            client.close()
            await server.idle()
            assert repr(client.pool) == CLEAN

    run(test(), loop)


@both_loops
def test_one_cancelled_in_the_moment_of_its_turn_passes_it_on(loop: Loop) -> None:
    go = asyncio.Event()

    async def test() -> None:
        async with serving(held(go, ok())) as server:
            client = upstream(server.port, limits=ONE)
            first, second, third = (asyncio.ensure_future(ask(client)) for _ in range(3))
            await until(lambda: client.pool.waiting == 2)
            turn = client.pool._queue[0]
            go.set()
            await until(turn.done)  # granted, but `second` has not woken yet
            second.cancel()
            assert (await first, await third) == (b"hello", b"hello")
            assert second.cancelled()
            assert client.pool.opened == 1
            assert repr(client.pool) == "<Pool in_use=0 idle=1 waiting=0>"
            client.close()

    run(test(), loop)


@both_loops
def test_leave_to_connect_is_passed_on_too(loop: Loop) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(ok()[: -1 if peer.number == 0 else None])
        await peer.gone()

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port, limits=ONE)
            first = await client.send(b"POST", b"/", [])
            second, third = (asyncio.ensure_future(ask(client)) for _ in range(2))
            await until(lambda: client.pool.waiting == 2)
            first.close()  # grants `second` leave at once
            second.cancel()
            assert await third == b"hello"
            assert second.cancelled()
            client.close()
            assert repr(client.pool) == CLEAN

    run(test(), loop)


@both_loops
def test_many_tasks_cancelled_anywhere_leave_the_pool_clean(loop: Loop) -> None:
    chance = random.Random(7)
    half_said = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nxx"
    says = [(ok(),), (chunked(b"hel", b"lo"),), (ok()[:-2], ok()[-2:]), (half_said,), (b"?",)]

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            await peer.say(*chance.choice(says))
            if chance.random() < 0.2:
                return

    async def one(client: Upstream) -> None:
        with contextlib.suppress(UpstreamError):
            await ask(client, b"x" * chance.choice((0, 10, 2**19)))

    async def test() -> None:
        async with serving(handler) as server:
            limits = PoolLimits(connections=8, waiting=500)
            client = upstream(server.port, PATIENT._replace(first_byte=0.2, idle=0.2), limits=limits)
            tasks = [asyncio.ensure_future(one(client)) for _ in range(300)]
            while not all(task.done() for task in tasks):
                chance.choice(tasks).cancel()
                await asyncio.sleep(chance.choice((0, 0, 0.001)))
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (client.pool.in_use, client.pool.waiting) == (0, 0)
            client.close()
            await server.idle()
            assert repr(client.pool) == CLEAN

    run(test(), loop)
