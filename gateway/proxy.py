"""The story of a proxied request: admit, read, inspect, forward, relay, record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor

from detectors.leakage import Leakage
from detectors.values import Origin
from gateway.exchange import Exchange
from gateway.faults import CallerFault, ClientGone, Fault, OwnFault, UpstreamFault
from gateway.keys import Permission, Principal
from gateway.live import Live
from gateway.providers import Provider, Sent
from gateway.realtime.opening import Realtime, with_key
from gateway.records.admission import check_records
from gateway.screening.inspection import (
    AT_ONCE,
    Inspected,
    nothing,
    passed,
    stopped,
)
from gateway.screening.judging import Judge
from gateway.screening.policy import Action
from gateway.services import Services
from gateway.serving.answer import Answer
from gateway.serving.call import BODYLESS, Call
from gateway.serving.credentials import AmbiguousCredential, gateway_key
from gateway.serving.inbound import Head, beside_a_body, check_body, read_as, reply_headers
from gateway.serving.outbound import screened_headers
from gateway.streams.arriving import Arriving
from gateway.streams.following import STEP, Follower
from gateway.streams.streaming import Streaming, in_array
from gateway.upstream.errors import BadReply, Refused, RequestRefused, TimedOut, UpstreamError
from gateway.upstream.reply import Reply as UpstreamReply
from gateway.websocket.answering import REALTIME, Offer, read_offer
from gateway.wires import routes
from gateway.wires.base import JSON, Target
from gateway.wires.collecting import MAX_PARTS
from gateway.wires.passthrough import PassedThrough, can_name

_log = logging.getLogger(__name__)


class Proxy:
    """Answers every request under a provider's prefix."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._scanner = ThreadPoolExecutor(1, "scanner")
        self._judge = Judge(services, self._scanner)
        self._streaming = Streaming(services, self._scanner)
        self._realtime = Realtime(services, self._scanner, self._streaming, self._finish)
        self.in_flight = 0

    async def __call__(self, call: Call) -> None:
        """Answer one request; whatever happens, in the caller's wire format."""
        live = self._services.live
        dialect = "openai" if call.method == "POST" else routes.dialect(call.headers)
        target = routes.find(call.method, call.path, call.query, dialect)
        if target is None:
            target = self._services.providers.passthrough.find(call.method, call.path, routes.dialect(call.headers))
        if target is None:
            await self._refuse_path(call, live)
            return
        self.in_flight += 1
        try:
            await self._serve(call, live, target)
        finally:
            self.in_flight -= 1
            call.abort()

    async def _serve(self, call: Call, live: Live, target: Target) -> None:
        exchange = Exchange(live, target, self._services.nobody)
        tracing = self._services.tracing
        if tracing is not None:
            exchange.trace = tracing.begin(exchange, call.headers, call.method)
        answer = Answer(call, exchange)
        try:
            try:
                await self._exchange(call, exchange, answer)
            except ClientGone:
                raise
            except Fault as fault:
                await answer.fault(fault)
            except Exception:
                _log.exception("a request failed for a reason of ours")
                await answer.fault(OwnFault(500, "internal_error", "the gateway failed; its log says why"))
        except ClientGone:
            exchange.client_gone = True
        except asyncio.CancelledError:
            if call.gone:
                exchange.client_gone = True
            elif self._services.draining:  # and has waited as long as it may
                await answer.fault(OwnFault(503, "shutting_down", "the gateway ends; ask again", ((b"retry-after", b"1"),)))
            else:
                raise
        finally:
            self._finish(exchange)
            if exchange.trace is not None:
                exchange.trace.finish(call.method, call.path)

    async def _exchange(self, call: Call, exchange: Exchange, answer: Answer) -> None:
        live, target = exchange.live, exchange.target
        head = call.head()
        offer = None
        if target.operation == REALTIME:
            offer = read_offer(call.headers)
            head = with_key(head, offer)
        provider = self._services.provider(target.wire.provider)
        exchange.principal = self._admit(head, call.query, provider, live)
        meter = exchange.metered = self._services.limiter.admit(exchange.principal)
        exchange.bound = live.bound(exchange.principal.tenant, exchange.principal.policy)
        exchange.vault = self._services.vault(exchange.principal.tenant, exchange.bound.policy)
        if offer is not None:
            await self._session(call, exchange, answer, offer, head, provider)
            return
        if isinstance(target.wire, PassedThrough):
            await self._pass(call, exchange, answer, head, provider)
            return
        if call.method == "POST":
            check_body(head, call.length, live.settings.limits.body_bytes)
            limit = live.settings.limits.body_bytes
            if call.more_body and await self._alarmed(call, exchange, answer, limit):
                return
            body = await call.body(limit)
            exchange.bytes_in = len(body)
            request = await self._judge.request(exchange, body)
        else:
            call.drop_body()
            request = nothing(live.engine, exchange.bound, b"")._replace(parsed=target.wire.read_request({}, target))
        exchange.request = request
        exchange.leakage = _leakage(exchange, request)
        if request.ruling.action is Action.BLOCK:
            await answer.refusal(request)
            return
        if meter is not None:
            self._services.limiter.read(meter, request.parsed.segments)
            exchange.usage = meter.usage
        fetching = self._services.threads.fetch(request.parsed.thread, exchange.principal)
        ahead = self._streaming.ahead(exchange) if request.parsed.streaming else None
        sent = await self._forward(call, exchange, head, _configured(provider, exchange), request)
        try:
            if fetching is not None:
                await self._services.threads.take(fetching, exchange.vault)
            if ahead is not None and _is_stream(sent.reply, target):
                await self._streaming.relay(exchange, answer, sent, ahead)
            else:
                await self._answer_whole(exchange, answer, sent.reply, sent.upstream)
        finally:
            sent.reply.close()

    def _admit(self, head: Head, query: bytes, provider: Provider | None, live: Live) -> Principal:
        """Who calls, and whether there is room for the request.

        Raises:
            CallerFault: no key, a wrong key, or one that may not use the data plane.
            OwnFault: overloaded, or the policy demands a record that cannot be kept.
        """
        services = self._services
        token = _token(head, query, provider)
        principal = services.keys.ring.find(token, time.time())
        if principal is None:
            where = " in x-portcullis-key" if provider is not None and provider.callers_key else ""
            problem = "the key is not known, was revoked or has expired" if token else f"send a Portcullis key{where}"
            raise CallerFault(401, "invalid_api_key", problem)
        if not principal.may(Permission.DATA_PLANE):
            raise CallerFault(403, "permission_denied", "this key is not for the data plane; ask for one with role app")
        if principal.key == "" and not services.host_is_ours(head.host):
            raise CallerFault(421, "unknown_host", "this gateway answers only to its own address while it has no keys")
        if self.in_flight > live.settings.limits.in_flight:
            raise OwnFault(503, "overloaded", "too many requests in flight; try again", ((b"retry-after", b"1"),))
        check_records(services, live.bound(principal.tenant, principal.policy).policy)
        return principal

    async def _alarmed(self, call: Call, exchange: Exchange, answer: Answer, limit: int) -> bool:
        """Whether a body was refused while it was still being sent, for the score of what came (`Policy.alarm`)."""
        live, policy, tenant = exchange.live, exchange.bound.policy, exchange.principal.tenant
        if policy.alarm is None or not policy.acts:
            return False
        reader, follower = Arriving(), Follower(policy, 0)
        began = time.perf_counter_ns()
        async for data in call.arriving(limit):
            exchange.bytes_in += len(data)
            for at in range(0, len(data), AT_ONCE):
                for piece in reader.feed(data[at : at + AT_ONCE]):
                    follower.feed((piece.number,), piece.text, origin=piece.origin)
                if reader.strings > MAX_PARTS:
                    return False  # more than a wire takes: the whole body is refused for that, or by what it says
                if follower.behind < STEP:
                    continue
                trip = follower.trip(whole=False)
                judged = await self._services.semantics.judge(live.engine, trip.segments, tenant)
                await asyncio.sleep(0)  # others have their turn
                follower.judged = trip.until
                follower.forget(1)  # strings before the one at hand have ended
                cut = follower.rise(trip, judged.verdict)
                if cut is not None:
                    spent = time.perf_counter_ns() - began
                    exchange.request = stopped(judged, trip.segments, cut, policy, spent, follower.rises)
                    await answer.refusal(exchange.request, early=True)
                    return True
        return False

    async def _forward(
        self, call: Call, exchange: Exchange, head: Head, provider: Provider, request: Inspected
    ) -> Sent:
        if exchange.trace is not None:
            head = exchange.trace.forwarded(head)
        exchange.upstream_began = began = time.perf_counter()
        exchange.upstream = provider.name
        try:
            sent = await provider.send(
                call.method.encode(), call.raw_path, call.query, head, request.body, request.parsed.streaming, exchange
            )
        except RequestRefused as error:
            raise CallerFault(400, "invalid_header", str(error)) from None
        except UpstreamError as error:
            exchange.reason = str(error)
            raise provider.fault(error) from None
        finally:
            exchange.upstream_seconds = time.perf_counter() - began
        exchange.upstream = sent.upstream
        exchange.upstream_status = sent.reply.status
        exchange.retries = sent.attempts - 1
        return sent

    async def _session(
        self, call: Call, exchange: Exchange, answer: Answer, offer: Offer, head: Head, provider: Provider | None
    ) -> None:
        """Hold a realtime session."""
        self._realtime.admit(call, offer, exchange.principal)
        provider = _configured(provider, exchange)
        exchange.upstream, exchange.upstream_began = provider.name, time.perf_counter()
        try:
            token = _token(head, call.query, provider)
            await self._realtime.hold(call, exchange, offer, token, head, call.query, provider)
        except RequestRefused as error:
            raise CallerFault(400, "invalid_header", str(error)) from None
        except Refused as error:
            exchange.request = nothing(exchange.live.engine, exchange.bound, b"")
            exchange.upstream_status = error.status
            await self._answer_whole(exchange, answer, error, provider.name)
        except UpstreamError as error:
            exchange.reason = str(error)
            raise provider.fault(error) from None

    async def _pass(
        self, call: Call, exchange: Exchange, answer: Answer, head: Head, provider: Provider | None
    ) -> None:
        """Move a request that the configuration passes through, and its reply, as they are."""
        engine, bound = exchange.live.engine, exchange.bound
        body = await call.body(exchange.live.settings.limits.body_bytes)
        exchange.bytes_in = len(body)
        request = exchange.request = passed(engine, bound, body)
        sent = await self._forward(call, exchange, head, _configured(provider, exchange), request)
        reply = sent.reply
        try:
            exchange.reply = passed(engine, bound, b"")
            headers = reply_headers(reply.headers, False)
            if reply.status in BODYLESS:
                await answer.whole(reply.status, headers, b"")
                return
            await answer.start(reply.status, headers)
            async for piece in reply:
                await answer.piece(piece)
            await answer.end()
        except UpstreamError as error:
            exchange.reason = f"the upstream's reply broke off: {error}"  # and so does ours: its bytes are not ours to end
        finally:
            reply.close()

    async def _answer_whole(
        self, exchange: Exchange, answer: Answer, reply: UpstreamReply | Refused, upstream: str
    ) -> None:
        if 300 <= reply.status < 400 and reply.status != 304:  # clients follow: past us, with what nobody screened
            self._services.providers.tallies[upstream].errors[BadReply.kind] += 1
            told = "the upstream sends its callers elsewhere; its base_url must name where the API is"
            raise UpstreamFault(502, "upstream_error", told)
        try:
            body = await reply.read(exchange.live.settings.limits.reply_bytes)
        except TimedOut as error:
            raise UpstreamFault(504, "upstream_timeout", f"the upstream's reply did not come in time: {error}") from None
        except UpstreamError as error:
            raise UpstreamFault(502, "upstream_error", f"the upstream's reply broke off: {error}") from None
        exchange.upstream_seconds = time.perf_counter() - exchange.upstream_began
        if exchange.usage is not None:
            exchange.usage.whole(body)
        if not body:
            await answer.whole(reply.status, screened_headers(exchange, reply.headers, False), b"")
            return
        try:
            exchange.reply = screened = await self._judge.reply(exchange, body)
        except UpstreamFault:
            if reply.status < 400:
                self._services.providers.tallies[upstream].errors[BadReply.kind] += 1
                raise
            # An error page of something on the way: status and headers are worth passing on, its text cannot be screened.
            told, kept = "the upstream answered with an error page", beside_a_body(screened_headers(exchange, reply.headers))
            raise UpstreamFault(reply.status, "upstream_error", told, tuple(kept)) from None
        if screened.ruling.action is Action.BLOCK:
            headers = beside_a_body(screened_headers(exchange, reply.headers))
            if reply.status >= 400:  # no answer to the caller, whose client decides by the status what to do next
                await answer.withheld(reply.status, screened, headers)
            else:
                await answer.refusal(screened, headers=headers)
            return
        if self._services.threads.keeps(exchange):
            await self._services.threads.keep(exchange, screened.parsed.thread)
        headers = screened_headers(exchange, reply.headers, screened.body is not body)
        await answer.whole(reply.status, read_as(JSON, headers), screened.body)

    def _finish(self, exchange: Exchange) -> None:
        exchange.count(self._services.metrics)
        if exchange.metered is not None:
            self._services.limiter.spend(exchange.metered, exchange.bytes_in + exchange.bytes_out, exchange.tokens)
        record = exchange.record()
        self._services.audit.add(record)
        self._services.recorder.add(record, exchange.kept(time.time()))
        self._services.request_log.add(exchange)
        self._services.learning.observe(exchange.request, exchange.reply)

    async def _refuse_path(self, call: Call, live: Live) -> None:
        path, dialect = call.path, routes.dialect(call.headers)
        wire = PassedThrough(routes.wire_for_error(path, dialect).provider, "unknown")
        if allowed := routes.allowed(path, dialect):
            fault = CallerFault(405, "method_not_allowed", f"{path.split('/')[-1][:40]}: wanted {' or '.join(allowed)}",
                                ((b"allow", ", ".join(allowed).encode()),))  # fmt: skip
        else:
            told = "this path is not served"
            if served := routes.meant(path, dialect):
                told += f"; {served} is: look at the base URL"
            elif can_name(path):
                told += f"; upstreams.{wire.provider}.passthrough can name it"
            fault = CallerFault(404, "unknown_path", told)
        exchange = Exchange(live, Target(wire, "unknown"), self._services.nobody)
        with contextlib.suppress(ClientGone):
            await Answer(call, exchange).fault(fault)
        self._finish(exchange)


def _configured(provider: Provider | None, exchange: Exchange) -> Provider:
    """The provider of a request.

    Raises:
        CallerFault: there is none.
    """
    if provider is None:
        raise CallerFault(404, "no_upstream", f"no upstream is configured for {exchange.target.wire.provider}")
    return provider


def _token(head: Head, query: bytes, provider: Provider | None) -> bytes | None:
    """The gateway key that a request presents.

    Raises:
        CallerFault: it presents two.
    """
    try:
        return gateway_key(head.credentials, query, explicit=provider is not None and provider.callers_key)
    except AmbiguousCredential as error:
        raise CallerFault(400, "ambiguous_key", str(error)) from None


def _leakage(exchange: Exchange, request: Inspected) -> Leakage | None:
    """What would give away the request's system prompt; None where it has none that is a secret."""
    segments = request.parsed.segments
    if not any(segment.origin is Origin.SYSTEM for segment in segments):
        return None
    leakage = Leakage(segments, exchange.vault.canary if exchange.bound.policy.canary else "")
    return None if leakage.idle else leakage


def _is_stream(reply: UpstreamReply, target: Target) -> bool:
    """Whether a reply that was asked for as a stream is to be relayed as one: by its own word it is.

    Anything else is read and screened as a whole, whatever was asked for.
    """
    if reply.status >= 300:
        return False
    kind = next((value for name, value in reply.headers if name == b"content-type"), b"").lower()
    return kind.startswith(b"text/event-stream") or (in_array(target) and kind.startswith(JSON))
