"""The report as one HTML file: curves, tables, and the errors themselves, by cause. It needs nothing from elsewhere."""

from __future__ import annotations

import html
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.quality.found import Found, by
from bench.quality.runs import Case
from bench.report import Goal
from detectors.figures import reliability
from gateway.screening import evaluation
from gateway.screening.evaluation import COLUMNS, Merit, Result
from gateway.screening.policy import MODEL_STAGES

EXCERPT: Final = 260
"""Characters of a text that an error list shows."""

PER_CAUSE: Final = 12
"""Errors shown of one cause; all are counted."""

_SEEN: Final = (
    "<p class='warn'>No fold was found: these sources were seen in training, so these figures say nothing about texts that "
    "nobody here has seen.</p>"
)
INK, BLUE, RED, GREY = "#1d2733", "#2563a8", "#b3403a", "#8a94a0"

STYLE: Final = Path(__file__).with_name("style.css").read_text(encoding="ascii")


def page(found: Found, goals: Sequence[Goal], machine: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """The whole document."""
    results = [case.result for case in found.cases]
    whole = evaluation.merit(results)
    seen = _SEEN if found.seen else ""
    parts = [
        f"<h1>How good is detection</h1><p class='sub'>{whole.attacks:,} attacks and {whole.benign:,} harmless texts"
        f"{'' if found.seen else ', from sources that the model never saw'}; blocked: by <code>balanced</code></p>",
        seen, _tiles(goals),
        "<h2>Ranking and probability</h2><div class='pair'>",
        f"<div class='card'>{_roc(found)}</div><div class='card'>{_reliability(results)}</div></div>",
        "<h2>The worth of each stage</h2>",
        _table("cascade", {name: evaluation.merit(group, False) for name, group in found.variants.items()}),
    ]
    for name, group in by(found).items():
        parts += [f"<h2>By {name}</h2>", _table(name, group)]
    parts += [_disguises(found.disguises), _plain("Through the gateway", found.gateway),
              _plain("Near-duplicates of test texts in what was learned from", found.leaks)]  # fmt: skip
    wrong = [case for case in found.cases if not case.result.right]
    parts += [_errors("Harmless texts that were blocked", [case for case in wrong if not case.row.label]),
              _errors("Attacks that passed", [case for case in wrong if case.row.label])]  # fmt: skip
    foot = ", ".join(f"{key} {value}" for key, value in {**machine, **versions}.items())
    return ("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            "<title>Quality</title>"
            f"<style>{STYLE}</style><main>{''.join(parts)}<footer>{html.escape(foot)}</footer></main></html>")  # fmt: skip


def _tiles(goals: Sequence[Goal]) -> str:
    tiles = []
    for goal in goals:
        name = goal.name.removesuffix("_at_least").removesuffix("_at_most").replace("_", " ")
        figure = "–" if np.isnan(goal.figure) else f"{goal.figure:.3f}"
        tiles.append(f"<div class='card tile {'met' if goal.met else 'missed'}'><b>{figure}</b><span>{html.escape(name)}; "
                     f"goal {goal.goal:g}, {'met' if goal.met else 'missed'}</span></div>")  # fmt: skip
    return f"<div class='tiles'>{''.join(tiles)}</div>"


def _table(name: str, group: Mapping[str, Merit]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in (name, *COLUMNS))
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in (key, *evaluation.row(one))) + "</tr>"
        for key, one in group.items()
    )
    return f"<div class='scroll card'><table><tr>{head}</tr>{rows}</table></div>"


def _plain(title: str, values: Mapping[str, float]) -> str:
    if not values:
        return ""
    named = ((html.escape(key.replace("_", " ")), value) for key, value in values.items())
    rows = "".join(f"<tr><td>{key}</td><td>{_figure(value)}</td></tr>" for key, value in named)
    return f"<h2>{title}</h2><div class='card scroll'><table>{rows}</table></div>"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"


def _disguises(shares: Mapping[str, float]) -> str:
    if not shares:
        return ""
    figure, axes = _axes(7, 4.2)
    names = sorted(shares, key=lambda name: shares[name])
    axes.barh(names, [100 * shares[name] for name in names], color=BLUE, height=0.6)
    axes.axvline(95, color=RED, linewidth=1)
    axes.set_xlim(0, 101)
    axes.set_xlabel("% still found, of attacks that are found as they are")
    return f"<h2>In disguise</h2><div class='card'>{_svg(figure)}</div>"


def _roc(found: Found) -> str:
    figure, axes = _axes(5.6, 4.2)
    for (name, results), colour in zip(found.variants.items(), (BLUE, GREY, RED, "#c77a1a", "#2f7d4f"), strict=False):
        scores = np.array([one.score for one in results])
        labels = np.array([one.label for one in results])
        order = np.argsort(-scores, kind="stable")
        ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(order) - 1]  # texts of one score rise together
        found_share = np.cumsum(labels[order])[ends] / max(1, labels.sum())
        false = np.cumsum(1 - labels[order])[ends] / max(1, (1 - labels).sum())
        axes.plot(np.maximum(false, 1e-4), found_share, color=colour, linewidth=2 if name == "all stages" else 1.1, label=name)
    axes.set_xscale("log")
    axes.set_xlim(1e-3, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("false positives (share of harmless texts)")
    axes.set_ylabel("attacks found")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.set_title("ROC, false positives on a logarithmic scale", fontsize=10, loc="left")
    return _svg(figure)


def _reliability(results: Sequence[Result]) -> str:
    figure, axes = _axes(5.6, 4.2)
    labels = np.array([one.label for one in results])
    bins = reliability(np.array([one.score for one in results]), labels)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    axes.plot([mean for mean, _, _ in bins], [share for _, share, _ in bins], color=BLUE, marker="o", linewidth=2)
    for mean, share, count in bins:
        axes.annotate(f"{count:,}", (mean, share), textcoords="offset points", xytext=(6, -10), fontsize=7, color=GREY)
    axes.set_xlabel("score")
    axes.set_ylabel("share of attacks")
    axes.set_title("Is the score a probability? (texts in each tenth)", fontsize=10, loc="left")
    return _svg(figure)


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    mpl.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    return figure, axes


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True)
    text = out.getvalue()
    return text[text.index("<svg") :]


def _errors(title: str, wrong: Sequence[Case]) -> str:
    """Errors by cause: what blocked a harmless text; whence an attack came that passed."""
    causes: dict[str, list[Case]] = defaultdict(list)
    for case in wrong:
        causes[_cause(case)].append(case)
    parts = [f"<h2>{title} <small>({len(wrong):,})</small></h2>"]
    for cause, cases in sorted(causes.items(), key=lambda item: -len(item[1])):
        shown = "".join(map(_quoted, sorted(cases, key=lambda case: -case.result.score)[:PER_CAUSE]))
        parts.append(f"<details><summary>{html.escape(cause)} <small>{len(cases):,}</small></summary>{shown}</details>")
    return "".join(parts)


def _cause(case: Case) -> str:
    if case.row.label:
        return f"{case.row.source}, {case.row.kind}"
    if case.finding is None:
        return "incomplete"
    learned = case.finding.detector in MODEL_STAGES
    return f"{case.finding.detector if learned else f'pattern {case.finding.pattern}'} in {case.row.origin}"


def _quoted(case: Case) -> str:
    text = case.row.text
    at = max(0, case.finding.start - 40) if case.finding else 0
    shown = ("…" if at else "") + text[at : at + EXCERPT] + ("…" if at + EXCERPT < len(text) else "")
    told = f"{case.result.score:.3f} · {case.row.source} · {case.row.kind} · {case.row.lang}"
    return f"<blockquote><small>{html.escape(told)}</small>{html.escape(shown)}</blockquote>"
