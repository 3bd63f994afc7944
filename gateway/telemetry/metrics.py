"""What is counted, and how it reaches Prometheus.

A request touches about ten series. They are kept as plain numbers in dictionaries (some 60 ns a touch), and handed to
prometheus-client's exposition when somebody scrapes. With several workers each one writes its numbers to a file every
second, and whichever worker is scraped adds up its own numbers and the files of the others.
"""

from __future__ import annotations

import logging
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from detectors.stages import STAGES

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
        self.upstream_errors = Counter(
            "portcullis_upstream_errors", "Exchanges with an upstream that failed.", ("upstream", "kind")
        )
        self.upstream_retries = Counter("portcullis_upstream_retries", "Attempts after the first.", ("upstream",))
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


class Exposition:
    """Answers a scrape: this worker's numbers, and those that the other workers wrote to ``folder``."""

    def __init__(self, metrics: Metrics, folder: Path | None) -> None:
        self._metrics = metrics
        self._folder = folder
        self._file = folder / f"{os.getpid()}.json" if folder else None
        self._fault = ""

    def flush(self) -> None:
        """Write this worker's numbers for the others. A dead worker's last numbers stay: counters never go back."""
        if self._file is None:
            return
        scratch = self._file.with_suffix(".new")
        try:
            scratch.write_bytes(orjson.dumps({"at": time.time(), "series": self._metrics.snapshot()}))
            scratch.replace(self._file)
        except OSError as error:
            if self._fault != str(error):
                _log.error("metrics cannot be shared with the other workers: %s", error.strerror)
            self._fault = str(error)
        else:
            self._fault = ""

    def render(self) -> bytes:
        """What a scrape gets; it is written first, or a worker that is killed would take back what was told of it. A number
        that went back is a new beginning to Prometheus, which would count all of it once more."""
        from gateway.telemetry.prometheus import written  # what it brings is loaded beside serving

        self.flush()
        return written(self.series())

    def series(self) -> dict[str, Any]:
        """All series of all workers: by name, (kind, help, label names, values by label values, …)."""
        return _merged(self._snapshots())

    def _snapshots(self) -> Iterator[dict[str, Any]]:
        yield orjson.loads(orjson.dumps(self._metrics.snapshot()))
        for file in sorted(self._folder.glob("*.json")) if self._folder else ():
            if file != self._file:
                try:
                    other = orjson.loads(file.read_bytes())
                except (OSError, orjson.JSONDecodeError):
                    continue  # it is being replaced, or its worker was killed while writing: the next scrape has it
                stale = time.time() - other["at"] > 10 * FLUSH_SECONDS
                yield {n: s for n, s in other["series"].items() if not (stale and s[0] == "gauge")}


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
