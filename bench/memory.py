"""``python -m bench memory``: what each worker adds, in megabytes, after load.

The patterns, the model and the index are built before there are workers, so their pages are one another's until somebody
writes to them. Counted is the proportional set size (PSS) of all processes, the supervisor's too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from bench import prompts, report
from bench.gateway import LOADS
from bench.load import Loader, start_upstream
from bench.machine import machine, versions
from bench.processes import Lab, wait_until_it_answers
from bench.proxies import PATH, portcullis
from bench.report import Goal

NAME: Final = "memory"
HELP: Final = "memory of one worker, and of each of several"

WORKERS: Final = (1, 2, 4, 8)
GOAL_MB: Final = 110.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=int, default=8, metavar="S", help="load before it is measured (default: 8)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Start a gateway of each size, one after the other, and load it."""
    load = LOADS[0]
    found = {workers: _measured(workers, arguments.seconds) for workers in WORKERS}
    rows = [(workers, round(mb), round(mb / workers)) for workers, mb in found.items()]
    print(report.table(f"Memory after {arguments.seconds} s of {load.title}, MB", ("workers", "all", "a worker"), rows))
    goals = [Goal("worker_alone_mb_at_most", found[1], GOAL_MB), Goal("worker_of_four_mb_at_most", found[4] / 4, GOAL_MB)]
    figures = {str(workers): {"all_mb": round(mb, 1), "worker_mb": round(mb / workers, 1)} for workers, mb in found.items()}
    report.finish(NAME, machine(), versions(), figures, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


def _measured(workers: int, seconds: int) -> float:
    """PSS of all processes, in 10^6 bytes."""
    with Lab() as lab:
        upstream = start_upstream(lab)
        child = portcullis(lab, upstream.port, workers=workers)
        wait_until_it_answers(child, PATH, prompts.request_body("whole", "Hello!"), {})
        Loader(lab).run(LOADS[0], child, upstream, {}, seconds)
        return child.memory().pss
