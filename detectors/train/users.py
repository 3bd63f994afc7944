"""What users write: a direction on top of what the encoder's own output for them says.

An encoder that has learnt its sources by heart is sure of them, and of what is written otherwise it says less than its
embedding knows. A linear reading of that embedding, fitted on texts that no encoder was trained on, attacks beside harmless
twins of the same words, and on the sources' own texts, so that what is known of them stays, tells others' attacks better.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.figures import auc, recall_at
from detectors.semantic.judge import SemanticModel
from detectors.semantic.windows import spans
from detectors.train.direction import Floats, Piece, added, dealt, evened, fitted, held_out, read, served
from detectors.train.grammar import Grammar
from detectors.train.noise import doubtful_label
from detectors.train.sources import Row, read_rows
from detectors.values import Origin

WRITTEN: Final = Path(__file__).parent / "users"
"""Attacks with harmless twins of the same words, and harmless texts beside them, in sections ``attack.FILE.FAMILY`` and
``harmless.FILE.FAMILY``; a family is held out as a whole. No encoder and no front stage was trained on them."""

EACH: Final = 80
"""Texts of each source and label."""

MOST_WINDOWS: Final = 8
"""Windows of one text that are looked at."""

RIDGE: Final = 300.0
"""Of 30 to 1,000: with less, families held out are ranked better, with more, sources that fold ``a`` never saw."""

SHORT: Final = 1e-3
"""How far below the bar the first harmless text is that is not to reach it: no more of them do than did before."""


class Fitted(NamedTuple):
    """The direction as ``calibration.json`` has it, and figures for people, by what was held out."""

    direction: list[float]
    figures: dict[str, Any]


def pieces(data: Path, seed: int, without: Sequence[str] = ()) -> list[Piece]:
    """All that is learnt from; of sources but for those that are ``without``."""
    return [*written(), *_of_sources(data, seed, without)]


def written() -> Iterator[Piece]:
    """What was written for it."""
    grammar, rng = Grammar(WRITTEN), random.Random(0)
    for section, templates in grammar.sections.items():
        called, kind, family = section.split(".", 2)
        for template in templates:
            yield Piece(grammar.wording(template, rng), int(called == "attack"), f"{kind}: {family}")


def _of_sources(data: Path, seed: int, without: Sequence[str]) -> Iterator[Piece]:
    rng = random.Random(seed)
    rows: dict[tuple[str, int], list[Row]] = {}
    for row in read_rows(data):
        if row.origin is Origin.USER and row.source not in without and not doubtful_label(row):
            rows.setdefault((row.source, row.label), []).append(row)
    for (source, label), some in sorted(rows.items()):
        for row in rng.sample(some, min(EACH, len(some))):
            yield Piece(row.text, label, f"source: {source} {row.text[:60]}")


def fit(model: SemanticModel, texts: Sequence[Piece], ridge: float = RIDGE) -> Fitted:
    """Fit on all texts what is added to what the calibration says without a direction; the scale and the figures are by what
    saw nothing of a text's family."""
    rows, said = zip(*(_telling(model, one.text) for one in texts), strict=True)
    inputs, given = np.array(rows), np.array(said)
    labels, kinds = np.array([one.label for one in texts]), np.array([one.kind for one in texts])
    share = evened(texts, {})
    held = held_out(inputs, labels, share, dealt(texts), ridge, given)
    ours = kinds != "source"
    bar, harmless = _bar(model), ours & (labels == 0)
    alarms = int((given[harmless] >= bar).sum())
    shift = bar - SHORT - float(np.sort(held[harmless])[max(0, harmless.sum() - alarms - 1)])
    direction, constant = fitted(inputs, labels, share, ridge, given)
    figures: dict[str, Any] = {"texts": len(texts), "written": int(ours.sum()), "hostile": int(labels[ours].sum())}
    for name, scores in (("before", given), ("now", held + shift)):
        figures[f"auc, {name}"] = auc(scores[ours], labels[ours])
        for kind in sorted(set(kinds)):
            for label, called in enumerate(("harmless", "hostile")):
                chosen = (kinds == kind) & (labels == label)
                if chosen.any():
                    figures[f"{kind}, {called} at the bar, {name}"] = float((scores[chosen] >= bar).mean())
    return Fitted(served(direction, constant + shift), figures)


def unseen(model: SemanticModel, found: Fitted, rows: Sequence[Row]) -> dict[str, float]:
    """What a direction of a fold's encoder changes on users' texts that neither saw, where the front stage settles nothing."""
    before, now, labels = [], [], []
    for row in rows:
        if row.origin is Origin.USER and not row.source.startswith("own:"):
            windows = [read(model, row.text[start:end], Origin.USER) for start, end in spans(row.text)[:MOST_WINDOWS]]
            before.append(max(said for _, said in windows))
            now.append(max(said + added(found.direction, known) for known, said in windows))
            labels.append(row.label)
    figures, told, bar = dict[str, float](), np.array(labels), _bar(model)
    for name, scores in (("before", np.array(before)), ("now", np.array(now))):
        figures |= {f"auc, {name}": auc(scores, told), f"recall at 1 % FP, {name}": recall_at(scores, told, 0.01)}
        for label, called in enumerate(("harmless", "hostile")):
            figures[f"{called} at the bar, {name}"] = float((scores[told == label] >= bar).mean())
    return figures


def _bar(model: SemanticModel) -> float:
    """The log-odds from which ``balanced`` acts."""
    balanced = model.calibration.thresholds["balanced"][Origin.USER]
    return float(np.log(balanced / (1 - balanced)))


def _telling(model: SemanticModel, text: str) -> tuple[Floats, float]:
    """What is known of the window of a text that is suspected most, as `read` has it."""
    return max((read(model, text[start:end], Origin.USER) for start, end in spans(text)[:MOST_WINDOWS]), key=lambda one: one[1])
