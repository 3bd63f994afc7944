"""Connections of callers who send no whole request, take no answer, or ask for too much at once: for how long they are kept."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from gateways import CACHE_DIR, Gateway
from upstreams import reply, says, upstream
from uvicorn.server import ServerState

from gateway.config.settings import Settings
from gateway.services import Services
from gateway.serving.app import App
from gateway.serving.call import Call
from gateway.serving.listener import Listener, close_idle

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"

ASKED = b'{"model":"m","messages":[{"role":"user","content":"Hello!"}]}'
WHOLE = HEAD.replace(b"content-length: 2", b"content-length: %d" % len(ASKED)) + ASKED


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(b"", False), (HEAD[:50], False), (HEAD[:-2], False), (HEAD, False), (HEAD + b"[", False), (HEAD + b"[]" + HEAD[:50], False),
     (HEAD + b"[]" + HEAD + b"[", False), (WHOLE, True), (WHOLE + HEAD, True)],
    ids=["nothing", "half a head", "nearly all of it", "a head", "half a body", "half a head behind an answer",
         "half a body behind an answer", "a request", "a request and a head"],
)  # fmt: skip
def test_what_does_not_come_to_its_end_is_no_request_under_way(sent: bytes, kept: bool, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = {"openai": {"base_url": f"http://127.0.0.1:{silent.getsockname()[1]}"}}
        asyncio.run(closed_when_idle(_services(tmp_path, upstreams=provider), sent, kept))


async def closed_when_idle(services: Services, sent: bytes, kept: bool) -> None:
    async with listening(services) as (listener, reader, writer):
        writer.write(sent)
        if sent.startswith(HEAD + b"[]"):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        while sent and not getattr(listener, "url", b""):
            await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        close_idle([listener], now + 15)
        assert not listener.transport.is_closing(), "a head has its time"
        close_idle([listener], now + 76)
        assert listener.transport.is_closing() is not kept


@asynccontextmanager
async def listening(services: Services) -> AsyncIterator[tuple[Watched, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, from both its ends."""
    await services.start()
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(App(services), lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    made: asyncio.Future[Watched] = loop.create_future()

    def listener() -> Listener:
        made.set_result(Watched(config=config, server_state=ServerState(), app_state={}, _loop=loop))
        return made.result()

    server = await loop.create_server(listener, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield await made, reader, writer
    finally:
        writer.close()
        server.close()
        await services.close()


class Watched(Listener):
    """Keeps of each answer how many requests wait behind it, and whether more is read meanwhile."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.answered: list[tuple[int, bool]] = []
        self.lost = asyncio.Event()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.answered.append((len(self.pipeline), not self.flow.read_paused))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()


def _services(folder: Path, **settings: Any) -> Services:
    (folder / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    return Services(Settings(data_dir=folder, state=f"sqlite:{folder}/state.db", detection={"model": False}, **settings), None, None)


def test_a_body_that_trickles_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte a minute kept a connection, and its place among the requests in flight, for months."""
    monkeypatch.setattr("gateway.serving.listener.BODY_SECONDS", 0.3)
    asyncio.run(closed_while_it_trickles(_services(tmp_path)))


async def closed_while_it_trickles(services: Services) -> None:
    async with listening(services) as (listener, reader, writer):
        writer.write(HEAD.replace(b"content-length: 2", b"content-length: 10000"))
        ended = asyncio.ensure_future(reader.read())
        for _ in range(200):
            writer.write(b" ")
            await asyncio.wait([ended], timeout=0.02)
            close_idle([listener], asyncio.get_running_loop().time())
            if ended.done():
                break
        assert ended.done()


@pytest.mark.parametrize("path", [b"/v1/x", b"/livez"], ids=["a provider's", "the control plane's"])
def test_no_more_is_read_while_requests_wait_for_those_before_them(tmp_path: Path, path: bytes) -> None:
    """Each answer let one more read in, of up to twelve thousand requests: whoever sent and read fast filled the memory."""
    asyncio.run(answered_in_turn(_services(tmp_path), path))


async def answered_in_turn(services: Services, path: bytes) -> None:
    async with listening(services) as (listener, reader, writer):
        asked = b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % path
        writer.write(asked * 100)
        for _ in range(100):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        assert [waiting for waiting, _ in listener.answered] != [0] * 100
        assert all(reads is not (waiting > 0) for waiting, reads in listener.answered)
        writer.write(asked * 1_000)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1_000 * 50)
        await asyncio.wait_for(listener.lost.wait(), 30)


def test_a_body_that_nobody_wants_is_not_kept(tmp_path: Path) -> None:
    """All of it was, until the upstream answered."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = {"openai": {"base_url": f"http://127.0.0.1:{silent.getsockname()[1]}"}}
        asyncio.run(dropped(_services(tmp_path, upstreams=provider)))


async def dropped(services: Services) -> None:
    async with listening(services) as (listener, _, writer):
        writer.write(START.replace(b"127.0.0.1", b"localhost") + b"content-length: 9000000\r\n\r\n")
        for _ in range(64):
            writer.write(b"x" * 65_536)
            await writer.drain()
        call = listener.cycle
        assert isinstance(call, Call)
        assert call.task is not None
        assert (call._body, call._pieces) == (b"", None)


def test_a_caller_who_takes_nothing_is_cut(tmp_path: Path) -> None:
    """His connection, what he was owed, and his place among the requests under way stayed for as long as he did."""
    body = b'{"object":"list","data":[],"more":"%b"}' % (b"x" * 24_000_000)
    with upstream(says(reply(body))) as running:
        asyncio.run(cut_when_unread(_services(tmp_path, upstreams={"openai": {"base_url": running.base_url}})))


async def cut_when_unread(services: Services) -> None:
    async with listening(services) as (listener, reader, writer):
        writer.write(START.replace(b"127.0.0.1", b"localhost") + b"\r\n")
        while not listener.flow.write_paused:
            await asyncio.sleep(0.01)
        now = asyncio.get_running_loop().time()
        close_idle([listener], now)
        close_idle([listener], now + 70)
        before = listener.transport.get_write_buffer_size()
        while listener.transport.get_write_buffer_size() == before:
            await reader.read(1_000_000)
        for later in (80, 150):
            close_idle([listener], now + later)
            await asyncio.sleep(0)
            assert not listener.lost.is_set(), "he takes some of it"
        close_idle([listener], now + 156)
        await asyncio.wait_for(listener.lost.wait(), 30)


def test_trailers_are_no_headers(start_gateway: Callable[..., Gateway]) -> None:
    body = b"%x\r\n%b\r\n0\r\nauthorization: Bearer sk-behind\r\nx-behind: 1\r\nopenai-organization: org\r\n\r\n" % (len(ASKED), ASKED)
    with upstream(says(reply(b'{"choices":[]}'))) as running:
        gateway = start_gateway(upstreams={"openai": {"base_url": running.base_url}})
        head = HEAD.replace(b"content-length: 2", b"transfer-encoding: chunked\r\nconnection: close")
        assert gateway.raw(head + body).startswith(b"HTTP/1.1 200 ")
    told = running.heads[-1].lower()
    assert b"content-type" in told
    assert not any(name in told for name in (b"behind", b"openai-organization"))


def test_a_length_with_many_zeros_is_a_length(echo_gateway: Gateway) -> None:
    head = WHOLE.replace(b"content-length: ", b"connection: close\r\ncontent-length: " + b"0" * 5_000)
    assert echo_gateway.raw(head).startswith(b"HTTP/1.1 200 ")


START = b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "head",
    [START + b"x: " + b"y" * 66_000, START + b"x: y\r\n" * 2_000 + b"z: z", b"GET /v1/models?" + b"y" * 66_000 + START[14:-2],
     b"GET /readyz?" + b"y" * 66_000 + START[14:-2]],
    ids=["a value", "many headers", "a query", "a query of a probe"],
)  # fmt: skip
def test_a_head_that_is_too_large_is_told_so(echo_gateway: Gateway, head: bytes) -> None:
    answer = echo_gateway.raw(head + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n")
    assert answer.endswith(b"\r\n\r\nThe request's head is too large.")


def test_a_head_that_is_not_is_taken(echo_gateway: Gateway) -> None:
    with echo_gateway.client() as client:
        assert client.get("/v1/models", headers={"x-long": "y" * 60_000}).status_code == 200
        assert client.get("/v1/models", headers={f"x-{n}": "y" for n in range(1_500)}).status_code == 200
        assert client.get("/readyz", params={"x": "y" * 60_000}).status_code == 200


@pytest.mark.parametrize(
    ("begin", "more"),
    [(START + b"x: ", b"y" * 65_536), (START + b"x", b"y" * 65_536), (START, b"x: y\r\n" * 10_000), (b"GET /v1/models?", b"y" * 65_536),
     (START[:-2] + b"\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ", b"y" * 65_536),
     (START[:-2] + b"\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 10_000)],
    ids=["a value", "a name", "headers", "a query", "a value behind a body", "headers behind a body"],
)  # fmt: skip
def test_a_head_without_an_end_is_not_kept(echo_gateway: Gateway, begin: bytes, more: bytes) -> None:
    """All of it was, and read once more at each piece: a caller without a key took a worker's memory and time."""
    with socket.create_connection(("127.0.0.1", echo_gateway.port), 20) as caller:
        caller.sendall(begin)
        with pytest.raises(ConnectionError):
            caller.sendall(more * 1_000)  # 64 MB; what the kernel takes before it knows of the end is less
