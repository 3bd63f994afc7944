"""All that was labelled, as evidence for and against patterns. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.semantic.corrections import Correction
from detectors.semantic.prototypes import Prototype
from gateway.learning.quorum import MOST, weigh, words
from gateway.learning.values import Case, Label, Outcome, Said
from patterns.schema import Kind, Pattern

Floats = npt.NDArray[np.float32]

ATTACKS: Final = frozenset({Outcome.TRUE_POSITIVE, Outcome.FALSE_NEGATIVE})
"""Outcomes that say of a text that it is an attack."""

HARMLESS: Final = frozenset({Outcome.FALSE_POSITIVE, Outcome.TRUE_NEGATIVE})


class Labelled(NamedTuple):
    """Labelled texts whose embeddings are known: cases, float32 (n, 384) of unit length, and bool (n,) whether they quote."""

    cases: tuple[Case, ...]
    vectors: Floats
    quoting: npt.NDArray[np.bool_]

    def within(self, ready: Prototype, reach: float, but: Collection[str] = ()) -> list[Case]:
        """The cases as close to a prototype's own texts as ``reach``: what it does not concern, without ``but``'s words.

        To call an attack one and harmless what only quotes it is no contradiction: whoever labelled the kind itself said so of
        it. Who labelled only what it quotes has a word all the same.
        """
        near = np.flatnonzero(ready.own.closeness(self.vectors) >= reach).tolist()
        return [_without(self.cases[at], but) if ready.quoting and not self.quoting[at] else self.cases[at] for at in near]

    def matched(self, ready: Prototype) -> list[Case]:
        """The cases that a prototype matches."""
        return [self.cases[at] for at in np.flatnonzero(ready.reached(self.vectors, self.quoting)).tolist()]

    def akin(self, ready: Prototype) -> list[Case]:
        """The cases of a prototype's kind: who labelled them has a word on it."""
        return [self.cases[at] for at in np.flatnonzero(ready.akin(self.vectors, self.quoting)).tolist()]

    def taught(self, vectors: Floats, standing: Iterable[Prototype], reach: float, but: Collection[str]) -> list[Case]:
        """What was labelled of the kinds of learnt attacks whose texts come within ``reach`` of ``vectors``, or that stop them,
        without ``but``'s words.

        To call harmless what lies near a kind that others taught contradicts them, though none of their texts alone lies as
        near as all of them do. Whoever labelled the text itself said so of it; his words on the rest of the kind say no more.
        """
        found: dict[str, Case] = {}
        everything = np.ones(len(vectors), np.bool_)  # whether a text quotes is nothing to what was learnt of attacks
        for one in standing:
            if one.attack and ((one.own.closeness(vectors) >= reach) | one.reached(vectors, everything)).any():
                found |= {case.id: case for case in self.akin(one)}
        return [_without(case, but) for case in found.values()]


def _without(case: Case, by: Collection[str]) -> Case:
    return replace(case, labels=tuple(one for one in case.labels if one.by not in by))


NOTHING: Final = Labelled((), np.zeros((0, 384), np.float32), np.zeros(0, np.bool_))


class Spoken(NamedTuple):
    """What labels come to about one pattern.

    ``confirmed`` and ``refuted`` are verdicts on texts that it matched. ``spoken_for`` and ``spoken_against`` are what
    labellers weigh, each with one word; ``supporters`` and ``opponents`` are the people among them.
    """

    confirmed: int
    refuted: int
    spoken_for: float
    spoken_against: float
    supporters: tuple[str, ...]
    opponents: tuple[str, ...]


Says = Callable[[Case], Said]
"""What a pattern says of a text that it matches, or whose verdict it changes."""


def says(pattern: Pattern, labelled: Labelled = NOTHING, correction: Correction | None = None) -> Says:
    """What ``pattern`` says; a head, made ready as ``correction``, says this of one text and that of another."""
    if pattern.kind is Kind.HEAD:
        vectors = {case.id: vector for case, vector in zip(labelled.cases, labelled.vectors, strict=True)}

        def judge(case: Case) -> Said:
            vector = vectors.get(case.id)
            raises = correction is not None and vector is not None and correction.shift(vector, "") > 0
            return Said.ATTACK if raises else Said.BENIGN

        return judge
    lets_through = pattern.kind is Kind.BENIGN or (pattern.kind is Kind.THRESHOLD and pattern.body.startswith("+"))
    return lambda case: Said.BENIGN if lets_through else Said.ATTACK


def spoken(pattern: Pattern, cases: Iterable[Case], own: Collection[str] = (), opinion: Says | None = None) -> Spoken:
    """What is said of the texts that a pattern matches.

    Args:
        cases: of these texts, those that it was made from among them.
        own: ids of those that it was made from: their labels have a word, but that it finds them confirms nothing.
        opinion: what it says of them; left out, as `says`.
    """
    opinion = opinion or says(pattern)
    confirmed = refuted = 0
    labels: list[Label] = []
    for case in cases:
        attack = opinion(case) is Said.ATTACK
        # From here on `attack` means that a label agrees with the pattern, whatever that says.
        labels += case.labels if attack else [label._replace(said=_OTHER[Said(label.said)]) for label in case.labels]
        if case.id not in own:
            confirmed += case.outcome in (ATTACKS if attack else HARMLESS)
            refuted += case.outcome in (HARMLESS if attack else ATTACKS)
    said = words(labels)
    weights = weigh(said)
    return Spoken(confirmed, refuted, weights[Said.ATTACK], weights[Said.BENIGN], _people(said, Said.ATTACK),
                  _people(said, Said.BENIGN))  # fmt: skip


_OTHER: Final = {Said.ATTACK: Said.BENIGN, Said.BENIGN: Said.ATTACK}


def matched(cases: Iterable[Case], labelled: Labelled, prototypes: Iterable[Prototype]) -> dict[str, list[Case]]:
    """By pattern, the labelled texts that it matched when they came, or that it would match now (a prototype)."""
    found: defaultdict[str, dict[str, Case]] = defaultdict(dict)
    for case in cases:
        for stage in case.trajectory.stages:
            found[stage[1]][case.id] = case
    for ready in prototypes:
        for case in labelled.matched(ready):
            found[ready.pattern.id][case.id] = case
    return {id: list(each.values()) for id, each in found.items()}


def speaking(
    by_pattern: Mapping[str, Sequence[Case]], labelled: Labelled, prototypes: Collection[Prototype], answered: Collection[str]
) -> dict[str, Sequence[Case]]:
    """By pattern, the cases that speak of it.

    For a learnt exemplar speak those of its kind: what it is drawn to bears nobody out. Where it is wrong to match that, it is
    refuted, without a word of those who said so: whoever has a new name each week would else have good ones taken away, each
    time by another attack that he calls harmless. Against what lets attacks through their word counts, for in doubt nothing is
    pardoned.

    What was learnt of attacks is not refuted by harmless texts that a learnt harmless kind lets through, or that one would
    which passed its trial (ids of cases in ``answered``): they have their answer, and else texts that quote an attack, rightly
    called harmless, would take away what stops the attack itself.
    """
    ids = set(answered)
    kinds = {ready.pattern.id: ready.attack for ready in prototypes}
    for id, attack in kinds.items():
        ids.update(() if attack else (case.id for case in by_pattern.get(id, ())))
    found: dict[str, Sequence[Case]] = dict(by_pattern)
    for ready in prototypes:
        some = by_pattern.get(ready.pattern.id, ())
        akin = {case.id for case in labelled.akin(ready)}
        if ready.attack:
            refuting = [case for case in some if case.outcome in HARMLESS and case.id not in ids]
            spoken_of = [case for case in some if case.outcome not in HARMLESS and case.id in akin]
            found[ready.pattern.id] = spoken_of + [case if case.id in akin else replace(case, labels=()) for case in refuting]
        else:
            found[ready.pattern.id] = [case for case in some if case.id in akin or case.outcome in ATTACKS]
    return found


def fair_share(cases: Sequence[Case], most: int) -> list[Case]:
    """At most ``most`` cases, in the order given, of each labeller as many as of any other while he has more.

    A labeller who sends ten thousand does not keep those of others from being looked at.
    """
    if len(cases) <= most:
        return list(cases)
    queues: defaultdict[str, deque[int]] = defaultdict(deque)
    for at, case in enumerate(cases):
        queues[case.labels[0].by if case.labels else ""].append(at)
    chosen: list[int] = []
    while len(chosen) < most:
        chosen += [queue.popleft() for queue in [one for one in queues.values() if one][: most - len(chosen)]]
    return [cases[at] for at in sorted(chosen)]


def _people(said: Iterable[Label], what: Said) -> tuple[str, ...]:
    return tuple(sorted(label.by for label in said if label.said == what and label.role not in MOST))
