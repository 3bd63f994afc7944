"""The pool: reuse, bounds, the queue, and closes that cross a request."""

from __future__ import annotations

import asyncio

import pytest
from upstream_support import (
    CLEAN,
    ONE,
    PATIENT,
    Handler,
    Loop,
    Peer,
    ask,
    both_loops,
    chunked,
    held,
    ok,
    run,
    saying,
    serving,
    until,
    upstream,
)

from gateway.upstream import pool
from gateway.upstream.errors import ConnectFailed, TimedOut, TooBusy, Truncated
from gateway.upstream.pool import PoolLimits
from gateway.upstream.retry import RetryPolicy


@both_loops
def test_one_after_another_share_a_connection(loop: Loop) -> None:
    async def test() -> None:
        async with serving(saying(ok())) as server:
            client = upstream(server.port)
            assert [await ask(client) for _ in range(5)] == [b"hello"] * 5
            assert (client.pool.opened, client.pool.reused, len(server.peers)) == (1, 4, 1)
            assert repr(client.pool) == "<Pool in_use=0 idle=1 waiting=0>"
            client.close()
            assert repr(client.pool) == CLEAN
            await server.idle()

    run(test(), loop)


@both_loops
def test_side_by_side_have_their_own(loop: Loop) -> None:
    go = asyncio.Event()

    async def test() -> None:
        async with serving(held(go, ok())) as server:
            client = upstream(server.port)
            asking = [asyncio.ensure_future(ask(client)) for _ in range(5)]
            await until(lambda: len(server.peers) == 5)
            assert repr(client.pool) == "<Pool in_use=5 idle=0 waiting=0>"
            go.set()
            assert await asyncio.gather(*asking) == [b"hello"] * 5
            assert repr(client.pool) == "<Pool in_use=0 idle=5 waiting=0>"
            client.close()

    run(test(), loop)


def test_no_more_idle_connections_are_kept_than_allowed() -> None:
    go = asyncio.Event()

    async def test() -> None:
        async with serving(held(go, ok())) as server:
            client = upstream(server.port, limits=PoolLimits(idle=2))
            asking = [asyncio.ensure_future(ask(client)) for _ in range(5)]
            await until(lambda: len(server.peers) == 5)
            go.set()
            await asyncio.gather(*asking)
            assert repr(client.pool) == "<Pool in_use=0 idle=2 waiting=0>"
            client.close()

    run(test())


@both_loops
def test_those_beyond_the_bound_wait_and_those_beyond_the_queue_are_refused(loop: Loop) -> None:
    go = asyncio.Event()

    async def test() -> None:
        async with serving(held(go, ok())) as server:
            client = upstream(server.port, limits=ONE)
            asking = [asyncio.ensure_future(ask(client)) for _ in range(3)]
            await until(lambda: client.pool.waiting == 2)
            assert repr(client.pool) == "<Pool in_use=1 idle=0 waiting=2>"
            with pytest.raises(TooBusy):
                await ask(client)
            go.set()
            assert await asyncio.gather(*asking) == [b"hello"] * 3
            assert client.pool.opened == 1
            client.close()

    run(test(), loop)


def test_waiting_for_a_connection_times_out() -> None:
    async def test() -> None:
        async with serving(held(asyncio.Event())) as server:
            client = upstream(server.port, PATIENT._replace(connect=0.3), limits=ONE)
            first = asyncio.ensure_future(ask(client))
            await until(lambda: len(server.peers) == 1)
            with pytest.raises(TimedOut, match="queue"):
                await ask(client)
            assert repr(client.pool) == "<Pool in_use=1 idle=0 waiting=0>"
            first.cancel()
            await asyncio.wait([first])
            assert repr(client.pool) == CLEAN

    run(test())


@both_loops
def test_one_that_waits_opens_a_connection_when_the_other_breaks(loop: Loop) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await go.wait()
            return
        await peer.say(ok())
        await peer.gone()

    go = asyncio.Event()

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port, limits=ONE)
            first, second = asyncio.ensure_future(ask(client)), asyncio.ensure_future(ask(client))
            await until(lambda: client.pool.waiting == 1 and len(server.peers) == 1)
            go.set()
            with pytest.raises(Truncated):
                await first
            assert await second == b"hello"
            client.close()

    run(test(), loop)


@both_loops
def test_a_connection_that_ends_in_the_moment_it_is_passed_on_is_not_used(loop: Loop) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(ok())  # and the end: both are there when the client looks

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port, limits=ONE)
            asking = [asyncio.ensure_future(ask(client)) for _ in range(3)]
            assert [await one for one in asking] == [b"hello"] * 3
            await until(lambda: repr(client.pool) == CLEAN)

    run(test(), loop)


def test_all_who_wait_for_an_upstream_that_is_down_are_told() -> None:
    async def test() -> None:
        async with serving(saying(ok())) as server:
            port = server.port
        client = upstream(port, limits=ONE)
        told = await asyncio.gather(*(ask(client) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in told] == [ConnectFailed] * 3
        assert repr(client.pool) == CLEAN

    run(test())


@both_loops
def test_an_old_connection_is_closed(loop: Loop) -> None:
    async def test() -> None:
        async with serving(saying(ok())) as server:
            client = upstream(server.port, limits=PoolLimits(idle_seconds=0.05))
            await ask(client)
            await server.idle()
            assert repr(client.pool) == CLEAN

    run(test(), loop)


def test_an_old_connection_is_not_used_though_nobody_had_time_to_close_it() -> None:
    async def test() -> None:
        async with serving(saying(ok())) as server:
            client = upstream(server.port, limits=PoolLimits(idle_seconds=0.01))
            await ask(client)
            late = asyncio.get_running_loop().time() + 0.02
            while asyncio.get_running_loop().time() < late:  # keep the loop from its timers
                pass
            await ask(client)
            assert (client.pool.opened, client.pool.reused) == (2, 0)
            client.close()

    run(test(), asyncio.new_event_loop)


@pytest.mark.parametrize(("hint", "idle"), [(b"timeout=1", 0), (b"timeout=0", 0), (b"timeout=60, max=9", 1), (b"max=9", 1)])
def test_an_upstream_that_soon_closes_is_given_up_first(hint: bytes, idle: int) -> None:
    async def test() -> None:
        async with serving(saying(ok(b"hello", b"keep-alive: " + hint))) as server:
            client = upstream(server.port)
            await ask(client)
            await until(lambda: client.pool.idle == idle)
            await ask(client)
            assert client.pool.reused == idle
            client.close()

    run(test())


@both_loops
def test_an_idle_connection_that_the_upstream_closes_is_dropped(loop: Loop) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(ok())

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port)
            for _ in range(2):
                assert await ask(client) == b"hello"
                await until(lambda: client.pool.idle == 0)
            assert (client.pool.opened, client.pool.resent) == (2, 0)

    run(test(), loop)


def crossing(first: bytes = b"", reset: bool = False) -> Handler:
    """Serves one request of each connection, and ends with the next, having said `first`."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(ok())
        await peer.request()
        await peer.say(first)
        if reset:
            peer.reset()

    return handler


@both_loops
@pytest.mark.parametrize("reset", [False, True])
def test_a_request_that_crosses_the_close_is_sent_again(reset: bool, loop: Loop) -> None:
    async def test() -> None:
        async with serving(crossing(reset=reset)) as server:
            client = upstream(server.port)
            assert [await ask(client) for _ in range(3)] == [b"hello"] * 3
            assert (client.pool.opened, client.pool.reused, client.pool.resent) == (3, 2, 2)
            assert client.tally.errors.total() == 0
            client.close()

    run(test(), loop)


def test_it_is_sent_again_on_a_connection_of_its_own() -> None:
    """The other idle connections may be closing as well: none is tried, but one makes room."""
    go = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        await peer.say(ok())
        if peer.number < 2:
            await peer.request()
        else:
            await peer.gone()

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port, limits=PoolLimits(connections=2))
            both = [asyncio.ensure_future(ask(client)) for _ in range(2)]
            await until(lambda: len(server.peers) == 2)
            go.set()
            await asyncio.gather(*both)
            assert await ask(client) == b"hello"
            assert (client.pool.opened, client.pool.resent) == (3, 1)
            client.close()

    run(test())


def test_it_is_not_sent_a_third_time() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await peer.say(ok())
            await peer.request()

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port)
            await ask(client)
            with pytest.raises(Truncated):
                await ask(client)
            assert (len(server.peers), client.pool.resent) == (2, 1)

    run(test())


@both_loops
def test_a_request_is_not_sent_again_once_a_byte_has_come(loop: Loop) -> None:
    async def test() -> None:
        async with serving(crossing(b"H")) as server:
            client = upstream(server.port)
            await ask(client)
            with pytest.raises(Truncated):
                await ask(client)
            assert (len(server.peers), client.pool.resent) == (1, 0)

    run(test(), loop)


def test_a_request_is_not_sent_again_when_the_upstream_had_time_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CROSSING_SECONDS", -1.0)

    async def test() -> None:
        async with serving(crossing()) as server:
            client = upstream(server.port)
            await ask(client)
            with pytest.raises(Truncated):
                await ask(client)
            assert client.pool.resent == 0

    run(test())


def test_a_first_request_is_never_sent_again() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port, retries=RetryPolicy(attempts=3))
            with pytest.raises(Truncated):
                await ask(client)
            assert len(server.peers) == 1

    run(test())


@both_loops
def test_closing_lets_replies_under_way_finish(loop: Loop) -> None:
    go = asyncio.Event()

    async def test() -> None:
        async with serving(held(go, chunked(b"hel", b"lo"))) as server:
            client = upstream(server.port)
            asking = asyncio.ensure_future(ask(client))
            await until(lambda: len(server.peers) == 1)
            client.close()
            go.set()
            assert await asking == b"hello"
            assert repr(client.pool) == CLEAN
            assert await ask(client) == b"hello"  # a request that still held the old configuration
            assert repr(client.pool) == CLEAN
            await server.idle()

    run(test(), loop)
