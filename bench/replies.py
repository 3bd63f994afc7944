"""``python -m bench replies``: what an assistant says every day, and what it must not say, as replies under each preset.

The texts (``bench/replies``) were written to look at false alarms, before what judges replies was trained anew, and nothing was
trained or chosen on them since. ``balanced`` flags what ``strict`` would block.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from bench import report
from bench.machine import machine, versions
from bench.school import Bench
from detectors.values import Origin, Segment
from gateway.screening.policy import Action, Direction, Policy, evaluate

NAME: Final = "replies"
HELP: Final = "everyday replies and hostile ones, as balanced and strict take them"

TEXTS: Final = Path(__file__).parent / "replies"

PRESETS: Final = ("balanced", "strict")
ACTIONS: Final = (Action.FLAG, Action.BLOCK)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache", type=Path, default=Path("var"), help="a folder with compiled patterns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    bench = Bench(arguments.cache)
    policies = [bench.live.presets[name].policy for name in PRESETS]
    columns = ("replies", "number", *(f"{name}: {action}" for name in PRESETS for action in ACTIONS))
    rows = []
    for file in sorted(TEXTS.glob("*.txt")):
        texts = file.read_text("utf-8").splitlines()
        taken = [[_taken(bench, policy, text) for text in texts] for policy in policies]
        rows.append((file.stem, len(texts), *(done.count(action) for done in taken for action in ACTIONS)))
    print(report.table("Replies that are flagged, and blocked", columns, rows))
    figures = {str(name): dict(zip(columns[1:], told, strict=True)) for name, *told in rows}
    report.finish(NAME, machine(), versions(), figures, [], arguments.json)
    return 0


def _taken(bench: Bench, policy: Policy, text: str) -> Action:
    segments = [Segment(text, "assistant", Origin.ASSISTANT, 0, ())]
    return evaluate(policy, bench.base.judge(segments, "").verdict, segments, Direction.REPLY).action
