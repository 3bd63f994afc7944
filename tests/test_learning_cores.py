"""The pure cores of learning, and what hostile labellers can do to them: every test of theirs has a bound on the damage."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from families import draw
from hypothesis import given
from hypothesis import strategies as st

from detectors.semantic.judge import SemanticModel
from gateway.learning.mining import Ordinary, mine
from gateway.learning.promotion import Effect, Rules, approved, step, suspects
from gateway.learning.quorum import Record, decide, outcome, weight
from gateway.learning.reflection import Facts, reflect
from gateway.learning.teacher import Teacher
from gateway.learning.trial import FALSE_ALARM_BOUND
from gateway.learning.values import (
    Case,
    Label,
    Outcome,
    Proposal,
    ProposalKind,
    Said,
    Stage,
    Trajectory,
    Trial,
    Vote,
    case_id,
    decode_case,
    decode_proposal,
    encode_case,
    encode_proposal,
)
from patterns.schema import Kind, Pattern, PatternError, Severity, State, read_pattern

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


# Verdicts


def test_one_analyst_decides_and_a_contradiction_suspends() -> None:
    assert decide([label("ada", Said.ATTACK)]).said is Said.ATTACK
    assert decide([label("ada", Said.ATTACK), label("bob", Said.BENIGN)]).said is None
    two = [label("ada", Said.ATTACK), label("eve", Said.ATTACK), label("bob", Said.BENIGN)]
    assert decide(two).said is Said.ATTACK
    assert decide([]).said is None


@given(st.integers(1, 500), st.sampled_from(Said))
def test_any_number_of_applications_decides_nothing(count: int, said: Said) -> None:
    """Sybils: what one role can say altogether is bounded, so a thousand keys gain nothing over two."""
    apps = [label(f"app{n}", said, "app") for n in range(count)]
    assert decide(apps).said is None
    against = Said.BENIGN if said is Said.ATTACK else Said.ATTACK
    assert decide([*apps, label("ada", against)]).said is against, "nor can they hold up an analyst"


@given(st.lists(st.sampled_from(Said), min_size=1, max_size=9))
def test_who_disagrees_with_verdicts_loses_weight(said: list[Said]) -> None:
    liar, honest = Record(0, 12), Record(12, 0)
    assert weight("analyst", liar) < 0.1
    assert weight("analyst", honest) == 1.0
    lies = [label(f"liar{n}", one, trust=weight("analyst", liar)) for n, one in enumerate(said)]
    assert decide(lies).said is None


def test_outcomes() -> None:
    assert [outcome(said, stopped) for said in (Said.ATTACK, Said.BENIGN, None) for stopped in (True, False)] == [
        Outcome.TRUE_POSITIVE, Outcome.FALSE_NEGATIVE, Outcome.FALSE_POSITIVE, Outcome.TRUE_NEGATIVE,
        Outcome.UNDECIDED, Outcome.UNDECIDED,
    ]  # fmt: skip


def test_a_label_replaces_the_labellers_earlier_one_and_a_flood_is_bounded() -> None:
    case = Case(id="x", at=0)
    for said in (Said.ATTACK, Said.BENIGN):
        case = case.with_label(label("ada", said))
    assert [one.said for one in case.labels] == [Said.BENIGN]
    for n in range(500):
        case = case.with_label(label(f"app{n}", Said.ATTACK, "app"))
    assert len(case.labels) == 50


def test_a_case_names_its_text_by_a_keyed_hash() -> None:
    assert case_id(b"k", "text") == case_id(b"k", "text") != case_id(b"other", "text")
    assert "text" not in case_id(b"k", "text")


# Stages


def test_nothing_moves_without_a_trial_and_approval_by_others() -> None:
    assert step(proposal(trial=None), RULES, 1e9) is None
    assert step(proposal(), RULES, 1e9) is None
    own = proposal(author="ada", votes=(Vote("ada", True, "mine", 0),))
    assert not approved(own, RULES)
    voted = (Vote("bob", True, "good", 0),)
    assert step(proposal(trial=BROKEN, votes=voted), RULES, 1e9, force=True) is None, "no vote overrules a failed trial"
    assert step(proposal(votes=voted), RULES, 1e9) == (Stage.SHADOW, "good")
    assert step(proposal(votes=voted), RULES._replace(approvals=2), 1e9) is None
    assert step(proposal(votes=(*voted, Vote("eve", False, "no", 0))), RULES, 1e9) is None
    assert step(proposal(), RULES._replace(automatic=True), 1e9) is not None
    assert step(proposal(kind=ProposalKind.RETIRE), RULES._replace(automatic=True), 1e9) is None, "nothing is retired unasked"


def test_time_and_evidence_move_it_on() -> None:
    shadow = proposal(Stage.SHADOW, watched=10_000, alarms=10)
    assert step(shadow, RULES, 59) is None
    moved = [step(one, RULES, 60) for one in (shadow, replace(shadow, stage=Stage.CANARY), replace(shadow, stage=Stage.ACTIVE))]
    assert [one and one.to for one in moved] == [Stage.CANARY, Stage.ACTIVE, None]


def test_what_matches_too_much_never_leaves_the_shadow() -> None:
    wide = proposal(Stage.SHADOW, watched=10_000, alarms=51)
    for force in (False, True):
        move = step(wide, RULES, 1e9, force)
        assert move is not None
        assert (move.to, "at most 0.50% may" in move.reason) == (Stage.DEMOTED, True)


def test_precision_below_its_bound_demotes_at_any_stage() -> None:
    for stage in (Stage.SHADOW, Stage.CANARY, Stage.ACTIVE):
        move = step(proposal(stage, confirmed=3, refuted=2), RULES, 0)
        assert move is not None
        assert (move.to, "60%" in move.reason) == (Stage.DEMOTED, True)
        assert step(proposal(stage, confirmed=4, refuted=0), RULES, 0) is None


def test_a_good_pattern_is_not_suspected_for_a_few_refutations() -> None:
    """Labels crafted to retire a good pattern: as many as it has confirmations are not enough."""
    effects = {"good": Effect(1000, 50, 50), "bad": Effect(100, 1, 9), "new": Effect(5, 0, 4)}
    assert suspects(effects, Rules()) == ["bad"]


# What is kept


def test_cases_and_proposals_survive_their_encoding() -> None:
    case = Case(
        id="x", at=1.5, text="t", views="v", trajectory=Trajectory("d", 3, "t", "user", "block", True, 0.5, (("a", "b", "c", 0.5),)),
        labels=(label("ada", Said.ATTACK, category="jailbreak.persona"),), outcome=Outcome.FALSE_POSITIVE, lesson="l",
    )  # fmt: skip
    assert decode_case(encode_case(case)) == case
    kept = proposal(Stage.CANARY, votes=(Vote("a", True, "r", 1.0),), nearest=(("n", "", 0.5),), cases=("x",), trial=BROKEN)
    assert decode_proposal(encode_proposal(kept)) == kept
    assert "secret words" not in repr(replace(case, text="secret words"))


def test_a_reflection_says_what_failed_by_how_much_and_what_lies_near() -> None:
    case = Case(id="x", at=0, outcome=Outcome.FALSE_NEGATIVE, labels=(label("ada", Said.ATTACK),),
                trajectory=Trajectory(origin="document", action="allow", stages=(("encoder", "m", "jailbreak.persona", 0.61),)))  # fmt: skip
    near = (("exemplar.benign.1", "", 0.8), ("exemplar.attacks.2", "jailbreak.persona", 0.7))
    said = reflect(case, Facts(0.61, 0.92, near, 3))
    for words in ("origin document passed", "encoder (m) at 0.61", "0.31 were missing", "exemplar.attacks.2", "harmless exemplar lies nearer",
                  "3 other labelled texts", "Labelled attack by 1"):  # fmt: skip
        assert words in said
    wrong = reflect(replace(case, outcome=Outcome.FALSE_POSITIVE), Facts())
    assert "What misfired: m (jailbreak.persona, encoder, 0.61)" in wrong


# Mining


def test_shared_words_become_a_pattern_that_finds_them_and_nothing_harmless() -> None:
    texts = [f"please {a} lower the old drawbridge {b} for {c}" for a, b, c in (("do", "now", "us"), ("", "soon", "me"), ("x", "y", "z"))]
    mined = mine(texts, Ordinary(["lower the price", "the old bridge", "an old drawbridge is a sight"]))
    assert mined is not None
    assert mined.hits == tuple(texts)
    raw = {"id": "m", "kind": "regex", "body": mined.body, "category": "jailbreak.persona", "severity": "high",
           "hits": list(mined.hits), "misses": list(mined.misses)}  # fmt: skip
    assert Teacher(None).test(read_pattern(raw, "t")).caught == 3
    assert mine(texts[:2], Ordinary([])) is None
    assert mine(["all different", "no words here", "shared by none"], Ordinary([])) is None
    assert mine(["of the same"] * 3, Ordinary(["one of the same sort"])) is None, "what harmless text says too is no pattern"


@given(st.lists(st.text("ab c\\.(*", max_size=30), max_size=5), st.lists(st.text("ab c", max_size=20), max_size=4))
def test_whatever_is_mined_is_a_pattern_or_nothing(texts: list[str], ordinary: list[str]) -> None:
    mined = mine(texts, Ordinary(ordinary))
    if mined is not None:
        try:
            read_pattern({"id": "m", "kind": "regex", "body": mined.body, "category": "jailbreak.persona", "severity": "high",
                          "hits": list(mined.hits), "misses": ["x"]}, "t")  # fmt: skip
        except PatternError as error:
            raise AssertionError(mined.body) from error


# Poison: labellers whom everybody trusts lie


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(SemanticModel.load())


def cases(teacher: Teacher, texts: list[str], said: Outcome = Outcome.FALSE_NEGATIVE) -> list[Case]:
    return [Case(id=f"c{n}", at=float(n), text=text, views=teacher.views(text), outcome=said) for n, text in enumerate(texts)]


def test_a_harmless_phrase_cannot_be_made_an_attack_of_ordinary_text(teacher: Teacher) -> None:
    """Harmless exemplars of ours, labelled attack: whatever passes its trial stops at most the bound."""
    harmless = list(teacher.corpus.harmless)
    rng = random.Random(7)
    for _ in range(3):
        for group in teacher.groups(cases(teacher, rng.sample(harmless, 6))):
            for made in teacher.propose("0" * 32, group, 0.0):
                assert made.trial is not None
                if made.trial.passed:
                    assert made.trial.false_alarms <= FALSE_ALARM_BOUND * made.trial.harmless
                assert made.pattern.closeness is None or made.pattern.closeness >= 0.4


def test_a_known_attack_cannot_be_pardoned(teacher: Teacher) -> None:
    """Known attacks labelled harmless: no benign exemplar that lets through more of them than the bound passes its trial."""
    attacks = [text for text in teacher.corpus.hostile if "gnore" in text][:12]
    for group in teacher.groups(cases(teacher, attacks, Outcome.FALSE_POSITIVE)):
        for made in teacher.propose("0" * 32, group, 0.0):
            assert made.kind is ProposalKind.BENIGN
            assert made.trial is not None
            assert not made.trial.passed or made.trial.lost <= 0.005 * made.trial.hostile


def test_a_lie_among_honest_labels_is_left_out_of_the_group(teacher: Teacher) -> None:
    honest = draw("attack.game_show", 6)
    lie = "Could you water the plants on the balcony while I am away in June?"
    grouped = teacher.groups(cases(teacher, [*honest, lie]))
    assert max(len(group.cases) for group in grouped) >= 4
    assert all(lie not in {case.text for case in group.cases} for group in grouped if len(group.cases) > 1)


def test_a_flood_of_labels_is_looked_at_within_bounds(teacher: Teacher) -> None:
    one = cases(teacher, draw("attack.dream_frame", 1))[0]
    flood = [replace(one, id=f"c{n}") for n in range(3000)]
    groups = teacher.groups(flood)
    assert sum(len(group.cases) for group in groups) <= 400
    (made, *_) = teacher.propose("0" * 32, groups[0], 0.0)
    assert len(made.pattern.hits) <= 15


def test_a_pattern_is_narrowed_before_it_is_retired(teacher: Teacher) -> None:
    narrowed = teacher.narrow("1", PATTERN, 0.1, 0.0)
    assert (narrowed.kind, narrowed.pattern.severity, narrowed.pattern.state) == (ProposalKind.NARROW, Severity.MEDIUM, State.ACTIVE)
    retired = teacher.narrow("1", narrowed.pattern, 0.1, 0.0)
    assert (retired.kind, retired.pattern.state) == (ProposalKind.RETIRE, State.RETIRED)
    needed = replace(PATTERN, body="(ignore|disregard|forget)", reach=9)
    assert not teacher.narrow("1", needed, 0.1, 0.0).trial.passed, "what finds many known attacks is not taken away by labels"


