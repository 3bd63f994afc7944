"""Traces: OpenTelemetry's SDK, sent over OTLP. The one door to it, imported only where the configuration asks for traces.

A request is a server span; below it a client span for the exchange with the upstream, named by the semantic conventions for
generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/), and one span for each stage of screening. Stages are timed
anyway, so their spans are made from those times when the request is over: the hot path pays for identifiers alone. No span
carries a word of what was said.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from detectors.stages import STAGES
from gateway import __version__
from gateway.exchange import Exchange
from gateway.screening.inspection import Inspected
from gateway.serving.inbound import Head, Headers
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.reporting import Traces as TracesSettings

QUEUE: Final = 8_192
"""Spans that wait to be sent, some ten megabytes. A collector that is gone costs the newest spans, never memory or time."""

BATCH: Final = 512
EXPORT_SECONDS: Final = 1.0
"""How late a span is sent at most."""

SEND_SECONDS: Final = 5.0
"""How long one batch may take to send, retries included."""

MAX_NAME: Final = 128
"""Characters of a model's name in a span; callers choose it."""

_PROVIDERS: Final = {"openai": "openai", "anthropic": "anthropic", "gemini": "gcp.gemini"}
_OPERATIONS: Final = {
    "chat.completions": "chat", "completions": "text_completion", "responses": "chat", "messages": "chat",
    "embeddings": "embeddings", "embedContent": "embeddings", "batchEmbedContents": "embeddings",
    "generateContent": "generate_content", "streamGenerateContent": "generate_content",
}  # fmt: skip
"""Our operations by the names that the conventions give them; what is missing there keeps its own."""

_CONTEXT_HEADERS: Final = (b"traceparent", b"tracestate")
_NANO: Final = 1_000_000_000

_log = logging.getLogger(__name__)


class Trace:
    """The spans of one request."""

    __slots__ = ("_exchange", "_forwarded_at", "_tracer", "_upstream", "server")

    def __init__(self, tracer: otel.Tracer, exchange: Exchange, headers: Headers, method: str) -> None:
        self._tracer = tracer
        self._exchange = exchange
        started = self._wall(exchange.started)
        self.server: Span = tracer.start_span(method, _extract(headers), SpanKind.SERVER, start_time=started)
        self._upstream: Span | None = None
        self._forwarded_at = 0

    @property
    def ids(self) -> tuple[str, str]:
        """The trace's and the server span's ids in hexadecimal, for the log."""
        context = self.server.get_span_context()
        return otel.format_trace_id(context.trace_id), otel.format_span_id(context.span_id)

    def forwarded(self, head: Head) -> Head:
        """Begin the exchange with the upstream; the headers for it name its span instead of the caller's."""
        self._forwarded_at = self._wall(time.perf_counter())
        self._upstream = self._tracer.start_span(
            "upstream", self._below_server(), SpanKind.CLIENT, start_time=self._forwarded_at
        )
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, otel.set_span_in_context(self._upstream, Context()))
        rest = [pair for pair in head.forward if pair[0] not in _CONTEXT_HEADERS]
        return head.forwarding((*rest, *((name.encode(), value.encode()) for name, value in carrier.items())))

    def finish(self, method: str, path: str) -> None:
        """End all spans, now that everything about the request is known."""
        exchange, span = self._exchange, self.server
        now = self._wall(time.perf_counter())
        if span.is_recording():
            self._end_upstream(now)
            self._screening(now)
            span.update_name(f"{method} {exchange.target.wire.name}")
            span.set_attributes({
                "http.request.method": method, "url.path": path[: 2 * MAX_NAME], "http.response.status_code": exchange.status,
                "portcullis.decision.id": exchange.id, "portcullis.action": exchange.action.value,
                "portcullis.tenant": exchange.principal.tenant, "portcullis.screening.us": exchange.screening_us,
                "portcullis.generation": exchange.live.engine.generation.number,
                "portcullis.client_gone": exchange.client_gone,
            })  # fmt: skip
            if exchange.status >= 500:
                span.set_attribute("error.type", str(exchange.status))
                span.set_status(Status(StatusCode.ERROR))
        elif self._upstream is not None:
            self._upstream.end()
        span.end(now)

    def _end_upstream(self, now: int) -> None:
        exchange, span = self._exchange, self._upstream
        if span is None:
            return
        target = exchange.target
        operation = _OPERATIONS.get(target.operation, target.operation)
        model = _model(exchange)
        span.update_name(f"{operation} {model}".strip())
        span.set_attributes({
            "gen_ai.operation.name": operation, "gen_ai.request.model": model,
            "gen_ai.provider.name": _PROVIDERS.get(target.wire.provider, target.wire.provider),
            "http.response.status_code": exchange.upstream_status, "http.request.resend_count": exchange.retries,
            "portcullis.upstream": exchange.upstream,
        })  # fmt: skip
        if not exchange.upstream_status or exchange.upstream_status >= 400:
            span.set_attribute("error.type", str(exchange.upstream_status or "unreachable"))
            span.set_status(Status(StatusCode.ERROR))
        span.end(now if _streamed(exchange) else self._answered())

    def _screening(self, now: int) -> None:
        request, reply = self._exchange.request, self._exchange.reply
        if request is not None:
            self._screen("screen request", request, (self._forwarded_at or now) - request.nanoseconds)
        if reply is not None:
            self._screen("screen reply", reply, self._answered(), interleaved=_streamed(self._exchange))

    def _screen(self, name: str, side: Inspected, began: int, interleaved: bool = False) -> None:
        """A span for the screening of a message, and one for each of its stages, laid end to end.

        A stream is screened piece by piece: its span, marked ``interleaved``, shows how long that took in all, not when.
        """
        verdict = side.judged.verdict
        parent = self._tracer.start_span(name, self._below_server(), start_time=began, attributes={
            "portcullis.action": side.ruling.action.value, "portcullis.score": verdict.score,
            "portcullis.findings": len(verdict.findings), "portcullis.segments": len(side.parsed.segments),
            "portcullis.categories": sorted({finding.category for finding in verdict.findings}),
            "portcullis.skipped": [f"{skipped.stage}: {skipped.reason}" for skipped in verdict.skipped],
            "portcullis.interleaved": interleaved,
        })  # fmt: skip
        below = otel.set_span_in_context(parent, Context())
        at = began
        for stage, nanoseconds in zip(STAGES, side.judged.stage_ns, strict=False):
            if nanoseconds:
                self._tracer.start_span(f"stage {stage}", below, start_time=at).end(at := at + nanoseconds)
        parent.end(max(at, began + side.nanoseconds))

    def _answered(self) -> int:
        """When the upstream had answered: with its headers where the reply is a stream, with all of it otherwise."""
        return self._wall(self._exchange.upstream_began + self._exchange.upstream_seconds)

    def _wall(self, counter: float) -> int:
        """A reading of the performance counter as nanoseconds of UNIX time."""
        return int((self._exchange.received + counter - self._exchange.started) * _NANO)

    def _below_server(self) -> Context:
        return otel.set_span_in_context(self.server, Context())


class Tracing:
    """Makes traces and sends them, in one worker."""

    def __init__(self, settings: TracesSettings, metrics: Metrics) -> None:
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        exporter = _Counted(OTLPSpanExporter(settings.endpoint, headers=headers, timeout=SEND_SECONDS))
        resource = Resource.create({"service.name": settings.service, "service.version": __version__})
        self._provider = TracerProvider(ParentBased(TraceIdRatioBased(settings.ratio)), resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, QUEUE, EXPORT_SECONDS * 1000, BATCH, SEND_SECONDS * 1000)
        )
        self._tracer = self._provider.get_tracer("portcullis", __version__)
        metrics.count("portcullis_spans", "Spans handed to the collector, or lost.", ("result",), exporter.counts)
        # The SDK would log each failed attempt with a trace of the stack; `_Counted` says it once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def begin(self, exchange: Exchange, headers: Headers, method: str) -> Trace:
        """A request has come; its caller's context, if it sent a valid one, is the parent."""
        return Trace(self._tracer, exchange, headers, method)

    def close(self) -> None:
        """Send what waits. Blocks for some seconds at most."""
        self._provider.shutdown()


class _Counted(SpanExporter):
    """Counts what became of spans, and logs when the collector is lost and found. Called from the SDK's own thread."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._sent = self._lost = 0
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed:
            self._lost += len(spans)
        else:
            self._sent += len(spans)
        if failed != self._failing:
            self._failing = failed
            _log.log(logging.ERROR if failed else logging.INFO, "traces %s", "cannot be sent" if failed else "are sent again")
        return result

    def counts(self) -> dict[tuple[str, ...], float]:
        return {("sent",): self._sent, ("lost",): self._lost}

    def shutdown(self) -> None:
        self._inner.shutdown()


_W3C: Final = TraceContextTextMapPropagator()


def _extract(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """The caller's context; a repeated or malformed ``traceparent`` is none, as W3C Trace Context demands."""
    found = [(name.decode(), value.decode("latin-1")) for name, value in headers if name in _CONTEXT_HEADERS]
    if [name for name, _ in found].count("traceparent") != 1:
        return Context()
    return _W3C.extract(dict(found), Context())


def _streamed(exchange: Exchange) -> bool:
    return bool(exchange.reply and exchange.reply.parsed.streaming)


def _model(exchange: Exchange) -> str:
    parsed = exchange.request.parsed if exchange.request else None
    return ((parsed.model if parsed else None) or exchange.target.model or "")[:MAX_NAME]
