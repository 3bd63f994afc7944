"""The audit log's metrics."""

from __future__ import annotations

from gateway.audit.log import AuditLog
from gateway.telemetry.metrics import Metrics


def register(metrics: Metrics, log: AuditLog) -> None:
    """Add the series of one worker's log."""
    metrics.count("portcullis_audit_records", "Records written to the audit log.", (), lambda: {(): log.stats.records})
    metrics.count("portcullis_audit_errors", "Failed writes of the audit log.", (), lambda: {(): log.stats.errors})
    metrics.count("portcullis_audit_dropped", "Records given up.", (), lambda: {(): log.stats.dropped})
    metrics.gauge("portcullis_audit_waiting", "Records not on the disk yet.", (), lambda: {(): log.stats.waiting})
    metrics.gauge(
        "portcullis_audit_writable", "Whether the audit log can be written.", (), lambda: {(): float(log.writable)}, "min"
    )
    metrics.gauge(
        "portcullis_audit_root_timestamp_seconds", "When a root was signed last, UNIX seconds.", (),
        lambda: {(): log.stats.last_root}, "min",
    )  # fmt: skip

    def each(read: str) -> dict[tuple[str, ...], float]:
        return {(one.name,): float(getattr(one.stats, read)) for one in log.exporters}

    label = ("export",)
    metrics.gauge("portcullis_audit_export_behind", "Records of the log not yet sent.", label, lambda: each("behind"))
    metrics.count("portcullis_audit_exported", "Records sent.", label, lambda: each("sent"))
    metrics.count("portcullis_audit_export_errors", "Failed attempts to send.", label, lambda: each("errors"))
    metrics.count("portcullis_audit_export_lost", "Records that retention removed unsent.", label, lambda: each("lost"))
