"""Connections of callers that send no whole request: for how long they are kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvicorn
from gateways import CACHE_DIR
from uvicorn.server import ServerState

from gateway.app import App
from gateway.listener import Listener, close_idle
from gateway.services import Services
from gateway.settings import Settings

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(b"", False), (HEAD[:50], False), (HEAD[:-2], False), (HEAD, True), (HEAD + b"[", True), (HEAD + b"[]" + HEAD[:50], False)],
    ids=["nothing", "half a head", "nearly all of it", "a head", "half a body", "half a head behind an answer"],
)  # fmt: skip
def test_a_head_that_does_not_end_is_no_request_under_way(sent: bytes, kept: bool, tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    settings = Settings(data_dir=tmp_path, state=f"sqlite:{tmp_path}/state.db", detection={"model": False})
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
        close_idle(state.connections, loop.time() - 60)
        assert not made[0].transport.is_closing(), "a head has its time"
        close_idle(state.connections, loop.time() + 1)
        assert made[0].transport.is_closing() is not kept
    finally:
        writer.close()
        server.close()
        await services.close()
