"""How a reply's body is handed out: in bounded memory, up to a limit, when it is there, and never after it was given up."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from upstream_support import (
    CHUNKS,
    CLEAN,
    PATIENT,
    Loop,
    Peer,
    both_loops,
    chunked,
    ok,
    run,
    saying,
    serving,
    then_hanging,
    upstream,
)

from gateway.upstream.connection import HIGH_WATER
from gateway.upstream.errors import BadReply


def test_a_hundred_megabytes_pass_through_bounded_memory() -> None:
    piece = b"%x\r\n" % 2**16 + b"x" * 2**16 + b"\r\n"
    count = 1600

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(CHUNKS)
        for _ in range(count):
            peer.writer.write(piece)
            await peer.writer.drain()
        await peer.say(b"0\r\n\r\n")
        await peer.gone()

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port, PATIENT._replace(idle=0.1))
            reply = await client.send(b"POST", b"/", [])
            await asyncio.sleep(0.15)  # longer than `idle`: waiting for a slow reader is not the upstream's fault
            assert HIGH_WATER < reply.parser.buffered <= HIGH_WATER + 2**18
            total = most = 0
            async for got in reply:
                total += len(got)
                most = max(most, len(got))
            assert total == count * 2**16
            assert most <= HIGH_WATER + 2**18  # one read of the event loop beyond the mark
            assert client.pool.idle == 1
            client.close()

    run(test())


def test_a_bomb_is_refused_within_bounds() -> None:
    coder = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join([*(coder.compress(b"\0" * 2**20) for _ in range(64)), coder.flush()])
    assert len(bomb) < 100_000

    async def test() -> None:
        async with serving(saying(ok(bomb, b"content-encoding: gzip"))) as server:
            client = upstream(server.port)
            with pytest.raises(BadReply, match="longer"):
                await (await client.send(b"POST", b"/", [])).read(2**20)
            sizes = [len(piece) async for piece in await client.send(b"POST", b"/", [])]
            assert sum(sizes) == 2**26
            assert max(sizes) <= 2**16
            client.close()

    run(test())


@pytest.mark.parametrize("said", [
    ok(b"x" * 100), chunked(b"x" * 50, b"x" * 50), b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"])  # fmt: skip
def test_a_body_beyond_the_limit_is_refused(said: bytes) -> None:
    async def test() -> None:
        async with serving(then_hanging(said)) as server:
            client = upstream(server.port)
            with pytest.raises(BadReply, match="longer"):
                await (await client.send(b"POST", b"/", [])).read(99)
            client.close()
            await server.idle()

    run(test())


@both_loops
def test_ready_waits_and_takes_nothing(loop: Loop) -> None:
    go = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKS)
        await go.wait()
        await peer.say(b"5\r\nhello\r\n0\r\n\r\n")
        await peer.gone()

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port)
            reply = await client.send(b"POST", b"/", [])
            busy = True
            assert not await reply.ready(lambda: busy)
            busy = False
            waiting = asyncio.create_task(reply.ready(lambda: busy))
            await asyncio.sleep(0)
            busy = True
            reply.wake()
            assert not await waiting
            go.set()
            assert await reply.ready(lambda: False)
            assert await anext(reply) == b"hello"
            assert await reply.ready(lambda: False)
            assert await anext(reply, None) is None
            client.close()

    run(test(), loop)


@both_loops
def test_what_comes_while_somebody_waits_can_be_taken_at_once(loop: Loop) -> None:
    go = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKS)
        await go.wait()
        for piece in (b"5\r\nhello\r\n", b"1\r\n \r\n", b"5\r\nworld\r\n0\r\n\r\n"):
            await peer.say(piece)
        await peer.gone()

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port)
            reply = await client.send(b"POST", b"/", [])
            taken: list[bytes] = []

            def take() -> bool:
                taken.append(reply.take())
                return True

            go.set()
            while await reply.ready(lambda: False, take):
                piece = await anext(reply, None)
                if piece is None:
                    break
                taken.append(piece)
            assert b"".join(taken) == b"hello world"
            client.close()

    run(test(), loop)


@both_loops
def test_a_closed_reply_closes_its_connection_and_cannot_be_read(loop: Loop) -> None:
    async def test() -> None:
        async with serving(then_hanging(CHUNKS + b"5\r\nhello\r\n")) as server:
            client = upstream(server.port)
            reply = await client.send(b"POST", b"/", [])
            reply.close()
            reply.close()
            assert repr(client.pool) == CLEAN
            await server.idle()
            with pytest.raises(RuntimeError):
                await reply.read(100)

    run(test(), loop)


def test_a_closed_reply_that_had_come_whole_keeps_its_connection() -> None:
    async def test() -> None:
        async with serving(saying(ok())) as server:
            client = upstream(server.port)
            (await client.send(b"POST", b"/", [])).close()
            assert client.pool.idle == 1
            client.close()

    run(test())
