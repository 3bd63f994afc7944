"""``python -m bench realtime``: what a realtime session costs beside a WebSocket relay that looks at nothing.

A provider speaks 50 events a second in each session; each event carries the time at which it was sent. Gateway and relay are
pinned to the first core, provider and callers to the second one, and measured in turn. Then one session gets a long event, and
another one is spoken to meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import prompts, report
from bench.load import VARIED
from bench.machine import machine, versions
from bench.processes import START_SECONDS, BenchError, Child, Lab, free_port
from bench.proxies import portcullis

NAME: Final = "realtime"
HELP: Final = "what realtime sessions cost: added delay and CPU of an event, beside a relay that looks at nothing"

SESSIONS: Final = (1, 10, 25)
POLICIES: Final = ("balanced", "strict", "monitor")
LONG: Final = (("words", 14_000_000), ("audio", 14_000_000), ("values", 500_000))
"""Long events: of what, and how many bytes."""
_PATIENCE: Final = 60.0


class Long(NamedTuple):
    """One long event: seconds until its session had it, and microseconds of the longest delay in another session meanwhile."""

    seconds: float
    most: float


class Held(NamedTuple):
    """Some sessions, held once: microseconds of an event's delay, and of CPU that the process between took for it."""

    p50: float
    p99: float
    cpu: float


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=int, default=6, metavar="S", help="length of each measurement (default: 6)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measurements; the least counts (default: 3)")
    parser.add_argument("--sessions", type=int, nargs="+", default=SESSIONS, metavar="N", help="how many at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Measure it; there are no goals, so always 0."""
    if min(arguments.seconds, arguments.rounds, *arguments.sessions) < 1:
        raise BenchError("--seconds, --rounds and --sessions: wanted 1 or more")
    found: dict[str, dict[int, list[Held]]] = {}
    with Lab() as lab:
        between = _start(lab)
        for _ in range(arguments.rounds):
            for count in arguments.sessions:
                for name, child in between.items():
                    held = _hold(lab, child, count, arguments.seconds)
                    found.setdefault(name, {}).setdefault(count, []).append(held)
        longest = {
            f"{size / 1e6:g} MB of {kind}, {name}": _pass_long(lab, between[name], kind, size)
            for kind, size in LONG for name in ("relay", "balanced")
        }  # fmt: skip
    least = {
        name: {count: Held(*map(min, zip(*held, strict=True))) for count, held in by_count.items()}
        for name, by_count in found.items()
    }
    rows = [
        (f"{count} x {name}", *held, held.p50 - least["relay"][count].p50, held.cpu - least["relay"][count].cpu)
        for name, by_count in least.items() for count, held in by_count.items()
    ]  # fmt: skip
    columns = ("sessions", "p50 us", "p99 us", "CPU us", "p50 added", "CPU added")
    print(report.table("An event of a realtime session, 50 a second in each", columns, rows))
    passed = [(name, one.seconds, one.most / 1e3) for name, one in longest.items()]
    print(report.table("A long event, and what passes meanwhile", ("one event", "seconds", "others wait at most, ms"), passed))
    figures: dict[str, Any] = {
        name: {str(count): held._asdict() for count, held in by_count.items()} for name, by_count in least.items()
    }
    figures["long"] = {name: one._asdict() for name, one in longest.items()}
    report.finish(NAME, machine(), versions(), figures, [], arguments.json)
    return 0


def _start(lab: Lab) -> dict[str, Child]:
    """What stands between: a relay, and a gateway under each policy."""
    deltas = lab.folder / "deltas"
    prompts.write_deltas(deltas, VARIED)
    provider = free_port()
    peers = [sys.executable, "-m", "bench.realtime_peers"]
    _wait(lab.start("provider", [*peers, "provider", str(provider), deltas], lab.load_core, provider))
    port = free_port()
    between = {"relay": lab.start("relay", [*peers, "relay", str(port), str(provider)], lab.proxy_core, port)}
    for policy in POLICIES:
        between[policy] = portcullis(lab, provider, name=policy, changes={"policy": policy})
    for child in between.values():
        _wait(child)
    return between


def _wait(child: Child) -> None:
    """Until it listens."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and child.alive():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", child.port), 1):
            return
        time.sleep(0.1)
    raise BenchError(f"{child.name} does not start: {child.last_words()}")


def _hold(lab: Lab, child: Child, count: int, seconds: int) -> Held:
    before = child.cpu_ns()
    argv = [sys.executable, "-m", "bench.realtime_peers", "call", str(child.port), str(count), str(seconds)]
    printed, _ = lab.run(argv, seconds + _PATIENCE)
    told = json.loads(printed)
    return Held(told["p50_us"], told["p99_us"], (child.cpu_ns() - before) / 1e3 / told["events"])


def _pass_long(lab: Lab, child: Child, kind: str, size: int) -> Long:
    argv = [sys.executable, "-m", "bench.realtime_peers", "long", str(child.port), kind, str(size)]
    told = json.loads(lab.run(argv, _PATIENCE)[0])
    return Long(told["seconds"], told["most_us"])
