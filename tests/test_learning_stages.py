"""When a proposal moves on, and when it goes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from learning_support import BROKEN, RULES, proposal

from gateway.learning.promotion import Effect, Rules, approved, awaited, step, suspects
from gateway.learning.values import (
    ProposalKind,
    Stage,
    Vote,
)


def test_nothing_moves_without_a_trial_and_approval_by_others() -> None:
    assert step(proposal(trial=None), RULES, 1e9) is None
    assert step(proposal(), RULES, 1e9) is None
    own = proposal(author="ada", votes=(Vote("ada", True, "mine", 0),))
    assert not approved(own, RULES)
    voted = (Vote("bob", True, "good", 0),)
    assert step(proposal(trial=BROKEN, votes=voted), RULES, 1e9, force=True) is None, "no vote overrules a failed trial"
    assert step(proposal(votes=voted), RULES, 1e9) == (Stage.SHADOW, "good (bob)")
    assert step(proposal(votes=voted), RULES._replace(approvals=2), 1e9) is None
    assert step(proposal(votes=(*voted, Vote("eve", False, "no", 0))), RULES, 1e9) is None
    assert step(proposal(author="bob", votes=(*voted, Vote("cy", True, "good", 0))), RULES, 1e9) == (Stage.SHADOW, "good (bob); good (cy)")


def test_whoever_alone_labelled_it_does_not_approve_it() -> None:
    votes = (Vote("ada", True, "as I said", 0),)
    assert step(proposal(votes=votes, supporters=("ada",)), RULES, 1e9) is None
    assert step(proposal(votes=votes, supporters=("ada", "bob")), RULES, 1e9) is not None
    assert step(proposal(votes=(*votes, Vote("bob", True, "seen too", 0)), supporters=("ada",)), RULES, 1e9) is not None


@pytest.mark.parametrize("kind", ProposalKind)
def test_the_automatic_rule_asks_for_two_labellers_and_is_for_what_labels_led_to(kind: ProposalKind) -> None:
    rules = RULES._replace(automatic=True)
    for supporters in ((), ("ada",), ("ada", "bob")):
        moves = step(proposal(kind=kind, supporters=supporters), rules, 1e9) is not None
        labels_led_to_it = kind in (ProposalKind.EXEMPLAR, ProposalKind.BENIGN, ProposalKind.LEXICAL)
        assert moves == (labels_led_to_it and len(supporters) == 2), supporters


def test_time_and_evidence_move_it_on() -> None:
    shadow = proposal(Stage.SHADOW, watched=10_000, alarms=10)
    assert step(shadow, RULES, 59) is None
    moved = [step(one, RULES, 60) for one in (shadow, replace(shadow, stage=Stage.CANARY), replace(shadow, stage=Stage.ACTIVE))]
    assert [one and one.to for one in moved] == [Stage.CANARY, Stage.ACTIVE, None]


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.CANARY])
def test_time_alone_moves_nothing_that_met_no_traffic(stage: Stage) -> None:
    """A night without a request said of a pattern that it matched nothing, and let it act in the morning."""
    rules = RULES._replace(automatic=True)
    for watched, told in ((0, "600 more requests"), (599, "1 more request")):
        quiet = proposal(stage, watched=watched, supporters=("ada", "bob"))
        assert step(quiet, rules, 1e9) is None
        assert step(quiet, rules, 1e9, force=True) is not None, "a person may let it go on"
        assert awaited(quiet, rules, 1e9) == f"it moves on by itself after {told}"
    assert awaited(proposal(stage), rules, 0) == "it moves on by itself after 1 more minute and 600 more requests"
    assert awaited(proposal(stage, watched=600), rules, 1e9) == ""
    assert awaited(proposal(stage, votes=(Vote("bob", False, "no", 0),)), rules, 1e9) == "", "it does not"
    assert step(proposal(stage), rules._replace(watched_requests=0), 1e9) is not None, "an operator's wish"


def test_what_matches_too_much_never_leaves_the_shadow() -> None:
    wide = proposal(Stage.SHADOW, watched=10_000, alarms=51)
    for force in (False, True):
        move = step(wide, RULES, 1e9, force)
        assert move is not None
        assert (move.to, "at most 0.50% may" in move.reason) == (Stage.DEMOTED, True)


def test_precision_below_its_bound_demotes_at_any_stage() -> None:
    for stage in (Stage.SHADOW, Stage.CANARY, Stage.ACTIVE):
        move = step(proposal(stage, confirmed=3, refuted=2, spoken_against=1.0), RULES, 0)
        assert move is not None
        assert (move.to, "60%" in move.reason) == (Stage.DEMOTED, True)
        assert step(proposal(stage, confirmed=4, refuted=0), RULES, 0) is None
        one_liar = proposal(stage, confirmed=0, refuted=500, spoken_for=1.0, spoken_against=1.0)
        assert step(one_liar, RULES, 0) is None, "however many texts one labeller crafts, he is one"


def test_a_good_pattern_is_not_suspected_for_a_few_refutations() -> None:
    """Labels crafted to retire a good pattern: as many as it has confirmations are not enough, nor any number of one labeller's."""
    effects = {"good": Effect(1000, 50, 50, 0, 1, 2), "bad": Effect(100, 1, 9, 0, 1, 2), "new": Effect(5, 0, 4, 0, 0, 2),
               "besieged": Effect(100, 1, 900, 0, 1, 1)}  # fmt: skip
    assert suspects(effects, Rules()) == ["bad"]
