"""An exemplar stops what lies on its side of ordinary text besides; whose word counts on it is told by its own texts alone."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from families import draw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from learning_support import answers, cases, label

from detectors.semantic.judge import SemanticModel
from detectors.semantic.learnt import backgrounds
from detectors.semantic.prototypes import Background, Prototype
from gateway.learning.evidence import Labelled, matched, speaking, spoken
from gateway.learning.promotion import Rules, step
from gateway.learning.quorum import Record
from gateway.learning.records import heard
from gateway.learning.teacher import Teacher
from gateway.learning.values import Case, Outcome, Proposal, ProposalKind, Said, Stage
from patterns.schema import State

PEOPLE = ("ada", "bob", "cy", "dee")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(SemanticModel.load())


@pytest.fixture(scope="module")
def attacks(teacher: Teacher) -> list[Case]:
    """Real attacks of six families, rightly labelled."""
    names = ("game_show", "dream_frame", "audit_pretext", "crossword_leak", "ranking_bias", "bank_details")
    return cases(teacher, [text for name in names for text in draw(f"attack.{name}", 20)], by=PEOPLE)


TOPICS = ("tax_office", "weather_station", "beekeeper", "puppet_theatre", "warehouse_orders", "podcast_plant", "minutes_plant")
HARMLESS = [text for name in TOPICS for text in draw(f"tuning_twin.{name}", 12)]
"""Texts that no pack has."""


def lie(teacher: Teacher, text: str, among: list[Case]) -> tuple[Case, Proposal, Prototype]:
    """A harmless text that eve calls an attack, what is proposed for it, and that made ready to act."""
    (told,) = cases(teacher, [text], by=("eve",))
    made = next(one for one in answers(teacher, [told], [*among, told]) if one.kind is ProposalKind.EXEMPLAR)
    return told, made, teacher._ready(replace(made.pattern, state=State.ACTIVE))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(HARMLESS))
def test_whoever_calls_a_harmless_text_an_attack_finds_no_supporter_among_those_who_labelled_real_ones(
    teacher: Teacher, attacks: list[Case], text: str
) -> None:
    told, made, ready = lie(teacher, text, attacks)
    labelled = teacher.labelled(attacks)
    near = np.flatnonzero(ready.own.closeness(labelled.vectors) >= (made.pattern.closeness or 1)).tolist()
    akin = {one.by for at in near for one in attacks[at].labels}
    assert set(made.supporters) == {"eve"} | akin
    assert made.spoken_for == 1 + len(akin)
    known = heard([*attacks, told], teacher.labelled([*attacks, told]), [ready]).records
    assert known.get("eve", Record()).agreed <= bool(akin), "nor does it make her a record"


def test_what_its_own_texts_do_not_match_bears_no_lie_out(teacher: Teacher, attacks: list[Case]) -> None:
    """The lies come near attacks enough that it matters: drawn, they would find supporters, and by their own texts none does."""
    labelled, borne, drawn = teacher.labelled(attacks), 0, 0
    for text in random.Random(4).sample(HARMLESS, 60):
        told, made, ready = lie(teacher, text, attacks)
        borne += len(made.supporters) > 1
        reached = labelled.matched(ready)
        drawn += bool(reached)
        every = [*attacks, told]
        by_pattern = matched(every, teacher.labelled(every), [ready])
        said = spoken(made.pattern, speaking(by_pattern, teacher.labelled(every), [ready], ())[made.pattern.id], {told.id})
        assert said.confirmed == len(labelled.akin(ready)), "what it is drawn towards confirms nothing"
    assert drawn >= 24
    assert borne <= 3


def test_new_names_take_nothing_away_by_what_an_exemplar_is_drawn_to(teacher: Teacher, attacks: list[Case]) -> None:
    """One who had a new name each week called other attacks harmless that it stops: each refutes it, and none has a word on it."""
    (made, *_) = answers(teacher, attacks[:5], attacks[:5])
    ready = teacher._ready(replace(made.pattern, state=State.ACTIVE))
    labelled = teacher.labelled(attacks)
    own = {case.id for case in labelled.akin(ready)}
    seen = [replace(case, outcome=Outcome.FALSE_POSITIVE, labels=(label(f"eve{at}", Said.BENIGN),))
            for at, case in enumerate(labelled.matched(ready)) if case.id not in own]  # fmt: skip
    assert len(seen) >= 5
    every = [*attacks[:5], *seen]
    speak = speaking(matched(every, teacher.labelled(every), [ready]), teacher.labelled(every), [ready], ())
    said = spoken(made.pattern, speak[made.pattern.id], {case.id for case in attacks[:5]})
    assert (said.refuted, said.opponents) == (len(seen), ())
    out = replace(made, stage=Stage.ACTIVE, confirmed=said.confirmed, refuted=said.refuted, spoken_for=said.spoken_for,
                  spoken_against=said.spoken_against)  # fmt: skip
    assert step(out, Rules(), 1.0) is None


def test_who_labelled_what_a_harmless_kind_is_drawn_to_has_a_word_against_it(teacher: Teacher) -> None:
    told = [text for text in draw("benign.theatre", 60) if "forget everything" in text][:5]
    harmless = cases(teacher, told, Outcome.FALSE_POSITIVE, by=("ada", "bob"))
    (group,) = teacher.groups(harmless)
    (made,) = teacher.propose("0" * 32, group, 0.0, teacher.labelled(harmless))
    assert made.trial is not None
    assert made.trial.passed
    ready = teacher._ready(made.pattern)
    assert teacher.model is not None
    bar = made.pattern.closeness or 1.0
    freed = aside(ready, backgrounds(teacher.model).hostile, bar)
    (attack,) = cases(teacher, draw("attack.game_show", 1), by=("eve",))
    attack = replace(attack, labels=tuple(label(by, Said.ATTACK) for by in ("eve", "fay")))
    every = teacher.labelled(harmless)
    among = Labelled((*every.cases, attack), np.vstack([every.vectors, freed]), np.append(every.quoting, True))
    assert attack in among.matched(ready)
    assert attack not in [*among.akin(ready), *among.within(ready, 0.25)]
    (again,) = teacher.propose("0" * 32, group, 0.0, among)
    assert again.trial is not None
    assert not again.trial.passed, "two for it, two against"
    assert teacher.concerns(group, among._replace(cases=(attack,), vectors=freed, quoting=np.array([True])), ())


def aside(ready: Prototype, background: Background, bar: float) -> np.ndarray:  # type: ignore[type-arg]
    """A vector (1, 384) that a prototype reaches, and that lies no nearer to its own texts than the background does."""
    own, drawn = ready.own.weights.astype(np.float64), ready.weights.astype(np.float64)
    apart = drawn - own * (own @ drawn) / (own @ own)
    needed = (bar + 0.05 - (background.mean.astype(np.float64) @ drawn + ready.offset)) / (apart @ drawn)
    return (background.mean + needed * apart).astype(np.float32)[None]


def test_a_direction_is_0_at_the_background_and_1_at_the_examples_drawn_or_not(teacher: Teacher) -> None:
    assert teacher.model is not None
    harmless = backgrounds(teacher.model).harmless
    examples = np.array([seen.embedding for case in cases(teacher, draw("attack.game_show", 5)) if (seen := teacher.read(case))])
    mean = examples.mean(axis=0)
    for direction in (harmless.own(examples), harmless.direction(examples)):
        assert direction.closeness(np.array([harmless.mean, mean])).tolist() == pytest.approx([0, 1], abs=1e-4)
    assert not np.allclose(harmless.own(examples).weights, harmless.direction(examples).weights)
