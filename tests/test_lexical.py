"""A text is matched against the patterns that concern its origin, and against no others."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import lexical as module
from detectors.automata import BYTES_A_MATCH, MAX_MATCHES, Block, Expression
from detectors.lexical import LOOKS, MOST_OVERLAYS, Lexical, Rule
from detectors.values import Origin
from patterns.schema import Kind, Pattern, PatternError, Severity


def _pattern(name: str, body: str, origins: Sequence[Origin] = ()) -> Pattern:
    return Pattern(
        id=name, kind=Kind.REGEX, body=body, category="jailbreak.persona", severity=Severity.HIGH, reach=20,
        origins=frozenset(origins), provenance="test",
    )  # fmt: skip


EVERYBODY = _pattern("everybody", "alpha")
USER = _pattern("user", "alph.", [Origin.USER])
MODEL = _pattern("model", "alp", [Origin.ASSISTANT])
TOOL = _pattern("tool", "pha", [Origin.TOOL_RESULT])
HEARD = _pattern("heard", "alpha", [Origin.USER, Origin.DOCUMENT])


@pytest.mark.parametrize("origin", Origin)
def test_only_what_concerns_the_origin_is_found(origin: Origin) -> None:
    patterns = [TOOL, EVERYBODY, USER, MODEL, HEARD]
    lexical = Lexical(patterns)
    wanted = sorted(pattern.id for pattern in patterns if not pattern.origins or origin in pattern.origins)
    for each in (lexical, lexical.twin()):
        assert sorted(match.pattern.id for match in each.scan("see alpha", origin).matches) == wanted


def test_an_origin_that_nothing_concerns_is_clean() -> None:
    scan = Lexical([USER]).scan("alpha", Origin.SYSTEM)
    assert scan.matches == []
    assert not scan.exhausted


def test_too_many_matches_in_any_part_are_told() -> None:
    lexical = Lexical([EVERYBODY, _pattern("dot", r"\d", [Origin.USER])])
    text = "7" * (MAX_MATCHES + 1)
    assert lexical.scan(text, Origin.USER).exhausted
    assert not lexical.scan(text, Origin.ASSISTANT).exhausted


def test_a_long_text_has_more_matches_than_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log has an address in each line, and is refused where they are not looked at."""
    monkeypatch.setattr(module, "ALL_SECONDS", 1e6)  # how many there may be, and not how long it takes to look at them
    monkeypatch.setattr(module, "LOOKING_SECONDS", 1e6)
    lexical = Lexical([_pattern("dot", r"\d", [Origin.USER])])
    assert not lexical.scan(("7" + "x" * BYTES_A_MATCH) * (2 * MAX_MATCHES), Origin.USER).exhausted
    assert lexical.scan("7" * 2 * MAX_MATCHES * BYTES_A_MATCH, Origin.USER).exhausted


def test_no_patterns_at_all_is_an_error() -> None:
    with pytest.raises(PatternError, match="no lexical patterns"):
        Lexical([])


def _found(lexical: Lexical, text: str) -> list[str]:
    return sorted(match.pattern.id for match in lexical.scan(text, Origin.USER).matches)


WORDS = ("alpha", "beta", "gamma", "delta", "omega")


def test_a_pattern_that_takes_too_long_is_given_up_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKING_SECONDS", 1e-9)
    flood, needle = _pattern("flood", "(?:[a-z] ){2}"), _pattern("needle", "alpha")
    scan = Lexical([flood, needle]).scan("a " * 2 * LOOKS + "x" * 30 + " alpha", Origin.USER)
    assert scan.exhausted
    assert {match.pattern.id for match in scan.matches} >= {"needle"}
    assert not Lexical([needle]).scan("nothing of it", Origin.USER).exhausted


def test_patterns_that_are_slow_together_do_not_hold_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    place = Rule.place

    def slow(rule: Rule, text: str, end: int) -> tuple[int, int] | None:
        looks.append(rule.pattern.id)
        return place(rule, text, end)

    monkeypatch.setattr(Rule, "place", slow)
    monkeypatch.setattr(module, "time", SimpleNamespace(thread_time=lambda: 0.06 * len(looks)))  # each look takes that long
    floods = [_pattern(f"flood{number}", f"(?:[a-{letter}] ){{2}}") for number, letter in enumerate("abcdefgh")]
    scan = Lexical([*floods, _pattern("needle", "alpha")]).scan("a " * 300 + "x" * 30 + " alpha", Origin.USER)
    assert scan.exhausted
    assert "needle" in {match.pattern.id for match in scan.matches}
    assert len(looks) < 50


@settings(deadline=None, max_examples=30)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c", "everybody"]), st.sampled_from(WORDS)), min_size=1, max_size=8))
def test_layer_upon_layer_finds_what_one_layer_would(layers: list[dict[str, str]]) -> None:
    """Whatever was laid over the patterns before, only what is laid over them now counts."""
    base = Lexical([EVERYBODY, USER])
    known, text = None, " ".join(WORDS)
    for layer in layers:
        over = [_pattern(name, body) for name, body in layer.items()]
        known = base.overlaid(over, layer.keys(), known)
        for each in (known, known.twin()):
            assert _found(each, text) == _found(base.overlaid(over, layer.keys()), text)
        assert len(known._overlay) <= MOST_OVERLAYS


def test_what_stands_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []
    original = Block.__init__

    def counted(block: Block, expressions: Sequence[object], *rest: object, **named: object) -> None:
        compiled.append(len(expressions))
        original(block, expressions, *rest, **named)  # type: ignore[arg-type]

    base = Lexical([EVERYBODY])
    many = [_pattern(f"n{number}", f"word{number}") for number in range(50)]
    known = base.overlaid(many, [])
    monkeypatch.setattr(Block, "__init__", counted)
    more = base.overlaid([*many, _pattern("new", "fresh")], [], known)
    assert compiled == [1]
    assert _found(base.overlaid(many[1:], [], more), "word0 word1 fresh") == ["n1"]
    assert compiled == [1]


def test_a_damaged_file_of_the_cache_is_made_anew(tmp_path: Path) -> None:
    expressions = [Expression("x", "walrus", False)]
    Block(expressions, tmp_path)
    (file,) = tmp_path.glob("hyperscan-*")
    good = file.read_bytes()
    for bad in (b"", b"nonsense", good[: len(good) // 2], zlib.compress(b"nonsense")):
        file.write_bytes(bad)
        assert Block(expressions, tmp_path).scan(b"a walrus").found == [(0, 8)]
        assert file.read_bytes() != bad
