"""Values behind stand-ins in a conversation that the provider keeps: sealed in the state, for the caller who sent them.

A request may go on from an earlier one without repeating it (``previous_response_id`` and ``conversation`` of the Responses
API, ``thread`` of Anthropic's messages), and the reply may name a stand-in that this request did not make. So what a request's
vault holds is kept under the ids of its reply, and fetched, while the upstream works, by a request that goes on from them,
wherever that lands. What was fetched is kept on under the new reply's id: a conversation takes its values along.

It is kept for one tenant and one key of it, so nobody else gets it back, whatever ids they name: both are part of the name,
and of the key that it is sealed by (`gateway.redaction.sealing`). Callers without a key cannot be told apart: nothing is kept
for them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from gateway.exchange import Exchange
from gateway.keys import Principal
from gateway.redaction.sealing import Sealer, answered
from gateway.redaction.vault import Vault
from gateway.state.base import State, StateUnavailable
from gateway.telemetry.metrics import Metrics
from gateway.wires.base import Thread

FETCH_SECONDS: Final = 0.25
"""How long a reply waits for values when its upstream was faster than the state; then its stand-ins stay as they are."""

KEEP_SECONDS: Final = 0.1
"""How long a reply waits until its values are kept, so that the next request finds them. Then it is done behind."""

MAX_BYTES: Final = 64 * 2**10
"""Values of one conversation: a thousand and more. The latest are kept."""

MAX_IDS: Final = 4
"""Ids that one request or reply names: there are two kinds."""

RESULTS: Final = ("found", "missing", "late", "forged", "unavailable", "kept", "cut", "lost")


class Threads:
    """What is kept of conversations, from one worker's side. `begin` turns it on."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sealer: Sealer | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self.results: Counter[str] = Counter()

    def register(self, metrics: Metrics) -> None:
        """Count what came of fetching and keeping."""
        metrics.count(
            "portcullis_thread_values", "Conversations whose values were asked for or kept, by what came of it.", ("result",),
            lambda: {(result,): float(self.results[result]) for result in RESULTS},
        )  # fmt: skip

    def begin(self, secret: bytes) -> None:
        """Keep values from now on. ``secret`` is the configuration's, which the state does not hold."""
        self._sealer = Sealer(secret, "thread")

    async def stop(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way)

    def fetch(self, thread: Thread | None, principal: Principal) -> asyncio.Task[dict[str, str]] | None:
        """Begin to fetch what was kept of the conversation that a request goes on from; None where there is none."""
        if thread is None or not thread.ids or self._sealer is None or not principal.key:
            return None
        return self._start(self._fetched(self._sealer, _names(self._sealer, thread, principal)))

    async def take(self, fetching: asyncio.Task[dict[str, str]], vault: Vault) -> None:
        """Put what was fetched into a request's vault."""
        await asyncio.wait([fetching], timeout=FETCH_SECONDS)
        if fetching.done():
            vault.learn(fetching.result())
        else:
            self.results["late"] += 1

    def keeps(self, exchange: Exchange) -> bool:
        """Whether anything is to be kept of a request, when its reply tells by what a later one goes on."""
        if self._sealer is None or not exchange.vault.values or exchange.request is None or not exchange.principal.key:
            return False
        thread = exchange.request.parsed.thread
        return thread is not None and thread.kept and exchange.live.settings.retention.values_seconds > 0

    async def keep(self, exchange: Exchange, thread: Thread | None) -> None:
        """Keep a request's values under the ids of its reply; returns when that is done, or when it takes too long."""
        if thread is None or not thread.ids or self._sealer is None:
            return
        sealer, until = self._sealer, time.time() + exchange.live.settings.retention.values_seconds
        value = self._fitted(exchange.vault.values, until)
        sealed = {name: sealer.seal(name, value) for name in _names(sealer, thread, exchange.principal)}
        await asyncio.wait([self._start(self._kept(sealed, until))], timeout=KEEP_SECONDS)

    async def _fetched(self, sealer: Sealer, names: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        try:
            answers = await self._state.fleeting(names, time.time())
        except StateUnavailable:
            self.results["unavailable"] += 1
            return found
        for name, sealed in answered(names, answers):
            value = None if sealed is None else sealer.open(name, sealed)
            if value is not None:
                doc = json.loads(value)
                found |= doc["values"] if time.time() < doc["until"] else {}  # whatever the store still has
            self.results["missing" if sealed is None else "forged" if value is None else "found"] += 1
        return found

    async def _kept(self, values: Mapping[str, bytes], until: float) -> None:
        try:
            await self._state.put_fleeting(values, until)
            self.results["kept"] += 1
        except StateUnavailable:
            self.results["lost"] += 1

    def _fitted(self, values: Mapping[str, str], until: float) -> bytes:
        """As many as fit; a vault has its own request's first."""
        chosen, room = {}, MAX_BYTES
        for name, value in values.items():
            room -= len(json.dumps(name)) + len(json.dumps(value)) + 4
            if room < 0:
                self.results["cut"] += 1
                break
            chosen[name] = value
        return json.dumps({"until": until, "values": chosen}).encode()

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task


def _names(sealer: Sealer, thread: Thread, principal: Principal) -> list[str]:
    return [sealer.name(principal.tenant, principal.key, each) for each in thread.ids[:MAX_IDS]]
