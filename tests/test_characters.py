"""Sets of characters: what their operations hold, and what the expressions made of them match."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from detectors.characters import Ranges

_LAST = 60
_pairs = st.lists(st.tuples(st.integers(0, _LAST), st.integers(0, 9)).map(lambda one: (one[0], one[0] + one[1])), max_size=8)


def _held(ranges: Ranges) -> set[int]:
    return {code for code in range(_LAST + 12) if chr(code) in ranges}


def _meant(pairs: list[tuple[int, int]]) -> set[int]:
    return {code for first, last in pairs for code in range(first, last + 1)}


@given(_pairs, _pairs)
def test_sets_unite_and_subtract_as_sets_do(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    one, other = Ranges(left), Ranges(right)
    assert _held(one) == _meant(left), "however its ranges overlap and follow each other"
    assert _held(one | other) == _meant(left) | _meant(right)
    assert _held(one - other) == _meant(left) - _meant(right)


@given(_pairs.filter(bool))
def test_a_class_matches_what_the_set_holds(pairs: list[tuple[int, int]]) -> None:
    ranges = Ranges(pairs)
    for written in (ranges.exactly(), ranges.plane(), ranges.roughly()):
        assert {code for code in range(_LAST + 12) if re.fullmatch(f"[{written}]", chr(code))} == _meant(pairs)
    assert {ord(char) for char in ranges.few()} == _meant(pairs)
