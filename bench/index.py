"""``python -m bench index``: the shipped exemplars' index against brute force, and what a search and an embedding cost.

Asked for are ordinary prompts (`bench/prompts.py`) and members of the families of `bench learning`, none of which is an
exemplar: what the gateway asks for. One thread, as serving searches.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench import prompts, report
from bench.machine import machine, versions
from bench.report import Goal
from detectors.semantic.index import ExemplarIndex
from detectors.semantic.judge import MODELS, SemanticModel
from detectors.train.grammar import Grammar

NAME: Final = "index"
HELP: Final = "recall of the exemplars' index, the time of a search, of loading and of embeddings"

QUERIES: Final = 1_000
"""Texts asked for, half of them ordinary prompts; as many are embedded in one call."""

SIZE: Final = 300
ROUNDS: Final = 5
TEN: Final = 10
SAME: Final = 1e-4
"""Cosines that differ by less are of equally near exemplars."""

RECALL: Final = 0.99
P99_US: Final = 1_000.0
SEED: Final = 41

Floats = npt.NDArray[np.float32]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Search for each text, and look for the nearest among all vectors besides."""
    encoder = SemanticModel.load(MODELS).encoder
    asked_for = _texts()
    began = time.perf_counter()
    asked = encoder.embed(asked_for)
    embedding = time.perf_counter() - began
    began = time.perf_counter()
    index = ExemplarIndex.load(MODELS / "index.npz")
    loading = time.perf_counter() - began
    nearest, ten = _recall(index, asked)
    index.nearest(asked[0])
    us = np.array([_search_us(index, vector) for _ in range(ROUNDS) for vector in asked])
    median, p99 = (float(np.quantile(us, at)) for at in (0.5, 0.99))
    rows = [
        ("exemplars", len(index)), ("recall of the nearest", nearest), (f"recall of the nearest {TEN}", ten),
        ("us a search, median", median), ("us a search, 99th percentile", p99), ("loading it, s", loading),
        (f"{QUERIES:,} texts embedded in a call, s", embedding),
    ]  # fmt: skip
    print(report.table(f"{QUERIES:,} texts asked for, {ROUNDS} times", ("", "figure"), rows))
    goals = [Goal("recall_at_least", nearest, RECALL), Goal("recall_of_ten_at_least", ten, RECALL),
             Goal("p99_us_at_most", p99, P99_US)]  # fmt: skip
    figures = {
        "exemplars": len(index), "recall": round(nearest, 4), "recall_of_ten": round(ten, 4), "median_us": round(median),
        "p99_us": round(p99), "load_s": round(loading, 3), "embed_1000_s": round(embedding, 2),
    }  # fmt: skip
    report.finish(NAME, machine(), versions(), figures, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


def _texts() -> list[str]:
    grammar, rng = Grammar(Path(__file__).parent / "families"), random.Random(SEED)
    families = [name for name in sorted(grammar.sections) if "attack." in name or "benign." in name]
    members = [grammar.text(rng.choice(families), rng) for _ in range(QUERIES // 2)]
    return [*prompts.texts(QUERIES - len(members), SIZE), *members]


def _recall(index: ExemplarIndex, asked: Floats) -> tuple[float, float]:
    """How often the nearest exemplar is found, and which share of the nearest `TEN`."""
    exact = np.sort(asked @ index.vectors.T, axis=1)[:, ::-1]
    found = np.array([[one.similarity for one in index.nearest(vector, TEN)] for vector in asked])
    first = np.array([index.nearest(vector)[0].similarity for vector in asked])
    return float(np.mean(first >= exact[:, 0] - SAME)), float(np.mean(found >= exact[:, TEN - 1 : TEN] - SAME))


def _search_us(index: ExemplarIndex, vector: Floats) -> float:
    began = time.perf_counter_ns()
    index.nearest(vector)
    return (time.perf_counter_ns() - began) / 1e3
