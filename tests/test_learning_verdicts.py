"""What people say of a text becomes a verdict, and each of them one word."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from learning_support import RULES, label, proposal

from gateway.learning.book import CASES, PROPOSALS, Book
from gateway.learning.promotion import approved
from gateway.learning.quorum import Record, decide, judged, outcome, weight
from gateway.learning.values import (
    Case,
    Label,
    Outcome,
    Said,
    Vote,
    case_id,
    encode_case,
    encode_proposal,
)
from gateway.state.opening import open_state


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
    assert case.labels[0].by == "ada", "a flood of what weighs little drives out no word that weighs more"
    assert case.labels[-1].by == "app499"


KEYS = st.lists(st.tuples(st.sampled_from(["k1", "k2", "k3", "@ann"]), st.sampled_from(Said)), max_size=12)


@given(KEYS)
def test_who_had_several_keys_has_one_word_once_they_are_said_to_be_his(spoken_: list[tuple[str, Said]]) -> None:
    owners = {"k1": "@ann", "k2": "@ann"}
    given_ = [label(by, said)._replace(id=str(at), at=float(at)) for at, (by, said) in enumerate(spoken_)]
    case, known = Case(id="x", at=0), Case(id="x", at=0)
    for one in given_:
        case = case.with_label(one)
        known = known.with_label(one._replace(by=owners.get(one.by, one.by)))
    named = case.of_people(lambda by: owners.get(by, by))
    assert {one.by: one for one in named.labels} == {one.by: one for one in known.labels}
    assert len(named.labels) == len({one.by for one in named.labels})
    assert named.of_people(lambda by: owners.get(by, by)) is named


def test_what_was_said_before_keys_were_one_persons_is_counted_anew() -> None:
    owners: dict[str, str] = {}

    def case(said: list[Label]) -> bytes:
        made = Case(id="x", at=0)
        for one in said:
            made = made.with_label(one)
        return encode_case(judged(made))

    async def story() -> None:
        state = open_state("sqlite::memory:")
        book = Book(state, lambda by: owners.get(by, by))
        two = [label("k1", Said.ATTACK), label("k2", Said.ATTACK), label("bob", Said.BENIGN)]
        await state.put(CASES, "x", case(two), 0)
        votes = (Vote("k1", True, "", 1.0), Vote("k2", True, "", 2.0), Vote("bob", True, "", 0.5))
        made = proposal(author="k1", supporters=("k1", "k2"), votes=votes)
        await state.put(PROPOSALS, "1", encode_proposal(made), 0)
        found = await book.case("x")
        assert found is not None
        assert found.outcome is Outcome.FALSE_NEGATIVE
        assert await book.proposal("1") == made
        owners.update(k1="@ann", k2="@ann")
        found = await book.case("x")
        assert found is not None
        assert (found.outcome, [one.by for one in found.labels]) == (Outcome.UNDECIDED, ["@ann", "bob"])
        told = await book.proposal("1")
        assert told is not None
        assert (told.author, told.supporters) == ("@ann", ("@ann",))
        assert {vote.by: vote.at for vote in told.votes} == {"@ann": 2.0, "bob": 0.5}
        assert not approved(told, RULES._replace(approvals=2)), "she approves what she made"
        await state.close()

    asyncio.run(story())


def test_a_case_names_its_text_by_a_keyed_hash() -> None:
    assert case_id(b"k", "text") == case_id(b"k", "text") != case_id(b"other", "text")
    assert "text" not in case_id(b"k", "text")
