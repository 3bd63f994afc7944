"""``python -m bench audit``: what the audit log costs each request, and how fast a log is verified.

Decisions as an ordinary request leaves them go through the log of a worker as the gateway uses it: encoded on the event loop,
hashed, signed and written in batches by the log's thread while the loop goes on. A round ends when the disk has all of them.
CPU time is that of all threads, which share one interpreter lock: what the thread takes, requests wait for. What it takes to
make them is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from bench import report
from bench.machine import machine, versions
from bench.report import Goal
from detectors.values import Origin, Segment
from gateway.audit.log import AuditLog
from gateway.audit.reading import verify_folder
from gateway.audit.settings import AuditSettings
from gateway.config.settings import Settings
from gateway.records.decisions import Decision, Screened, Upstream, new_id
from gateway.serving.server import GC_THRESHOLD

NAME: Final = "audit"
HELP: Final = "what the audit log costs each request, and how fast it is verified"

TURN: Final = 16
"""Requests that end between two turns of the event loop."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000, help="in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to FILE too")


def run(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        costs = asyncio.run(_rounds(folder, arguments.rounds, arguments.requests))
        began = time.perf_counter()
        result = verify_folder(folder)
        seconds = time.perf_counter() - began
        size = sum(path.stat().st_size for path in folder.glob("*/*.jsonl"))
    queued, total, written = (statistics.median(column) for column in zip(*costs, strict=True))
    best, worst = min(one for _, one, _ in costs), max(one for _, one, _ in costs)
    figures = {
        "event_loop_us": round(queued, 2), "cpu_us": round(total, 2),
        "cpu_us_best_round": round(best, 2), "cpu_us_worst_round": round(worst, 2),
        "written_per_second": round(written), "bytes_each": round(size / result.records),
        "verified_per_second": round(result.records / seconds), "intact": result.intact,
    }  # fmt: skip
    print(report.table("One request's share of the audit log", ("what", "figure"), [
        ("on the event loop when it ends, µs", queued), ("CPU of all threads, µs", total),
        ("in the best round", best), ("in the worst round", worst),
        ("records written a second", written),
        ("bytes a record", figures["bytes_each"]), ("records verified a second", figures["verified_per_second"]),
    ]))  # fmt: skip
    goals = [Goal("event_loop_us_at_most", queued, 10.0), Goal("cpu_us_at_most", total, 10.0)]
    report.finish(NAME, machine(), versions(), figures, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


async def _rounds(folder: Path, rounds: int, requests: int) -> list[tuple[float, float, float]]:
    """By round: µs of CPU on the event loop, µs of CPU in all, records a second. The first round warms up and is left out."""
    log = AuditLog(Settings(audit=AuditSettings(directory=folder)))
    await log.start()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)  # as a gateway has it
    costs = []
    for _ in range(rounds + 1):
        added = made = 0.0
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, requests, TURN):
            here = time.thread_time()
            decisions = [_decision(time.time()) for _ in range(min(TURN, requests - start))]
            then = time.thread_time()
            for decision in decisions:
                log.add(decision)
            made, added = made + then - here, added + time.thread_time() - then
            await asyncio.sleep(0)
        await log.flush()
        spent, took = time.process_time() - cpu - made, time.perf_counter() - began
        costs.append((added / requests * 1e6, spent / requests * 1e6, requests / took))
    await log.close()
    return costs[1:]


def _decision(now: float) -> Decision[Screened]:
    asked = Segment("A question of ordinary length, as people ask them.", "user", Origin.USER, 0, ("messages", 0, "content"))
    said = Segment("An answer.", "assistant", Origin.ASSISTANT, 0, ("choices", 0, "message", "content"))
    request, reply = (
        Screened("allow", "nothing found", 0.0, [one], [("canonical", "lexical")], timings=(("lexical", 20), ("total", 60)))
        for one in (asked, said)
    )
    return Decision(
        new_id(now), now, "default", "dpuhjlwx", "openai.chat", "chat.completions", "gpt-4o-mini", False, "allow",
        "nothing found", 200, "balanced", "1-44136fa3", 1, request, reply, upstream=Upstream("openai", 200, 0.41),
        bytes_in=300, bytes_out=520, seconds=0.42,
    )  # fmt: skip
