"""What a deployment of a given size needs: the measured cost of a request, the arithmetic up to a million a second, and how the
chart's autoscaler follows demand (simulated)."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import report
from bench.autoscaling import Outcome, Plan, day, ramp, simulate, step
from bench.gateway import Bench
from bench.machine import machine, versions
from bench.processes import BenchError, Lab

NAME: Final = "capacity"
HELP: Final = "sizes up to a million requests a second, and autoscaling, from the measured cost of a request"

TARGET: Final = 0.65
"""The share of its CPU that a pod is meant to use: the chart's `autoscaling.targetCPUUtilization`."""

POD_CORES: Final = 1.0
"""CPU that a pod asks for: the chart's `resources.requests.cpu`."""

RATES: Final = (100, 1_000, 10_000, 100_000, 1_000_000)
ROUNDS: Final = 3
SECONDS: Final = 3

STARTS: Final = (15, 120)
"""Seconds from a decision to a ready pod: patterns taken from the image, or compiled by the pod itself."""


class Cost(NamedTuple):
    """What one request costs, in microseconds of one core; ``worker_mb`` is resident memory of a worker."""

    whole_300: float
    whole_4k: float
    stream: float
    worker_mb: float


def measure(rounds: int, seconds: int) -> Cost:
    """Put the gateway benchmark's loads on Portcullis alone."""
    with Lab() as lab:
        bench = Bench(lab)
        bench.start(["portcullis"])
        if "portcullis" in bench.absent:
            raise BenchError(f"portcullis does not run: {bench.absent['portcullis']}")
        bench.warm()
        bench.measure(rounds, seconds)
        runs = bench.medians()["portcullis"]
        memory = bench.memories()["portcullis"].largest_rss
    return Cost(runs["whole_300_c32"].cpu_us, runs["whole_4k_c32"].cpu_us, runs["stream_c32"].cpu_us, memory)


def read(file: Path) -> Cost:
    """Take the costs from a result of ``python -m bench gateway --json``.

    Raises:
        BenchError: the file is not such a result.
    """
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))["figures"]["portcullis"]
        return Cost(
            found["whole_300_c32"]["cpu_us"], found["whole_4k_c32"]["cpu_us"], found["stream_c32"]["cpu_us"],
            found["worker_rss_mb"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"--measured: {file}: {type(error).__name__}: wanted what `bench gateway --json` writes") from None


def pods(rate: float, cpu_us: float) -> int:
    """Pods for a rate: each answers ``POD_CORES * TARGET`` core-seconds' worth of requests a second; at least three."""
    return max(3, math.ceil(rate * cpu_us / 1e6 / (POD_CORES * TARGET)))


def courses(pod_rate: float) -> dict[str, tuple[Callable[[int], float], int, float]]:
    """Courses of demand: what, for how many seconds, and the highest rate in it. Sized so that thirty pods are about enough."""
    high = 20 * pod_rate * TARGET
    return {
        "a day, 1 to 10 and back": (day(high / 10, high), 86_400, high),
        "doubling within ten minutes": (ramp(high / 2, high, 600, 600), 3_600, high),
        "doubling at once": (step(high / 2, high, 600), 3_600, high),
        "five times as much at once": (step(high / 5, high, 600), 3_600, high),
    }


def scale(cost: Cost, start: int) -> dict[str, Outcome]:
    """Simulate every course with pods that take ``start`` seconds to come."""
    rate = POD_CORES * 1e6 / cost.whole_300
    plan = Plan(rate, TARGET, least=3, most=60, start_seconds=start)
    return {name: simulate(plan, demand, seconds) for name, (demand, seconds, _) in courses(rate).items()}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--measured", type=Path, metavar="FILE", help="costs from `bench gateway --json FILE`; measure nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"measurements of each (default: {ROUNDS})")
    parser.add_argument("--seconds", type=int, default=SECONDS, metavar="S", help=f"length of each (default: {SECONDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Run it; there is no goal to miss."""
    cost = read(arguments.measured) if arguments.measured else measure(arguments.rounds, arguments.seconds)
    print(report.table("What one costs", ("load", "CPU us", "a core a second"), [
        ("request of 300 B", cost.whole_300, 1e6 / cost.whole_300), ("request of 4 KB", cost.whole_4k, 1e6 / cost.whole_4k),
        ("stream of 100 events", cost.stream, 1e6 / cost.stream),
    ]))  # fmt: skip
    kinds = {"300 B": cost.whole_300, "4 KB": cost.whole_4k, "streams": cost.stream}
    sizes = {rate: {kind: pods(rate, cpu) for kind, cpu in kinds.items()} for rate in RATES}
    print(report.table(
        f"Pods of {POD_CORES:g} core at {TARGET:.0%}, by requests a second", ("requests/s", *kinds),
        [(f"{rate:,}", *needed.values()) for rate, needed in sizes.items()],
    ))  # fmt: skip
    outcomes = {start: scale(cost, start) for start in STARTS}
    rows = [
        (name, start, one.peak_pods, f"{one.refused_share:.2%}", one.short_seconds, f"{one.worst_shortfall:.0%}",
         round(one.pod_hours / one.ideal_pod_hours, 2))
        for start, found in outcomes.items() for name, one in found.items()
    ]  # fmt: skip
    print(report.table(
        "Autoscaling, simulated",
        ("demand", "pod start s", "peak pods", "above capacity", "seconds short", "worst", "pod hours / ideal"), rows,
    ))  # fmt: skip
    figures = {
        "cost": cost._asdict(),
        "pods": {str(rate): needed for rate, needed in sizes.items()},
        "autoscaling": {
            f"start_{start}s": {name: {k: v for k, v in one._asdict().items() if k != "pods"} for name, one in found.items()}
            for start, found in outcomes.items()
        },
    }
    report.finish(NAME, machine(), versions(), figures, [], arguments.json)
    return 0
