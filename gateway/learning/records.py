"""How often each labeller was borne out by others, and what his word is worth for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from detectors.semantic.prototypes import Prototype
from gateway.learning.evidence import ATTACKS, Labelled, matched
from gateway.learning.quorum import Record, decide, weight, words
from gateway.learning.values import Case, Label, Outcome, Said

CONTRADICTED_REACH: Final = 0.35
"""Who calls a text harmless that comes this close to a kind of attacks contradicts those who labelled that, short of having a
word on the kind. At `trial.PARDON_REACH`, where their word keeps the text from being let through, one who labels nothing but
false alarms would be contradicted by chance, on the later families of ``bench learning``; here he is on none."""


def standings(
    cases: Iterable[Case], kinds: Iterable[Collection[Case]] = (), outvoted: Iterable[str] = ()
) -> dict[str, Record]:
    """How often each labeller agreed with the verdicts on texts that others labelled as well, and on kinds of texts.

    Args:
        kinds: of each kind, what was labelled of it. A labeller has one word on it, and few ever label the same text.
        outvoted: who is `contradicted` by those who labelled a kind, for each of these once.
    """
    found: dict[str, Record] = {}

    def hear(labels: Collection[Label], said: Said) -> None:
        for label in labels:
            agreed, disagreed = found.get(label.by, Record())
            agrees = label.said == said
            found[label.by] = Record(agreed + agrees, disagreed + (not agrees))

    for case in cases:
        if case.outcome is not Outcome.UNDECIDED and len(case.labels) >= 2:
            hear(case.labels, Said.ATTACK if case.outcome in ATTACKS else Said.BENIGN)
    for kind in kinds:
        spoken = words(label for case in kind for label in case.labels)
        verdict = decide(spoken)
        if verdict.said is not None and len(spoken) >= 2:
            hear(spoken, verdict.said)
    for by in outvoted:
        agreed, disagreed = found.get(by, Record())
        found[by] = Record(agreed, disagreed + 1)
    return found


def contradicted(labelled: Labelled, attacks: Sequence[Prototype], kinds: Sequence[Collection[Case]]) -> Iterator[str]:
    """Who called texts harmless near kinds of attacks, and is outvoted by those who labelled these; each once for a kind.

    Few lie about a text of which others labelled the like: what is said of a kind alone finds a liar too late. What quotes is
    left out, for it may be harmless near any attack.

    Args:
        attacks: the learnt ones. kinds: of each of these, what was labelled of it.
    """
    if not attacks or not labelled.cases:
        return
    closeness = np.array([one.own.closeness(labelled.vectors) for one in attacks])
    asked = np.array([[one.pattern.closeness or 1.0] for one in attacks])
    beside = (closeness >= CONTRADICTED_REACH).any(axis=0) & ~(closeness >= asked).any(axis=0) & ~labelled.quoting
    told: set[tuple[str, int]] = set()
    for at in np.flatnonzero(beside).tolist():
        harmless = [label for label in labelled.cases[at].labels if label.said == Said.BENIGN]
        near = np.flatnonzero(closeness[:, at] >= CONTRADICTED_REACH).tolist()
        speakers = {label.by for label in harmless}
        about = {case.id: case for kind in near for case in kinds[kind]}
        others = words(label for case in about.values() for label in case.labels if label.by not in speakers)
        if decide([*others, *harmless]).said is Said.ATTACK:
            found = {(by, int(closeness[:, at].argmax())) for by in speakers} - told
            told |= found
            yield from (by for by, _ in found)


def weighed(cases: Iterable[Case], records: Mapping[str, Record]) -> list[Case]:
    """The cases, each label with what its labeller's word is worth now: who is found out was no better when he spoke."""
    worth: dict[tuple[str, str], float] = {}
    found = []
    for case in cases:
        for label in case.labels:
            if (label.role, label.by) not in worth:
                worth[label.role, label.by] = weight(label.role, records.get(label.by, Record()))
        if any(label.trust != worth[label.role, label.by] for label in case.labels):
            case = replace(case, labels=tuple(one._replace(trust=worth[one.role, one.by]) for one in case.labels))
        found.append(case)
    return found


class Heard(NamedTuple):
    """All that was labelled, each label with what its labeller's word is worth now: cases, those of them whose embeddings are
    known, and by pattern those that it matched; and what each labeller's record is."""

    cases: list[Case]
    labelled: Labelled
    by_pattern: dict[str, list[Case]]
    records: dict[str, Record]


def heard(cases: Collection[Case], labelled: Labelled, prototypes: Collection[Prototype]) -> Heard:
    """What labels say altogether, beside the learnt exemplars that are matched already."""
    by_pattern = matched(cases, labelled, prototypes)
    kinds = {one.pattern.id: labelled.akin(one) for one in prototypes}
    attacks = [one for one in prototypes if one.attack]
    outvoted = contradicted(labelled, attacks, [kinds[one.pattern.id] for one in attacks])
    records = standings(cases, kinds.values(), outvoted)
    now = {case.id: case for case in weighed(cases, records)}
    known = labelled._replace(cases=tuple(now[case.id] for case in labelled.cases))
    return Heard(list(now.values()), known, {id: [now[one.id] for one in some] for id, some in by_pattern.items()}, records)
