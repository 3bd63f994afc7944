"""A text is matched against the patterns that concern its origin, and against no others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from detectors.automata import MAX_MATCHES
from detectors.lexical import Lexical
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


def test_no_patterns_at_all_is_an_error() -> None:
    with pytest.raises(PatternError, match="no lexical patterns"):
        Lexical([])
