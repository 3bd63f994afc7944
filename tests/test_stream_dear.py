"""Texts that are dear to follow: full of values, or of beginnings that go on for long. What comes out is the same however they are
cut, and a small piece costs no more than a share of a large one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from counting import calls
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stream import ATOMS, DISGUISED, PATTERNS, _cut, _pattern

from detectors.lexical import Match
from detectors.stream import MAX_HOLD, STRIDE, TextStream
from detectors.streamrules import Act, StreamRules

LONG = [
    _pattern("block", r"BEGIN([a-z0-9 ]{20,2000}END)", category="secret.private_key"),
    _pattern("opaque", r"\bkey_[a-z0-9 ]{10,2000}!", category="secret.web_token"),
    _pattern("pass", r"(?i)\bpass[=:]{1,2}([!-~]{4,80})", category="secret.generic_credential"),
]
ACTS = {"order": None, "shell": Act.CUT, "mail": None, "word": None, "hex": None}
RULES = StreamRules([*PATTERNS, *LONG], lambda pattern: ACTS.get(pattern.id, Act.REPLACE))
VALUES = ("4111 1111 1111 1111 ", "AKIAABCDEFGH12345678 ", "code: a1b2 ", "pass=", "pass:hunter2 ", "no. 1234 ", "pin-x-x ", "4111\u00a01111\u00a01111\u00a01111 ")
PROSE = "The ferry leaves the old harbour at noon and the crew takes its time. "
Outcome = tuple[str, tuple[tuple[str, int, int], ...]]

dense = st.tuples(st.lists(st.sampled_from((*VALUES, *ATOMS, *DISGUISED, "\\n", "\\u0031")), min_size=1, max_size=4).map("".join),
                  st.integers(20, 120)).map(lambda one: one[0] * one[1])  # fmt: skip
long = st.tuples(st.sampled_from(("BEGIN", "key_", "BEGIN\\n", "BEGINkey_")), st.integers(0, 2300), st.lists(st.sampled_from(
    ("BEGIN", "END", "key_", "!", ".", "4111 1111 1111 1111 ", "code: a1b2 ", "\u200b", "x" * 300)), max_size=8)).map(
        lambda one: one[0] + "ab1 " * (one[1] // 4) + "".join(one[2]))  # fmt: skip


def _run(pieces: Sequence[str]) -> Outcome:
    stream = TextStream(RULES, lambda match, value: f"<{match.pattern.id}:{len(value)}>")
    text = ""
    found: list[Match] = []
    for piece in (*pieces, None):
        released = stream.finish() if piece is None else stream.feed(piece)
        text += released.text
        found += [match for _, match in released.found]
        if released.cut is not None:
            stream.close()
            return text, ()
        assert released.overdue or stream.held <= MAX_HOLD + STRIDE
    return text, tuple(sorted((match.pattern.id, match.start, match.end) for match in found))


@settings(max_examples=80, deadline=None)
@given(dense, st.text("x.! ", max_size=40), st.lists(st.integers(0, 4000), max_size=20))
def test_any_cut_of_text_full_of_values_gives_the_same(text: str, after: str, where: list[int]) -> None:
    whole = _run([text + after])
    assert _run(list(text + after)) == whole
    assert _run(_cut(text + after, where)) == whole


@settings(max_examples=80, deadline=None)
@given(long, st.lists(st.integers(0, 3000), max_size=20))
def test_any_cut_of_what_is_held_for_long_gives_the_same(text: str, where: list[int]) -> None:
    whole = _run([text])
    assert _run(list(text)) == whole
    assert _run(_cut(text, where)) == whole


@pytest.mark.parametrize("value", VALUES)
def test_text_full_of_values_is_taken_in_strides_and_what_follows_it_at_once(value: str) -> None:
    stream = TextStream(RULES, lambda match, value: "")
    for char in value * 300:
        stream.feed(char)
    silent = sum(not stream.feed(char).text for char in PROSE * 2)
    assert silent > len(PROSE)
    for char in PROSE * 70:
        stream.feed(char)
    released = [stream.feed(word).text for word in PROSE.split(" ")]
    assert released == PROSE.split(" ")
    stream.close()


def test_a_stride_that_never_is_complete_is_let_go_like_any_hold() -> None:
    stream = TextStream(RULES, lambda match, value: "[gone]")
    for char in VALUES[0] * 300 + "." * 40:
        stream.feed(char)
    assert "" in (stream.feed(".").text for _ in range(STRIDE))
    stream.feed("the code: a1b2")
    first = stream.release_overdue()
    assert first.text.endswith(".the code: [gone]")
    assert first.overdue
    stream.feed(", so")
    second = stream.release_overdue()
    assert (second.text, second.overdue) == (", so", False)  # it waited for its stride alone
    assert stream.held == 0
    stream.close()


def _in_small_pieces(text: str) -> None:
    stream = TextStream(RULES, lambda match, value: "")
    for at in range(0, len(text), 4):
        stream.feed(text[at : at + 4])
    stream.close()


@pytest.mark.parametrize("unit", [*VALUES, "pass=pass=", "BEGIN", "BEGIN ab12", "key_ab 12", "1234567890", "\\u0031", "\\n", "\u00a0"])
def test_no_text_costs_many_times_what_prose_costs(unit: str) -> None:
    """Counted in calls; what each takes is measured by `python -m bench stream`."""
    ordinary = calls(_in_small_pieces, (PROSE * 200)[:12_000])
    assert calls(_in_small_pieces, (unit * 12_000)[:12_000]) < 8 * ordinary
