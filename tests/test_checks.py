"""What holds for every check: whole tokens only, spans inside the match, and no look further than the context."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.checks import CHECKS, CONTEXT
from detectors.checks.base import DASHED, alone, ending, number, whole
from patterns import packs
from patterns.schema import Kind, Pattern

VALUES = [
    pattern
    for file in sorted(packs.SHIPPED.glob("*.yaml"))
    if file.name.startswith(("secrets", "pii"))
    for pattern in packs.load(file)
]

FAR = st.text(max_size=40)
NEAR = st.text("abc XYZ 019 .,:;-_/@=\"'\n", min_size=CONTEXT, max_size=CONTEXT)


def confirmed(pattern: Pattern, text: str) -> list[tuple[int, int]]:
    """The spans that the pattern's check gives for the matches of its expression."""
    spans = []
    for match in re.compile(pattern.body, re.ASCII).finditer(text):
        assert pattern.check is not None
        span = CHECKS[pattern.check](text, *match.span())
        if span is not None:
            assert match.start() <= span[0] < span[1] <= match.end(), pattern.id
            spans.append(span)
    return spans


def examples() -> list[tuple[Pattern, str, tuple[int, int]]]:
    """Each hit of each pattern with the value in it."""
    found = []
    for pattern in VALUES:
        for hit in pattern.hits:
            found += [(pattern, hit, span) for span in confirmed(pattern, hit)[:1]]
    return found


EXAMPLES = examples()


def test_every_value_pattern_has_a_check_and_every_check_a_pattern() -> None:
    assert {pattern.check for pattern in VALUES} == set(CHECKS)
    assert {pattern.kind for pattern in VALUES} == {Kind.PII}
    assert len(VALUES) > 300
    assert {pattern.id for pattern, _, _ in EXAMPLES} == {pattern.id for pattern in VALUES}


@settings(max_examples=30, deadline=None)
@given(near=NEAR, behind=NEAR, far=FAR, beyond=FAR)
def test_a_check_looks_no_further_than_the_context(near: str, behind: str, far: str, beyond: str) -> None:
    for pattern, hit, _ in EXAMPLES:
        assert pattern.check is not None
        check = CHECKS[pattern.check]
        match = re.compile(pattern.body, re.ASCII).search(hit)
        assert match is not None
        value = match.group()
        short, long = near + value + behind, far + near + value + behind + beyond
        start = len(near)
        close = check(short, start, start + len(value))
        inside = check(long, len(far) + start, len(far) + start + len(value))
        shifted = inside and (inside[0] - len(far), inside[1] - len(far))
        assert close == shifted, (pattern.id, short)


@pytest.mark.parametrize("glued", ["7", "Q"])
def test_no_value_is_a_part_of_a_longer_token(glued: str) -> None:
    partial = []
    for pattern, hit, (start, end) in EXAMPLES:
        if hit[end - 1].isalnum():
            longer = hit[:end] + glued + hit[end:]
            partial += [(pattern.id, longer) for span in confirmed(pattern, longer) if span == (start, end)]
    assert partial == []


@pytest.mark.parametrize("text", ["(123-45-6789).", "a,123-45-6789,b", "123-45-6789", "id=123-45-6789;", "卡123-45-6789号"])
def test_whole(text: str) -> None:
    start = text.index("1")
    assert whole(text, start, start + 11)


@pytest.mark.parametrize(
    "text", ["0123-45-6789", "123-45-67890", "1-123-45-6789", "123-45-6789-0", "x123-45-6789", "123-45-6789.5"]
)
def test_parts(text: str) -> None:
    start = text.index("123")
    assert not whole(text, start, start + 11)


def test_a_value_stands_at_the_end_of_its_match() -> None:
    check = ending(r"\d{4}", lambda value: value != "0000")
    assert check("pin is 1234", 0, 11) == (7, 11)
    assert check("pin is 0000", 0, 11) is None
    assert check("pin is 12345", 0, 11) is None
    assert check("pin is 1234-a", 0, 11) == (7, 11)
    assert ending(r"\d{4}", bool, DASHED)("pin is 1234-a", 0, 11) is None


def test_a_number_may_be_written_in_groups() -> None:
    check = number(r"[a-z]?\d{2}[ .-]?\d{2}", lambda digits: digits in ("1234", "X1234"))
    assert check("no. 12 34", 0, 9) == (4, 9)
    assert check("x12.34", 0, 6) == (0, 6)
    assert check("x12.35", 0, 6) is None


def test_a_number_in_the_middle_of_longer_groups_is_not_alone() -> None:
    check = alone(number(r"\d{4} \d{4}", bool))
    assert check("1234 5678", 0, 9) == (0, 9)
    assert check("0000 1234 5678", 5, 14) is None
    assert check("1234 5678 0000", 0, 9) is None
