"""What is promised of a deployment, and the bounds that alerts and dashboards share."""

from __future__ import annotations

from typing import Final, NamedTuple


class Objective(NamedTuple):
    """A service-level objective: the share of events that are good, over thirty days.

    ``bad`` and ``all`` are PromQL expressions with ``WINDOW`` where a range belongs.
    """

    key: str
    title: str
    goal: float
    bad: str
    all: str

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return round(1 - self.goal, 6)


SCREENING_BOUND: Final = 0.025
"""Seconds within which a message is screened; one of the histogram's own bounds, so that the share is exact."""

AVAILABILITY: Final = Objective(
    "availability", "Requests answered without a fault of the gateway or the upstream (no 5xx)", 0.999,
    'sum by (job) (rate(portcullis_requests_total{status=~"5.."}[WINDOW])) or sum by (job) (rate(portcullis_requests_total[WINDOW])) * 0',
    "sum by (job) (rate(portcullis_requests_total[WINDOW]))",
)  # fmt: skip
LATENCY: Final = Objective(
    "latency", f"Messages screened within {SCREENING_BOUND * 1000:.0f} ms", 0.99,
    'sum by (job) (rate(portcullis_screening_seconds_count{stage="total"}[WINDOW]))'
    f' - sum by (job) (rate(portcullis_screening_seconds_bucket{{stage="total",le="{SCREENING_BOUND}"}}[WINDOW]))',
    'sum by (job) (rate(portcullis_screening_seconds_count{stage="total"}[WINDOW]))',
)  # fmt: skip
OBJECTIVES: Final = (AVAILABILITY, LATENCY)


class Burn(NamedTuple):
    """One pair of windows: the budget burns ``factor`` times as fast as it may, over both."""

    long: str
    short: str
    factor: float


FAST: Final = (Burn("1h", "5m", 14.4), Burn("6h", "30m", 6.0))
"""Two and five percent of a month's budget in an hour and in six: the multi-window rules of Google's SRE Workbook, chapter 5."""

SLOW: Final = (Burn("1d", "2h", 3.0), Burn("3d", "6h", 1.0))
"""A tenth of a month's budget in a day or in three: worth a ticket, not a night."""

WINDOWS: Final = tuple(dict.fromkeys(window for burn in (*FAST, *SLOW) for window in (burn.short, burn.long)))
"""Windows over which the share of bad events is recorded."""


def share(objective: Objective, window: str) -> str:
    """The name of the recorded share of bad events."""
    return f"portcullis:{objective.key}_bad:ratio_rate{window}"
