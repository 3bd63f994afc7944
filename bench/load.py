"""The loads that are put on every proxy alike, and what is read off each run."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench import prompts
from bench.processes import BenchError, Child, Lab, busy_ticks, free_port
from bench.proxies import PATH

VARIED: Final = 65_536
"""Different requests of a load, taken in turn: some seconds' worth, and more than the gateway's verdict cache remembers."""

VARIED_LARGE: Final = 32_768
"""The same for requests of 4 KB, which go slower and take more memory to hold ready."""

VARIED_STREAMS: Final = 8_192
"""The same for streams, of which one is a hundred events."""

REPLIES: Final = 4_096
"""Different replies of the upstream; it changes some words of each every time."""

_TICKS: Final = 100
"""Clock ticks a second in /proc/stat: USER_HZ, the same on every Linux that we know."""

_PATIENCE: Final = 60.0
"""Seconds that a load may take beyond its time."""


class Load(NamedTuple):
    """One load: what is asked and by how many connections at once.

    Attributes:
        model: tells the upstream what to answer (see ``upstream.c``); ``sse-...`` is read by the stream client.
        size: characters of the prompt.
        connections: how many at once.
        varied: how many different prompts are taken in turn; 1 is the same one always.
        spread: milliseconds within which the connections of streams begin, so that they do not go in step.
    """

    name: str
    title: str
    model: str
    size: int
    connections: int
    varied: int
    spread: int = 0

    @property
    def streamed(self) -> bool:
        return self.model.startswith("sse-")


class Run(NamedTuple):
    """One load on one proxy, measured once. Times in microseconds; NaN is not measured."""

    rate: float  # requests or streams a second
    bad: int
    cpu_us: float  # of the proxy's processes, for each request or stream
    busy: float  # share of the run that the proxy was on its core
    neighbours: float  # share of both cores that processes took which are not ours
    p50: float  # to the last byte
    p99: float
    first_p50: float = float("nan")  # to the first byte of a stream's body
    first_p99: float = float("nan")
    delay_p50: float = float("nan")  # of an event, from the upstream's sending to the client's reading
    delay_p99: float = float("nan")


class Loader:
    """Puts loads on proxies. Texts are made once and are the same in every run with the same seed."""

    def __init__(self, lab: Lab) -> None:
        """
        Raises:
            BenchError: wrk or a C compiler is missing.
        """
        wrk = shutil.which("wrk")
        if wrk is None:
            raise BenchError("wrk is not installed; the benchmark's load comes from it")
        self._wrk = wrk
        self._lab = lab
        self._client = lab.compile("stream_client.c")
        self._script = Path(__file__).parent / "load.lua"
        self._files: dict[tuple[str, int, int], Path] = {}
        self._sent: dict[tuple[str, str], int] = {}  # by proxy and file, so that the next run goes on where this one ended

    def run(self, load: Load, proxy: Child, upstream: Child, headers: Mapping[str, str], seconds: int) -> Run:
        """Put ``load`` on ``proxy`` for ``seconds`` and measure.

        Raises:
            BenchError: the load generator fails, or what it prints cannot be read.
        """
        lab = self._lab
        lines = [f"{name}: {value}" for name, value in headers.items()]
        file = str(self._requests(load))
        skip = str(self._sent.get((proxy.name, file), 0) % load.varied)
        argv: list[str | Path]
        if load.streamed:
            argv = [self._client, str(proxy.port), PATH, str(load.connections), str(seconds), file, skip,
                    str(load.spread), *lines]  # fmt: skip
        else:
            argv = [self._wrk, "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "20s",
                    "-s", self._script, f"http://127.0.0.1:{proxy.port}", "--", file, skip, PATH, *lines]  # fmt: skip
        cores = (lab.proxy_core, lab.load_core)
        ticks, cpu, behind = busy_ticks(cores), proxy.cpu_ns(), upstream.cpu_ns()
        printed, own = lab.run(argv, seconds + _PATIENCE)
        used, behind = proxy.cpu_ns() - cpu, upstream.cpu_ns() - behind
        all_busy = (busy_ticks(cores) - ticks) / _TICKS
        self._sent[proxy.name, file] = int(skip) + answered(measured := parse(printed))
        others = all_busy - own - (used + behind) / 1e9
        return read_run(measured, used / 1e9, others / len(set(cores)))

    def _requests(self, load: Load) -> Path:
        key = (load.model, load.size, load.varied)
        if key not in self._files:
            path = self._files[key] = self._lab.folder / "requests-{}-{}-{}".format(*key)
            prompts.write_requests(path, load.model, load.size, load.varied)
        return self._files[key]


def start_upstream(lab: Lab) -> Child:
    """Start the model provider that all proxies stand before.

    Raises:
        BenchError: it cannot be compiled.
    """
    program = lab.compile("upstream.c")
    replies, deltas = lab.folder / "replies", lab.folder / "deltas"
    prompts.write_replies(replies, REPLIES)
    prompts.write_deltas(deltas, VARIED)
    port = free_port()
    return lab.start("upstream", [program, str(port), replies, deltas], lab.load_core, port)


def parse(printed: str) -> dict[str, float]:
    """The measurements in what a load generator printed: its last JSON object, alone on a line or after ``bench``.

    Raises:
        BenchError: there is none.
    """
    for line in reversed(printed.splitlines()):
        text = line.removeprefix("bench ").strip()
        if text.startswith("{"):
            try:
                measured: dict[str, float] = json.loads(text)
            except ValueError:
                break
            return measured
    raise BenchError(f"no measurement in what the load printed: {printed.strip()[-200:]!r}")


def answered(measured: Mapping[str, float]) -> int:
    """How many requests or streams were answered."""
    return int(measured["requests"] if "requests" in measured else measured["streams"])


def read_run(measured: Mapping[str, float], proxy_seconds: float, other_seconds: float) -> Run:
    """A run from what a load generator measured.

    Args:
        measured: as `parse` returns it.
        proxy_seconds: CPU time of the proxy.
        other_seconds: CPU time of processes that are not ours, for each core.
    """
    took, done = measured["microseconds"] / 1e6, answered(measured)
    kinds = ("total_", "first_", "delay_") if "streams" in measured else ("",)
    times = [kind + percentile for kind in kinds for percentile in ("p50", "p99")]
    return Run(
        done / took,
        int(measured["bad"]),
        proxy_seconds * 1e6 / done if done else float("nan"),
        proxy_seconds / took,
        min(1.0, max(0.0, other_seconds / took)),
        *(measured[name] if done else float("nan") for name in times),
    )


def median(runs: Sequence[Run]) -> Run:
    """The median of each figure where it was measured; of failures, all of them."""
    middle = [_middle([value for value in column if not math.isnan(value)]) for column in zip(*runs, strict=True)]
    return Run._make(middle)._replace(bad=sum(run.bad for run in runs))


def _middle(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def counters(metrics: str, name: str) -> dict[str, float]:
    """A counter's values by its label set, as they stand in a Prometheus exposition (``{result="hit"}``, or empty)."""
    found = {}
    for line in metrics.splitlines():
        series, _, value = line.rpartition(" ")
        family, brace, labels = series.partition("{")
        if family == name:
            found[brace + labels] = float(value)
    return found
