"""One session, from the agreement to a WebSocket to its end: what either side says, a clock, and what is recorded of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Final, NamedTuple

import orjson

from detectors.leakage import Leakage
from detectors.values import Opaque, Origin, show_path
from gateway.exchange import Exchange
from gateway.faults import CallerFault, ClientGone, Fault, OwnFault
from gateway.keys import Permission
from gateway.realtime.allowance import Allowance
from gateway.realtime.conversation import Conversation, Event, Heard
from gateway.realtime.echoes import Echoes
from gateway.realtime.gathering import gathered
from gateway.realtime.judging import Judge
from gateway.realtime.reading import read_event
from gateway.realtime.turn import TurnSink, TurnSource
from gateway.records.admission import check_records
from gateway.screening.inspection import Inspected, nothing
from gateway.screening.policy import Action
from gateway.services import Services
from gateway.streams.following import Cut, Follower
from gateway.streams.moving import Interrupted
from gateway.streams.streaming import Moved, Streaming
from gateway.websocket import socket as ws
from gateway.websocket.socket import Closed, WebSocket
from gateway.wires import strict
from gateway.wires.base import Malformed
from gateway.wires.openai_common import RATE_LIMITED
from gateway.wires.openai_realtime import UNKNOWN_EVENT
from gateway.wires.openai_realtime_events import error_event

MAX_VALUES: Final = 10_000
"""Values that a session's vault may hold: they live as long as it does."""

MAX_PENDING: Final = 256
"""Events of the client that wait to be recorded with the next turn; more of them make a record of their own."""

MAX_PENDING_BYTES: Final = 2**20
"""Bytes of those events: their texts stay in memory until they are recorded."""

CLOCK_SECONDS: Final = 0.5
"""How often a session looks at its bounds of time and at its key."""

LEAVE_SECONDS: Final = 0.5
"""How long what a client said before it was lost may take to be judged and sent; its session ends then at the latest."""

DRAIN_MARGIN: Final = 0.5
"""Seconds before the end of a drain at which a session is closed, so that the close is still sent."""

_log = logging.getLogger(__name__)


class Ending(NamedTuple):
    """Why a session ends: by whom, with which code either side is closed, and what the caller is told before."""

    by: str
    code: int
    event: Event | None = None


class Session:
    """One session. `run` holds it."""

    def __init__(
        self, services: Services, streaming: Streaming, judge: Judge, scanner: Executor, finish: Callable[[Exchange], None],
        opening: Exchange, token: bytes | None, client: WebSocket, upstream: WebSocket,
    ) -> None:  # fmt: skip
        """
        Args:
            scanner: reads what is long. finish: counts and records an exchange.
            opening: the handshake's exchange. token: the key that the caller presented.
        """
        self._services = services
        self._streaming = streaming
        self._judge = judge
        self._scanner = scanner
        self._finish = finish
        self._opening, self._token = opening, token
        self._client, self._upstream = client, upstream
        self._mark = secrets.token_hex(8)
        self._conversation, self._echoes = Conversation(self._mark), Echoes()
        self._events = services.metrics.realtime_events
        self._pending: list[Inspected] = []
        self._pending_bytes = 0
        self._unread: dict[tuple[Origin, str], Opaque] = {}
        self._follower: Follower | None = None
        self._settling: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._began = self._active = self._loop.time()
        self._drain_at: float | None = None
        self._number = 0
        self._lost = asyncio.Event()
        self._allowance = Allowance(services.limiter, opening)
        self._responding = False

    async def run(self) -> str:
        """Hold the session to its end, with all that was said in it recorded; says how it ended."""
        self._client.on_shutdown = self._drain
        self._client.on_lost.append(self._lost.set)
        pumps = [asyncio.ensure_future(pump) for pump in (self._up(), self._down(), self._gone(), self._clock())]
        ending = Ending("gateway", ws.GOING_AWAY)
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            ending = next(one for one in pumps if one in done).result()
        except Exception:
            _log.exception("a session failed for a reason of ours")
            ending = Ending("gateway", ws.FAILED, self._error("internal_error", "the gateway failed; its log says why"))
        finally:
            for pump in pumps:
                pump.cancel()
            if ending.event is not None:
                self._client.send_last(orjson.dumps(ending.event).decode())
            self._client.close(ending.code)
            self._upstream.close(ending.code)
            await asyncio.gather(*pumps, *self._settling, return_exceptions=True)
            if self._pending or self._unread:
                self._record(self._gathered(self._exchange("turn")))
            self._allowance.spend()
        return f"closed with {ending.code} by the {ending.by}"

    # The client's side.

    async def _up(self) -> Ending:
        while True:
            try:
                message = await self._client.receive()
            except Closed as closed:
                return _left(closed)
            self._active = self._loop.time()
            try:
                forwarded = await self._said(message)
                if forwarded is not None:
                    await self._upstream.send(forwarded)
            except Closed:
                await asyncio.Event().wait()  # the other pump has seen it, or will: it says how the session ends
            if len(self._opening.vault) > MAX_VALUES:
                told = f"a session may have {MAX_VALUES} values redacted"
                return Ending("gateway", ws.POLICY, self._error("session_expired", told))

    async def _gone(self) -> Ending:
        """A client that is lost ends the session, whatever either side is still waiting for."""
        await self._lost.wait()
        await asyncio.sleep(LEAVE_SECONDS)
        return _left(self._client.closed)

    async def _said(self, message: str) -> str | None:
        """What goes on of an event of the client; None where it is refused, and he was told."""
        body = message.encode()
        self._opening.bytes_in += len(body)
        exchange = self._exchange("event")
        read = await read_event(body, exchange.target, self._scanner)
        event, parsed = read.event, read.parsed
        try:
            if read.wrong is not None:
                raise read.wrong
            check_records(self._services, exchange.bound.policy)
            if event["type"] == "response.create":
                self._allowance.admit()
        except (strict.BadJson, Malformed, Fault) as error:
            limited = isinstance(error, CallerFault)
            self._events.add(("client", "limit" if limited else "invalid"))
            code = error.code if isinstance(error, strict.BadJson | Fault) else "invalid_field"
            param = show_path(error.path) if isinstance(error, Malformed) and error.path else None
            kind = RATE_LIMITED if limited else None
            await self._tell(self._error(code, str(error), read.id, param, isinstance(error, OwnFault), kind))
            return None
        policy = exchange.bound.policy
        if policy.acts and policy.waits and any(part.reason == UNKNOWN_EVENT for part in parsed.opaque):
            self._events.add(("client", "invalid"))
            await self._tell(self._error("unknown_event", "the policy takes no event that it does not know", read.id, "type"))
            return None
        for part in parsed.opaque:
            self._unread.setdefault((part.origin, part.reason), part)
        if not parsed.segments:
            self._events.add(("client", "pass" if not parsed.opaque else "unscreened"))
            self._allowance.owe(event)
            self._conversation.said(str(event["type"]), parsed)
            return message
        moved = event.get("previous_item_id") is not None
        judged = await self._judge.event(exchange, parsed, self._conversation.thread, moved, body)
        exchange.bytes_in = len(body)
        if judged.ruling.action is Action.BLOCK:
            await self._refuse(exchange, judged, read.id)
            return None
        self._events.add(("client", judged.ruling.action.value))
        self._allowance.owe(event)
        self._conversation.said(str(event["type"]), parsed)
        self._echoes.note(event if judged.body is body else orjson.loads(judged.body))
        self._keep(judged, len(body))
        return message if judged.body is body else judged.body.decode()

    async def _refuse(self, exchange: Exchange, judged: Inspected, id: str | None) -> None:
        self._events.add(("client", "block"))
        exchange.request, exchange.status = judged, 400
        actions = judged.ruling.actions
        cause = actions.index(Action.BLOCK) if Action.BLOCK in actions else None
        path = judged.parsed.segments[judged.judged.verdict.findings[cause].segment].path if cause is not None else ()
        told = f"Blocked by Portcullis: {judged.ruling.reason}. Decision {exchange.id}."
        self._record(exchange)
        await self._tell(self._error("content_filter", told, id, show_path(path) if path else None))

    async def _tell(self, event: Event) -> None:
        """Say something of the gateway's own to the caller; one who is gone needs nothing."""
        with contextlib.suppress(Closed):
            await self._client.send(orjson.dumps(event).decode())

    # The server's side.

    async def _down(self) -> Ending:
        source = TurnSource(self._upstream, self._conversation, self._events, self._told, self._heard, self._scanner)
        while True:
            while not self._upstream.at_hand:
                await self._upstream.wait()
            try:
                broken = await self._turn(source)
            except ClientGone:
                await asyncio.Event().wait()  # as above
            self._active = self._loop.time()
            if (closed := source.closed) is None:
                if broken:
                    return Ending("gateway", ws.FAILED)
                continue
            if closed.code != ws.ABNORMAL:
                return Ending("upstream", closed.code)
            lost = "the upstream closed the connection without a word"
            told = None if source.broke else self._error("upstream_error", lost, server=True)
            return Ending("upstream", ws.FAILED, told)

    async def _turn(self, source: TurnSource) -> bool:
        """Relay one turn; true where the upstream said what is no event."""
        exchange = self._exchange("turn")
        policy = exchange.bound.policy
        exchange.upstream, exchange.upstream_status, exchange.usage = self._opening.upstream, 101, self._allowance.usage
        exchange.request = nothing(exchange.live.engine, exchange.bound, b"")
        prompt = self._conversation.prompt
        if any(part.origin is Origin.SYSTEM for part in prompt):
            leakage = Leakage(prompt, exchange.vault.canary if policy.canary else "")
            exchange.leakage = None if leakage.idle else leakage
        source.begin()
        sink = TurnSink(self._client, exchange, self._events)
        self._allowance.moving, self._responding = exchange, self._conversation.responding
        try:
            moved = await self._streaming.move(exchange, sink, source, self._opening.upstream)
        except BaseException as error:
            exchange.client_gone = isinstance(error, ClientGone | asyncio.CancelledError)
            if not exchange.client_gone:
                exchange.reason = "the gateway failed"
            if not exchange.client_gone or (
                exchange.reply is not None and (exchange.reply.parsed.segments or exchange.reply.parsed.opaque)
            ):
                self._record(self._gathered(exchange))
            raise
        finally:
            self._allowance.moving = None
            self._opening.bytes_out += exchange.bytes_out
            self._allowance.spend()
        if moved.relay.cut is not None:
            self._events.add(("server", "cut"))
            await self._ask(self._conversation.cut())
        if moved.segments or moved.relay.unheard or moved.relay.cut is not None or moved.broken:
            self._gathered(exchange)
            if moved.screening.asked:
                task = self._loop.create_task(self._settle(exchange, moved))
                self._settling.add(task)
                task.add_done_callback(self._settling.discard)
            else:
                self._record(exchange)
        return moved.broken

    async def _settle(self, exchange: Exchange, moved: Moved) -> None:
        try:
            await self._streaming.settle(exchange, moved)
        finally:
            self._record(exchange)

    async def _heard(self, heard: Heard) -> Interrupted | None:
        """Judge what the user said aloud; gives what the turn is cut for."""
        exchange = self._exchange("event")
        policy = exchange.bound.policy
        cut: Cut | None = None
        if heard.whole:
            judged = await self._judge.speech(exchange, heard.text, self._conversation.thread)
            self._follower = None
            if judged.ruling.action is not Action.BLOCK:  # what is taken back is not said: later words are judged without it
                self._conversation.said("", judged.parsed)
                self._echoes.note(heard.text)
                self._keep(judged, len(heard.text))
                return None
            exchange.request, exchange.status = judged, 400
            self._record(exchange)
            threat, cause = judged.ruling.reason, "speech"
            cut = Cut(threat, cause, "speech", judged.judged.verdict.score)
        elif policy.acts and policy.alarm is not None:
            if self._follower is None:
                self._follower = Follower(policy, 0)
            self._follower.feed((heard.item,), heard.text, origin=Origin.USER)
            cut = await self._judge.rising(exchange, self._follower)
        if cut is None:
            return None
        await self._ask(self._conversation.take_back(heard.item))
        return Interrupted(cut, f"Blocked by Portcullis: {cut.threat}, said aloud. Decision {exchange.id}.")

    async def _told(self, asks: Iterable[Event]) -> None:
        """The server has said something that calls for these events. A response that nobody asked for counts as a request."""
        await self._ask(asks)
        began = self._conversation.responding and not self._responding
        self._responding = self._conversation.responding
        if not began:
            return
        try:
            self._allowance.began()
        except CallerFault as fault:
            self._events.add(("server", "limit"))
            await self._ask([{"type": "response.cancel", "event_id": f"{self._mark}limit"}])
            await self._tell(self._error(fault.code, str(fault), kind=RATE_LIMITED))

    async def _ask(self, events: Iterable[Event]) -> None:
        """Send the server events of the gateway's own; one that is gone needs none."""
        with contextlib.suppress(Closed):
            for event in events:
                await self._upstream.send(orjson.dumps(event).decode())

    # What both have in common.

    async def _clock(self) -> Ending:
        """End the session when its time is up, or its key is not valid any more."""
        while True:
            await asyncio.sleep(CLOCK_SECONDS)
            self._allowance.spend()
            if self._client.left:
                self._lost.set()
            now, limits = self._loop.time(), self._services.live.settings.realtime
            if self._drain_at is not None and now >= self._drain_at:
                return Ending("gateway", ws.GOING_AWAY)
            if now - self._began > limits.total_seconds:
                told = f"a session may last {limits.total_seconds:g} seconds"
                return Ending("gateway", ws.GOING_AWAY, self._error("session_expired", told))
            if now - self._active > limits.idle_seconds:
                told = f"nothing was said for {limits.idle_seconds:g} seconds"
                return Ending("gateway", ws.GOING_AWAY, self._error("session_expired", told))
            principal = self._services.keys.ring.find(self._token, time.time())
            if principal is None or principal.tenant != self._opening.principal.tenant \
                    or not principal.may(Permission.DATA_PLANE):  # fmt: skip
                return Ending("gateway", ws.POLICY, self._error("invalid_api_key", "the key is not valid any more"))

    def _drain(self) -> None:
        drain = self._services.live.settings.limits.drain_seconds
        self._drain_at = self._loop.time() + max(0.0, drain - DRAIN_MARGIN - CLOCK_SECONDS)

    def _exchange(self, what: str) -> Exchange:
        """What is begun in this session: under the policy and the patterns that act now."""
        opening, live = self._opening, self._services.live
        target = opening.target._replace(operation=f"realtime.{what}:{opening.id}", said=self._echoes)
        exchange = Exchange(live, target, opening.principal)
        exchange.vault = opening.vault
        return exchange

    def _keep(self, judged: Inspected, size: int) -> None:
        """Keep an event of so many bytes that went on, for the record of its turn."""
        self._pending.append(judged._replace(body=b""))
        self._pending_bytes += size
        if len(self._pending) > MAX_PENDING or self._pending_bytes > MAX_PENDING_BYTES:
            self._record(self._gathered(self._exchange("turn")))

    def _gathered(self, exchange: Exchange) -> Exchange:
        """The exchange with what the client said since the last one."""
        exchange.request = gathered(
            nothing(exchange.live.engine, exchange.bound, b""), self._pending, self._unread.values()
        )
        exchange.bytes_in = self._pending_bytes
        self._pending, self._pending_bytes, self._unread = [], 0, {}
        return exchange

    def _record(self, exchange: Exchange) -> None:
        exchange.status = exchange.status or 200
        self._finish(exchange)

    def _error(
        self, code: str, message: str, answered: str | None = None, param: str | None = None, server: bool = False,
        kind: str | None = None,
    ) -> Event:  # fmt: skip
        """An event that something is wrong, with the event whose id is ``answered``."""
        self._number += 1
        told = error_event(f"c{self._number}", code, message, param=param, event_id=answered, server=server)
        if kind is not None:
            told["error"]["type"] = kind
        return told


def _left(closed: Closed | None) -> Ending:
    """How a session ends whose client closed it, or is lost."""
    return Ending("client", ws.GOING_AWAY if closed is None or closed.code == ws.ABNORMAL else closed.code)
