"""Connections of callers that send no whole request: for how long they are kept."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import uvicorn
from gateways import CACHE_DIR, Gateway
from uvicorn.server import ServerState

from gateway.config.settings import Settings
from gateway.services import Services
from gateway.serving.app import App
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
    (tmp_path / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = {"openai": {"base_url": f"http://127.0.0.1:{silent.getsockname()[1]}"}}
        detection = {"model": False}
        settings = Settings(data_dir=tmp_path, state=f"sqlite:{tmp_path}/state.db", detection=detection, upstreams=provider)
        asyncio.run(closed_when_idle(Services(settings, None, None), sent, kept))


async def closed_when_idle(services: Services, sent: bytes, kept: bool) -> None:
    await services.start()
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(App(services), lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    state = ServerState()
    made: list[Listener] = []

    def listener() -> Listener:
        made.append(Listener(config=config, server_state=state, app_state={}, _loop=loop))
        return made[0]

    server = await loop.create_server(listener, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        writer.write(sent)
        if sent.startswith(HEAD + b"[]"):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        while not state.connections or (sent and not getattr(made[0], "url", b"")):
            await asyncio.sleep(0)
        close_idle(state.connections, loop.time() + 15)
        assert not made[0].transport.is_closing(), "a head has its time"
        close_idle(state.connections, loop.time() + 76)
        assert made[0].transport.is_closing() is not kept
    finally:
        writer.close()
        server.close()
        await services.close()


def test_a_body_that_trickles_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte a minute kept a connection, and its place among the requests in flight, for months."""
    (tmp_path / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    monkeypatch.setattr("gateway.serving.listener.BODY_SECONDS", 0.3)
    settings = Settings(data_dir=tmp_path, state=f"sqlite:{tmp_path}/state.db", detection={"model": False})
    asyncio.run(closed_while_it_trickles(Services(settings, None, None)))


async def closed_while_it_trickles(services: Services) -> None:
    await services.start()
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(App(services), lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    state = ServerState()
    server = await loop.create_server(lambda: Listener(config, state, {}, loop), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        writer.write(HEAD.replace(b"content-length: 2", b"content-length: 10000"))
        ended = asyncio.ensure_future(reader.read())
        for _ in range(200):
            writer.write(b" ")
            await asyncio.wait([ended], timeout=0.02)
            close_idle(state.connections, loop.time())
            if ended.done():
                break
        assert ended.done()
    finally:
        writer.close()
        server.close()
        await services.close()


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
