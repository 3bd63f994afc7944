"""Windows miss nothing: every position of a long text lies in one, with enough of what stands before it."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.semantic import _windows
from detectors.semantic.windows import OVERLAP, WINDOW, spans

TEXTS = st.lists(
    st.sampled_from(["word", " ", "a. ", "\n", "x" * 90, "句子。", "?! ", "long-word" * 30, "\n\n", "é"]), max_size=300
).map("".join)

# The definition of a boundary: each expression ends at the last one of a stretch, for what may be anything takes all of it
# first and is given back from the end.
SENTENCE_END = re.compile(r"(?s:.*)(?:[.!?。！？؟।][\"'»”)\]]*\s+|\n|[。！？])")
SPACE = re.compile(r"(?s:.*)\s")
SIGNS = st.text(st.sampled_from("ab.!?。！？؟।\"'»”)] \n\t\x1c\x85\u00a0\u2028\u3000\ud800😀é"), max_size=120)


def by_definition(text: str, window: int, overlap: int) -> list[tuple[int, int]]:
    def last_boundary(start: int, end: int) -> int:
        found = SENTENCE_END.match(text, start, end) or SPACE.match(text, start, end)
        return found.end() if found else end

    found, start = [], 0
    while True:
        end = len(text)
        if end - start > window:
            end = last_boundary(start + window * 2 // 3, start + window)
        found.append((start, end))
        if end == len(text):
            return found
        wanted = max(end - overlap, start + 1)
        start = last_boundary(max(wanted - overlap // 3, start + 1), wanted)


@given(SIGNS, st.integers(1, 9), st.integers(0, 2), st.integers(1, 4))
@settings(max_examples=1500, deadline=None)
def test_windows_end_and_begin_where_the_definition_says(piece: str, overlap: int, more: int, times: int) -> None:
    text, window = piece * times, 3 * overlap + more
    assert _windows.spans(text, window, overlap) == by_definition(text, window, overlap)


@given(TEXTS)
def test_the_windows_that_serve_are_those_of_the_definition(text: str) -> None:
    assert spans(text) == by_definition(text, WINDOW, OVERLAP)


@given(SIGNS, st.integers(1, 4), st.integers(1, 5), st.integers(0, 20), st.data())
@settings(deadline=None)
def test_parts_are_the_windows_of_windows(piece: str, times: int, overlap: int, least: int, data: st.DataObject) -> None:
    text = piece * times
    places = st.integers(0, len(text))
    windows = [(min(one), max(one)) for one in data.draw(st.lists(st.tuples(places, places), max_size=5))]
    packed, at = _windows.parted(text, windows, 3 * overlap, overlap, least)
    found = [tuple(span) for span in np.frombuffer(packed, np.int32).reshape(-1, 2).tolist()]
    wanted = []
    for start, end in windows:
        parts = _windows.spans(text[start:end], 3 * overlap, overlap) if end - start >= least else []
        wanted.append([(start, end), *((start + low, start + high) for low, high in parts)])
    assert [found[low:high] for low, high in itertools.pairwise(at)] == wanted
    assert at[-1] == len(found)


@pytest.mark.parametrize("window", [(-1, 2), (3, 2), (0, 5)])
def test_parts_of_what_is_no_window_are_refused(window: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="the text has 4 code points"):
        _windows.parted("text", [window], 3, 1, 1)


@pytest.mark.parametrize(("window", "overlap"), [(5, 2), (0, 0), (9, -1)])
def test_windows_that_would_not_go_on_are_refused(window: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=f"got {window} and {overlap}"):
        _windows.spans("text", window, overlap)
    with pytest.raises(ValueError, match=f"got {window} and {overlap}"):
        _windows.parted("text", [(0, 4)], window, overlap, 1)


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
