"""What goes back to the caller of a proxied request: whole, streamed, refused or an error, in the caller's wire format."""

from __future__ import annotations

from gateway.exchange import Exchange
from gateway.faults import Fault
from gateway.screening.inspection import Inspected
from gateway.serving.call import Call
from gateway.serving.inbound import Headers
from gateway.wires.base import Reply


class Answer:
    """The reply to the caller; it knows whether it has begun, after which no error can be sent any more."""

    __slots__ = ("_call", "_exchange", "begun")

    def __init__(self, call: Call, exchange: Exchange) -> None:
        self._call = call
        self._exchange = exchange
        self.begun = False

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        self.begun = True
        self._exchange.status = status
        self._exchange.bytes_out = len(body)
        await self._call.whole(status, headers + self._exchange.headers(), body)

    async def made(self, reply: Reply, headers: Headers) -> None:
        await self.whole(reply.status, [(b"content-type", reply.content_type), *headers], reply.body)

    async def refusal(self, inspected: Inspected, early: bool = False, headers: Headers | None = None) -> None:
        """Refuse a message; ``early``: before its end, so that nobody knows what kind of reply it asks for. ``headers``: what
        the refusal carries besides."""
        exchange = self._exchange
        target, request = exchange.target, exchange.request
        as_reply = exchange.bound.policy.on_block == "refusal" and not early
        parsed = request.parsed if request else inspected.parsed
        made = target.wire.refuse(target, parsed, self._blocked(inspected), as_reply, exchange.id)
        await self.made(made, headers or [])

    async def withheld(self, status: int, inspected: Inspected, headers: Headers) -> None:
        """Say that the upstream failed, with its ``status``, and nothing of what it says of that: a policy blocks it."""
        exchange = self._exchange
        message = f"the upstream's error is withheld. {self._blocked(inspected)}"
        await self.made(exchange.target.wire.error(status, "upstream_error", message, exchange.id), headers)

    def _blocked(self, inspected: Inspected) -> str:
        return f"Blocked by Portcullis: {inspected.ruling.reason}. Decision {self._exchange.id}."

    async def fault(self, fault: Fault) -> None:
        if self.begun:
            return  # the status is out; a relay that breaks off says so in the stream
        exchange = self._exchange
        exchange.reason = exchange.reason or fault.message
        wire = exchange.target.wire
        await self.made(wire.error(fault.status, fault.code, fault.message, exchange.id), list(fault.headers))

    async def start(self, status: int, headers: Headers) -> None:
        self.begun = True
        self._exchange.status = status
        await self._call.start(status, headers + self._exchange.headers())

    async def piece(self, data: bytes) -> None:
        self._exchange.bytes_out += len(data)
        await self._call.piece(data)

    @property
    def full(self) -> bool:
        """Whether the caller reads more slowly than is written."""
        return self._call.full

    def write(self, data: bytes) -> None:
        """As `piece`, without waiting for a slow caller."""
        self._exchange.bytes_out += len(data)
        self._call.write(data)

    async def end(self) -> None:
        await self._call.end()
