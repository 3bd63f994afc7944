"""Asking an upstream for a WebSocket: the client's side of the handshake, which wsproto writes and judges.

No extension is offered, so an upstream that names one has failed.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple, cast

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from gateway.upstream.connection import Timeouts
from gateway.upstream.dial import Abortable, Origin, dial
from gateway.upstream.errors import BadReply, Refused, RequestRefused, TimedOut, Truncated, UpstreamError
from gateway.upstream.http1 import HOP_BY_HOP, Headers
from gateway.websocket.socket import Role, WebSocket

MAX_BODY: Final = 64 * 1024
"""Bytes of what an upstream says in place of a WebSocket: an error, which takes some hundred."""


class Opened(NamedTuple):
    """A WebSocket to an upstream: the headers of its answer, and the subprotocol that it chose."""

    socket: WebSocket
    headers: Headers
    protocol: str | None


async def connect(
    origin: Origin, host: str, target: str, headers: Headers, protocols: list[str], timeouts: Timeouts, message_bytes: int
) -> Opened:
    """Open a WebSocket.

    Args:
        host: as the header says it. target: path and query. headers: lower-case names; none that the handshake is made of.
        protocols: subprotocols that are offered.

    Raises:
        Refused: the answer is another one. RequestRefused: the request cannot be written; the caller's fault.
        UpstreamError: no answer, or one that is none.
    """
    loop = asyncio.get_running_loop()
    ws = WSConnection(ConnectionType.CLIENT)
    try:
        asked = ws.send(Request(host=host, target=target, extra_headers=headers, subprotocols=protocols))
    except (LocalProtocolError, ValueError):
        raise RequestRefused("a header's name is not a token, or its value holds a control character") from None
    opening = await dial(origin, lambda: _Opening(ws, loop), timeouts.connect)
    try:
        async with asyncio.timeout(timeouts.first_byte):
            accepted = await opening.ask(asked)
    except TimeoutError:
        opening.abort()
        raise TimedOut("first_byte") from None
    except BaseException:
        opening.abort()
        raise
    assert ws.connection is not None
    assert opening.transport is not None
    socket = WebSocket(loop, Role.CLIENT, message_bytes, ws.connection)
    socket.attach(opening.transport)
    told = [(bytes(name), bytes(value)) for name, value in accepted.extra_headers if name not in HOP_BY_HOP]
    return Opened(socket, told, accepted.subprotocol)


class _Opening(asyncio.Protocol, Abortable):
    """The connection until the answer has come."""

    def __init__(self, ws: WSConnection, loop: asyncio.AbstractEventLoop) -> None:
        self._ws = ws
        self._answer: asyncio.Future[AcceptConnection] = loop.create_future()
        self._refusal: RejectConnection | None = None
        self._body = b""
        self._received = 0
        self.transport: asyncio.Transport | None = None

    async def ask(self, request: bytes) -> AcceptConnection:
        assert self.transport is not None
        self.transport.write(request)
        return await self._answer

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._answer.done():
            return
        self._received += len(data)
        try:
            self._ws.receive_data(data)
            for event in self._ws.handshake.events():
                match event:
                    case AcceptConnection():
                        self._accept(event)
                    case RejectConnection():
                        self._refusal = event
                        if not event.has_body:
                            raise BadReply("an interim answer to a handshake")
                    case RejectData():
                        self._body += event.data
                        if event.body_finished or len(self._body) > MAX_BODY:
                            self._refused()
                    case _:
                        pass
        except BadReply as error:
            self._fail(error)
        except (RemoteProtocolError, ValueError) as error:
            self._fail(BadReply(f"not the answer to a WebSocket's handshake: {error}"[:200]))

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._refusal is not None:
            self._refused()
        self._fail(Truncated(self._received))

    def _accept(self, event: AcceptConnection) -> None:
        assert self.transport is not None
        self.transport.pause_reading()  # until it has another reader
        self._answer.set_result(event)

    def _refused(self) -> None:
        if not self._answer.done() and self._refusal is not None:
            headers = [(bytes(name), bytes(value)) for name, value in self._refusal.headers]
            self._answer.set_exception(Refused(self._refusal.status_code, headers, self._body[:MAX_BODY]))

    def _fail(self, error: UpstreamError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)
            self._answer.exception()  # whoever asked may be gone
