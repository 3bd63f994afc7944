"""The story of a proxied request: admit, read, inspect, forward, relay, record."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from detectors.lexical import Match
from gateway.credentials import AmbiguousCredential, gateway_key, without_key
from gateway.exchange import Exchange, relay_summary, said_segments
from gateway.faults import CallerFault, ClientGone, Fault, OwnFault, UpstreamFault
from gateway.inbound import (
    Head,
    Headers,
    Receive,
    Scope,
    Send,
    check_body_headers,
    read_body,
    read_head,
    reply_headers,
)
from gateway.inspection import OFFLOAD_BYTES, Inspected, Waiting, inspect_reply, inspect_request, nothing
from gateway.keys import Permission, Principal
from gateway.live import Live
from gateway.policy import Action, FailureMode
from gateway.providers import Provider, Sent
from gateway.relay import Relay
from gateway.services import Services
from gateway.upstream.connection import Reply as UpstreamReply
from gateway.upstream.errors import RequestRefused, UpstreamError
from gateway.wires import routes
from gateway.wires.base import Malformed, Reply, Target
from gateway.wires.frames import BadFraming, FrameTooLong

WATCH_SECONDS: Final = 0.25
"""How long a request runs before somebody watches whether its caller is still there. Most are over by then."""

HOLD_SECONDS: Final = 2.0
"""How long a stream's text may be held while the upstream says nothing, where the policy does not wait for judgement."""


class Proxy:
    """Answers every request under a provider's prefix."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._scanner = ThreadPoolExecutor(1, "scanner")
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens, in the caller's wire format."""
        path: str = scope["path"]
        live = self._services.live
        method: str = scope["method"]
        dialect = "openai" if method == "POST" else routes.dialect(scope["headers"])
        target = routes.find(method, path, scope["query_string"], dialect)
        if target is None:
            await self._refuse_path(scope, receive, send, live)
            return
        self.in_flight += 1
        try:
            await self._serve(scope, receive, send, live, target)
        finally:
            self.in_flight -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send, live: Live, target: Target) -> None:
        exchange = Exchange(live, target, self._services.nobody, self._services.vault())
        tracing = self._services.tracing
        if tracing is not None:
            exchange.trace = tracing.begin(exchange, scope["headers"], scope["method"])
        answer = _Answer(send, exchange)
        watch = _Watch(receive)
        try:
            await self._exchange(scope, receive, exchange, answer, watch)
        except Fault as fault:
            await answer.fault(fault)
        except ClientGone:
            exchange.client_gone = True
        except asyncio.CancelledError:
            if not watch.client_gone:
                raise
            exchange.client_gone = True
        finally:
            watch.stop()
            self._finish(exchange)
            if exchange.trace is not None:
                exchange.trace.finish(scope["method"], scope["path"])

    async def _exchange(
        self, scope: Scope, receive: Receive, exchange: Exchange, answer: _Answer, watch: _Watch
    ) -> None:
        live, target = exchange.live, exchange.target
        head = read_head(scope["headers"])
        provider = self._services.provider(target.wire.provider)
        exchange.principal = self._admit(head, scope, provider, live)
        exchange.bound = live.bound(exchange.principal.tenant, exchange.principal.policy)
        exchange.vault = self._services.vault(exchange.principal.tenant, exchange.bound.policy)
        if scope["method"] == "POST":
            check_body_headers(head, live.settings.limits.body_bytes)
            body = await read_body(receive, live.settings.limits.body_bytes)
            exchange.bytes_in = len(body)
            request = await self._inspect(inspect_request, exchange, body)
        else:
            request = nothing(live.engine, exchange.bound, b"")
        exchange.request = request
        if request.ruling.action is Action.BLOCK:
            await answer.refusal(request)
            return
        if provider is None:
            raise CallerFault(404, "no_upstream", f"no upstream is configured for {target.wire.provider}")
        watch.start()
        sent = await self._forward(scope, exchange, head, provider, request)
        try:
            if _is_stream(sent.reply, target, request.parsed.streaming):
                await self._relay(exchange, answer, sent)
            else:
                await self._answer_whole(exchange, answer, sent)
        finally:
            sent.reply.close()

    def _admit(self, head: Head, scope: Scope, provider: Provider | None, live: Live) -> Principal:
        """Who calls, and whether there is room for the request.

        Raises:
            CallerFault: no key, a wrong key, or one that may not use the data plane.
            OwnFault: overloaded, or the policy demands a record that cannot be kept.
        """
        services = self._services
        try:
            token = gateway_key(
                head.credentials, scope["query_string"], explicit=provider is not None and provider.callers_key
            )
        except AmbiguousCredential as error:
            raise CallerFault(400, "ambiguous_key", str(error)) from None
        principal = services.keys.ring.find(token, time.time())
        if principal is None:
            problem = "the key is not known, was revoked or has expired" if token else "send a Portcullis key"
            raise CallerFault(401, "invalid_api_key", problem)
        if not principal.may(Permission.DATA_PLANE):
            raise CallerFault(403, "permission_denied", "this key is not for the data plane; ask for one with role app")
        if principal.key == "" and not services.host_is_ours(head.host):
            raise CallerFault(421, "unknown_host", "this gateway answers only to its own address while it has no keys")
        if self.in_flight > live.settings.limits.in_flight:
            raise OwnFault(503, "overloaded", "too many requests in flight; try again", ((b"retry-after", b"1"),))
        if not (services.recorder.healthy and services.audit.writable):
            policy = live.bound(principal.tenant, principal.policy).policy
            services.metrics.incomplete.add(("audit", "unavailable"))
            if policy.failure_mode("audit") is FailureMode.CLOSED:
                raise OwnFault(503, "audit_unavailable", "decisions cannot be recorded, and the policy demands it")
            services.metrics.fail_open.add(("audit",))
        return principal

    async def _inspect(self, inspect: Any, exchange: Exchange, body: bytes) -> Inspected:
        live = exchange.live
        common = (exchange.bound, exchange.target, body, exchange.principal.tenant, exchange.vault)
        found: Inspected | Waiting
        if len(body) <= OFFLOAD_BYTES:
            found = inspect(live.engine, *common)
        else:
            found = await asyncio.get_running_loop().run_in_executor(self._scanner, inspect, live.engine.twin(), *common)
        if isinstance(found, Waiting):
            found = found.close(await self._services.semantics.close(found.screening, exchange.principal.tenant))
        return found

    async def _forward(
        self, scope: Scope, exchange: Exchange, head: Head, provider: Provider, request: Inspected
    ) -> Sent:
        query = without_key(scope["query_string"]) if not provider.callers_key else scope["query_string"]
        path = scope.get("raw_path") or scope["path"].encode()
        if exchange.trace is not None:
            head = exchange.trace.forwarded(head)
        exchange.upstream_began = began = time.perf_counter()
        exchange.upstream = provider.name
        try:
            sent = await provider.send(
                scope["method"].encode(), path, query, head, request.body, request.parsed.streaming
            )
        except RequestRefused as error:
            raise CallerFault(400, "invalid_header", str(error)) from None
        except UpstreamError as error:
            self._services.metrics.upstream_errors.add((provider.name, error.kind))
            exchange.reason = str(error)
            raise provider.fault(error) from None
        finally:
            exchange.upstream_seconds = time.perf_counter() - began
        exchange.upstream = sent.upstream
        exchange.upstream_status = sent.reply.status
        exchange.retries = sent.attempts - 1
        return sent

    async def _answer_whole(self, exchange: Exchange, answer: _Answer, sent: Sent) -> None:
        reply = sent.reply
        try:
            body = await reply.read(exchange.live.settings.limits.reply_bytes)
        except UpstreamError as error:
            self._services.metrics.upstream_errors.add((sent.upstream, error.kind))
            raise UpstreamFault(502, "upstream_error", f"the upstream's reply broke off: {error}") from None
        exchange.upstream_seconds = time.perf_counter() - exchange.upstream_began
        if not body:
            await answer.whole(reply.status, reply_headers(reply.headers, False), b"")
            return
        try:
            exchange.reply = screened = await self._inspect(inspect_reply, exchange, body)
        except UpstreamFault:
            if reply.status < 400:
                raise
            # An error page of something on the way: its status is worth passing on, its text cannot be screened.
            raise UpstreamFault(reply.status, "upstream_error", "the upstream answered with an error page") from None
        if screened.ruling.action is Action.BLOCK:
            await answer.refusal(screened)
            return
        await answer.whole(reply.status, reply_headers(reply.headers, screened.body is not body), screened.body)

    async def _relay(self, exchange: Exchange, answer: _Answer, sent: Sent) -> None:
        reply = sent.reply
        parsed = exchange.request.parsed if exchange.request else None
        model = parsed.model if parsed else None
        relay = Relay(exchange.target, model, exchange.bound.streams, exchange.vault)
        await answer.start(reply.status, reply_headers(reply.headers, True))
        try:
            await self._move(exchange, answer, reply, relay)
        except (UpstreamError, FrameTooLong, BadFraming, Malformed) as error:
            kind = error.kind if isinstance(error, UpstreamError) else "bad_stream"
            self._services.metrics.upstream_errors.add((sent.upstream, kind))
            exchange.reason = f"the upstream's stream broke off: {error}"
            await answer.piece(relay.fail("the upstream's stream broke off"))
        finally:
            relay.close()
            # Look once more at all that was said, now that it is whole: for what needed a report only, or was disguised.
            # The caller does not wait for the encoder; a caller who has gone leaves its part out.
            segments = said_segments(relay)
            screening = exchange.live.engine.screen(segments, exchange.principal.tenant)
            exchange.reply = relay_summary(relay, screening.close(), segments, exchange.bound.policy)
            self._services.metrics.stream_bytes.add((exchange.target.wire.name,), exchange.bytes_out)
        await answer.end()
        if screening.asked:
            judged = await self._services.semantics.close(screening, exchange.principal.tenant)
            exchange.reply = relay_summary(relay, judged, segments, exchange.bound.policy)

    async def _move(self, exchange: Exchange, answer: _Answer, reply: UpstreamReply, relay: Relay) -> None:
        """Move a stream from the upstream to the caller; a caller who reads slowly slows the upstream down."""
        waits = exchange.bound.policy.waits

        def refusal(match: Match) -> str:
            return f"Blocked by Portcullis: {match.pattern.category} in the reply. Decision {exchange.id}."

        while (chunk := await self._next(reply, relay, answer, waits)) is not None:
            began = time.perf_counter_ns()
            out = relay.feed(chunk, refusal)
            relay.nanoseconds += time.perf_counter_ns() - began
            if out:
                await answer.piece(out)
            if relay.cut is not None:
                return
        if out := relay.end(refusal):
            await answer.piece(out)

    async def _next(self, reply: UpstreamReply, relay: Relay, answer: _Answer, waits: bool) -> bytes | None:
        """The next bytes of the upstream; None at its end. What is held too long meanwhile goes out, unless policy waits."""
        late = not waits and relay.held and not await reply.ready(HOLD_SECONDS)
        if late and (out := relay.release_overdue()):
            await answer.piece(out)
        return await anext(reply, None)

    def _finish(self, exchange: Exchange) -> None:
        exchange.count(self._services.metrics)
        record = exchange.record()
        self._services.audit.add(record)
        self._services.recorder.add(record, exchange.kept(time.time()))
        self._services.request_log.add(exchange)
        self._services.learning.observe(exchange.request, exchange.reply)

    async def _refuse_path(self, scope: Scope, receive: Receive, send: Send, live: Live) -> None:
        path = scope["path"]
        wire = routes.wire_for_error(path, routes.dialect(scope["headers"]))
        if allowed := routes.allowed(path):
            fault = CallerFault(405, "method_not_allowed", f"{path.split('/')[-1][:40]}: wanted {' or '.join(allowed)}",
                                ((b"allow", ", ".join(allowed).encode()),))  # fmt: skip
        else:
            fault = CallerFault(404, "unknown_path", "this path is not served; see the documentation for those that are")
        reply = wire.error(fault.status, fault.code, fault.message)
        headers = [(b"x-portcullis-action", b"none"),
                   (b"x-portcullis-generation", b"%d" % live.engine.generation.number)]  # fmt: skip
        self._services.metrics.requests.add(("unknown", self._services.nobody.tenant, "none", str(fault.status)))
        await _send_whole(send, reply.status, [(b"content-type", reply.content_type), *headers, *fault.headers], reply.body)


class _Answer:
    """The reply to the caller; it knows whether it has begun, after which no error can be sent any more."""

    __slots__ = ("_exchange", "_send", "begun")

    def __init__(self, send: Send, exchange: Exchange) -> None:
        self._send = send
        self._exchange = exchange
        self.begun = False

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        self.begun = True
        self._exchange.status = status
        self._exchange.bytes_out = len(body)
        await _send_whole(self._send, status, headers + self._exchange.headers(), body)

    async def made(self, reply: Reply, headers: Headers) -> None:
        await self.whole(reply.status, [(b"content-type", reply.content_type), *headers], reply.body)

    async def refusal(self, inspected: Inspected) -> None:
        exchange = self._exchange
        target, request = exchange.target, exchange.request
        as_reply = exchange.bound.policy.on_block == "refusal"
        message = f"Blocked by Portcullis: {inspected.ruling.reason}. Decision {exchange.id}."
        parsed = request.parsed if request else inspected.parsed
        await self.made(target.wire.refuse(target, parsed, message, as_reply, exchange.id), [])

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
        await self._send(
            {"type": "http.response.start", "status": status, "headers": headers + self._exchange.headers()}
        )

    async def piece(self, data: bytes) -> None:
        self._exchange.bytes_out += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class _Watch:
    """Cancels a request whose caller leaves. It starts late, since most requests are over before it would."""

    __slots__ = ("_handle", "_receive", "_task", "client_gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.client_gone = False

    def start(self) -> None:
        """Begin to watch; the body must have been read."""
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(WATCH_SECONDS, self._begin, asyncio.current_task(loop))

    def _begin(self, request: asyncio.Task[Any] | None) -> None:
        if request is not None:
            self._task = asyncio.ensure_future(self._wait(request))

    async def _wait(self, request: asyncio.Task[Any]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.client_gone = True
        request.cancel()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._task is not None:
            self._task.cancel()


def _is_stream(reply: UpstreamReply, target: Target, asked: bool) -> bool:
    """Whether a reply is to be relayed as a stream: it was asked for, and by its own word the answer is one.

    Anything else is read and screened as a whole, whatever was asked for.
    """
    if not asked or reply.status >= 300:
        return False
    kind = next((value for name, value in reply.headers if name == b"content-type"), b"").lower()
    if kind.startswith(b"text/event-stream"):
        return True
    in_array = target.operation == "streamGenerateContent" and not target.sse
    return in_array and kind.startswith(b"application/json")


async def _send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
