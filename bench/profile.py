"""``python -m bench profile``: where Portcullis spends a request's time, by sampling it under load.

py-spy (``pip install py-spy``) reads the stacks from outside, so what it shows is what runs without it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from bench import prompts, report
from bench.gateway import LOADS
from bench.load import Loader, start_upstream
from bench.processes import BenchError, Lab, find, wait_until_it_answers
from bench.proxies import PATH, PROXIES

NAME: Final = "profile"
HELP: Final = "the functions in which Portcullis spends a request's time"

SAMPLES_A_SECOND: Final = 250

_IDLE: Final = ("_worker (concurrent/futures/thread.py", "wait (threading.py", "Condition.wait (threading.py")
"""Threads that wait for work, which the sampler takes for busy ones on some kernels."""


class Share(NamedTuple):
    """Share of a function: of the samples, and in microseconds of each request."""

    function: str
    own: float
    with_callees: float


def configure(parser: argparse.ArgumentParser) -> None:
    names = [load.name for load in LOADS]
    parser.add_argument("--load", choices=names, default=names[0], help=f"what to put on it (default: {names[0]})")
    parser.add_argument("--seconds", type=int, default=6, metavar="S", help="how long (default: 6)")
    parser.add_argument("--top", type=int, default=40, metavar="N", help="functions shown (default: 40)")
    parser.add_argument("--lines", action="store_true", help="by line instead of by function")
    parser.add_argument("--stacks", type=Path, metavar="FILE", help="keep the folded stacks, for a flame graph")


def run(arguments: argparse.Namespace) -> int:
    """Profile one load."""
    sampler = find("py-spy")
    if sampler is None:
        raise BenchError("py-spy is not installed (pip install py-spy)")
    load = next(load for load in LOADS if load.name == arguments.load)
    (proxy,) = (proxy for proxy in PROXIES if proxy.name == "portcullis")
    with Lab() as lab:
        upstream = start_upstream(lab)
        child = proxy.start(lab, upstream.port)
        wait_until_it_answers(child, PATH, prompts.request_body("whole", "Hello!"), {})
        loader = Loader(lab)
        loader.run(load, child, upstream, {}, 1)
        plain = loader.run(load, child, upstream, {}, 2)
        stacks = arguments.stacks or lab.folder / "stacks"
        argv = [sampler, "record", "--pid", str(child.tree()[0]), "--duration", str(arguments.seconds),
                "--rate", str(SAMPLES_A_SECOND), "--format", "raw", "--output", stacks]  # fmt: skip
        watching = subprocess.Popen(argv if arguments.lines else [*argv, "--function"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            loader.run(load, child, upstream, {}, arguments.seconds + 1)
        finally:
            code = watching.wait(arguments.seconds + 30)
        if code or not stacks.exists():
            raise BenchError("py-spy fails; it may need the right to trace processes (CAP_SYS_PTRACE)")
        found = shares(stacks.read_text(encoding="utf-8").splitlines())
    print(f"{load.title}: {plain.rate:,.0f} a second, {plain.cpu_us:.0f} us CPU each (measured without the sampler)")
    rows = [(f"{share.function}", f"{share.own:.1%}", share.own * plain.cpu_us, f"{share.with_callees:.1%}",
             share.with_callees * plain.cpu_us) for share in found]  # fmt: skip
    columns = ("function", "own", "own us", "with callees", "us")
    print(report.table("By own time", columns, rows[: arguments.top]))
    rows.sort(key=lambda row: -row[4])
    print(report.table("With callees", columns, rows[: arguments.top]))
    print("\n" + json.dumps({share.function: [round(share.own, 4), round(share.with_callees, 4)] for share in found[:100]}))
    return 0


def shares(folded: Iterable[str]) -> list[Share]:
    """The functions in folded stacks (``outer;inner;innermost COUNT``), by their own share, idle threads left out."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in folded:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1].startswith(_IDLE):
            continue
        total += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    ordered = sorted(whole, key=lambda frame: (-own[frame], -whole[frame]))
    return [Share(frame, own[frame] / total, whole[frame] / total) for frame in ordered]
