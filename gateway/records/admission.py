"""Whether there is a place for what a request leaves behind: its record."""

from __future__ import annotations

from gateway.faults import OwnFault
from gateway.screening.policy import FailureMode, Policy
from gateway.services import Services


def check_records(services: Services, policy: Policy) -> None:
    """Refuse what cannot be recorded, where the policy demands that it is.

    Raises:
        OwnFault: it does, and it cannot be.
    """
    if _recordable(services):
        return
    services.metrics.incomplete.add(("audit", "unavailable"))
    if _demanded(policy):
        raise OwnFault(503, "audit_unavailable", "decisions cannot be recorded, and the policy demands it")
    services.metrics.fail_open.add(("audit",))


def refuses_all(services: Services) -> bool:
    """Whether nobody is served, since decisions cannot be recorded and every policy demands that they are."""
    live = services.live
    named = (live.presets[name] for name in services.keys.ring.policies if name in live.presets)
    return not _recordable(services) and all(
        _demanded(bound.policy) for bound in (live.default, *live.tenants.values(), *named)
    )


def _recordable(services: Services) -> bool:
    return services.recorder.healthy and services.audit.writable


def _demanded(policy: Policy) -> bool:
    return policy.failure_mode("audit") is FailureMode.CLOSED
