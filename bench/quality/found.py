"""What one run of the benchmark measured, and how it is grouped for tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bench.quality.runs import Case
from gateway.screening import evaluation
from gateway.screening.evaluation import Merit, Result

FEWEST: Final = 5
"""Texts below which a group has no row of its own."""


@dataclass(slots=True)
class Found:
    """Everything that one run measured.

    Attributes:
        seen: whether the sources were seen in training.
        cases: texts judged by all stages. variants: results of the same texts with parts left out.
        disguised: by disguise, which attacks were still found. gateway: figures by name. leaks: near-duplicates by model.
    """

    seen: bool
    cases: list[Case] = field(default_factory=list)
    variants: dict[str, list[Result]] = field(default_factory=dict)
    disguised: dict[str, list[bool]] = field(default_factory=dict)
    gateway: dict[str, float] = field(default_factory=dict)
    leaks: dict[str, int] = field(default_factory=dict)

    @property
    def disguises(self) -> dict[str, float]:
        """The share still found, by disguise."""
        return {name: sum(found) / len(found) for name, found in self.disguised.items()}


def by(found: Found) -> dict[str, dict[str, Merit]]:
    """Figures by kind, origin, source, language and the last stage that a text needed."""
    keys: dict[str, Callable[[Case], str]] = {
        "kind": lambda case: case.row.kind, "origin": lambda case: case.row.origin.value,
        "source": lambda case: case.row.source, "language": lambda case: case.row.lang,
        "last stage": lambda case: case.result.stage,
    }  # fmt: skip
    return {name: _grouped(found, key) for name, key in keys.items()}


def _grouped(found: Found, key: Callable[[Case], str]) -> dict[str, Merit]:
    groups: dict[str, list[Result]] = {}
    for case in found.cases:
        groups.setdefault(key(case), []).append(case.result)
    return {name: evaluation.merit(members, False) for name, members in sorted(groups.items()) if len(members) >= FEWEST}
