"""The story of a streamed reply: moved to the caller while it is screened, and looked at once more when it is whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

from detectors.engine import Engine, Screening
from detectors.leakage import THREAT, Leak
from detectors.parts import Parts
from detectors.values import Origin, Segment
from gateway.exchange import Exchange, relay_summary, said_segments
from gateway.faults import ClientGone
from gateway.providers import Sent
from gateway.screening.inspection import OFFLOAD_BYTES
from gateway.screening.policy import Action, Direction, Policy
from gateway.services import Services
from gateway.serving.answer import Answer
from gateway.serving.inbound import read_as
from gateway.serving.outbound import screened_headers
from gateway.streams.beside import Beside
from gateway.streams.following import Cut, Follower
from gateway.streams.moving import Direct, Moving, Pieces, Sink, Source
from gateway.streams.pauses import Pauses
from gateway.streams.relay import Relay
from gateway.streams.sound import Sound
from gateway.upstream.errors import UpstreamError
from gateway.wires.base import JSON, SSE, Malformed, Target
from gateway.wires.frames import BadFraming, FrameTooLong


class Moved(NamedTuple):
    """A stream that is over: its relay, what it said, and what the cheap stages say of that as a whole; ``broken``: its
    upstream failed."""

    relay: Relay
    broken: bool
    segments: list[Segment]
    screening: Screening
    spent: Sequence[int]


class _Made(NamedTuple):
    """What follows a stream; what judges it needs to know who is woken by that."""

    relay: Relay
    follower: Follower | None
    beside: Beside | None


class Ahead:
    """What follows a stream, made while its upstream is waited for: it would be in the way of the first byte."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], _Made]) -> None:
        self._make = make
        self._made: _Made | None = None
        asyncio.get_running_loop().call_soon(self.take)

    def take(self) -> _Made:
        self._made = self._made or self._make()
        return self._made


class Streaming:
    """Relays streamed replies. What is long is looked at in ``scanner``."""

    def __init__(self, services: Services, scanner: Executor) -> None:
        self._services = services
        self._scanner = scanner
        self._pauses = Pauses()

    def ahead(self, exchange: Exchange) -> Ahead:
        """Prepare for the reply to a request that is about to be sent."""
        return Ahead(partial(self._make, exchange))

    async def relay(self, exchange: Exchange, answer: Answer, sent: Sent, ahead: Ahead) -> None:
        """Relay a reply to its end, or to where it is cut, and say in ``exchange.reply`` what was seen of it."""
        reply = sent.reply
        kind = JSON if in_array(exchange.target) else SSE
        await answer.start(reply.status, read_as(kind, screened_headers(exchange, reply.headers)))
        try:
            moved = await self.move(exchange, answer, reply, sent.upstream, (reply, answer), ahead)
        except asyncio.CancelledError:
            if self._services.draining:
                with contextlib.suppress(ClientGone):
                    await answer.end()
            raise
        await answer.end()
        await self.settle(exchange, moved)

    def _make(self, exchange: Exchange) -> _Made:
        parsed, policy, services = exchange.request and exchange.request.parsed, exchange.bound.policy, self._services
        follower = Follower(policy, policy.ahead) if policy.ahead is not None else None
        target = exchange.target._replace(choices=parsed.choices if parsed else None)
        relay = Relay(
            target, parsed.model if parsed else None, exchange.bound.streams, exchange.vault, follower,
            exchange.leakage, lambda leak: policy.acts and _blocks(policy, leak), policy.links if policy.acts else None,
            Sound() if policy.acts and policy.waits else None,
        )  # fmt: skip
        if follower is None:
            return _Made(relay, None, None)
        tenant, lag = exchange.principal.tenant, services.metrics.stream_lag
        return _Made(relay, follower, Beside(follower, services.semantics, exchange.live.engine, tenant, lag))

    async def move(
        self, exchange: Exchange, sink: Sink, source: Source, upstream: str, direct: tuple[Pieces, Direct] | None = None,
        ahead: Ahead | None = None,
    ) -> Moved:  # fmt: skip
        """Move a stream of ``upstream``'s to its end; what was seen of it stands in ``exchange.reply``, whatever happens.
        ``direct`` as for `Moving.run`."""
        policy, tenant = exchange.bound.policy, exchange.principal.tenant
        services = self._services
        if not exchange.bound.loaded:
            await asyncio.to_thread(exchange.bound.load)
        relay, follower, beside = ahead.take() if ahead is not None else self._make(exchange)
        if beside is not None:
            beside.wake = source.wake
        threads = services.threads
        keep = partial(threads.keep, exchange) if threads.keeps(exchange) else None
        told = partial(_refusal, exchange.id)
        moving = Moving(relay, beside, policy.waits, told, keep, exchange.usage, self._scanner, self._pauses)
        broken = False
        try:
            await moving.run(source, sink, direct)
        except (UpstreamError, FrameTooLong, BadFraming, Malformed) as error:
            broken = True
            if not isinstance(error, UpstreamError):  # else it is counted where it happened
                self._services.providers.tallies[upstream].errors["bad_stream"] += 1
            exchange.reason = f"the upstream's stream broke off: {error}"
            await sink.piece(relay.fail("the upstream's stream broke off"))
        except asyncio.CancelledError:
            if services.draining and direct is not None:  # the caller has gone, or the gateway ends and may wait no longer
                with contextlib.suppress(ClientGone):
                    direct[1].write(relay.fail("the gateway ends; ask again"))
                    exchange.reason = "the gateway ended"
            raise
        finally:
            source.close()  # of a stream that was cut, or whose caller is gone, no more is wanted: not even while we look at it
            relay.close()
            if beside is not None:
                beside.close()
            # Look once more at all that was said, now that it is whole: for what needed a report only, or was disguised.
            # Of what was judged beside the stream the model's word is known. The caller does not wait for the encoder; a
            # caller who has gone leaves its part out.
            segments = said_segments(relay)
            parts = [follower.parts(one.path) if follower and not relay.said.unread else None for one in segments]
            screening, stopped = await self._look(exchange.live.engine, segments, parts, tenant)
            spent = beside.stage_ns if beside is not None else ()
            exchange.reply = relay_summary(relay, screening.close(), segments, policy, spent)
            services.metrics.stream_bytes.add((exchange.target.wire.name,), exchange.bytes_out)
            if relay.cut is not None:
                stage = "alarm" if relay.cut.alarm else relay.cut.stage
                services.metrics.stream_cuts.add((exchange.target.wire.name, stage))
            if stopped is not None:
                raise stopped
        return Moved(relay, broken, segments, screening, spent)

    async def settle(self, exchange: Exchange, moved: Moved) -> None:
        """Have the encoder read what is left to it of a stream that is over, for its record."""
        if moved.screening.asked:
            judged = await self._services.verdicts.close(moved.screening, exchange.principal.tenant)
            exchange.reply = relay_summary(moved.relay, judged, moved.segments, exchange.bound.policy, moved.spent)

    async def _look(
        self, engine: Engine, segments: list[Segment], parts: list[Parts | None], tenant: str
    ) -> tuple[Screening, asyncio.CancelledError | None]:
        """What the cheap stages say of all of it. A caller may leave meanwhile, as clients do that have read the end mark: what
        he was told stands in the record all the same, and that he left comes back for who has to know."""

        def look(engine: Engine) -> Screening:
            for segment, known in zip(segments, parts, strict=True):
                if known is not None:
                    engine.know(segment.text, segment.origin, tenant, known)
            return engine.screen(segments, tenant)

        if sum(len(segment.text) for segment in segments) <= OFFLOAD_BYTES:
            return look(engine), None
        looking = asyncio.get_running_loop().run_in_executor(self._scanner, look, engine.twin())
        stopped = None
        try:
            await asyncio.shield(looking)
        except asyncio.CancelledError as error:
            stopped = error
            await asyncio.wait([looking])
        return looking.result(), stopped


def in_array(target: Target) -> bool:
    """Whether the streams that are asked for are JSON arrays, and no server-sent events."""
    return target.operation == "streamGenerateContent" and not target.sse


def _refusal(id: str, cut: Cut) -> str:
    return f"Blocked by Portcullis: {cut.threat} in the reply. Decision {id}."


def _blocks(policy: Policy, leak: Leak) -> bool:
    return policy.action(THREAT, leak.score, Origin.ASSISTANT, Direction.REPLY) is Action.BLOCK
