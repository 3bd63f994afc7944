"""``python -m bench scan``: texts a second through ``portcullis scan --jsonl``, all stages on, one process.

Ordinary English prompts of 300 characters, none twice (`bench/prompts.py`). The start is left out: it is what the same
command takes for a single text.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from bench import prompts, report
from bench.machine import machine, versions
from bench.processes import BenchError, Lab
from bench.proxies import share_compiled
from bench.report import Goal

NAME: Final = "scan"
HELP: Final = "texts a second through `portcullis scan`"

TEXTS: Final = 20_000
SIZE: Final = 300
GOAL: Final = 5_000.0


class _Run(NamedTuple):
    seconds: float
    cpu_seconds: float
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
    rows = [("texts a second", rate), ("CPU us each", cpu_us), ("texts a second of one core", 1e6 / cpu_us),
            ("read by the encoder", f"{share:.1%}"), ("start, s", start.seconds)]  # fmt: skip
    print(report.table(f"{arguments.texts:,} prompts of {SIZE} B", ("", "figure"), rows))
    goals = [Goal("texts_a_second_at_least", rate, GOAL)]
    figures = {
        "rate": round(rate), "cpu_us": round(cpu_us, 1), "encoded_share": round(share, 4), "start_s": round(start.seconds, 2),
    }  # fmt: skip
    report.finish(NAME, machine(), versions(), figures, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


def _scan(data: Path, file: Path, count: int) -> _Run:
    """Put the first ``count`` lines through the command."""
    lines = b"".join(file.read_bytes().splitlines(keepends=True)[:count])
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "scan", "--jsonl", "-", "--jobs", "1"], input=lines, stdout=subprocess.PIPE,
        env={**os.environ, "PORTCULLIS_DATA_DIR": str(data)}, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != count:
        raise BenchError(f"scan answered {len(answers)} of {count} texts")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Run(seconds, cpu, sum(answer["stages"]["encoder"] == "ran" for answer in answers))
