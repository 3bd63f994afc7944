"""How a session ends while both of its sides are stuck."""

from __future__ import annotations

import asyncio

from test_websocket import Wire, frame, opened

from gateway.realtime.allowance import Allowance
from gateway.realtime.session import Ending, Session
from gateway.websocket import socket as ws
from gateway.websocket.socket import Role, WebSocket


class Unlimited(Allowance):
    """Nothing is counted."""

    def __init__(self) -> None: ...

    def spend(self) -> None: ...


class Stuck(Session):
    """A session in which all that is waited for never comes."""

    def __init__(self, client: WebSocket, upstream: WebSocket) -> None:
        self._client, self._upstream = client, upstream
        self._lost = asyncio.Event()
        self._allowance = Unlimited()
        self._settling, self._pending, self._unread = set(), [], {}

    async def _never(self) -> Ending:
        await asyncio.Event().wait()
        raise AssertionError

    _up = _down = _clock = _never


def test_a_client_that_is_lost_ends_it_whatever_is_waited_for() -> None:
    async def talk(said: bytes, code: int) -> None:
        loop = asyncio.get_running_loop()
        client, _ = opened(loop)
        upstream, wire = WebSocket(loop, Role.CLIENT, 1000), Wire()
        upstream.attach(wire)
        running = loop.create_task(Stuck(client, upstream).run())
        await asyncio.sleep(0)
        client.data_received(said)
        client.connection_lost(None)
        assert await asyncio.wait_for(running, 30) == f"closed with {code} by the client"
        assert wire.sent[:1] == b"\x88", "the provider is told"
        upstream.abort()
        upstream.connection_lost(None)

    asyncio.run(talk(frame(1, b"{}"), ws.GOING_AWAY))
    asyncio.run(talk(frame(1, b"{}") + frame(8, b"\x03\xe8"), ws.NORMAL))
    asyncio.run(talk(frame(1, b"{}") * 20_000, ws.GOING_AWAY))
