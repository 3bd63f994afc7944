"""How a session begins: the caller's handshake, the upstream's, and the agreement."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final
from urllib.parse import urlsplit

from gateway.exchange import Exchange
from gateway.faults import CallerFault, OwnFault
from gateway.keys import Principal
from gateway.providers import Provider
from gateway.realtime.judging import Judge
from gateway.screening.inspection import nothing
from gateway.services import Services
from gateway.serving.call import Call
from gateway.serving.inbound import Head, Headers
from gateway.serving.outbound import screened_headers
from gateway.streams.streaming import Streaming
from gateway.websocket.answering import HANDSHAKE, Offer

_AUTHORIZATION: Final = b"authorization"


class Realtime:
    """The sessions of one worker."""

    def __init__(
        self, services: Services, scanner: Executor, streaming: Streaming, finish: Callable[[Exchange], None]
    ) -> None:
        self._services = services
        self._scanner = scanner
        self._judge = Judge(services, scanner)
        self._streaming = streaming
        self._finish = finish
        self._sessions = 0
        self._by_tenant: Counter[str] = Counter()
        services.metrics.gauge(
            "portcullis_realtime_sessions", "Realtime sessions that are open.", (), lambda: {(): float(self._sessions)}
        )
        services.metrics.gauge(
            "portcullis_realtime_sessions_limit", "Realtime sessions that may be open.", (),
            lambda: {(): float(services.live.settings.realtime.sessions)},
        )  # fmt: skip

    def admit(self, call: Call, offer: Offer, principal: Principal) -> None:
        """Whether there is room for a session, and whether the page that asks for it may.

        A browser lets any page open a WebSocket to any address. One that knows a key may; a gateway without keys takes only
        pages of its own machine or names.

        Raises:
            CallerFault, OwnFault: it may not; there is none.
        """
        if not call.upgradable:
            raise CallerFault(400, "invalid_header", "upgrade: wanted in HTTP/1.1, with no body and nothing behind it")
        if principal.key == "" and offer.origin is not None:
            host = urlsplit(offer.origin.decode("latin-1")).netloc
            if not host or not self._services.host_is_ours(host.encode("latin-1")):
                raise CallerFault(403, "origin_refused", "origin: pages of this one may open sessions only with a key")
        if self._services.draining or self._sessions >= self._services.live.settings.realtime.sessions:
            raise OwnFault(503, "overloaded", "no more realtime sessions here; try again", ((b"retry-after", b"1"),))
        share = -(-self._services.live.settings.realtime.sessions // 2)
        if principal.key and self._by_tenant[principal.tenant] >= share:
            problem = f"this tenant has {share} realtime sessions here, half of all that may be; try again"
            raise CallerFault(429, "rate_limit_exceeded", problem, ((b"retry-after", b"1"),))

    async def hold(
        self, call: Call, exchange: Exchange, offer: Offer, token: bytes | None, head: Head, query: bytes, provider: Provider
    ) -> None:
        """Open a session at ``provider``, agree with the caller, and hold it to its end.

        Raises:
            Refused, UpstreamError, RequestRefused: the provider did not agree; nothing was said to the caller.
            ClientGone: the caller left first.
        """
        from gateway.realtime.session import Session  # with wsproto: not for the start
        from gateway.websocket.socket import Role, WebSocket

        tenant = exchange.principal.tenant
        self._sessions += 1
        self._by_tenant[tenant] += 1
        try:
            limits = self._services.live.settings.realtime
            opened, name = await provider.connect(
                call.raw_path, query, _forwarded(head), list(offer.protocols), limits.message_bytes
            )
            exchange.upstream, exchange.upstream_status = name, 101
            try:
                exchange.request = nothing(exchange.live.engine, exchange.bound, b"")
                client = WebSocket(asyncio.get_running_loop(), Role.SERVER, limits.message_bytes)
                exchange.status = 101
                call.switch(_agreed(offer, opened.headers, exchange), client)
                session = Session(
                    self._services, self._streaming, self._judge, self._scanner, self._finish, exchange, token, client,
                    opened.socket,
                )  # fmt: skip
                exchange.reason = await session.run()
            finally:
                opened.socket.close()
        finally:
            self._sessions -= 1
            self._by_tenant[tenant] -= 1
            self._by_tenant += Counter()  # tenants that have none are forgotten


def with_key(head: Head, offer: Offer) -> Head:
    """The headers with the key that a page sent as a subprotocol, as the header that it could not set."""
    if not offer.key:
        return head
    return head.knowing((*head.credentials, (_AUTHORIZATION, b"Bearer " + offer.key.encode("latin-1"))))


def _forwarded(head: Head) -> Head:
    return head.forwarding(tuple(pair for pair in head.forward if pair[0] not in HANDSHAKE))


def _agreed(offer: Offer, headers: Headers, exchange: Exchange) -> Headers:
    passed = [pair for pair in screened_headers(exchange, headers) if pair[0] not in HANDSHAKE]
    return offer.answer() + passed + exchange.headers()
