"""``python -m bench patterns``: ten thousand patterns: how fast a gateway starts with them, shows them, and replaces them.

The shipped patterns and literals of invented words, as feeds of other people's rules are made of. A gateway starts with all of
them as packs, first with nothing compiled and then from its cache. Another has as many in its pattern store; they are listed,
filtered and compared over HTTP, and then replaced all at once, over and over, while requests go through it. Last it is
measured how long one replacement holds the interpreter, which is what it costs requests where cores are free.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.held import held_ms
from bench.machine import machine, versions
from bench.processes import BenchError, Child, Lab, free_port, get
from bench.report import Goal, finish, table
from bench.swaps import SERVES, Traffic, made, opened, swaps
from patterns import packs
from patterns.schema import Pattern

NAME: Final = "patterns"
HELP: Final = "ten thousand patterns: cached start, list, filter, diff, and all of them replaced under load"

START_SECONDS: Final = 900.0
"""How long the first start may take: it compiles everything."""


HELD_TIMES: Final = 7
"""How often the patterns are replaced while it is measured how long the interpreter is held."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--patterns", type=int, default=10_000, help="how many in all (default: 10000)")
    parser.add_argument("--swaps", type=int, default=20, help="how often all of the store's are replaced (default: 20)")
    parser.add_argument("--starts", type=int, default=5, help="starts from the cache (default: 5)")
    parser.add_argument("--json", type=Path, help="write the last line there too")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: all goals met; 1: one missed."""
    figures: dict[str, Any] = {}
    added = arguments.patterns - len(packs.load_all([packs.SHIPPED]))
    with Lab() as lab:
        goals = _starts(lab, added, arguments.starts, figures) + _stored(lab, added, arguments.swaps, figures)
    finish(NAME, machine(), versions(), figures, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


class Served:
    """A gateway with a folder of its own."""

    def __init__(self, lab: Lab, name: str, settings: dict[str, Any]) -> None:
        self._lab = lab
        self._name = name
        self.port = free_port()
        self.data = lab.folder / name
        self.data.mkdir(exist_ok=True)
        self._config = lab.folder / f"{name}.yaml"
        config = {"listen": f"127.0.0.1:{self.port}", "state": f"sqlite:{self.data / 'state.db'}", "data_dir": str(self.data)}
        self._config.write_text(json.dumps(config | settings), encoding="utf-8")  # JSON is YAML
        self.child: Child

    def start(self) -> tuple[float, float]:
        """Start it; returns seconds until it answers, and seconds of CPU until then."""
        began = time.perf_counter()
        argv: list[str | Path] = [sys.executable, "-m", "gateway", "serve", "--config", self._config, "--workers", "1"]
        self.child = self._lab.start(self._name, argv, self._lab.proxy_core, self.port)
        while time.perf_counter() - began < START_SECONDS:
            if not self.child.alive():
                raise BenchError(f"does not start: {self.child.last_words()}")
            try:
                get(self.port, "/healthz")
            except OSError:
                time.sleep(0.01)
                continue
            return time.perf_counter() - began, self.child.cpu_ns() / 1e9
        raise BenchError(f"does not start within {START_SECONDS:.0f} s")

    def stop(self) -> None:
        self._lab.discard(self.child)

    @property
    def log(self) -> str:
        return (self._lab.folder / f"{self._name}.log").read_text(errors="replace")


def _starts(lab: Lab, added: int, starts: int, figures: dict[str, Any]) -> list[Goal]:
    pack = lab.folder / "many.yaml"
    rows = [_row(pattern) for pattern in made(added, 0).values()]
    pack.write_text(json.dumps({"pack": "many", "version": "1", "patterns": rows}), encoding="utf-8")
    gateway = Served(lab, "starting", {"patterns": [str(pack)], "learning": {"unsigned_packs": True}})
    first, _ = gateway.start()
    gateway.stop()
    cached = []
    for _ in range(starts):
        cached.append(gateway.start())
        gateway.stop()
    wall, cpu = (statistics.median(one[at] for one in cached) for at in (0, 1))
    shown = [("with nothing compiled", first, float("nan")), (f"from its cache, median of {starts}", wall, cpu)]
    print(table("Seconds until a gateway answers", ("start", "seconds", "of CPU"), shown))
    figures |= {"first_start_seconds": first, "cached_start_seconds": wall, "cached_start_cpu_seconds": cpu}
    return [Goal("cached_start_seconds_at_most", wall, 2.0)]


def _stored(lab: Lab, added: int, times: int, figures: dict[str, Any]) -> list[Goal]:
    gateway = Served(lab, "storing", {})
    gateway.start()
    store = opened(gateway.data)

    def serves(generation: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not any(int(found[1]) == generation for found in SERVES.finditer(gateway.log)):
            if time.monotonic() > deadline:
                raise BenchError(f"generation {generation} does not serve; {gateway.child.last_words()}")
            time.sleep(0.05)

    serves(store.revise(made(added, 1_000), "bench", "first", time.time()).generation)
    shown = {
        "list 100": "patterns?limit=100", "list 1,000": "patterns?limit=1000",
        "filter by category": "patterns?category=agent_abuse.unauthorised_action&limit=100",
        "diff of all": f"generations/0/diff/{store.generation}?limit=100",
    }  # fmt: skip
    asked = {name: _median_ms(lambda path=path: get(gateway.port, f"/admin/v1/{path}")) for name, path in shown.items()}  # type: ignore[misc]
    print(table(f"Milliseconds over HTTP with {added:,} patterns in the store", ("what", "ms"), asked.items()))
    quiet = Traffic(f"http://127.0.0.1:{gateway.port}")
    time.sleep(5)
    quiet.stop()
    traffic = Traffic(f"http://127.0.0.1:{gateway.port}")
    taken = list(swaps(store, added, times, serves))
    traffic.stop()
    served = {1} | {int(found[2]) for found in SERVES.finditer(gateway.log)}
    wrong = traffic.wrong(served)
    before, during = ([one.ms for one in some.answers] for some in (quiet, traffic))
    rows = [(name, len(ms), statistics.median(ms), statistics.quantiles(ms, n=100)[-1], max(ms))
            for name, ms in (("before", before), (f"while all are replaced {times} times", during))]  # fmt: skip
    print(table("Requests of one connection, milliseconds", ("when", "requests", "p50", "p99", "longest"), rows))
    figures |= {
        "ms": asked, "requests": len(during), "wrong": len(wrong), "swap_seconds": statistics.median(taken),
        "p99_before_ms": rows[0][3], "p99_during_ms": rows[1][3], "longest_during_ms": rows[1][4],
    }  # fmt: skip
    store.close()
    gateway.stop()
    held = held_ms(gateway.data, added, HELD_TIMES)
    print(table("The interpreter held while all are replaced, milliseconds of CPU", ("time", "longest"), enumerate(held, 1)))
    figures |= {"held_ms": statistics.median(held), "held_longest_ms": max(held)}
    return [Goal("wrong_answers_at_most", len(wrong), 0.0),
            *(Goal(f"{name.replace(' ', '_')}_ms_at_most", ms, 100.0) for name, ms in asked.items())]  # fmt: skip


def _median_ms(ask: Callable[[], object], times: int = 9) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def _row(pattern: Pattern) -> dict[str, Any]:
    names = ("id", "kind", "body", "category", "severity", "hits", "misses")
    return {name: value for name, value in asdict(pattern).items() if name in names}
