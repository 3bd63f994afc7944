"""Patterns that are mined from what was missed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.learning.mining import Ordinary, mine
from gateway.learning.teacher import Teacher
from gateway.learning.values import (
    Proposal,
    ProposalKind,
)
from patterns.schema import Kind, Pattern, PatternError, Severity, read_pattern


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


def test_what_labels_led_to_is_no_duplicate_of_what_let_its_texts_pass() -> None:
    near = (("exemplar.attacks.1", "jailbreak.persona", 0.985), ("exemplar.attacks.2", "jailbreak.persona", 0.955))
    pattern = Pattern(id="p", kind=Kind.SEMANTIC, body="x", category="jailbreak.persona", severity=Severity.HIGH, reach=None)
    one = Proposal(id="1", kind=ProposalKind.MANUAL, pattern=pattern, at=0, since=0, author="ann", nearest=near)
    assert one.duplicates == ("exemplar.attacks.1",)
    assert replace(one, kind=ProposalKind.EXEMPLAR).duplicates == ()


def test_one_rare_word_is_a_subject_and_no_pattern() -> None:
    """`this … merge` was one: whoever reviews code was refused."""
    ordinary = Ordinary(["is this it", "all of this", "why this one", "such is life"])
    assert mine([f"then {a} in this secret merge {b}" for a, b in (("x", "now"), ("yy", "soon"), ("z", "please"))], ordinary) is not None
    assert mine([f"{a} this {b} mergerequest {c}" for a, b, c in (("do", "old", "us"), ("see", "new", "me"), ("x", "y", "z"))], ordinary) is None


@given(st.lists(st.text("ab c\\.(*", max_size=30), max_size=5), st.lists(st.text("ab c", max_size=20), max_size=4))
def test_whatever_is_mined_is_a_pattern_or_nothing(texts: list[str], ordinary: list[str]) -> None:
    mined = mine(texts, Ordinary(ordinary))
    if mined is not None:
        try:
            read_pattern({"id": "m", "kind": "regex", "body": mined.body, "category": "jailbreak.persona", "severity": "high",
                          "hits": list(mined.hits), "misses": ["x"]}, "t")  # fmt: skip
        except PatternError as error:
            raise AssertionError(mined.body) from error
