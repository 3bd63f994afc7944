"""What a worker tells of itself in metrics: the generation that serves, and what waits, was lost or was looked up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from detectors.engine import Generation
from gateway.audit.series import register as register_audit
from gateway.state.resilient import ResilientState
from gateway.sync import status as sync_status
from gateway.telemetry.stderr import STANDARD_ERROR

if TYPE_CHECKING:
    from gateway.services import Services


def register(services: Services) -> None:
    """Let a worker's metrics tell of what it holds."""
    metrics, recorder = services.metrics, services.recorder
    if services.sync is not None:
        sync_status.register(metrics, services.sync)
    if isinstance(state := services.state, ResilientState):
        state.register(metrics)

    def generation() -> Generation:
        return services.live.engine.generation

    metrics.gauge("portcullis_generation", "The generation that serves.", (), lambda: {(): generation().number}, "max")
    metrics.gauge(
        "portcullis_generation_age_seconds", "Seconds since the generation was loaded.", (),
        lambda: {(): time.time() - generation().loaded_at}, "max",
    )  # fmt: skip
    metrics.gauge(
        "portcullis_generation_digest", "1 for the digest of the patterns that serve.", ("digest",),
        lambda: {(generation().digest[:16],): 1.0}, "max",
    )  # fmt: skip
    metrics.gauge(
        "portcullis_patterns", "Patterns that act.", (), lambda: {(): len(generation().patterns)}, "max"
    )
    metrics.gauge(
        "portcullis_patterns_left_out", "Patterns of the store that cannot be read or compiled here, and do not act.", (),
        lambda: {(): float(len(services.live.left_out) + len(services.store.faults))}, "max",
    )  # fmt: skip
    metrics.gauge(
        "portcullis_keys_unreadable", "Keys in the state that cannot be read, and open nothing.", (),
        lambda: {(): float(services.keys.unreadable)}, "max",
    )  # fmt: skip
    metrics.gauge("portcullis_state_up", "Whether the state answers.", (), lambda: {(): float(not services.state_error)}, "min")
    metrics.gauge("portcullis_draining", "Whether a worker is about to end.", (), lambda: {(): float(services.draining)}, "max")
    metrics.gauge(
        "portcullis_config_broken", "Whether the newest configuration was refused.", (),
        lambda: {(): float(bool(services.reload_error))}, "max",
    )  # fmt: skip
    metrics.gauge("portcullis_decisions_queued", "Decisions not yet stored.", (), lambda: {(): recorder.stats.queued})
    metrics.count("portcullis_decisions_stored", "Decisions stored.", (), lambda: {(): recorder.stats.written})
    metrics.count("portcullis_decisions_dropped", "Decisions lost.", (), lambda: {(): recorder.stats.dropped})
    metrics.count(
        "portcullis_log_lines_dropped", "Log lines lost.", (),
        lambda: {(): services.request_log.dropped + STANDARD_ERROR.dropped},
    )
    metrics.count(
        "portcullis_decision_write_errors", "Failed writes of decisions.", (),
        lambda: {(): recorder.stats.write_errors},
    )  # fmt: skip
    metrics.count(
        "portcullis_cache", "Texts looked up in the verdict cache.", ("result",),
        lambda: {("hit",): services.live.engine.cache.hits, ("miss",): services.live.engine.cache.misses},
    )  # fmt: skip
    services.verdicts.register(metrics)
    services.limiter.register(metrics)
    services.threads.register(metrics)
    register_audit(metrics, services.audit)
    semantics = services.semantics
    metrics.gauge("portcullis_encoder_queued", "Windows that wait for the encoder.", (), lambda: {(): semantics.queued})
    metrics.count(
        "portcullis_encoder_windows", "Windows asked of the encoder, by what became of them.", ("result",),
        lambda: {
            ("read",): semantics.read, ("shared",): semantics.shared, ("late",): semantics.late,
            ("refused",): semantics.refused, ("failed",): semantics.failed,
        },
    )  # fmt: skip
    metrics.gauge(
        "portcullis_breaker_open", "Circuit breakers that are open.", ("upstream",), services.providers.breakers, "max"
    )
    metrics.count(
        "portcullis_upstream_attempts", "Requests sent to an upstream, each time.", ("upstream",), services.providers.attempts
    )
    metrics.count(
        "portcullis_upstream_retries", "Requests sent to an upstream again.", ("upstream",), services.providers.retries
    )
    metrics.count(
        "portcullis_upstream_errors", "Attempts at an upstream that failed, and requests kept from it.", ("upstream", "kind"),
        services.providers.errors,
    )  # fmt: skip
    metrics.gauge(
        "portcullis_upstream_connections", "Connections to upstreams.", ("upstream",), services.providers.connections
    )
