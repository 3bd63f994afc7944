"""Judging one message with all that it takes: in a thread where it is long, by the encoder, and by other replicas."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

from gateway.exchange import Exchange
from gateway.screening import earlier
from gateway.screening.inspection import OFFLOAD_BYTES, Inspected, Waiting, inspect_reply, inspect_request
from gateway.screening.policy import Action, Edit
from gateway.services import Services


class Judge:
    """Has requests and whole replies inspected. What is long is looked at in ``scanner``."""

    def __init__(self, services: Services, scanner: Executor) -> None:
        self._services = services
        self._scanner = scanner

    async def request(self, exchange: Exchange, body: bytes) -> Inspected:
        """What is said of a request, and what of it goes on.

        Raises:
            CallerFault: as `inspect_request`.
        """
        found = await self._request(exchange, body)
        return await self._without_earlier(exchange, body, found) if exchange.bound.policy.earlier_texts == "remove" else found

    async def reply(self, exchange: Exchange, body: bytes) -> Inspected:
        """What is said of a whole reply.

        Raises:
            UpstreamFault: as `inspect_reply`.
        """
        return await self._inspect(partial(inspect_reply, leakage=exchange.leakage), exchange, body)

    async def _without_earlier(self, exchange: Exchange, body: bytes, found: Inspected) -> Inspected:
        """A request that is refused for what was said earlier in its conversation goes on without that."""
        rest, taken, spent = found, list[Edit](), 0
        for rounds in range(earlier.ROUNDS + 1):
            if rest.ruling.action is not Action.BLOCK or len(rest.parsed.segments) != len(found.parsed.segments):
                break
            passages = earlier.removals(rest, taken)
            if not passages:
                break
            taken += passages[0] if rounds < earlier.ROUNDS else itertools.chain(*passages)
            rest = await self._request(exchange, earlier.without(body, found.parsed.segments, taken))
            spent += rest.nanoseconds
        return earlier.joined(found, rest._replace(nanoseconds=spent), taken) if taken else found

    async def _request(self, exchange: Exchange, body: bytes) -> Inspected:
        found = await self._inspect(inspect_request, exchange, body)
        if exchange.bound.policy.consensus is None:
            return found
        tenant = exchange.principal.tenant
        return await self._services.asking.put(found, exchange.live, exchange.bound, body, tenant, exchange.vault)

    async def _inspect(self, inspect: Callable[..., Any], exchange: Exchange, body: bytes) -> Inspected:
        live, tenant = exchange.live, exchange.principal.tenant
        common = (exchange.bound, exchange.target, body, tenant, exchange.vault)
        found: Inspected | Waiting
        if len(body) <= OFFLOAD_BYTES:
            found = inspect(live.engine, *common)
        else:
            found = await asyncio.get_running_loop().run_in_executor(self._scanner, inspect, live.engine.twin(), *common)
        if isinstance(found, Waiting):
            found = found.close(await self._services.verdicts.close(found.screening, tenant))
        return found
