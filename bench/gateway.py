"""``python -m bench gateway``: Portcullis beside other proxies, on the same machine, in the same run.

Each proxy has one core to itself; the load and the upstream share another one. All of them stand there all the time, and
rounds are interleaved, so that what else the machine does hurts all alike. Figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench import prompts, report
from bench.load import VARIED, VARIED_LARGE, VARIED_STREAMS, Load, Loader, Run, counters, median, start_upstream
from bench.machine import machine, versions
from bench.processes import BenchError, Child, Lab, Memory, get, wait_until_it_answers
from bench.proxies import PATH, PROXIES, Proxy, rivals
from bench.report import Goal

NAME: Final = "gateway"
HELP: Final = "requests a second, latency, CPU and memory beside nginx and other proxies"

LOADS: Final = (
    Load("whole_300_c32", "300 B prompts, 32 connections", "whole", 300, 32, VARIED),
    Load("whole_4k_c32", "4 KB prompts, 32 connections", "whole", 4096, 32, VARIED_LARGE),
    Load("whole_300_c1", "300 B prompts, 1 connection", "whole", 300, 1, VARIED),
    Load("whole_4k_c1", "4 KB prompts, 1 connection", "whole", 4096, 1, VARIED_LARGE),
    Load("cached_300_c32", "one 300 B prompt and reply over and over, 32 connections", "same", 300, 32, 1),
    Load("stream_c1", "streams of 100 events, back to back, 1 connection", "sse-100-0", 300, 1, VARIED_STREAMS),
    Load("stream_c32", "streams of 100 events, back to back, 32 connections", "sse-100-0", 300, 32, VARIED_STREAMS),
    Load("paced_c1", "streams of 100 events, 0.5 ms apart, 1 connection", "sse-100-500", 300, 1, VARIED_STREAMS),
)

WARM_SECONDS: Final = 1
"""Load on each proxy before anything is measured: caches, connection pools, just-in-time compilers."""


class Standing(NamedTuple):
    """A proxy that runs."""

    proxy: Proxy
    child: Child
    headers: Mapping[str, str]


class Bench:
    """One run of the benchmark."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._upstream = start_upstream(lab)
        self._loader = Loader(lab)
        self.standing: list[Standing] = []
        self.absent: dict[str, str] = {}
        self.runs: dict[tuple[str, str], list[Run]] = {}
        self.cached: dict[tuple[str, str], list[float]] = {}

    def start(self, only: Sequence[str]) -> None:
        """Start all proxies that are wanted and can be; note why the others cannot."""
        body = prompts.request_body("whole", "Hello!")
        wait_until_it_answers(self._upstream, PATH, body, {})
        for proxy in PROXIES:
            if only and proxy.name not in only:
                continue
            child = None
            try:
                child = proxy.start(self._lab, self._upstream.port)
                headers = proxy.headers(self._upstream.port)
                wait_until_it_answers(child, PATH, body, headers)
            except BenchError as error:
                self.absent[proxy.name] = str(error)
                if child is not None:
                    self._lab.discard(child)
                continue
            self.standing.append(Standing(proxy, child, headers))

    def warm(self) -> None:
        """Load every proxy once without measuring."""
        for standing in self.standing:
            self._loader.run(LOADS[0], standing.child, self._upstream, standing.headers, WARM_SECONDS)

    def measure(self, rounds: int, seconds: int) -> None:
        """All loads on all proxies, in interleaved rounds."""
        for number in range(rounds):
            for load in LOADS:
                for standing in self.standing:
                    _progress(f"round {number + 1} of {rounds}: {load.name} {standing.proxy.name}")
                    self._measure(load, standing, seconds)
        _progress("")

    def _measure(self, load: Load, standing: Standing, seconds: int) -> None:
        key = (standing.proxy.name, load.name)
        before = _cache(standing)
        run = self._loader.run(load, standing.child, self._upstream, standing.headers, seconds)
        self.runs.setdefault(key, []).append(run)
        if looked_up := [after - was for after, was in zip(_cache(standing), before, strict=True)]:
            self.cached.setdefault(key, []).append(looked_up[0] / max(1.0, sum(looked_up)))

    def medians(self) -> dict[str, dict[str, Run]]:
        """By proxy and load."""
        found: dict[str, dict[str, Run]] = {}
        for (proxy, load), runs in self.runs.items():
            found.setdefault(proxy, {})[load] = median(runs)
        return found

    def memories(self) -> dict[str, Memory]:
        """By proxy, after the load."""
        return {standing.proxy.name: standing.child.memory() for standing in self.standing}

    def audit(self) -> dict[str, float]:
        """What became of Portcullis' decision records: proof that they were kept under load."""
        for standing in self.standing:
            if standing.proxy.metrics:
                text = get(standing.child.port, standing.proxy.metrics).decode()
                return {
                    fate: sum(counters(text, f"portcullis_decisions_{fate}_total").values())
                    for fate in ("stored", "dropped")
                }
        return {}


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


def _cache(standing: Standing) -> list[float]:
    """Texts found in Portcullis' verdict cache so far, and those not found; empty for other proxies."""
    if not standing.proxy.metrics:
        return []
    text = get(standing.child.port, standing.proxy.metrics).decode()
    found = counters(text, "portcullis_cache_total")
    return [found.get('{result="hit"}', 0.0), found.get('{result="miss"}', 0.0)]


def goals(medians: Mapping[str, Mapping[str, Run]], memories: Mapping[str, Memory]) -> list[Goal]:
    """What Portcullis is to reach beside nginx; nothing where one of the two did not run."""
    if "nginx" not in medians or "portcullis" not in medians:
        return []
    ours, theirs = medians["portcullis"], medians["nginx"]

    def rate(load: str) -> float:
        return round(ours[load].rate / theirs[load].rate, 4) if theirs[load].rate else float("nan")

    def first_byte(load: str) -> float:
        return round(ours[load].first_p50 / theirs[load].first_p50, 3)

    return [
        Goal("rate_300_c32_to_nginx_at_least", rate("whole_300_c32"), 0.25),
        Goal("rate_4k_c32_to_nginx_at_least", rate("whole_4k_c32"), 0.15),
        Goal("c1_p50_us_over_nginx_at_most", ours["whole_300_c1"].p50 - theirs["whole_300_c1"].p50, 80.0),
        Goal("stream_first_byte_to_nginx_at_most", first_byte("stream_c1"), 1.6),
        Goal("paced_first_byte_to_nginx_at_most", first_byte("paced_c1"), 1.6),
        Goal("worker_rss_mb_at_most", round(memories["portcullis"].largest_rss, 1), 110.0),
        Goal("bad_replies_at_most", float(sum(run.bad for run in ours.values())), 0.0),
    ]


def figures(bench: Bench, medians: Mapping[str, Mapping[str, Run]], memories: Mapping[str, Memory]) -> dict[str, object]:
    """Everything measured: by proxy, then by load."""
    found: dict[str, object] = {}
    for name, loads in medians.items():
        measured: dict[str, object] = {load: _figures(run) for load, run in loads.items()}
        measured["worker_rss_mb"] = round(memories[name].largest_rss, 1)
        measured["pss_mb"] = round(memories[name].pss, 1)
        found[name] = measured
    found["absent"] = bench.absent
    found["audit"] = bench.audit()
    found["cache_hit_share"] = {load: round(sum(shares) / len(shares), 4) for (_, load), shares in bench.cached.items()}
    every = sorted(run.neighbours for runs in bench.runs.values() for run in runs)
    found["neighbours_share_of_cores"] = {"median": round(every[len(every) // 2], 3), "worst": round(every[-1], 3)}
    return found


def _figures(run: Run) -> dict[str, float]:
    return {name: round(value, 3) for name, value in run._asdict().items() if not math.isnan(value)}


def tables(medians: Mapping[str, Mapping[str, Run]], memories: Mapping[str, Memory]) -> str:
    """One table for each load, one for memory."""
    nginx = medians.get("nginx", {})
    parts = []
    for load in LOADS:
        unit = "streams/s" if load.streamed else "requests/s"
        columns = ["proxy", unit, "/nginx", "CPU us each", "core busy", "p50 us", "p99 us"]
        columns += ["first p50", "first p99", "event p50", "event p99"] if load.streamed else []
        rows = []
        for name, loads in medians.items():
            run = loads[load.name]
            base = nginx[load.name].rate if nginx else 0.0
            ratio = run.rate / base if base else float("nan")
            row = [name, run.rate, ratio, run.cpu_us, f"{run.busy:.0%}", run.p50, run.p99]
            row += [run.first_p50, run.first_p99, run.delay_p50, run.delay_p99] if load.streamed else []
            rows.append([*row, run.bad])
        parts.append(report.table(load.title, [*columns, "bad"], rows))
    parts.append(report.table("Memory after the load, MB", ("proxy", "largest process, RSS", "all processes, PSS"),
                              [(name, *memory) for name, memory in memories.items()]))  # fmt: skip
    return "\n".join(parts)


def configure(parser: argparse.ArgumentParser) -> None:
    names = [proxy.name for proxy in PROXIES]
    parser.add_argument("--quick", action="store_true", help="one round of one second each: to see that it works")
    parser.add_argument("--seconds", type=int, default=3, metavar="S", help="length of each measurement (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measurements of each (default: 3)")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="A,B", help=f"of {', '.join(names)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Run it; 1 when a goal is missed."""
    if unknown := set(arguments.only) - {proxy.name for proxy in PROXIES}:
        raise BenchError(f"--only: no proxy is named {', '.join(sorted(unknown))}")
    if min(arguments.seconds, arguments.rounds) < 1:
        raise BenchError("--seconds and --rounds: wanted 1 or more")
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds, arguments.seconds)
    with Lab() as lab:
        bench = Bench(lab)
        bench.start(arguments.only)
        for name, why in bench.absent.items():
            print(f"{name}: {why}")
        if "portcullis" in bench.absent or not bench.standing:
            raise BenchError("what is to be measured does not run")
        bench.warm()
        bench.measure(rounds, seconds)
        medians, memories = bench.medians(), bench.memories()
        print(tables(medians, memories))
        reached = goals(medians, memories)
        report.finish(NAME, machine(), versions() | rivals(), figures(bench, medians, memories), reached, arguments.json)
    return 0 if all(goal.met for goal in reached) else 1
