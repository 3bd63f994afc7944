"""Whether there is a place for what a request leaves behind: its record."""

from __future__ import annotations

from gateway.faults import OwnFault
from gateway.policy import FailureMode, Policy
from gateway.services import Services


def check_records(services: Services, policy: Policy) -> None:
    """Refuse what cannot be recorded, where the policy demands that it is.

    Raises:
        OwnFault: it does, and it cannot be.
    """
    if services.recorder.healthy and services.audit.writable:
        return
    services.metrics.incomplete.add(("audit", "unavailable"))
    if policy.failure_mode("audit") is FailureMode.CLOSED:
        raise OwnFault(503, "audit_unavailable", "decisions cannot be recorded, and the policy demands it")
    services.metrics.fail_open.add(("audit",))
