"""Expressions that take for ever are refused, and nothing waits for them meanwhile."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from gateways import CACHE_DIR

from detectors import cost
from gateway.learning import rehearsal
from gateway.learning.trial import Corpus
from patterns import packs
from patterns.schema import Kind, Pattern, PatternError, read_pattern

CORPUS = Corpus(("the bridge is long", "raise the drawbridge"), ())


DEAR = "x(?:a{1,20}){1,20}b|c"


def own(body: str, hit: str = "c", miss: str = "raise", id: str = "own.one") -> Pattern:
    raw = {"id": id, "kind": "regex", "body": body, "category": "jailbreak.persona", "severity": "high",
           "hits": [hit], "misses": [miss]}  # fmt: skip
    return read_pattern(raw, "x")


def tried(body: str, hit: str, miss: str) -> tuple[int, int, int]:
    found = rehearsal.lexical(own(body, hit, miss), CORPUS)
    return found.caught, found.harmless, found.false_alarms


@pytest.mark.parametrize(
    ("body", "hit"),
    [
        (DEAR, "x" + "a" * 50 + "c"),  # its own hit takes for ever
        (DEAR, "c"),  # nothing of its own does
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
            assert cost.written(pattern.body, draw), pattern.id


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


def test_each_expression_is_tried_once_on_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of others' expressions those that could hold a worker are told, whichever stands before or behind them."""
    good = [own(body, id=f"own.good-{number}") for number, body in enumerate((r"open\s{1,3}sesame", "[a-c]{2,9}d", "so long"))]
    twins = [own(DEAR, id="own.dear"), own(DEAR, id="own.twin")]
    also = own(r"(?:\w{1,20}\s?){1,20}!|lower", id="own.also")
    assert cost.dear([good[0], *twins, good[1], also, good[2]], tmp_path, 9) == [*twins, also]
    assert cost.dear([good[0], *twins, good[1], also], tmp_path, 1) == twins, "one was enough"

    def started(*_: object, **__: object) -> None:
        raise AssertionError("tried again")

    monkeypatch.setattr("subprocess.run", started)
    assert cost.dear(good, tmp_path, 9) == []
    with pytest.raises(AssertionError, match="tried again"):
        cost.dear([*good, also], tmp_path, 9)


def test_what_ships_holds_nobody() -> None:
    assert cost.dear(packs.load_all([packs.SHIPPED]), CACHE_DIR, 9) == []
