"""A horizontal autoscaler and the pods it commands, simulated second by second. Deterministic; no clock, no cluster.

The autoscaler is Kubernetes' own ("Horizontal Pod Autoscaling", algorithm details): desired = ceil(ready pods * used / target),
a tolerance of a tenth, the greatest recommendation of the scale-down window, and the chart's policies for how fast pods may be
added and taken away. Its figures are old: metrics are averages that arrive late.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

SYNC_SECONDS: Final = 15
"""How often the autoscaler decides: the default of kube-controller-manager."""

METRIC_SECONDS: Final = 30
"""How old the figures are that it sees: metrics-server scrapes every 15 s and averages over as long."""

TOLERANCE: Final = 0.1
POLICY_SECONDS: Final = 30
"""The period of the chart's scale-up policies: in it pods may double, or four be added, whichever is more."""

POLICY_PODS: Final = 4
DOWN_SECONDS: Final = 60
DOWN_SHARE: Final = 0.2
"""The chart's scale-down policy: a fifth of the pods a minute."""


class Plan(NamedTuple):
    """A deployment. ``pod_rate`` is what one pod answers when it uses all of the CPU that it asked for."""

    pod_rate: float
    target: float
    least: int
    most: int
    start_seconds: int
    down_window: int = 300


class Outcome(NamedTuple):
    """What became of a course of demand: of all requests those above capacity, and when pods were enough again."""

    peak_pods: int
    refused_share: float
    short_seconds: int
    worst_shortfall: float
    pod_hours: float
    ideal_pod_hours: float
    pods: tuple[int, ...]


def simulate(plan: Plan, demand: Callable[[int], float], seconds: int) -> Outcome:
    """Run ``demand`` (requests a second at a second) against a deployment that begins at rest."""
    ready = max(plan.least, math.ceil(demand(0) / (plan.pod_rate * plan.target)))
    starting: deque[tuple[int, int]] = deque()  # (ready at, how many)
    seen: deque[float] = deque([demand(0) / ready] * METRIC_SECONDS, METRIC_SECONDS)
    wanted: deque[tuple[int, int]] = deque()
    counts: list[int] = []
    asked = refused = worst = 0.0
    short = 0
    up_from, up_since = ready, -POLICY_SECONDS
    down_since = -DOWN_SECONDS
    for now in range(seconds):
        while starting and starting[0][0] <= now:
            ready += starting.popleft()[1]
        rate = demand(now)
        capacity = ready * plan.pod_rate
        asked += rate
        refused += max(0.0, rate - capacity)
        short += rate > capacity
        worst = max(worst, 1 - capacity / rate if rate > capacity else 0.0)
        seen.append(min(rate, capacity) / ready)
        counts.append(ready)
        if now % SYNC_SECONDS:
            continue
        total = ready + sum(number for _, number in starting)
        ratio = sum(seen) / len(seen) / (plan.pod_rate * plan.target)
        desired = total if abs(ratio - 1) <= TOLERANCE else math.ceil(ready * ratio)
        desired = min(plan.most, max(plan.least, desired))
        wanted.append((now, desired))
        while wanted[0][0] <= now - plan.down_window:
            wanted.popleft()
        if desired > total:
            if now - up_since >= POLICY_SECONDS:
                up_from, up_since = total, now
            allowed = min(desired, max(2 * up_from, up_from + POLICY_PODS))
            if allowed > total:
                starting.append((now + plan.start_seconds, allowed - total))
        elif (calm := max(number for _, number in wanted)) < total and not starting and now - down_since >= DOWN_SECONDS:
            ready -= min(total - calm, max(1, int(total * DOWN_SHARE)))
            down_since = now
    ideal = sum(max(plan.least, math.ceil(demand(now) / (plan.pod_rate * plan.target))) for now in range(seconds))
    return Outcome(max(counts), refused / asked, short, worst, sum(counts) / 3600, ideal / 3600, tuple(counts))


def day(low: float, high: float) -> Callable[[int], float]:
    """A day that goes from ``low`` at midnight to ``high`` at noon and back."""
    return lambda now: low + (high - low) * (1 - math.cos(2 * math.pi * now / 86_400)) / 2


def step(before: float, after: float, at: int) -> Callable[[int], float]:
    """A sudden change."""
    return lambda now: after if now >= at else before


def ramp(before: float, after: float, at: int, seconds: int) -> Callable[[int], float]:
    """A steady rise."""
    return lambda now: before + (after - before) * min(1.0, max(0.0, (now - at) / seconds))
