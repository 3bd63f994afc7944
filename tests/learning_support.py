"""What tests of the learning loop make: labels, cases, proposals and their answers."""

from __future__ import annotations

from dataclasses import replace

from detectors.semantic.prototypes import Prototype
from gateway.learning.evidence import ATTACKS
from gateway.learning.promotion import Rules
from gateway.learning.quorum import Record, weight
from gateway.learning.teacher import Teacher
from gateway.learning.values import (
    Case,
    Label,
    Outcome,
    Proposal,
    ProposalKind,
    Said,
    Stage,
    Trial,
)
from patterns.schema import Kind, Pattern, Severity

PATTERN = Pattern(
    id="own.gate", kind=Kind.REGEX, body="open the gate", category="jailbreak.persona", severity=Severity.HIGH, reach=13,
    hits=("open the gate",), misses=("shut it",), origins=frozenset({"user"}),
)  # fmt: skip
PASSED, BROKEN = Trial(own=1, caught=1), Trial(against=("it finds nothing",))
RULES = Rules(shadow_seconds=60, canary_seconds=60)


def label(by: str, said: Said, role: str = "analyst", trust: float | None = None, category: str = "") -> Label:
    return Label("1", by, role, said, category, "", weight(role, Record()) if trust is None else trust, 0.0)


def proposal(stage: Stage = Stage.PROPOSED, **fields: object) -> Proposal:
    made = Proposal(id="1", kind=ProposalKind.EXEMPLAR, pattern=PATTERN, at=0, since=0, author="engine", stage=stage, trial=PASSED)
    return replace(made, **fields)  # type: ignore[arg-type]


def cases(teacher: Teacher, texts: list[str], said: Outcome = Outcome.FALSE_NEGATIVE, by: tuple[str, ...] = ("ada",)) -> list[Case]:
    """Cases that were labelled by people in turn."""
    word = Said.ATTACK if said in ATTACKS else Said.BENIGN
    return [
        Case(id=f"{said}{n}{text[:9]}", at=float(n), text=text, views=teacher.views(text), outcome=said,
             labels=(label(by[n % len(by)], word),))
        for n, text in enumerate(texts)
    ]  # fmt: skip


def answers(teacher: Teacher, some: list[Case], among: list[Case], standing: tuple[Prototype, ...] = ()) -> list[Proposal]:
    """The proposals that answer cases, where ``among`` is all that was labelled."""
    labelled = teacher.labelled(among)
    return [made for group in teacher.groups(some) for made in teacher.propose("0" * 32, group, 0.0, labelled, standing)]
