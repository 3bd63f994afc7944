"""``python -m bench drowned``: orders among harmless sentences, with and without a closer look at the parts of a window.

Orders are members of the families of `bench learning`, which no model was trained on, that ``balanced`` stops alone; the
sentences are those of `bench.prompts`. With ``--data`` also rows of shared sources that have several sentences: the shipped
model was trained on these, so only the difference says something.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import prompts, report
from bench.learning import SETS, _families
from bench.machine import machine, versions
from bench.quality import _rows, _sample
from bench.school import Bench, Text
from detectors.stages import Asked
from detectors.values import Segment
from gateway.screening.policy import Action, Direction, evaluate

NAME: Final = "drowned"
HELP: Final = "orders among harmless sentences, with and without a closer look"
EACH: Final = 10
"""Members of each family."""

LONG: Final = range(200, 5_000)
"""Characters of the rows of ``--data``."""

SEED: Final = 77


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, help="a folder of labelled sources, as for bench quality")
    parser.add_argument("--each", type=int, default=25, metavar="N", help="rows of each source and kind (default: 25)")
    parser.add_argument("--cache", type=Path, default=Path("var"), help="a folder with compiled patterns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    bench, rng = Bench(arguments.cache), random.Random(SEED)
    sentences = list(prompts.texts(400, 300))
    orders = [
        text
        for kind in ("attack.", *(f"{name}_attack." for name in SETS))
        for family in _families(kind).values()
        for text in rng.sample(family, EACH)
        if bench.stopped(bench.base, text)
    ]
    # Each order's sentences, and the shared rows, are the same whichever of the others a model stops.
    own = [(one, random.Random(one.text)) for one in orders]
    groups = {
        "orders between two texts of 300 characters": [_among(rng.sample(sentences, 2), one, 1, " ") for one, rng in own],
        "orders among five, as a paragraph": [
            _among(rng.sample(sentences, 5), one, rng.randrange(6), "\n\n") for one, rng in own
        ],
        "harmless texts of four": [Text(" ".join(rng.sample(sentences, 4)), one.origin) for one, rng in own],
    }
    shared = [row for row in _rows(arguments.data) if len(row.text) in LONG] if arguments.data else []
    for row in _sample(shared, arguments.each, random.Random(SEED)):
        kind = f"shared: {'attacks' if row.label else 'harmless'}, {row.kind}"
        groups.setdefault(kind, []).append(Text(row.text, row.origin))
    rows = [(name, len(texts), *_measure(bench, texts)) for name, texts in groups.items()]
    columns = ("texts", "number", "blocked without", "blocked with", "nothing read without", "nothing read with")
    print(report.table("Blocked, and settled without the encoder, without and with a closer look", columns, rows))
    figures = {str(name): dict(zip(columns[1:], told, strict=True)) for name, *told in rows}
    report.finish(NAME, machine(), versions(), figures, [], arguments.json)
    return 0


def _among(sentences: list[str], order: Text, at: int, gap: str) -> Text:
    return Text(gap.join([*sentences[:at], order.text, *sentences[at:]]), order.origin)


def _measure(bench: Bench, texts: Sequence[Text]) -> list[int]:
    """How many are blocked, without and with a closer look, and of how many the encoder reads nothing."""
    counts: Counter[str] = Counter()
    for text in texts:
        segments = [Segment(text.text, "user", text.origin, 0, ())]
        for looks in (False, True):
            screening = bench.base.screen(segments, f"{looks}")  # callers of their own: the one's verdict is not the other's
            read: list[Asked] = [window for window in screening.asked if looks or not window.part]
            readings = [bench.reading(window.text) if window in read else None for window in screening.asked]
            verdict = screening.close(readings).verdict
            action = evaluate(bench.live.default.policy, verdict, segments, Direction.REQUEST).action
            counts[f"blocked {looks}"] += action is Action.BLOCK
            counts[f"settled {looks}"] += not read
    return [counts[f"{what} {looks}"] for what in ("blocked", "settled") for looks in (False, True)]
