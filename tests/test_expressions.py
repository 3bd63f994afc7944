"""Python's engine for patterns: compiled before a generation serves, the same as it compiles itself, and none at a match."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gateways import CACHE_DIR
from hypothesis import given
from hypothesis import strategies as st

from detectors.expressions import anchor, anchored, compiled
from detectors.lexical import Lexical, Rule
from detectors.values import Origin
from patterns import packs
from patterns.schema import Kind, Pattern, Severity

SHIPPED = [one for one in packs.load_all([packs.SHIPPED]) if one.kind.lexical]
SOURCES = [anchor(one.body, one.kind) for one in SHIPPED if one.kind is not Kind.LITERAL]


def literal(body: str) -> Pattern:
    return Pattern(id="own.words", kind=Kind.LITERAL, body=body, category="jailbreak.persona", severity=Severity.HIGH, reach=len(body))


def test_what_is_kept_is_what_python_compiles(tmp_path: Path) -> None:
    expected = [re.compile(*source) for source in SOURCES]
    named = [anchor(r"(?i)(?P<word>a+)(?P<rest>é)(b)", Kind.REGEX)]
    for cache in (None, tmp_path, tmp_path):  # compiled here, compiled aside, and taken from the disk
        assert [make() for make in compiled(SOURCES, cache)] == expected
        one = compiled(named, cache)[0]()
        found = one.search("xxAAéb")
        assert found is not None
        assert (found.lastgroup, found.groupdict(), one.groupindex) == (None, {"word": "AA", "rest": "é"}, {"word": 1, "rest": 2})


def test_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    compiled(SOURCES[:3], tmp_path)
    (file,) = tmp_path.glob("python-*")
    whole = file.read_bytes()
    for broken in (b"", b"no", b"longer than its sum", whole[:-9], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
        file.write_bytes(broken)
        assert [make() for make in compiled(SOURCES[:3], tmp_path)] == [re.compile(*source) for source in SOURCES[:3]]
        assert file.read_bytes() == whole


def _scan_hits(lexical: Lexical) -> set[str]:
    """The patterns that are found in what the shipped ones are to hit."""
    return {match.pattern.id for one in SHIPPED for match in lexical.scan(one.hits[0], Origin(min(one.origins or {"user"}))).matches}


def test_no_match_waits_for_an_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one of the packs' nor one that the store lays over them."""
    _scan_hits(Lexical(SHIPPED, CACHE_DIR))  # the small ones of checks are made at their first use, for all
    lexical = Lexical(SHIPPED, CACHE_DIR)
    over = Pattern(id="own.more", kind=Kind.REGEX, body=r"sesame (open|shut)", category="jailbreak.persona", severity=Severity.HIGH,
                   reach=11)  # fmt: skip
    laid = lexical.overlaid([over, literal("open the gate")], ())

    def refused(*_: object) -> None:
        raise AssertionError("compiled at a match")

    monkeypatch.setattr(re, "compile", refused)
    found = _scan_hits(laid)
    assert len(found) > 0.9 * len(SHIPPED)
    assert {m.pattern.id for m in laid.scan("Sesame shut, OPEN the gate", Origin.USER).matches} == {"own.more", "own.words"}


@given(st.text("aAbBsSſßKkKéÉ ", min_size=1, max_size=6), st.text("aAbBsSſßKkKéÉ ", max_size=6), st.text("aAkKéÉ ", max_size=6))
def test_a_literal_is_placed_as_the_engine_would(body: str, before: str, after: str) -> None:
    rule = Rule(literal(body))
    for said in (body, body.swapcase(), body.upper(), body.lower()):
        text = before + said + after
        for end in range(len(text) + 1):
            expected = anchored(re.escape(body), Kind.LITERAL).search(text, max(0, end - len(body)), end)
            if expected is not None:
                assert rule.place(text, end) == (expected.start(), expected.start())
