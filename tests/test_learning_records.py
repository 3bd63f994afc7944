"""What a labeller's word is worth: records of agreement, on texts and on kinds of texts, and what follows when one changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from families import draw
from learning_support import answers, cases, label

from detectors.semantic.judge import SemanticModel
from gateway import live as live_module
from gateway.config import configuration
from gateway.learning.book import Book, Listed
from gateway.learning.evidence import Labelled
from gateway.learning.lessons import Lessons
from gateway.learning.promotion import Rules, step
from gateway.learning.quorum import Record
from gateway.learning.records import CONTRADICTED_REACH, heard, standings, weighed
from gateway.learning.teacher import Teacher
from gateway.learning.values import Case, Outcome, Proposal, ProposalKind, Said, Stage
from gateway.state.opening import open_state
from patterns.schema import State


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(SemanticModel.load())


def test_on_a_kind_each_labeller_has_one_word_whatever_texts_he_labelled() -> None:
    def case(id: str, by: str, said: Said) -> Case:
        return Case(id=id, at=0, labels=(label(by, said),))

    kind = [case("a", "ada", Said.ATTACK), case("b", "bob", Said.ATTACK), *(case(f"e{n}", "eve", Said.BENIGN) for n in range(9))]
    assert standings(kind, [kind]) == {"ada": (1, 0), "bob": (1, 0), "eve": (0, 1)}, "nobody else labelled these texts"
    assert standings(kind, [kind, kind])["eve"] == (0, 2)
    assert standings(kind, [kind[:1], kind[1:3]]) == {}, "of one alone nobody knows, and one against one is no verdict"


def test_who_errs_once_in_ten_decides_alone_and_who_lies_does_not() -> None:
    assert Record().standing == Record(5, 1).standing == Record(40, 4).standing == 1.0
    assert 0.75 < Record(0, 1).standing < 1
    assert Record(0, 3).standing < 0.5, "one honest word outweighs it twice"
    assert Record(0, 12).standing < 0.1


def test_who_calls_harmless_what_lies_beside_kinds_of_attacks_is_outvoted_by_those_who_labelled_them(teacher: Teacher) -> None:
    """Once for each kind: nobody labels the like of what he lies about, so that the kinds alone would find him too late."""
    kinds = [cases(teacher, draw(f"attack.{name}", 8), by=("ada", "bob")) for name in ("game_show", "dream_frame", "bank_details")]
    attacks = [teacher._ready(replace(answers(teacher, kind, kind)[0].pattern, state=State.ACTIVE)) for kind in kinds]

    def beside(closeness: float, of: tuple[int, ...], quotes: bool, by: tuple[str, ...]) -> Record:
        """Eve's record where people ``by`` labelled the kinds, and she calls harmless what lies so close to some of them."""
        every = [replace(case, labels=tuple(label(one, Said.ATTACK) for one in by)) for kind in kinds for case in kind]
        labelled, lies, vectors = teacher.labelled(every), [], []
        for number, at in enumerate(of):
            wanted = np.array([closeness * (kind == at) - one.own.offset for kind, one in enumerate(attacks)])
            lies.append(Case(id=f"lie{number}", at=0, outcome=Outcome.FALSE_POSITIVE, labels=(label("eve", Said.BENIGN),)))
            vectors.append(np.linalg.lstsq(np.array([one.own.weights for one in attacks]), wanted, rcond=None)[0])
        among = Labelled(
            (*labelled.cases, *lies), np.vstack([labelled.vectors, *vectors]).astype(np.float32),
            np.append(labelled.quoting, [quotes] * len(lies)),
        )  # fmt: skip
        return heard([*every, *lies], among, attacks).records.get("eve", Record())

    close = CONTRADICTED_REACH + 0.02
    assert all(close < (one.pattern.closeness or 1) for one in attacks)
    assert beside(close, (0,), False, ("ada", "bob")) == Record(0, 1)
    assert beside(close, (0, 0, 1, 2), False, ("ada", "bob")) == Record(0, 3), "twice beside one kind is one word on it"
    assert beside(close, (0, 1), True, ("ada", "bob")) == Record(), "what quotes may be harmless near any attack"
    assert beside(close, (0, 1), False, ("ada",)) == Record(), "one word against one is no verdict"
    assert beside(CONTRADICTED_REACH - 0.02, (0, 1), False, ("ada", "bob")) == Record()


def test_labels_weigh_what_their_labellers_word_is_worth_now() -> None:
    case = Case(id="a", at=0, labels=(label("ada", Said.ATTACK), label("eve", Said.BENIGN)))
    (found,) = weighed([case], {"eve": Record(0, 3)})
    assert [round(one.trust, 2) for one in found.labels] == [1.0, 0.4]
    assert weighed([found], {}) == [case], "and what was worth less once is worth more now"


def test_a_liar_who_was_found_out_holds_up_nothing_that_others_teach(tmp_path: Path, teacher: Teacher) -> None:
    """One word against one leaves open who lies. What is known of the two elsewhere tells, also of what waited till then."""

    async def run() -> None:
        taught = cases(teacher, draw("attack.game_show", 8), by=("ada", "bob"))
        (made, *_) = [one for one in answers(teacher, taught, taught) if one.kind is ProposalKind.EXEMPLAR]
        made = replace(made, pattern=replace(made.pattern, state=State.ACTIVE), stage=Stage.ACTIVE)
        alone, sibling = _near(teacher, "attack.bank_details")
        assert not teacher.labelled([alone, sibling]).matched(teacher._ready(made.pattern)), "they are of another kind"
        state = open_state(f"sqlite:{tmp_path / 'state.db'}")
        await state.ping()
        book = Book(state)

        async def keep(some: list[Case], at: float) -> None:
            for one in some:
                await book.change_case(one.id, lambda _, one=one: one)  # type: ignore[misc]
                await book.add_label(Listed(f"{int(at):08}{one.id}", one.id, "", "analyst", "", "", "", at))

        raw = {"data_dir": str(Path(__file__).parent.parent / "var" / "tests")}
        live = live_module.build(configuration.check(raw, "test"), 1, 0.0, {made.pattern.id: made.pattern})
        lessons = Lessons(book, lambda: live, lambda: teacher, Rules)
        await keep([*taught, alone, sibling], 10.0)
        await book.change_proposal(made.id, lambda _: made)
        for one in taught:
            await book.change_case(one.id, lambda old: old and replace(old, proposal=made.id))
        await lessons.learn(11.0)

        async def answer() -> Proposal:
            found = [one async for one in book.all_proposals() if alone.id in one.cases]
            assert len(found) == 1
            return found[0]

        waiting = await answer()
        assert waiting.stage is Stage.FAILED
        assert (waiting.spoken_for, waiting.spoken_against) == (1.0, 1.0)
        assert await book.standing("eve") == Record()

        lie = label("eve", Said.BENIGN)
        twice = [replace(one, labels=(*one.labels, label("cy", Said.ATTACK), lie)) for one in taught[:2]]
        await keep(twice, 12.0)
        await lessons.learn(13.0)
        assert await book.standing("eve") == Record(0, 3), "two texts, and the kind that they are of"
        told = await answer()
        assert told.stage is Stage.PROPOSED, "though no label came near it since"
        assert (told.spoken_for, round(told.spoken_against, 1)) == (1.0, 0.4)
        kept = await book.case(sibling.id)
        assert kept is not None
        assert kept.labels == sibling.labels, "what was written stays as it was said"
        await state.close()

    asyncio.run(run())


def test_what_quotes_an_attack_takes_nothing_away_that_stops_it(tmp_path: Path, teacher: Teacher) -> None:
    """Six reports, rightly called harmless, demoted an exemplar that was right of every attack: a way to have one taken away."""

    async def run() -> None:
        family = draw("attack.game_show", 40)
        taught = cases(teacher, family[:8], by=("ada", "bob"))
        (made, *_) = [one for one in answers(teacher, taught, taught) if one.kind is ProposalKind.EXEMPLAR]
        made = replace(made, pattern=replace(made.pattern, state=State.ACTIVE), stage=Stage.ACTIVE)
        report = 'Incident report: at 09:14 a customer typed the following. "{}" The assistant did not comply. No data left the system.'
        told = cases(teacher, [report.format(text) for text in family[8:]], Outcome.FALSE_POSITIVE, by=("fay", "gus", "hal", "ivy"))
        reports = teacher.labelled(told).matched(teacher._ready(made.pattern))[:8]
        assert len(reports) >= 6
        state = open_state(f"sqlite:{tmp_path / 'state.db'}")
        await state.ping()
        book = Book(state)
        raw = {"data_dir": str(Path(__file__).parent.parent / "var" / "tests")}
        live = live_module.build(configuration.check(raw, "test"), 1, 0.0, {made.pattern.id: made.pattern})
        lessons = Lessons(book, lambda: live, lambda: teacher, Rules)
        await book.change_proposal(made.id, lambda _: made)
        for one in [*(replace(one, proposal=made.id) for one in taught), *reports]:
            await book.change_case(one.id, lambda _, one=one: one)  # type: ignore[misc]
            await book.add_label(Listed(f"00000010{one.id}", one.id, "", "analyst", "", "", "", 10.0))
        await lessons.learn(11.0)
        (pardon,) = [one async for one in book.all_proposals() if one.kind is ProposalKind.BENIGN]
        assert pardon.stage is Stage.PROPOSED
        exemplar = await book.proposal(made.id)
        assert exemplar is not None
        assert exemplar.refuted == 0
        assert step(exemplar, Rules(), 12.0) is None
        await book.change_proposal(pardon.id, lambda old: old and replace(old, stage=Stage.REJECTED))
        lessons.forget()
        await lessons.learn(13.0)
        exemplar = await book.proposal(made.id)
        assert exemplar is not None
        assert exemplar.refuted >= 6, "where somebody refuses that answer, they speak against it"
        assert step(exemplar, Rules(), 14.0) is not None
        await state.close()

    asyncio.run(run())


def _near(teacher: Teacher, family: str) -> tuple[Case, Case]:
    """An attack of one honest labeller, and one of its kind that its exemplar would stop and that another calls harmless."""
    texts = draw(family, 12)
    lies = cases(teacher, texts, Outcome.FALSE_POSITIVE, by=("eve",))
    for one in cases(teacher, texts, by=("dee",)):
        (made, *_) = answers(teacher, [one], [one])
        ready, told = teacher._ready(made.pattern), teacher.labelled(lies)
        of_its_kind = {lie.id for lie in told.akin(ready)}
        for lie in told.matched(ready):
            if lie.text != one.text and lie.id in of_its_kind:
                return one, lie
    raise AssertionError("no two texts of the family are near")
