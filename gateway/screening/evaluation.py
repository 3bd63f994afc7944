"""Figures of merit over labelled texts: what `portcullis eval` prints and `python -m bench quality` builds on.

A text counts as found where the policy blocks it. Scores are compared over all texts, whatever their origin.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

import numpy as np

from detectors.figures import Interval, auc, bootstrap, recall_at
from detectors.values import Origin

PLACES: Final = {"indirect_injection": Origin.DOCUMENT, "benign_document": Origin.DOCUMENT}
"""Who speaks in texts of these kinds, where a line does not say."""


class Result(NamedTuple):
    """What was said of one labelled text. ``stage`` is the last one that ran, ``us`` what judging it took."""

    label: int
    kind: str
    source: str
    lang: str
    score: float
    action: str
    stage: str
    complete: bool
    us: int

    @property
    def right(self) -> bool:
        return (self.action == "block") == bool(self.label)


class Merit(NamedTuple):
    """Figures of one group. Those that need both attacks and harmless texts are None where one sort is missing."""

    attacks: int
    benign: int
    auc: Interval | None
    recall_1: Interval | None
    recall_01: Interval | None
    right: float
    found: float | None
    passed: float | None
    p50_us: float
    p99_us: float


def merit(results: Sequence[Result], intervals: bool = True) -> Merit:
    """The figures of a group of at least one text. Without ``intervals``, both ends are the figure itself."""
    labels = np.array([one.label for one in results], np.int64)
    scores = np.array([one.score for one in results], np.float64)
    took = np.array([one.us for one in results], np.float64)
    right = np.array([one.right for one in results])
    attacks = int(labels.sum())
    benign = len(labels) - attacks
    area = recall_1 = recall_01 = None
    if attacks and benign and intervals:
        area = bootstrap("auc", scores, labels)
        recall_1, recall_01 = (bootstrap("recall", scores, labels, rate) for rate in (0.01, 0.001))
    elif attacks and benign:
        values = auc(scores, labels), recall_at(scores, labels, 0.01), recall_at(scores, labels, 0.001)
        area, recall_1, recall_01 = (Interval(value, value, value) for value in values)
    return Merit(
        attacks, benign, area, recall_1, recall_01, float(right.mean()),
        float(right[labels == 1].mean()) if attacks else None, float(right[labels == 0].mean()) if benign else None,
        float(np.quantile(took, 0.5)), float(np.quantile(took, 0.99)),
    )  # fmt: skip


def groups(results: Iterable[Result], key: Callable[[Result], str]) -> dict[str, list[Result]]:
    """Results by a key, in order of the keys."""
    found: dict[str, list[Result]] = {}
    for one in results:
        found.setdefault(key(one), []).append(one)
    return dict(sorted(found.items()))


def open_lines(path: Path) -> IO[bytes]:
    """A file of JSON lines, gzipped where its name ends in ``.gz``.

    Raises:
        OSError: it cannot be read.
    """
    if path.name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def shares(results: Sequence[Result]) -> Iterator[tuple[str, float]]:
    """The last stage that texts needed, with the share of them."""
    for stage, members in groups(results, lambda one: one.stage).items():
        yield stage, len(members) / len(results)


def plain(found: Merit) -> dict[str, Any]:
    """A group's figures as JSON values."""
    return {name: list(value) if isinstance(value, Interval) else value for name, value in found._asdict().items()}


COLUMNS: Final = ("attacks", "benign", "AUC", "recall at 1 % FP", "at 0.1 % FP", "right", "found", "passed", "p50 µs", "p99 µs")


def row(found: Merit) -> list[str]:
    """A group's figures for people, in the order of `COLUMNS`."""
    return [
        f"{found.attacks:,}", f"{found.benign:,}", _interval(found.auc), _interval(found.recall_1), _interval(found.recall_01),
        _share(found.right), _share(found.found), _share(found.passed), f"{found.p50_us:,.0f}", f"{found.p99_us:,.0f}",
    ]  # fmt: skip


def _interval(value: Interval | None) -> str:
    if value is None:
        return "-"
    return f"{value.value:.3f}" if value.low == value.high else str(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
