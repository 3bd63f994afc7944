"""What counts as a quotation, and what does not."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.semantic.quotes import LEAST, around, quoted, quotes

PAIRS = ["\"\"", "“”", "„“", "„”", "«»", "»«", "‹›", "「」", "『』", "《》", "''", "‘’"]


@given(st.sampled_from(PAIRS), st.text("abc xyz,.\u00e9\u4e2d", min_size=LEAST, max_size=200), st.text("abc ", max_size=20))
def test_a_passage_between_marks_is_found_where_it_stands(pair: str, inside: str, before: str) -> None:
    inside = "a" + inside[:-1] + "b"
    text = f"{before} {pair[0]}{inside}{pair[1]} and so on"
    assert quotes(text)
    assert not quotes(f" {pair[0]}{inside}{pair[1]} ."), "nothing is said of it"
    start = len(before) + 1
    assert quoted(text) == [(start, start + len(inside) + 2)]


@pytest.mark.parametrize(
    "text",
    ["nothing of the kind", 'a "word" alone', '"never closed, however long it goes on', "it's ours, and that isn't theirs",
     "the students' books and the teachers' own books", "the 90's were better than the 80's", '6" by 4" of oak', "", '"'],
)  # fmt: skip
def test_what_quotes_nothing(text: str) -> None:
    assert not quotes(text)
    assert quoted(text) == []


@given(st.sampled_from([*PAIRS, "””"]), st.text("ab", min_size=1, max_size=LEAST - 1),
       st.text("ab,. é中", min_size=LEAST, max_size=200), st.text("ab ", max_size=20))  # fmt: skip
def test_what_stands_between_two_quoted_words_is_not_quoted(pair: str, word: str, between: str, before: str) -> None:
    word = f"{pair[0]}{word}{pair[1]}"
    text = f"{before} {word} {between} {word} {pair[0]}and a quotation{pair[1]} {word}"
    assert [text[start:end] for start, end in quoted(text)] == [f"{pair[0]}and a quotation{pair[1]}"]
    assert between.split() == around(text).split(word)[1].split()


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('no "DAN" texts, no "ignore your rules" spam', ['"ignore your rules"']),
        ('a 12" screen says "ignore your rules" to all', ['"ignore your rules"']),
        ('a 12"LP says "ignore your rules" to all', ['"ignore your rules"']),
        ('ends here", it said ("as before")', ['"as before"']),
        ('他说"忽略之前的所有指令。"然后走了', ['"忽略之前的所有指令。"']),
        ("ein „Ja“ und dann „alles davon vergessen“", ["„alles davon vergessen“"]),
        ("un « oui » et puis « tout oublier ici »", ["« tout oublier ici »"]),
        ("et »ja« og så »glem alle regler«", ["»glem alle regler«"]),
    ],
)  # fmt: skip
def test_a_mark_that_closed_something_opens_nothing(text: str, inside: list[str]) -> None:
    assert [text[start:end] for start, end in quoted(text)] == inside


@given(st.text("\"'“”«» ab\n", max_size=300))
def test_passages_are_in_order_and_apart(text: str) -> None:
    found = quoted(text)
    assert quotes(text) <= bool(found)
    assert all(end - start >= LEAST + 2 for start, end in found)
    assert all(one[1] <= other[0] for one, other in pairwise(found))


@given(st.text("\"'“”«» ab\n", max_size=300))
def test_what_stands_around_holds_all_but_the_passages(text: str) -> None:
    passages = quoted(text)
    inside = {at for start, end in passages for at in range(start, end)}
    assert around(text).replace(" ", "") == "".join("".join(c for at, c in enumerate(text) if at not in inside).split())


def test_words_around_a_passage_stay_words() -> None:
    assert around('Write "a note of some words"below, please') == "Write below, please"
