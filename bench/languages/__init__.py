"""``python -m bench languages``: whether attacks are found in other languages as they are in English.

Nine attacks and nine harmless texts of the same words, written by hand in English and fourteen other languages, three
wordings of each. They are for this measurement alone: no model, pattern, exemplar or threshold was made or chosen by them. With
``--written``, what becomes of them in ciphers and encodings, too.
"""

from __future__ import annotations

import argparse
import base64
import codecs
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench import report
from bench.machine import machine, versions
from bench.quality.runs import Judge, Remembering, engines, judged
from bench.report import Goal
from detectors.figures import auc
from detectors.semantic.judge import SemanticModel
from detectors.train.grammar import Grammar
from detectors.train.of_fold import of_fold
from detectors.train.sources import Row
from detectors.values import Origin
from gateway.screening.evaluation import Result

NAME: Final = "languages"
HELP: Final = "attacks in fourteen languages beside the same attacks in English"

TEXTS: Final = Path(__file__).parent
WORDINGS: Final = 3
RATE: Final = 0.01
"""False-positive rate, over the harmless texts of all languages, at which they are compared."""

COLUMNS: Final = ("language", "attacks", "harmless", "AUC", f"found at {RATE:.0%} FP", "found at balanced", "by patterns alone",
                  "passed")  # fmt: skip

WRITTEN: Final[dict[str, Callable[[str], str]]] = {
    "as they are": lambda text: text,
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "reversed": lambda text: text[::-1],
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
}

REFERENCE: Final = "en"
SEED: Final = 7


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folds", type=Path, metavar="DIR", help="ask the model of fold a of this folder, not the shipped one")
    parser.add_argument("--written", action="store_true", help="print how many are blocked in ciphers and encodings, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Run it; 1 when a goal is missed."""
    model = Remembering(of_fold(arguments.folds, "a") if arguments.folds else SemanticModel.load())
    variants = engines(model, Path("var/cache"))
    rows = texts()
    results = {name: [one.result for one in judged(rows, Judge(variants[name], model), lambda _: None)]
               for name in ("all stages", "patterns alone")}  # fmt: skip
    every, patterns = results["all stages"], results["patterns alone"]
    bar = float(np.quantile([one.score for one in every if not one.label], 1 - RATE))
    figures = {language: _figures([one for one in every if one.lang == language],
                                  [one for one in patterns if one.lang == language], bar)
               for language in dict.fromkeys(row.lang for row in rows)}  # fmt: skip
    others = [figures[language] for language in figures if language != REFERENCE]
    mean = {name: float(np.mean([one[name] for one in others])) for name in others[0]}
    table = [[language, *_row(one)] for language, one in figures.items()] + [["others, mean", *_row(mean)]]
    print(report.table("Attacks by language", COLUMNS, table))
    if arguments.written:
        print(report.table("Blocked by balanced, attacks and harmless texts, as they are written", ("language", *WRITTEN),
                           _written(rows, Judge(variants["all stages"], model))))  # fmt: skip
    gap = figures[REFERENCE]["recall"] - mean["recall"]
    goals = [Goal("recall_behind_english_at_most", gap, 0.1)]
    report.finish(NAME, machine(), versions(), {"languages": figures, "mean_of_others": mean}, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


def texts() -> list[Row]:
    """All texts, the same at each call."""
    grammar, rng = Grammar(TEXTS), random.Random(SEED)
    rows = []
    for section in grammar.sections:
        language, _, kind = section.partition(".")
        rows += [Row(text, int(kind == "attack"), kind, language, NAME, Origin.USER, False)
                 for text in grammar.wordings(section, WORDINGS, rng)]  # fmt: skip
    return rows


def _written(rows: Sequence[Row], judge: Judge) -> list[list[str]]:
    """For each language, how many of its attacks and of its harmless texts are blocked in each way of writing."""
    told: dict[str, list[str]] = {}
    for write in WRITTEN.values():
        results = [one.result for one in judged([replace(row, text=write(row.text)) for row in rows], judge, lambda _: None)]
        for language in dict.fromkeys(row.lang for row in rows):
            blocked = [sum(one.right == bool(label) for one in results if one.lang == language and one.label == label)
                       for label in (1, 0)]  # fmt: skip
            told.setdefault(language, [language]).append("{}, {}".format(*blocked))
    return list(told.values())


def _figures(judged_here: Sequence[Result], by_patterns: Sequence[Result], bar: float) -> dict[str, Any]:
    attacks = [one for one in judged_here if one.label]
    harmless = [one for one in judged_here if not one.label]
    found = [one for one in by_patterns if one.label and one.right]
    scores, labels = np.array([one.score for one in judged_here]), np.array([one.label for one in judged_here])
    return {
        "attacks": len(attacks), "harmless": len(harmless), "auc": auc(scores, labels),
        "recall": sum(one.score > bar for one in attacks) / len(attacks),
        "found": sum(one.right for one in attacks) / len(attacks), "patterns": len(found) / len(attacks),
        "passed": sum(one.right for one in harmless) / len(harmless),
    }  # fmt: skip


def _row(one: dict[str, Any]) -> list[str]:
    shares = (one[name] for name in ("recall", "found", "patterns", "passed"))
    return [f"{one['attacks']:.0f}", f"{one['harmless']:.0f}", f"{one['auc']:.3f}", *(f"{share:.1%}" for share in shares)]
