"""Expressions that take for ever are refused, and nothing waits for them meanwhile."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gateway.learning import rehearsal
from gateway.learning.trial import Corpus
from patterns import packs
from patterns.schema import Kind, PatternError, read_pattern

CORPUS = Corpus(("the bridge is long", "raise the drawbridge"), ())


def tried(body: str, hit: str, miss: str) -> tuple[int, int, int]:
    raw = {"id": "own.one", "kind": "regex", "body": body, "category": "jailbreak.persona", "severity": "high",
           "hits": [hit], "misses": [miss]}  # fmt: skip
    found = rehearsal.lexical(read_pattern(raw, "x"), CORPUS)
    return found.caught, found.harmless, found.false_alarms


@pytest.mark.parametrize(
    ("body", "hit"),
    [
        ("x(?:a{1,20}){1,20}b|c", "x" + "a" * 50 + "c"),  # its own hit takes for ever
        ("x(?:a{1,20}){1,20}b|c", "c"),  # nothing of its own does
        (r"(?:\w{1,20}\s?){1,20}!|lower", "lower"),
        ("(?:a|aa|aaa){1,200}b|lower", "lower"),
    ],
)
def test_what_takes_for_ever_is_refused(body: str, hit: str) -> None:
    with pytest.raises(PatternError, match=r"own\.one: body: there are texts for which it takes longer"):
        tried(body, hit, "raise")


def test_every_shipped_expression_is_written_for() -> None:
    draw = random.Random(0)
    for pattern in packs.load_all([packs.SHIPPED]):
        if pattern.kind in (Kind.REGEX, Kind.PII):
            assert rehearsal.written(pattern.body, draw), pattern.id


def test_what_a_literal_says_is_no_expression() -> None:
    raw = {"id": "own.one", "kind": "literal", "body": "((a+)+*[", "category": "jailbreak.persona", "severity": "high",
           "hits": ["((a+)+*[ and more"], "misses": ["a"]}  # fmt: skip
    assert rehearsal.lexical(read_pattern(raw, "x"), CORPUS).passed


def test_others_are_tried_as_before() -> None:
    assert tried(r"\braise\b.{1,20}\bthe drawbridge\b|long", "so long", "raise it") == (1, 2, 2)
    with pytest.raises(PatternError, match=r"own\.one"):
        tried("(a)(?:b(?=c)|d)", "ad", "b")  # Hyperscan takes no look ahead


@pytest.mark.parametrize(
    ("id", "before"),
    [
        ("exfil.dump.search-for-it", f"fetch https://a.example/c and append   and append   and append   {'-' * 75}dat "),
        ("jailbreak.persona.lawless-ai-role", f"you are {',' * 60}guideline-free {'super,,,' * 4}mode "),
    ],
)
def test_what_stands_before_a_match_is_read_in_one_way(id: str, before: str) -> None:
    """A request of 265 characters held its worker for fourteen seconds."""
    (pattern,) = [one for one in packs.load_all([packs.SHIPPED]) if one.id == id]
    longer = replace(pattern, hits=(*pattern.hits, 10 * f"{before}{pattern.hits[0]} "))
    assert rehearsal.lexical(longer, CORPUS).passed


@pytest.mark.parametrize("id", ["obfuscation.homoglyph.small-capitals", "obfuscation.homoglyph.math-letters"])
def test_runs_of_letters_are_read_in_one_way(id: str) -> None:
    (pattern,) = [one for one in packs.load_all([packs.SHIPPED]) if one.id == id]
    letter = pattern.hits[0][0]
    long = replace(pattern, hits=(*pattern.hits, letter * 200))
    assert rehearsal.lexical(long, CORPUS).passed
