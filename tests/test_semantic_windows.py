"""Windows miss nothing: every position of a long text lies in one, with enough of what stands before it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.semantic.windows import OVERLAP, WINDOW, spans

TEXTS = st.lists(
    st.sampled_from(["word", " ", "a. ", "\n", "x" * 90, "句子。", "?! ", "long-word" * 30, "\n\n", "é"]), max_size=300
).map("".join)


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_windows_cover_the_text_in_order(text: str) -> None:
    found = spans(text)
    assert found[0][0] == 0
    assert found[-1][1] == len(text)
    for (start, end), (after, later) in itertools.pairwise(found):
        assert start < after < end < later
        assert end - after >= OVERLAP
    assert all(end - start <= WINDOW for start, end in found)


@given(TEXTS, st.data())
@settings(max_examples=200, deadline=None)
def test_a_short_passage_is_whole_in_some_window(text: str, data: st.DataObject) -> None:
    length = min(OVERLAP, len(text))
    at = data.draw(st.integers(0, len(text) - length))
    assert any(start <= at and at + length <= end for start, end in spans(text))


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_cost_grows_with_length_alone(text: str) -> None:
    assert len(spans(text)) <= 1 + len(text) / (WINDOW * 2 // 3 - OVERLAP * 4 // 3)


@pytest.mark.parametrize("text", ["", "x", "x" * WINDOW])
def test_a_short_text_is_one_window(text: str) -> None:
    assert spans(text) == [(0, len(text))]


def test_a_window_ends_at_a_sentence_where_it_can() -> None:
    text = "This is a sentence of some length, neither short nor long. " * 40
    for _, end in spans(text)[:-1]:
        assert text[:end].endswith(". ")
