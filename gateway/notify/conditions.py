"""What is worth telling somebody, read off the gateway's own series. Pure: readings in, conditions out.

Names and bounds are those of the alert rules (``helm/generate/alerts.py``), as far as they can be known without a Prometheus.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

Severity = Literal["critical", "warning"]
Labels = tuple[str, ...]
Values = Mapping[Labels, float]

KEPT_SECONDS: Final = 86_400.0
"""How long readings are kept: the past day is what a surge is compared with."""

LEAST_REQUESTS: Final = 20
"""Requests below which a share says nothing."""

SURGE_FACTOR: Final = 3.0
SURGE_LEAST: Final = 0.2
"""Threats a second below which nothing is a surge."""

SURGE_SECONDS: Final = 900.0
PAST_SECONDS: Final = 60.0
"""Between two readings that are kept of what lies before `SURGE_SECONDS`: a surge is compared with the whole of it."""

BASELINE_LEAST: Final = 3_600.0
"""Seconds of past without which nothing can be called a surge."""

CERTIFICATE_SECONDS: Final = 7 * 86_400.0


class Condition(NamedTuple):
    """Something is wrong. ``key`` tells it from others of the same name; ``text`` is for people and holds no caller's words."""

    name: str
    key: str
    severity: Severity
    text: str


class Reading(NamedTuple):
    """The watched series at one time (UNIX seconds)."""

    at: float
    series: Mapping[str, Values]

    def total(self, name: str, wanted: Callable[[Labels], bool] = lambda _: True) -> float:
        return sum(value for labels, value in self.series.get(name, {}).items() if wanted(labels))


WATCHED: Final = frozenset({
    "portcullis_requests", "portcullis_incomplete_verdicts", "portcullis_fail_open", "portcullis_state_up",
    "portcullis_config_broken", "portcullis_breaker_open", "portcullis_decision_write_errors", "portcullis_decisions_dropped",
    "portcullis_in_flight", "portcullis_in_flight_limit", "portcullis_audit_writable", "portcullis_sync_certificate_expires",
})  # fmt: skip
"""Series as the gateway names them, without Prometheus' suffixes."""


def read(series: Mapping[str, Any], now: float) -> Reading:
    """Keep what is watched of all series (as `Exposition.series` gives them)."""
    return Reading(now, {name: series[name][3] for name in WATCHED if name in series})


class Counted(NamedTuple):
    """What conditions compare of two readings: counters, added up over the labels that no condition asks for. There are as many
    of those as there are tenants, and a day of readings of all of them would fill the memory."""

    at: float
    requests: float
    errors: float
    threats: float
    incomplete: float
    not_stored: float
    lost: float
    fail_open: Values

    @classmethod
    def of(cls, reading: Reading) -> Counted:
        return cls(
            reading.at,
            reading.total("portcullis_requests"),
            reading.total("portcullis_requests", lambda labels: labels[-1].startswith("5")),
            reading.total("portcullis_requests", lambda labels: labels[2] in ("block", "flag")),
            reading.total("portcullis_incomplete_verdicts"),
            reading.total("portcullis_decision_write_errors"),
            reading.total("portcullis_decisions_dropped"),
            reading.series.get("portcullis_fail_open", {}),
        )


class History:
    """The newest reading, and what was counted in those of the past day, oldest first: in each of the last `SURGE_SECONDS`, and
    before that one in `PAST_SECONDS`."""

    newest: Reading

    def __init__(self) -> None:
        self._counted: list[Counted] = []

    def add(self, reading: Reading) -> None:
        """Add the newest. A clock that went back throws away what would lie in the future."""
        self.newest = reading
        counted = self._counted
        while counted and counted[-1].at >= reading.at:
            counted.pop()
        counted.append(Counted.of(reading))
        last = self._place(SURGE_SECONDS)
        while last > 1 and counted[last - 1].at < counted[last - 2].at + PAST_SECONDS:
            last -= 1
            del counted[last]
        while counted[0].at < reading.at - KEPT_SECONDS:
            del counted[0]

    def before(self, seconds: float) -> Counted:
        """What the last reading counted that is at least ``seconds`` old; the oldest where none is."""
        return self._counted[self._place(seconds)]

    def increase(self, seconds: float, count: Callable[[Counted], float]) -> float:
        """How much a counter grew in the last ``seconds``."""
        return max(0.0, count(self._counted[-1]) - count(self.before(seconds)))

    def _place(self, seconds: float) -> int:
        after = bisect_right(self._counted, self.newest.at - seconds, key=lambda one: one.at)
        return max(0, after - 1)


def conditions(history: History) -> Iterator[Condition]:
    """Everything that is wrong at the newest reading."""
    yield from _gauges(history.newest)
    yield from _counters(history)
    if (surge := _surge(history)) is not None:
        yield surge


def _gauges(now: Reading) -> Iterator[Condition]:
    if any(value == 0 for value in now.series.get("portcullis_state_up", {}).values()):
        yield Condition("PortcullisStateDown", "", "critical", "the state does not answer; decisions wait in memory")
    if any(now.series.get("portcullis_config_broken", {}).values()):
        text = "the newest configuration is refused; the old one serves on"
        yield Condition("PortcullisConfigurationRefused", "", "warning", text)
    if any(value == 0 for value in now.series.get("portcullis_audit_writable", {}).values()):
        yield Condition("PortcullisAuditNotWritable", "", "critical", "the audit log cannot be written")
    for labels, value in now.series.get("portcullis_breaker_open", {}).items():
        if value:
            text = f"the circuit breaker of upstream {labels[0]} is open"
            yield Condition("PortcullisBreakerOpen", labels[0], "warning", text)
    for labels, at in now.series.get("portcullis_sync_certificate_expires", {}).items():
        if 0 < at < now.at + CERTIFICATE_SECONDS:
            hours = max(0, round((at - now.at) / 3600))
            severity: Severity = "critical" if at < now.at + 86_400 else "warning"
            text = f"a certificate expires in {hours} hours"
            yield Condition("PortcullisCertificateExpires", "/".join(labels), severity, text)
    limit = now.total("portcullis_in_flight_limit")
    if limit and now.total("portcullis_in_flight") > 0.8 * limit:
        yield Condition("PortcullisSaturated", "", "warning", "more than 80 % of the requests in flight that are allowed")


def _counters(history: History) -> Iterator[Condition]:
    requests = history.increase(300, lambda one: one.requests)
    errors = history.increase(300, lambda one: one.errors)
    if requests >= LEAST_REQUESTS and errors > 0.05 * requests:
        text = f"{errors / requests:.0%} of requests ended in a 5xx in five minutes"
        yield Condition("PortcullisErrorRate", "", "critical", text)
    incomplete = history.increase(300, lambda one: one.incomplete)
    if requests >= LEAST_REQUESTS and incomplete > 0.01 * requests:
        text = f"{incomplete / requests:.0%} of verdicts lacked a stage in five minutes"
        yield Condition("PortcullisIncompleteVerdicts", "", "warning", text)
    before = history.before(600).fail_open
    for labels, count in sorted(history.before(0).fail_open.items()):
        if count > before.get(labels, 0.0):
            text = f"requests pass without stage {labels[0]}: fail-open is in force"
            yield Condition("PortcullisFailOpen", labels[0], "critical", text)
    if history.increase(300, lambda one: one.not_stored):
        yield Condition("PortcullisDecisionsNotStored", "", "critical", "decisions cannot be stored; they wait in memory")
    if lost := history.increase(600, lambda one: one.lost):
        yield Condition("PortcullisDecisionsLost", "", "critical", f"{lost:.0f} decision records were lost")


def _surge(history: History) -> Condition | None:
    recent = history.increase(SURGE_SECONDS, lambda one: one.threats)
    start, oldest = history.before(SURGE_SECONDS), history.before(KEPT_SECONDS)
    past = start.at - oldest.at
    if past < BASELINE_LEAST:
        return None
    usual = (start.threats - oldest.threats) / past
    rate = recent / SURGE_SECONDS
    if rate > SURGE_LEAST and rate > SURGE_FACTOR * usual:
        text = f"{rate:.2g} blocked or flagged requests a second, against {usual:.2g} over the day before"
        return Condition("PortcullisThreatSurge", "", "warning", text)
    return None
