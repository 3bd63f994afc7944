"""Beginnings of matches: everything that a match begins with is recognised, and little else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.automata import Block, Expression
from detectors.prefix import beginnings
from patterns.schema import PatternError

BODIES = (
    r"\bAKIA[0-9A-Z]{16}\b",
    r"(?:a|bc|def){1,3}x\b",
    r"\b(?:\d[ -]?){12,18}\d\b",
    r"foo\s{1,4}(?:bar\s{0,2}){0,2}baz",
    r"(?i)password\s{0,3}[:=]\s{0,3}[^\s\"]{4,8}",
    r"[A-Za-z0-9._%+-]{1,20}@[a-z]{1,10}\.[a-z]{2,5}",
    r"(?:a{0,2}b){2}c?d",
    r"[^a-z]x.{0,3}y",
)


@pytest.mark.parametrize("body", BODIES)
def test_every_beginning_of_a_match_is_one(body: str) -> None:
    block = Block([Expression("t", beginnings(body, "t") + r"\z", False)])
    compiled = re.compile(body, re.ASCII)

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.from_regex(compiled, fullmatch=True))
    def check(match: str) -> None:
        for at in range(1, len(match) + 1):
            assert block.scan(match[:at].encode()).found, (match, at)

    check()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (r"\bAKIA[0-9A-Z]{16}\b", "the ordinary word"),
        (r"\bAKIA[0-9A-Z]{16}\b", "AKIA-"),
        (r"\b(?:\d[ -]?){12,18}\d\b", "12 apples"),
        (r"(?i)password\s{0,3}[:=]\s{0,3}[^\s\"]{4,8}", "password "[:8] + "s are hard"),
    ],
)
def test_what_cannot_become_a_match_is_none(body: str, text: str) -> None:
    block = Block([Expression("t", beginnings(body, "t") + r"\z", False)])
    assert not block.scan(text.encode()).found


@pytest.mark.parametrize("body", [r"a(?=b)", r"(a)\1", r"(?<!x)a"])
def test_what_cannot_be_followed_is_refused_by_name(body: str) -> None:
    with pytest.raises(PatternError, match=r"my\.pattern"):
        beginnings(body, "my.pattern")
