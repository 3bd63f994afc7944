"""What corrects the model: bars moved and a last layer trained further, from labels to what a text is judged by."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from families import draw
from hypothesis import given
from hypothesis import strategies as st
from learning_support import label

from detectors.engine import Engine
from detectors.semantic.corrections import (
    Correction,
    CorrectionError,
    Corrections,
    log_odds,
    probability,
    ready,
    write_head,
)
from detectors.semantic.judge import SemanticModel
from detectors.values import Origin, Segment, Verdict
from gateway.learning import head, readings, remembered, tuning
from gateway.learning.book import Book, Listed
from gateway.learning.evidence import NOTHING, Labelled, says, spoken
from gateway.learning.head import Texts
from gateway.learning.promotion import Rules, step
from gateway.learning.remembered import OVERLAP_SECONDS, WHOLE_SECONDS, Remembered
from gateway.learning.teacher import Teacher
from gateway.learning.thresholds import Asked, Move, asked
from gateway.learning.trial import ALL_FALSE_ALARMS, ALL_LOSS, Changed, Corpus, correction
from gateway.learning.tuner import Tuner
from gateway.learning.tuning import Tuning
from gateway.learning.values import (
    Case,
    Outcome,
    Proposal,
    ProposalKind,
    Said,
    Stage,
    Trajectory,
    Vote,
    decode_case,
    encode_case,
)
from gateway.state.opening import open_state
from patterns.schema import Kind, Pattern, PatternError, Severity, State, read_pattern

BARS = {"user": 0.9, "document": 0.75}


def move(body: str, state: State = State.ACTIVE, category: str = "jailbreak", rollout: int = 100) -> Pattern:
    return Pattern(id=f"learnt.threshold{body.replace('+', '.up').replace('-', '.down')}", kind=Kind.THRESHOLD, body=body,
                   category=category, severity=Severity.HIGH, reach=None, origins=frozenset({"user"}), state=state,
                   rollout=rollout)  # fmt: skip


def trained(body: str) -> Pattern:
    return replace(move("+1"), id="learnt.head.x", kind=Kind.HEAD, body=body)


def case(at: int, outcome: Outcome, score: float, by: str = "ada", category: str = "jailbreak.persona", **told: object) -> Case:
    attack = outcome in (Outcome.TRUE_POSITIVE, Outcome.FALSE_NEGATIVE)
    seen = Trajectory(origin="user", score=score, stages=(("encoder", "model.user", category, score),), read=True)
    return Case(id=f"case{at}", at=float(at), outcome=outcome, trajectory=seen._replace(**told),  # type: ignore[arg-type]
                labels=(label(by, Said.ATTACK if attack else Said.BENIGN),))  # fmt: skip


# As patterns


@pytest.mark.parametrize(
    ("change", "says_"),
    [
        ({"body": "0.5"}, "body: got '0.5'; wanted log-odds with a sign"),
        ({"body": "+9"}, "up to 3.0 from 0"),
        ({"body": "+0"}, "wanted log-odds"),
        ({"category": "jailbreak.persona"}, "category: 'jailbreak.persona' is no category of attacks; known: prompt_injection"),
        ({"category": "pii"}, "category: 'pii' is no category of attacks"),
        ({"closeness": 0.5}, "closeness: only semantic and benign patterns have one"),
    ],
)
def test_a_broken_threshold_is_refused_by_field(change: dict[str, object], says_: str) -> None:
    raw = {"id": "t", "kind": "threshold", "body": "+0.75", "category": "jailbreak", "severity": "high"}
    assert read_pattern(raw, "w").body == "+0.75"
    with pytest.raises(PatternError) as refused:
        read_pattern(raw | change, "w")
    assert says_ in str(refused.value)


def test_a_head_survives_its_body_and_is_for_its_model_alone() -> None:
    weights = np.random.default_rng(1).normal(size=384).astype(np.float32)
    body = write_head(weights, -0.25, "m1")
    read = ready(read_pattern({"id": "h", "kind": "head", "body": body, "category": "jailbreak", "severity": "high"}, "w"), "m1")
    assert read.weights is not None
    assert np.abs(read.weights - weights).max() < np.abs(weights).max() / 200
    assert read.offset == -0.25
    for wrong, why in ((body, "a head over model 'm1'; this one is m2"), ("text", "a head over model"),
                       ("head:m2:!", "not base64"), ("head:m2:\u00e9", "not base64"), ("head:m2:AAAA", "a head of 3 bytes"),
                       *((numbers(*pair), "no number, or one too large") for pair in HOSTILE)):  # fmt: skip
        with pytest.raises(CorrectionError, match=why):
            ready(trained(wrong), "m2")


def numbers(scale: float, constant: float) -> str:
    """A head's body of hostile numbers, over model m2."""
    raw = np.array([scale, constant], np.float32).tobytes() + np.tile(np.array([127, -127], np.int8), 192).tobytes()
    return f"head:m2:{base64.b64encode(raw).decode()}"


HOSTILE = ((np.nan, 0.0), (0.0, np.nan), (np.inf, 0.0), (0.0, -np.inf), (1e38, 0.0), (-1e38, 0.0), (0.1, 3e38))


# On a score


EMBEDDING = np.zeros(384, np.float32)


@given(st.floats(0.001, 0.999), st.floats(-3, 3))
def test_moving_a_bar_and_moving_the_score_are_the_same(score: float, by: float) -> None:
    bar = 0.9
    moved_bar = probability(log_odds(bar) + by)
    found = Corrections([Correction(move("+1"), None, -by)]).correct(score, EMBEDDING, "jailbreak.persona", "user", "t", [bar])
    if abs(score - moved_bar) > 1e-6:
        assert (found.score >= bar) == (score >= moved_bar)
        assert (found.by is not None) == ((score >= bar) != (score >= moved_bar))


def test_a_correction_concerns_its_category_and_origin_and_is_watched_until_it_acts() -> None:
    def correct(pattern: Pattern, origin: str = "user", category: str = "jailbreak.persona") -> tuple[float, object, int]:
        found = Corrections([ready(pattern, "m")]).correct(0.95, EMBEDDING, category, origin, "t", [0.8, 0.9])
        return round(found.score, 3), found.by and found.by.id, len(found.watching)

    assert correct(move("+1")) == (0.875, "learnt.threshold.up1", 0)
    assert correct(move("+1"), origin="document") == (0.95, None, 0)
    assert correct(move("+1"), category="prompt_injection.hidden_text") == (0.95, None, 0)
    assert correct(move("+0.2")) == (0.94, None, 0), "no bar is crossed"
    assert correct(move("+1", State.SHADOW)) == (0.95, None, 1)
    assert correct(move("+1", State.CANARY, rollout=0)) == (0.95, None, 1)
    assert correct(move("+1", State.CANARY, rollout=100)) == (0.875, "learnt.threshold.up1", 0)
    assert correct(move("+1", State.RETIRED)) == (0.95, None, 0)


# Which bars labels ask to move


def test_a_bar_moves_where_enough_outcomes_are_wrong_on_one_side() -> None:
    wrong = [case(n, Outcome.FALSE_POSITIVE, 0.91) for n in range(6)]
    right = [case(10 + n, Outcome.TRUE_POSITIVE, 0.99) for n in range(3)]
    (found,) = asked([*wrong, *right], BARS)
    assert (found.category, found.origin, found.moves[0].by) == ("jailbreak", "user", 0.25)
    assert (len(found.moves[0].righted), found.moves[0].wronged) == (6, ())
    low = [case(n, Outcome.FALSE_NEGATIVE, 0.86) for n in range(5)]
    (lowered,) = asked(low, BARS)
    assert lowered.moves[0].by == -0.5
    assert asked(wrong[:4], BARS) == []
    mixed = [case(20 + n, Outcome.TRUE_POSITIVE, 0.91) for n in range(6)]
    assert asked([*wrong, *mixed], BARS) == [], "what would make as many wrong as right is not asked for"
    decided = [replace(one, trajectory=one.trajectory._replace(stages=(*one.trajectory.stages, ("lexical", "p", "x.y", 0.95))))
               for one in wrong]  # fmt: skip
    assert asked(decided, BARS) == [], "another stage would stop them all the same"


def test_labels_are_counted_by_what_a_correction_says() -> None:
    cases = [case(1, Outcome.FALSE_POSITIVE, 0.91, "ada"), case(2, Outcome.TRUE_POSITIVE, 0.91, "eve")]
    said = spoken(move("+1"), cases)
    assert (said.confirmed, said.refuted, said.supporters, said.opponents) == (1, 1, ("ada",), ("eve",))
    said = spoken(move("-1"), cases)
    assert (said.supporters, said.opponents) == (("eve",), ("ada",))
    weights = np.zeros(384, np.float32)
    weights[0] = 1
    vectors = np.zeros((2, 384), np.float32)
    vectors[:, 0] = -1, 1
    both = trained(write_head(weights, 0.0, "m"))
    labelled = Labelled(tuple(cases), vectors, np.zeros(len(cases), np.bool_))
    said = spoken(both, cases, (), says(both, labelled, ready(both, "m")))
    assert (said.confirmed, said.refuted, said.supporters) == (2, 0, ("ada", "eve"))


def test_what_corrects_the_model_needs_a_vote_and_a_wide_one_does_not_leave_the_shadow() -> None:
    made = Proposal(id="1", kind=ProposalKind.THRESHOLD, pattern=move("-1"), at=0, since=0, author="engine", stage=Stage.SHADOW,
                    watched=10_000, alarms=60)  # fmt: skip
    moved = step(made, Rules(shadow_seconds=0), 1.0)
    assert moved is not None
    assert moved.to is Stage.DEMOTED
    moved = step(replace(made, pattern=move("+1")), Rules(shadow_seconds=0), 1.0)
    assert moved is not None
    assert moved.to is Stage.CANARY


# A head


def _clouds(count: int, seed: int, at: float) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(count, 384)).astype(np.float32) / 20
    found[:, 0] += at
    return found


def test_a_head_learns_what_labels_say_and_moves_nothing_else() -> None:
    ordinary = _clouds(400, 1, 0.0)
    known = Texts(ordinary, np.full(400, -3.0, np.float32), np.full(400, probability(-3.0), np.float32))
    nothing = Texts(np.zeros((0, 384), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert np.abs(head.fit(nothing, known).shift(ordinary)).max() < 1e-3, "without a label it is the shipped model"
    labelled = Texts(_clouds(40, 2, 0.9), np.full(40, -1.0, np.float32), np.ones(40, np.float32))
    own, others = head.held_out(labelled, known)
    assert (own > 1.5).mean() > 0.9, "texts that it was not shown"
    assert np.abs(others).mean() < 0.3


def test_labels_against_all_that_is_known_do_not_make_the_fit_run_away() -> None:
    rng = np.random.default_rng(3)
    attack = rng.random(1_400) < 0.5
    vectors = rng.normal(size=(1_400, 384)).astype(np.float32) + 0.6 * np.where(attack, 1, -1)[:, None].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    said = np.where(attack, 5.0, -5.0).astype(np.float32)
    labelled = Texts(vectors[:400], said[:400], (~attack[:400]).astype(np.float32))
    known = Texts(vectors[400:], said[400:], (1 / (1 + np.exp(-said[400:]))).astype(np.float32))

    def loss(learnt: head.Head) -> float:
        total = 0.0
        for texts, weight in ((labelled, head.LABEL_WEIGHT), (known, 1.0)):
            logits = texts.log_odds + learnt.shift(texts.vectors)
            total += weight * float((np.logaddexp(0, logits) - texts.wanted * logits).sum())
        return total + head.RIDGE / 2 * float(learnt.weights @ learnt.weights + learnt.offset**2)

    assert loss(head.fit(labelled, known)) < loss(head.Head(np.zeros(384), 0.0))


def test_the_trial_of_a_correction_counts_what_it_breaks() -> None:
    attack = np.arange(2000) >= 1000
    before = np.arange(2000) >= 1500
    same = correction(Changed(attack, before, before, before), 10, 5, 1, ["t"] * 2000)
    assert (same.passed, same.caught, same.false_alarms, same.lost) == (True, 5, 0, 0)
    alarms = before | (np.arange(2000) < 2)
    found = correction(Changed(attack, before, before, alarms), 10, 5, 1, ["t"] * 2000)
    assert found.against == ("2 of 1000 harmless texts would be stopped (0.20%); the bound is 0.10%",)
    fewer = np.arange(2000) >= 1506
    found = correction(Changed(attack, before, before, fewer), 10, 5, 1, ["t"] * 2000)
    assert found.lost == 6
    assert "known attacks would be let through" in found.against[0]
    shipped = np.arange(2000) >= 1490
    found = correction(Changed(attack, shipped, before, np.arange(2000) >= 1503), 10, 5, 1, ["t"] * 2000)
    assert found.against == ("together with what corrects the model already, more than 1.00% of known attacks would be let through",)
    assert "it sets 4 of 10 labelled texts right" in correction(Changed(attack, before, before, before), 10, 4, 0, [])[-1][0]


@pytest.mark.parametrize("by", [-0.05, 0.05])
def test_bars_that_creep_end_at_a_budget(by: float) -> None:
    """Hostile labels ask for one small move after another: each is within its bound, and so are all of them together."""
    rng = np.random.default_rng(11)
    attack = np.arange(20_000) >= 10_000
    total = rng.normal(np.where(attack, 3.0, -4.0), 1.2)
    shipped = before = total >= 1.0
    passed = 0
    for step_ in range(1, 200):
        after = total >= 1.0 + step_ * by
        if not correction(Changed(attack, shipped, before, after), 10, 5, 0, ["t"] * 20_000).passed:
            break
        before, passed = after, step_
    assert passed > 1, "one step alone is within its bound"
    assert passed < 199, "it ends"
    stopped, lost = before & ~shipped & ~attack, shipped & ~before & attack
    assert stopped.sum() <= ALL_FALSE_ALARMS * (~attack).sum()
    assert lost.sum() <= ALL_LOSS * attack.sum()


# With the model


@pytest.fixture(scope="module")
def model() -> SemanticModel:
    return SemanticModel.load()


@pytest.fixture(scope="module")
def teacher(model: SemanticModel) -> Teacher:
    """A teacher whose corpora are a hundred texts of each sort."""
    made = Teacher(model)
    whole = made.corpus
    made.__dict__["corpus"] = Corpus(whole.harmless[:100], whole.hostile[:100])
    return made


@pytest.fixture(scope="module")
def tuner(teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Tuner:
    made = Tuner(teacher, tmp_path_factory.mktemp("tuner"))
    while not made.advance():
        pass
    return made


PLAIN = read_pattern({"id": "own.x", "kind": "literal", "body": "zzqq", "category": "jailbreak.persona", "severity": "low",
                      "hits": ["zzqq"], "misses": ["x"]}, "t")  # fmt: skip


def judged(engine: Engine, text: str) -> Verdict:
    return engine.judge([Segment(text, "t", Origin.USER, 0, ())], "").verdict


def test_a_moved_bar_acts_in_the_cascade_and_is_named_by_what_it_changed(model: SemanticModel) -> None:
    base = Engine.load([PLAIN], 1, 0.0, None, model)
    bar = model.calibration.thresholds["balanced"][Origin.USER]
    near = (bar, probability(log_odds(bar) + 2))
    seen = ((text, judged(base, text)) for section in ("attack.game_show", "attack.dream_frame") for text in draw(section, 60))
    text, found = next((text, found) for text, found in seen
                       if any(one.detector == "encoder" and near[0] <= one.score < near[1] for one in found.findings))  # fmt: skip
    encoder = [one for one in found.findings if one.detector == "encoder"]
    raised = replace(move("+3"), category=encoder[0].category.partition(".")[0])
    (told,) = [one for one in judged(base.renewed({raised.id: raised}, 2, 0.0), text).findings if one.detector == "encoder"]
    assert told.pattern == raised.id
    assert told.score < bar
    watched = replace(raised, state=State.SHADOW)
    shadow = judged(base.renewed({raised.id: watched}, 3, 0.0), text)
    assert [one for one in shadow.findings if one.detector == "encoder"] == encoder
    assert [one.pattern for one in shadow.findings if one.detector == "shadow"] == [raised.id]
    assert judged(base.renewed({raised.id: replace(raised, state=State.RETIRED)}, 4, 0.0), text).findings == found.findings


def test_readings_are_kept_on_disk_and_read_a_little_at_a_time(teacher: Teacher, tuner: Tuner, tmp_path: Path) -> None:
    assert teacher.model is not None
    few = Corpus(teacher.corpus.harmless[:6], teacher.corpus.hostile[:6])
    first = readings.Readings(teacher.model, few, tmp_path)
    assert not first.advance(0.0)
    assert first.advance(60.0)
    again = readings.Readings(teacher.model, few, tmp_path)
    assert again.complete
    one, other = first.judged(Origin.USER), again.judged(Origin.USER)
    assert np.allclose(one.total, other.total, atol=1e-3)
    assert one.attack.tolist() == [False] * 6 + [True] * 6
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"broken")
    assert not readings.Readings(teacher.model, few, tmp_path).complete


def test_a_threshold_is_proposed_with_the_move_that_its_trial_lets_pass(tuner: Tuner) -> None:
    cases = tuple(case(n, Outcome.FALSE_POSITIVE, 0.91, ("ada", "bob")[n % 2], "resource_abuse.token_flood") for n in range(8))
    found = tuner.threshold("0" * 32, asked(cases, BARS)[0], 5.0, 0.9)
    assert (found.kind, found.pattern.kind, found.pattern.body) == (ProposalKind.THRESHOLD, Kind.THRESHOLD, "+0.25")
    assert found.supporters == ("ada", "bob")
    assert found.trial is not None
    assert found.trial.passed, found.trial
    assert "moves from a probability of 0.90 to 0.92" in found.expected
    everything = Asked("prompt_injection", "user", cases, (Move(-3.0, tuple(one.id for one in cases), ()),))
    refused = tuner.threshold("1" * 32, everything, 5.0, 0.9)
    assert refused.trial is not None
    assert any("who labelled texts of this kind does not agree" in said for said in refused.trial.against)


def test_a_head_is_proposed_from_texts_of_many_kinds_and_tried_on_those_left_out(teacher: Teacher, tuner: Tuner) -> None:
    rows = [(text, Outcome.FALSE_NEGATIVE, 0.6) for section in ("attack.game_show", "attack.dream_frame") for text in draw(section, 14)]
    rows += [(text, Outcome.TRUE_NEGATIVE, 0.2) for text in draw("benign.printer_admin", 16)]
    cases = [replace(case(n, outcome, score, ("ada", "bob")[n % 2]), text=text, views=teacher.views(text), at=float(n))
             for n, (text, outcome, score) in enumerate(rows)]  # fmt: skip
    cases = [cases[(n * 7) % len(cases)] for n in range(len(cases))]
    work = Tuning(cases, teacher.labelled(cases), (), frozenset()).work(BARS)
    assert len(work) == 1
    made = work[0](tuner, "2" * 32, 9.0, ())
    assert (made.kind, made.pattern.kind, made.pattern.origins) == (ProposalKind.HEAD, Kind.HEAD, frozenset({"user"}))
    assert made.trial is not None
    assert (made.trial.own, made.supporters) == (44, ("ada", "bob"))
    assert made.trial.caught >= 5, made.trial
    assert teacher.model is not None
    one = ready(made.pattern, teacher.model.encoder.digest)
    shifts = {said.id: one.shift(vector, "") for said, vector in zip(*teacher.labelled(cases)[:2], strict=True)}
    attacks = [shifts[one.id] for one in cases if one.outcome is Outcome.FALSE_NEGATIVE]
    assert np.mean(attacks) > 0.5 > np.mean([shifts[one.id] for one in cases if one.outcome is Outcome.TRUE_NEGATIVE])
    waiting = replace(made, stage=Stage.PROPOSED)
    assert Tuning(cases, teacher.labelled(cases), (waiting,), frozenset()).work(BARS) == [], "hardly more texts than it has"
    for stage in (Stage.SHADOW, Stage.REJECTED, Stage.ACTIVE):
        assert Tuning(cases, teacher.labelled(cases), (replace(made, stage=stage),), frozenset()).work(BARS) == []


def test_a_threshold_that_was_decided_on_is_not_proposed_again_for_the_same_cases() -> None:
    cases = [case(n, Outcome.FALSE_POSITIVE, 0.91) for n in range(6)]

    def works(stage: Stage, **fields: object) -> int:
        known = Proposal(id="1", kind=ProposalKind.THRESHOLD, pattern=move("+0.25"), at=0, since=0, author="engine", stage=stage,
                         cases=tuple(one.id for one in cases), votes=(Vote("a", True, "", 0),))  # fmt: skip
        return len(Tuning(cases, NOTHING, (replace(known, **fields),),  # type: ignore[arg-type]
                          frozenset()).work(BARS))  # fmt: skip

    assert works(Stage.PROPOSED, cases=()) == 1
    assert works(Stage.PROPOSED) == 0, "it waits as it is"
    assert [works(stage) for stage in (Stage.SHADOW, Stage.ACTIVE, Stage.REJECTED, Stage.DEMOTED)] == [0] * 4
    assert works(Stage.ACTIVE, cases=()) == 1, "new cases may ask for more"
    assert tuning.LEAST_CASES > 0


# What a pass reads


def test_an_older_case_is_read_as_one_that_does_not_say_what_the_encoder_read() -> None:
    kept = case(1, Outcome.FALSE_POSITIVE, 0.9)
    assert decode_case(encode_case(kept)) == kept
    raw = orjson.loads(encode_case(kept))
    raw["trajectory"] = raw["trajectory"][:-1]
    assert decode_case(orjson.dumps(raw)) == replace(kept, trajectory=kept.trajectory._replace(read=False))


def test_a_pass_reads_only_the_cases_that_labels_came_for(tmp_path: Path) -> None:
    async def run() -> None:
        state = open_state(f"sqlite:{tmp_path / 'state.db'}")
        await state.ping()
        book = Book(state)
        read: list[str] = []
        whole = book.case
        book.case = lambda id: (read.append(id), whole(id))[1]  # type: ignore[method-assign]

        async def labelled(at: float, number: int, outcome: Outcome = Outcome.FALSE_NEGATIVE) -> None:
            made = case(number, outcome, 0.5)
            await book.change_case(made.id, lambda _: made)
            await book.add_label(Listed(f"{int(at):08}{number:04}", made.id, "ada", "analyst", "attack", "", "", at))

        for number in range(5):
            await labelled(1_000.0, number)
        seen = Remembered(book)
        assert len(await seen.refresh(1_001.0)) == 5
        assert read == [], "the first look reads all at once"
        await labelled(1_010.0, 7)
        await labelled(1_010.0, 2, Outcome.TRUE_POSITIVE)
        changed = await seen.refresh(1_011.0)
        assert {one.id for one in changed} == {"case7", "case2"}
        assert seen.cases["case2"].outcome is Outcome.TRUE_POSITIVE
        read.clear()
        assert await seen.refresh(1_012.0) == []
        assert read == []
        await labelled(1_012.0 - OVERLAP_SECONDS + 1, 8)  # written late, or by a slower clock
        assert [one.id for one in await seen.refresh(1_013.0)] == ["case8"]
        await book.change_case("case1", lambda old: old and replace(old, lesson="elsewhere"))
        assert await seen.refresh(1_014.0) == []
        seen.forget()
        assert [one.id for one in await seen.refresh(1_015.0)] == ["case1"]
        await book.change_case("case1", lambda old: old and replace(old, lesson="again"))
        assert [one.id for one in await seen.refresh(1_015.0 + WHOLE_SECONDS)] == ["case1"]
        await state.close()

    asyncio.run(run())


def test_a_flood_of_labels_fills_no_memory_and_pushes_out_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 100)

    async def run() -> None:
        state = open_state(f"sqlite:{tmp_path / 'state.db'}")
        await state.ping()
        book = Book(state)

        async def add(*made: Case) -> None:
            for one in made:
                await book.change_case(one.id, lambda _, one=one: one)  # type: ignore[misc]
                await book.add_label(Listed(f"{int(one.at):08}{one.id}", one.id, "x", "app", "attack", "", "", one.at))

        ada = [case(number, Outcome.FALSE_NEGATIVE, 0.5) for number in range(30)]
        bob = [case(number, Outcome.UNDECIDED, 0.5, "bob") for number in range(100, 400)]
        verdict = case(50, Outcome.TRUE_POSITIVE, 0.5, "bob")
        await add(*ada, verdict, *bob)
        seen = Remembered(book)
        fresh = await seen.refresh(400.0)
        assert len(seen.cases) <= 100
        assert seen.cases.keys() == {one.id for one in fresh}
        assert {one.id for one in (*ada, verdict, *bob[-40:])} <= seen.cases.keys(), "the latest, and those with a verdict"
        await add(*[case(number, Outcome.UNDECIDED, 0.5, "bob") for number in range(400, 450)])
        fresh = await seen.refresh(450.0)
        assert len(seen.cases) <= 100
        assert {one.id for one in (*ada, verdict)} <= seen.cases.keys()
        assert "case449" in {one.id for one in fresh} <= seen.cases.keys()
        await state.close()

    asyncio.run(run())
