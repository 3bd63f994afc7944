"""One exchange with upstreams that misbehave in every phase: real sockets on loopback, on both event loops."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from upstream_support import (
    CHUNKS,
    CLEAN,
    PATIENT,
    Handler,
    Loop,
    Peer,
    both_loops,
    chunked,
    ok,
    run,
    saying,
    serving,
    then_closing,
    then_hanging,
    upstream,
)

from gateway.upstream.client import Upstream
from gateway.upstream.dial import tls_context
from gateway.upstream.errors import BadReply, ConnectFailed, TimedOut, Truncated, UpstreamError
from gateway.upstream.reply import Reply

GZIP_CHUNKS = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"


def then_resetting(*pieces: bytes) -> Handler:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(*pieces)
        peer.reset()

    return handler


def trickling(start: bytes, piece: bytes, seconds: float) -> Handler:
    """Says `start`, and then `piece` again and again."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(start)
        while not peer.writer.is_closing():
            await asyncio.sleep(seconds)
            await peer.say(piece)

    return handler


async def deaf(peer: Peer) -> None:
    """Reads nothing and says nothing, until the client has closed."""
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def collect(reply: Reply) -> tuple[bytes, UpstreamError | None]:
    """All that can be had of a reply's body, and the error that ended it."""
    body = b""
    try:
        async for piece in reply:
            body += piece
    except UpstreamError as error:
        return body, error
    return body, None


# name: handler, the error, and what of the body came before it (None: not even a head)
FAULTS: dict[str, tuple[Handler, type[UpstreamError], bytes | None]] = {
    "closes without a word": (then_closing(), Truncated, None),
    "resets without a word": (then_resetting(), Truncated, None),
    "closes in the head": (then_closing(b"HTTP/1.1 200 OK\r\nContent-"), Truncated, None),
    "closes after an interim reply": (then_closing(b"HTTP/1.1 100 Continue\r\n\r\n"), Truncated, None),
    "promises more than it sends": (then_closing(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"), Truncated, b"hello"),
    "resets in the body": (then_resetting(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), Truncated, b""),
    "closes in a chunk": (then_closing(CHUNKS + b"5\r\nhel"), Truncated, b"hel"),
    "closes before the last chunk": (then_closing(CHUNKS, b"5\r\nhello\r\n"), Truncated, b"hello"),
    "says a bad chunk size": (then_closing(CHUNKS, b"5\r\nhello\r\n", b"zz\r\n"), BadReply, b"hello"),
    "sends a head without end": (then_hanging(b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000), BadReply, None),
    "sends too many headers": (then_hanging(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n"), BadReply, None),
    "speaks another protocol": (then_hanging(b"220 smtp.example ready\r\n"), BadReply, None),
    "sends two lengths": (
        then_hanging(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"), BadReply, None),
    "sends another transfer coding": (then_hanging(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nxx"), BadReply, None),
    "switches protocols": (then_hanging(b"HTTP/1.1 101 Yes\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), BadReply, None),
    "sends a coding nobody asked for": (then_hanging(ok(b"xx", b"content-encoding: br")), BadReply, None),
    "sends two codings": (then_hanging(ok(b"xx", b"content-encoding: gzip, gzip")), BadReply, None),
    "sends what is not gzip": (then_hanging(ok(b"hello", b"content-encoding: gzip")), BadReply, b""),
    "says a bad chunk size in a gzip": (
        then_hanging(GZIP_CHUNKS + b"a\r\n" + gzip.compress(b"")[:10] + b"\r\nz"), BadReply, b""),
    "sends half a gzip": (then_hanging(ok(gzip.compress(b"hello")[:-3], b"content-encoding: gzip")), BadReply, b"hello"),
}  # fmt: skip


@both_loops
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_apart(name: str, loop: Loop) -> None:
    handler, error, body = FAULTS[name]

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port)
            if body is None:
                with pytest.raises(error):
                    await client.send(b"POST", b"/", [], b"{}")
            else:
                got, caught = await collect(await client.send(b"POST", b"/", [], b"{}"))
                assert (got, type(caught)) == (body, error)
            assert (client.tally.errors.total(), client.tally.errors[error.kind]) == (1, 1)
            assert repr(client.pool) == CLEAN.replace("idle=0", f"idle={client.pool.idle}")
            client.close()
            await server.idle()

    run(test(), loop)


# name: handler, the phase, and what of the body came before it
HANGS: dict[str, tuple[Handler, str, bytes | None]] = {
    "before the head": (then_hanging(), "first_byte", None),
    "in the head": (then_hanging(b"HTTP/1.1 200 OK\r\n"), "first_byte", None),
    "after an interim reply": (then_hanging(b"HTTP/1.1 103 Hints\r\n\r\n"), "first_byte", None),
    "in a head that trickles": (trickling(b"HTTP/1.1 200 OK\r\na: ", b"x", 0.02), "first_byte", None),
    "before the body": (then_hanging(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), "idle", b""),
    "in the body": (then_hanging(CHUNKS + b"5\r\nhello\r\n"), "idle", b"hello"),
}


@both_loops
@pytest.mark.parametrize("name", HANGS)
def test_hangs_time_out(name: str, loop: Loop) -> None:
    handler, phase, body = HANGS[name]

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port, PATIENT._replace(**{phase: 0.1}))
            if body is None:
                with pytest.raises(TimedOut, match=phase):
                    await client.send(b"POST", b"/", [], b"{}")
            else:
                got, caught = await collect(await client.send(b"POST", b"/", [], b"{}"))
                assert (got, str(caught)) == (body, f"timed out: {phase}")
            assert dict(client.tally.errors) == {f"timeout_{phase}": 1}
            assert repr(client.pool) == CLEAN
            await server.idle()

    run(test(), loop)


@both_loops
def test_a_nearer_limit_moves_the_timer(loop: Loop) -> None:
    async def test() -> None:
        async with serving(then_hanging(CHUNKS)) as server:
            client = upstream(server.port, PATIENT._replace(first_byte=60, idle=0.1, total=60))
            _, caught = await collect(await client.send(b"POST", b"/", []))
            assert str(caught) == "timed out: idle"

    run(test(), loop)


def test_a_trickle_outlives_the_idle_limit_and_not_the_total() -> None:
    async def test() -> None:
        async with serving(trickling(CHUNKS, b"1\r\nx\r\n", 0.02)) as server:
            client = upstream(server.port, PATIENT._replace(idle=0.4, total=0.6))
            body, caught = await collect(await client.send(b"POST", b"/", []))
            assert len(body) > 5
            assert str(caught) == "timed out: total"

    run(test())


def test_a_deadline_comes_before_the_total() -> None:
    async def test() -> None:
        async with serving(then_hanging()) as server:
            soon = asyncio.get_running_loop().time() + 0.05
            with pytest.raises(TimedOut, match="total"):
                await upstream(server.port).send(b"POST", b"/", [], deadline=soon)

    run(test())


def test_a_deadline_may_come_while_connecting() -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async def test() -> None:
        async with serving(silent) as server:
            client = Upstream("test", f"https://127.0.0.1:{server.port}", [], timeouts=PATIENT, tls=tls_context())
            soon = asyncio.get_running_loop().time() + 0.05
            with pytest.raises(TimedOut, match="total"):
                await client.send(b"POST", b"/", [], deadline=soon)
            assert repr(client.pool) == CLEAN

    run(test())


@both_loops
def test_an_upstream_that_reads_nothing_times_out_the_sending(loop: Loop) -> None:
    async def test() -> None:
        async with serving(deaf) as server:
            client = upstream(server.port, PATIENT._replace(idle=0.1))
            with pytest.raises(TimedOut, match="send"):
                await client.send(b"POST", b"/", [], b"x" * 2**25)
            assert repr(client.pool) == CLEAN

    run(test(), loop)


@both_loops
def test_nobody_listening(loop: Loop) -> None:
    async def test() -> None:
        async with serving(then_closing()) as server:
            port = server.port
        client = upstream(port)
        with pytest.raises(ConnectFailed, match="refused"):
            await client.send(b"GET", b"/", [])
        assert repr(client.pool) == CLEAN

    run(test(), loop)


WHOLE: dict[str, tuple[tuple[bytes, ...], bytes, bool]] = {
    "a length": ((ok(),), b"hello", True),
    "a length, dribbled": (tuple(bytes([byte]) for byte in ok()), b"hello", True),
    "chunks": ((chunked(b"hel", b"lo"),), b"hello", True),
    "chunks, dribbled": (tuple(bytes([byte]) for byte in chunked(b"hel", b"lo")), b"hello", True),
    "no body": ((b"HTTP/1.1 204 No Content\r\n\r\n",), b"", True),
    "interim replies": ((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 H\r\nlink: x\r\n\r\n" + ok()), b"hello", True),
    "bytes beyond": ((ok() + b"more",), b"hello", False),
    "two replies": ((ok() + ok(b"other"),), b"hello", False),
    "HTTP/1.0": ((ok().replace(b"HTTP/1.1", b"HTTP/1.0"),), b"hello", False),
    "connection: close": ((ok(b"hello", b"connection: close"),), b"hello", False),
    "gzip": ((ok(gzip.compress(b"hello"), b"content-encoding: gzip"),), b"hello", True),
    "gzip of two members": (
        (ok(gzip.compress(b"hel") + gzip.compress(b"lo"), b"content-encoding: x-gzip"),), b"hello", True),
    "deflate": ((ok(zlib.compress(b"hello"), b"content-encoding: Deflate"),), b"hello", True),
    "identity": ((ok(b"hello", b"content-encoding: identity"),), b"hello", True),
    "an empty gzip": ((ok(b"", b"content-encoding: gzip"),), b"", True),
}  # fmt: skip


@both_loops
@pytest.mark.parametrize("name", WHOLE)
def test_replies_are_read_and_connections_kept_where_they_may_be(name: str, loop: Loop) -> None:
    pieces, body, kept = WHOLE[name]

    async def test() -> None:
        async with serving(saying(*pieces)) as server:
            client = upstream(server.port)
            for _ in range(2):
                reply = await client.send(b"POST", b"/", [], b"{}")
                assert await reply.read(100) == body
            assert (client.pool.opened, client.pool.reused) == ((1, 1) if kept else (2, 0))
            assert client.pool.idle == int(kept)
            client.close()
            await server.idle()
            assert repr(client.pool) == CLEAN

    run(test(), loop)


@both_loops
def test_a_reply_that_ends_with_its_connection(loop: Loop) -> None:
    async def test() -> None:
        async with serving(then_closing(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo")) as server:
            client = upstream(server.port)
            assert await (await client.send(b"GET", b"/", [])).read(100) == b"hello"
            assert repr(client.pool) == CLEAN

    run(test(), loop)


@both_loops
def test_a_reset_is_no_end(loop: Loop) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await read.wait()
        peer.reset()

    read = asyncio.Event()

    async def test() -> None:
        async with serving(handler) as server:
            reply = await upstream(server.port).send(b"GET", b"/", [])
            assert await anext(reply) == b"hel"
            read.set()
            with pytest.raises(Truncated):
                await anext(reply)

    run(test(), loop)


@both_loops
def test_an_answer_before_the_request_is_sent_stops_the_sending(loop: Loop) -> None:
    taken = 0

    async def handler(peer: Peer) -> None:
        nonlocal taken
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\n")
        await peer.say(b"big")
        while piece := await peer.reader.read(65536):
            taken += len(piece)

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port)
            reply = await client.send(b"POST", b"/", [], b"x" * 2**27)
            assert (reply.status, await reply.read(100)) == (413, b"big")
            assert repr(client.pool) == CLEAN
            await server.idle()

    run(test(), loop)
    assert taken < 2**27


@both_loops
def test_a_large_request_arrives_whole(loop: Loop) -> None:
    body = bytes(range(256)) * 2**13

    async def handler(peer: Peer) -> None:
        for _ in range(2):
            _, got = await peer.request()
            await peer.say(ok(b"%d" % (got == body)))

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port)
            for _ in range(2):
                assert await (await client.send(b"POST", b"/", [], body)).read(10) == b"1"
            assert client.pool.opened == 1
            client.close()

    run(test(), loop)


def test_unasked_bytes_close_an_idle_connection() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(ok())
        await idle.wait()
        await peer.say(ok(b"poison"))
        await peer.gone()

    idle = asyncio.Event()

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port)
            assert await (await client.send(b"POST", b"/", [])).read(100) == b"hello"
            idle.set()
            await server.idle()
            assert repr(client.pool) == CLEAN
            assert await (await client.send(b"POST", b"/", [])).read(100) == b"hello"
            client.close()

    run(test())
