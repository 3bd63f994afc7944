"""What is counted, and how it reaches Prometheus.

A request touches about ten series. They are kept as plain numbers in dictionaries (some 60 ns a touch), and handed to
prometheus-client's exposition when somebody scrapes. With several workers each one shows its numbers to the others every
second (`board`), and whichever worker is scraped adds up its own numbers and theirs.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import orjson

from detectors.stages import STAGES
from gateway.telemetry.board import Board

SCREEN_BUCKETS: Final = (
    5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5, 1.0,
)  # fmt: skip
UPSTREAM_BUCKETS: Final = (
    1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip

MAX_SERIES: Final = 2_000
"""Label sets of one metric. Labels never hold what a caller can choose freely, so this is reached by many tenants only."""

FAIL_OPEN_STAGES: Final = (*STAGES, "stream", "consensus", "audit")
"""Counted from zero: of a series that begins with its first count, Prometheus sees no increase, and no alert fires."""

FLUSH_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)

Labels = tuple[str, ...]


class Counter:
    """A number that only grows, by label values."""

    __slots__ = ("help", "labels", "name", "values")

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self.name, self.help, self.labels = name, text, labels
        self.values: dict[Labels, float] = {}

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        values = self.values
        if labels in values:
            values[labels] += amount
        else:
            values[_bounded(labels, values)] = values.get(_bounded(labels, values), 0) + amount


class Histogram:
    """Observations in seconds, counted into buckets, by label values; the last number of a row is their sum."""

    __slots__ = ("bounds", "help", "labels", "name", "rows")

    def __init__(self, name: str, text: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self.name, self.help, self.labels, self.bounds = name, text, labels, bounds
        self.rows: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, seconds: float) -> None:
        row = self.rows.get(labels)
        if row is None:
            row = self.rows.setdefault(_bounded(labels, self.rows), [0.0] * (len(self.bounds) + 2))
        row[bisect_left(self.bounds, seconds)] += 1
        row[-1] += seconds


def _bounded(labels: Labels, known: dict[Labels, Any]) -> Labels:
    return labels if len(known) < MAX_SERIES else tuple("other" for _ in labels)


class Metrics:
    """All series of one worker."""

    def __init__(self) -> None:
        self.requests = Counter(
            "portcullis_requests", "Requests answered.", ("wire", "tenant", "action", "status")
        )
        self.findings = Counter(
            "portcullis_findings", "Findings, by what was done.", ("category", "stage", "origin", "direction", "action")
        )
        self.incomplete = Counter(
            "portcullis_incomplete_verdicts", "Verdicts that lack a stage.", ("stage", "reason")
        )
        self.pattern_findings = Counter("portcullis_pattern_findings", "Findings, by pattern.", ("pattern", "action"))
        self.fail_open = Counter(
            "portcullis_fail_open", "Messages that went on without a stage, as their policy lets them.", ("stage",)
        )
        self.shadow = Counter(
            "portcullis_shadow_decisions", "Decisions of the shadow policy beside the live one.", ("live", "shadow")
        )
        self.stream_bytes = Counter("portcullis_stream_bytes", "Bytes of streamed replies sent on.", ("wire",))
        self.stream_cuts = Counter(
            "portcullis_stream_cuts", "Streamed replies that were cut, by the stage that saw why; alarm: by their score.",
            ("wire", "stage"),
        )
        self.stream_lag = Histogram(
            "portcullis_stream_lag_seconds", "From a streamed word to its judgement by meaning.", (), UPSTREAM_BUCKETS
        )
        self.realtime_events = Counter(
            "portcullis_realtime_events",
            "Events of realtime sessions, by who sent them (client, server) and what was done: pass, unscreened, flag, redact, "
            "block, invalid, drop, cut, or the policy's allow.",
            ("sender", "action"),
        )
        self.clients_gone = Counter("portcullis_clients_gone", "Clients that left before their reply ended.", ("wire",))
        self.sign_ins = Counter("portcullis_console_sign_ins", "Attempts to sign in to the console.", ("result",))
        self.reloads = Counter("portcullis_config_reloads", "Configurations taken or refused.", ("result",))
        self.screening = Histogram(
            "portcullis_screening_seconds", "Time spent screening a message, by stage.", ("stage",), SCREEN_BUCKETS
        )
        self.consensus_seconds = Histogram(
            "portcullis_consensus_seconds", "What it took to ask other replicas about a request.", (), UPSTREAM_BUCKETS
        )
        self.upstream_seconds = Histogram(
            "portcullis_upstream_seconds", "Time to the upstream's first byte.", ("upstream",), UPSTREAM_BUCKETS
        )
        self.request_seconds = Histogram(
            "portcullis_request_seconds", "Time from the request's last byte to the reply's last.", ("wire",),
            UPSTREAM_BUCKETS,
        )  # fmt: skip
        for result in ("taken", "refused"):
            self.reloads.add((result,), 0)
        for stage in FAIL_OPEN_STAGES:
            self.fail_open.add((stage,), 0)
        self._gauges: list[tuple[str, str, Labels, Callable[[], dict[Labels, float]], str]] = []
        self._counts: list[tuple[str, str, Labels, Callable[[], dict[Labels, float]]]] = []

    def gauge(
        self, name: str, text: str, labels: Labels, read: Callable[[], dict[Labels, float]], merge: str = "sum"
    ) -> None:
        """Add a number that is read when it is asked for. ``merge`` over workers: ``sum``, ``max`` or ``min``."""
        self._gauges.append((name, text, labels, read, merge))

    def count(self, name: str, text: str, labels: Labels, read: Callable[[], dict[Labels, float]]) -> None:
        """Add a growing number that something else keeps."""
        self._counts.append((name, text, labels, read))

    def snapshot(self) -> dict[str, Any]:
        """All numbers as plain JSON values."""
        taken: dict[str, Any] = {}
        for member in vars(self).values():
            if isinstance(member, Counter):
                taken[member.name] = ["counter", member.help, member.labels, _pairs(member.values)]
            elif isinstance(member, Histogram):
                taken[member.name] = ["histogram", member.help, member.labels, _pairs(member.rows), member.bounds]
        for name, help_, labels, read in self._counts:
            taken[name] = ["counter", help_, labels, _pairs(read())]
        for name, help_, labels, read, merge in self._gauges:
            taken[name] = ["gauge", help_, labels, _pairs(read()), merge]
        return taken


class Place(NamedTuple):
    """A worker's place on the board of its gateway."""

    board: Board
    number: int


class Exposition:
    """Answers a scrape: this worker's numbers, and those that the other workers of its gateway showed last."""

    def __init__(self, metrics: Metrics, place: Place | None) -> None:
        """``place``: where this worker shows its numbers; None where there is no other."""
        self._metrics = metrics
        self._place = place
        self._before: dict[str, Any] = {}
        if place is not None and (left := _read(place.board, place.number)):
            self._before = {name: series for name, series in left["series"].items() if series[0] != "gauge"}
        self._too_much = False

    def flush(self) -> None:
        """Show this worker's numbers to the others, with what a worker counted that had its place before: counters never go
        back."""
        if self._place is None:
            return
        try:
            self._place.board.show(self._place.number, orjson.dumps({"at": time.monotonic(), "series": self._own()}))
        except ValueError as error:
            if not self._too_much:
                _log.error("metrics cannot be shared with the other workers: %s", error)
            self._too_much = True
        else:
            self._too_much = False

    def render(self) -> bytes:
        """What a scrape gets; it is shown first, or a worker that is killed would take back what was told of it. A number
        that went back is a new beginning to Prometheus, which would count all of it once more."""
        from gateway.telemetry.prometheus import written  # what it brings is loaded beside serving

        self.flush()
        return written(self.series())

    def series(self) -> dict[str, Any]:
        """All series of all workers: by name, (kind, help, label names, values by label values, …)."""
        return _merged(self._snapshots())

    def _own(self) -> dict[str, Any]:
        own: dict[str, Any] = orjson.loads(orjson.dumps(self._metrics.snapshot()))
        if not self._before:
            return own
        whole = _merged(iter((own, self._before)))
        return {name: [*series[:3], _pairs(series[3]), *series[4:]] for name, series in whole.items()}

    def _snapshots(self) -> Iterator[dict[str, Any]]:
        yield self._own()
        if self._place is None:
            return
        board = self._place.board
        for number in range(board.workers):
            if number != self._place.number and (other := _read(board, number)):
                stale = time.monotonic() - other["at"] > 10 * FLUSH_SECONDS
                yield {n: s for n, s in other["series"].items() if not (stale and s[0] == "gauge")}


def _read(board: Board, number: int) -> dict[str, Any]:
    """What a worker showed last; empty where it showed nothing."""
    return orjson.loads(shown) if (shown := board.shown(number)) else {}


def _pairs(values: dict[Labels, Any]) -> list[tuple[Labels, Any]]:
    return list(values.items())


def _merged(snapshots: Iterator[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            if name not in total:
                total[name] = [*series[:3], {}, *series[4:]]
            into = total[name][3]
            for labels, value in series[3]:
                key = tuple(labels)
                into[key] = _add(series, into[key], value) if key in into else value
    return total


def _add(series: list[Any], old: Any, new: Any) -> Any:
    if series[0] == "histogram":
        return [a + b for a, b in zip(old, new, strict=True)]
    if series[0] == "gauge" and series[4] != "sum":
        return (max if series[4] == "max" else min)(old, new)
    return old + new
