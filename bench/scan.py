"""``python -m bench scan``: what ordinary texts cost through ``portcullis scan --jsonl``, all stages on, one process.

Ordinary English prompts of 300 characters, none twice (`bench/prompts.py`). From the rate the start is left out: it is what
the same command takes for a single text.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Final, NamedTuple

import numpy as np

from bench import prompts, report
from bench.machine import machine, versions
from bench.processes import BenchError, Lab
from bench.proxies import share_compiled
from bench.report import Goal

NAME: Final = "scan"
HELP: Final = "texts a second through `portcullis scan`, the time of each, and memory"

TEXTS: Final = 20_000
SIZE: Final = 300
GOAL: Final = 5_000.0
MEDIAN_US: Final = 150.0
P99_US: Final = 6_000.0
CHEAP: Final = 0.85
MEMORY_MB: Final = 250.0
START_S: Final = 2.0


class _Run(NamedTuple):
    """One command: ``memory_mb`` is what was resident when all was answered, ``us`` what judging each text took, ``encoded``
    how many the encoder read."""

    seconds: float
    cpu_seconds: float
    memory_mb: float
    us: list[int]
    encoded: int


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--texts", type=int, default=TEXTS, metavar="N", help=f"how many (default: {TEXTS:,})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Scan one text, then all of them."""
    with Lab() as lab:
        share_compiled(lab.folder)
        file = lab.folder / "texts.jsonl"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in prompts.texts(arguments.texts, SIZE)))
        start, whole = _scan(lab.folder, file, 1), _scan(lab.folder, file, arguments.texts)
    seconds, cpu = whole.seconds - start.seconds, whole.cpu_seconds - start.cpu_seconds
    rate, cpu_us, share = arguments.texts / seconds, cpu / arguments.texts * 1e6, whole.encoded / arguments.texts
    median, p99 = (float(np.quantile(whole.us, at)) for at in (0.5, 0.99))
    rows = [("texts a second", rate), ("CPU us each", cpu_us), ("texts a second of one core", 1e6 / cpu_us),
            ("us each, median", median), ("us each, 99th percentile", p99), ("read by the encoder", f"{share:.1%}"),
            ("memory, MB", whole.memory_mb), ("start, s", start.seconds)]  # fmt: skip
    print(report.table(f"{arguments.texts:,} prompts of {SIZE} B", ("", "figure"), rows))
    goals = [Goal("texts_a_second_at_least", rate, GOAL), Goal("median_us_at_most", median, MEDIAN_US),
             Goal("p99_us_at_most", p99, P99_US), Goal("settled_cheaply_at_least", 1 - share, CHEAP),
             Goal("memory_mb_at_most", whole.memory_mb, MEMORY_MB),
             Goal("start_s_at_most", start.seconds, START_S)]  # fmt: skip
    figures = {
        "rate": round(rate), "cpu_us": round(cpu_us, 1), "median_us": round(median), "p99_us": round(p99),
        "encoded_share": round(share, 4), "memory_mb": round(whole.memory_mb, 1), "start_s": round(start.seconds, 2),
    }  # fmt: skip
    report.finish(NAME, machine(), versions(), figures, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


def _scan(data: Path, file: Path, count: int) -> _Run:
    """Put the first ``count`` lines through the command."""
    lines = b"".join(file.read_bytes().splitlines(keepends=True)[:count])
    began = time.perf_counter()
    command = subprocess.Popen(
        [sys.executable, "-m", "gateway", "scan", "--jsonl", "-", "--jobs", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PORTCULLIS_DATA_DIR": str(data)},
    )  # fmt: skip
    assert command.stdin
    assert command.stdout
    giving = threading.Thread(target=_give, args=(command.stdin, lines))
    giving.start()
    said = list(itertools.islice(command.stdout, count))
    giving.join()
    resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{command.pid}/status").read_text("ascii"))
    command.stdin.close()
    _, status, used = os.wait4(command.pid, 0)
    seconds = time.perf_counter() - began
    command.returncode = os.waitstatus_to_exitcode(status)
    command.stdout.close()
    read = [json.loads(line) for line in said]
    if len(read) != count or resident is None:
        raise BenchError(f"scan answered {len(read)} of {count} texts")
    encoded = sum(answer["stages"]["encoder"] == "ran" for answer in read)
    return _Run(seconds, used.ru_utime + used.ru_stime, int(resident[1]) * 1024 / 1e6, [one["us"] for one in read], encoded)


def _give(stdin: IO[bytes], lines: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it ended, and said why
        stdin.write(lines)
        stdin.flush()
