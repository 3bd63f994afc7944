"""The pool: reuse, bounds, the queue, closes that cross a request, and tasks cancelled wherever they wait."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import pytest
from upstream_support import LOOPS, ONE, PATIENT, Handler, Peer, Server, chunked, ok, run, saying, serving, upstream

from gateway.upstream import dial, pool
from gateway.upstream.client import Upstream
from gateway.upstream.errors import ConnectFailed, TimedOut, TooBusy, Truncated, UpstreamError
from gateway.upstream.pool import PoolLimits
from gateway.upstream.retry import RetryPolicy

CLEAN = "<Pool in_use=0 idle=0 waiting=0>"
Loop = Callable[[], asyncio.AbstractEventLoop]

both_loops = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])


async def ask(client: Upstream, body: bytes = b"") -> bytes:
    return await (await client.send(b"POST", b"/", [], body)).read(2**20)


def held(go: asyncio.Event, *pieces: bytes) -> Handler:
    """Answers each request when `go` is set."""

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            await go.wait()
            await peer.say(*pieces)

    return handler


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something has come about."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


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
            assert client.errors.total() == 0
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
            asking = asyncio.ensure_future(ask(client, body))
            await until(lambda: len(server.peers) > 0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asking), 0.03)
            assert not asking.done()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
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
