"""What the learning loop keeps of cases and proposals, and what it says of them."""

from __future__ import annotations

from dataclasses import replace

from learning_support import BROKEN, label, proposal

from gateway.learning.reflection import Facts, reflect, together
from gateway.learning.values import (
    Case,
    Label,
    Outcome,
    Said,
    Stage,
    Trajectory,
    Vote,
    decode_case,
    decode_proposal,
    encode_case,
    encode_proposal,
)


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
    for expected in ("origin document passed", "encoder (m) at 0.61", "0.31 were missing", "exemplar.attacks.2", "harmless exemplar lies nearer",
                  "3 other labelled texts", "Labelled attack by 1"):  # fmt: skip
        assert expected in said
    wrong = reflect(replace(case, outcome=Outcome.FALSE_POSITIVE), Facts(nearest=near[::-1]))
    assert "What misfired: m (jailbreak.persona, encoder, 0.61)" in wrong
    assert "The nearest harmless exemplar is exemplar.benign.1 at a similarity of 0.80." in wrong
    assert "A known attack lies nearer" not in wrong
    assert "A known attack lies nearer: a (x.y) at 0.90." in reflect(
        replace(case, outcome=Outcome.FALSE_POSITIVE), Facts(nearest=(("a", "x.y", 0.9), *near))
    )


def test_a_reflection_does_not_blame_what_was_not_allowed_to_act() -> None:
    """A strong finding that a learnt harmless kind pardoned was called "too little to block"."""
    watched = (("shadow", "override", "prompt_injection.task_hijack", 0.95), ("encoder", "m", "jailbreak.persona", 0.4))
    case = Case(id="x", at=0, outcome=Outcome.FALSE_NEGATIVE, labels=(label("ada", Said.ATTACK),),
                trajectory=Trajectory(origin="user", action="flag", stages=watched))  # fmt: skip
    said = reflect(case, Facts(0.4, 0.92, pardons=("learnt.benign.1",)))
    assert "The strongest finding was jailbreak.persona by encoder (m) at 0.40, too little to block." in said
    assert "override (prompt_injection.task_hijack) found it at 0.95 and did not act" in said
    assert "learnt as harmless now: learnt.benign.1." in said
    alone = reflect(replace(case, trajectory=case.trajectory._replace(stages=watched[:1])), Facts(0.95, 0.92))
    assert "too little" not in alone
    assert "No stage" not in alone
    assert "it scores 0.95 now, which blocks from 0.92 on" in alone
    assert "What misfired" not in reflect(replace(case, outcome=Outcome.FALSE_POSITIVE), Facts())


def test_what_a_labeller_wrote_is_told_from_what_the_gateway_says() -> None:
    said = Label("x", "ada", "analyst", Said.ATTACK, "", "seen twice", 1.0, 1.0)
    told = reflect(Case(id="x", at=0, outcome=Outcome.TRUE_POSITIVE, labels=(said,)), Facts())
    assert told.endswith("Note: \u201cseen twice\u201d.")
    assert together(["one", "", "two", "two"]) == "1. one\n2. two"
    assert together(["one"]) == "one"
    assert together([]) == ""
    long = together([f"{number} " + "x" * 700 for number in range(5)])
    assert long.endswith("\n… and of 3 more texts.")
    assert len(long) < 2_100
