"""Tails of expressions: they are found wherever the whole is, and belong to what ships."""

from __future__ import annotations

import functools

from hypothesis import given
from hypothesis import strategies as st

from bench.tails import cuts_of
from detectors import tails
from detectors.automata import Block
from detectors.lexical import Rule, rules
from detectors.values import Origin
from patterns import packs
from patterns.schema import Kind


@functools.cache
def _cut() -> list[Rule]:
    """The shipped rules of which the tail is looked for."""
    return [rule for rule in rules(packs.load_all([packs.SHIPPED])) if rule.expression.body != rule.body]


@functools.cache
def _blocks() -> tuple[Block, Block]:
    looked_for = [rule.expression for rule in _cut()]
    whole = [one._replace(body=rule.body) for one, rule in zip(looked_for, _cut(), strict=True)]
    return Block(whole), Block(looked_for)


def _examples() -> list[str]:
    return [text for rule in _cut() for text in (*rule.pattern.hits, *rule.pattern.misses)]


@st.composite
def _text(draw: st.DrawFn) -> str:
    """Examples of what ships, cut and put together, with more or less between them."""
    pieces = draw(st.lists(st.sampled_from(_examples()), min_size=1, max_size=4))
    said = []
    for piece in pieces:
        start = draw(st.integers(0, 8))
        said.append(piece[start : len(piece) - draw(st.integers(0, 8))])
        said.append(draw(st.sampled_from(("", " ", "\n", ". ", "  \t ", " please ", "é", "@"))))
    return "".join(said)


@given(_text())
def test_a_tail_ends_wherever_its_expression_does(text: str) -> None:
    whole, tail = _blocks()
    data = text.encode()
    assert set(whole.scan(data).found) <= set(tail.scan(data).found)


def test_tails_find_the_matches_that_whole_expressions_do() -> None:
    """And where letters beyond ASCII stand between words, those that only Python's engine sees; of values, no more."""
    matched = 0
    for number, rule in enumerate(_cut()):
        for text in (*rule.pattern.hits, *rule.pattern.misses):
            whole, tail = (_places(block, number, rule, text) for block in _blocks())
            assert whole == tail or (whole < tail and not text.isascii() and rule.pattern.kind is Kind.REGEX), text
            matched += len(whole)
    assert matched > len(_cut())


def test_streams_look_for_the_whole_of_what_is_no_value() -> None:
    assert all(rule.pattern.kind is Kind.PII or not rule.concerns(Origin.ASSISTANT) for rule in _cut())


def _places(block: Block, number: int, rule: Rule, text: str) -> set[tuple[int, int]]:
    data = text.encode()
    ends = [len(data[:end].decode(errors="ignore")) for which, end in block.scan(data).found if which == number]
    return {place for end in ends if (place := rule.place(text, end)) is not None}


def test_what_is_kept_are_tails_of_what_ships() -> None:
    """Else packs have changed since: ``python -m bench tails --write``."""
    cut = {rule.pattern.id: rule for rule in _cut()}
    assert cut.keys() == tails._TAILS.keys()
    for name, rule in cut.items():
        assert rule.expression.body in set(cuts_of(rule.body)), name


def test_another_expression_of_the_same_name_is_looked_for_whole() -> None:
    name = _cut()[0].pattern.id
    assert tails.tail(name, "something else") == "something else"
