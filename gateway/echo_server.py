"""The echo model behind a socket of its own, so that the first run exercises the whole way to an upstream and back."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from gateway.echo import app


class EchoServer:
    """The echo model on a free loopback port. Make it with `start`."""

    def __init__(self, server: uvicorn.Server, task: asyncio.Task[None], port: int) -> None:
        self._server = server
        self._task = task
        self._port = port

    def base_url(self, provider: str) -> str:
        """Where ``provider``'s API begins here."""
        return f"http://127.0.0.1:{self._port}" + ("/v1" if provider == "openai" else "")

    async def close(self) -> None:
        """Nobody asks it any more when this is called: there is nothing that uvicorn's own end, two tenths of a second, could
        wait for."""
        self._task.cancel()
        await asyncio.wait([self._task])
        for one in self._server.servers:
            one.close()
        for connection in list(self._server.server_state.connections):
            connection.shutdown()


class _Server(uvicorn.Server):
    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        # Not `Server.serve`: that takes the process's signals, which belong to the gateway.
        await self._serve(sockets)


async def start() -> EchoServer:
    """Serve the echo model on this event loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="httptools", ws="wsproto", lifespan="off", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]), name="echo model")
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody that it has begun
        await asyncio.sleep(0.001)
    port: int = listener.getsockname()[1]
    return EchoServer(server, task, port)
