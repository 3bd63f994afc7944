"""What a benchmark prints: tables for people, goals, and one JSON object as the last line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Goal(NamedTuple):
    """A figure and what it was to reach. ``name`` ends in ``_at_least`` or ``_at_most``, which says how to compare.

    A figure that could not be measured is NaN, which reaches nothing.
    """

    name: str
    figure: float
    goal: float

    @property
    def met(self) -> bool:
        return self.figure >= self.goal if self.name.endswith("_at_least") else self.figure <= self.goal


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown that is also aligned for a terminal: first column left, the rest right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    lines = [f"\n{title}\n", _line(columns, widths)]
    lines.append("|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":") for i, width in enumerate(widths)) + "|")
    lines += [_line(row, widths) for row in cells]
    return "\n".join(lines)


def goals_table(goals: Sequence[Goal]) -> str:
    """The goals, one a row."""
    return table("Goals", ("goal", "reached", "wanted", "met"),
                 [(goal.name, goal.figure, goal.goal, "yes" if goal.met else "NO") for goal in goals])  # fmt: skip


def last_line(
    bench: str, machine: Mapping[str, Any], versions: Mapping[str, str], figures: Mapping[str, Any], goals: Sequence[Goal]
) -> str:
    """The result as one line of JSON."""
    reached = {
        goal.name: {"figure": None if math.isnan(goal.figure) else goal.figure, "goal": goal.goal, "met": goal.met}
        for goal in goals
    }
    return json.dumps(
        {"bench": bench, "machine": machine, "versions": versions, "figures": figures, "goals": reached},
        separators=(",", ":"), allow_nan=False,
    )


def finish(
    bench: str,
    machine: Mapping[str, Any],
    versions: Mapping[str, str],
    figures: Mapping[str, Any],
    goals: Sequence[Goal],
    file: Path | None,
) -> None:
    """Print the goals and the last line, and write the latter to ``file`` too."""
    if goals:
        print(goals_table(goals))
    line = last_line(bench, machine, versions, figures, goals)
    if file is not None:
        file.write_text(line + "\n", encoding="utf-8")
    print(f"\n{line}", flush=True)


def _cell(value: object) -> str:
    if isinstance(value, float):
        if math.isnan(value):  # not measured
            return "-"
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (cell.ljust(width) if i == 0 else cell.rjust(width)
                    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)))  # fmt: skip
    return "| " + " | ".join([first, *rest]) + " |"
