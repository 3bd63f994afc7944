"""Having what is said in a session judged: an event of the client, and what the provider understood of the user's audio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

import orjson

from detectors.passages import THREAD
from detectors.values import Origin, Segment
from gateway.exchange import Exchange
from gateway.redaction.vault import Vault
from gateway.screening.inspection import OFFLOAD_BYTES, Inspected, Waiting, inspect_event
from gateway.screening.policy import Action
from gateway.services import Services
from gateway.streams.following import STEP, Cut, Follower
from gateway.wires.base import Parsed

_TRANSCRIPT: Final = ("transcript",)


class Judge:
    """Judges for all sessions of a worker. What is long is looked at in ``scanner``."""

    def __init__(self, services: Services, scanner: Executor) -> None:
        self._services = services
        self._scanner = scanner

    async def event(
        self, exchange: Exchange, parsed: Parsed, thread: Sequence[Segment], moved: bool, body: bytes
    ) -> Inspected:
        """An event of the client, as a request is judged.

        ``thread`` is what the user said before it. The model may read it after the event, where that was ``moved`` to another
        place of the conversation: both are judged.
        """
        before, after = thread, list[Segment]()
        found = await self._inspect(exchange, parsed, before, body, exchange.vault)
        if moved and thread and found.ruling.action is not Action.BLOCK:
            behind = _fitting(thread, parsed.segments)
            turned = await self._inspect(exchange, parsed, (), body, exchange.vault, behind)
            if turned.ruling.action is Action.BLOCK:
                found, before, after = turned, (), behind
        if exchange.bound.policy.consensus is not None:
            asking, tenant = self._services.asking, exchange.principal.tenant
            found = await asking.put(found, exchange.live, exchange.bound, body, tenant, exchange.vault, before, after)
        return found

    async def speech(self, exchange: Exchange, text: str, before: Sequence[Segment]) -> Inspected:
        """What the user said aloud. It has reached the model, so nothing can be taken out of it any more."""
        spoken = Segment(text, "user", Origin.USER, 0, _TRANSCRIPT)
        body = orjson.dumps({"transcript": text})
        parsed = Parsed(None, True, [spoken], [])
        found = await self._inspect(exchange, parsed, before, body, exchange.vault.sealed())
        ruling = found.ruling
        told = tuple(Action.FLAG if action is Action.REDACT else action for action in ruling.actions)
        worst = Action.FLAG if ruling.action is Action.REDACT else ruling.action
        return found._replace(ruling=ruling._replace(action=worst, actions=told, edits=()), body=b"", edits=0)

    async def rising(self, exchange: Exchange, follower: Follower) -> Cut | None:
        """What the user is still saying: the cut that `Policy.alarm` calls for."""
        if follower.behind < STEP:
            return None
        trip = follower.trip(whole=False)
        judged = await self._services.semantics.judge(exchange.live.engine, trip.segments, exchange.principal.tenant)
        follower.judged = trip.until
        follower.forget(1)
        return follower.rise(trip, judged.verdict)

    async def _inspect(
        self, exchange: Exchange, parsed: Parsed, before: Sequence[Segment], body: bytes, vault: Vault,
        after: Sequence[Segment] = (),
    ) -> Inspected:  # fmt: skip
        live, tenant = exchange.live, exchange.principal.tenant
        what = (exchange.bound, parsed, before, body, tenant, vault, after)
        found: Inspected | Waiting
        if len(body) <= OFFLOAD_BYTES:
            found = inspect_event(live.engine, *what)
        else:
            found = await asyncio.get_running_loop().run_in_executor(
                self._scanner, inspect_event, live.engine.twin(), *what
            )
        if isinstance(found, Waiting):
            found = found.close(await self._services.semantics.close(found.screening, tenant))
        return found


def _fitting(thread: Sequence[Segment], said: Sequence[Segment]) -> list[Segment]:
    """As much of the thread as is judged together with what comes before it, as turns that follow it."""
    left = THREAD - sum(len(part.text) for part in said if part.origin is Origin.USER)
    last = max((part.turn for part in said), default=0)
    fitting: list[Segment] = []
    for part in thread:
        if left <= 0:
            break
        fitting.append(part._replace(text=part.text[:left], turn=last + 1 + len(fitting)))
        left -= len(part.text)
    return fitting
