"""What the pattern store holds lies over the packs, as far as it can be compiled here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gateways import CACHE_DIR

from detectors.values import Origin, Segment
from gateway import live as live_module
from gateway.config import configuration
from gateway.config.settings import Settings
from gateway.live import Live
from patterns.schema import Kind, Pattern, PatternError, Severity

GATE = Pattern(id="own.gate", kind=Kind.REGEX, body=r"\bopen the (?:front|rear) gate\b", category="jailbreak.persona",
               severity=Severity.HIGH, reach=19, hits=("open the rear gate",), misses=("gate",))  # fmt: skip
BROKEN = replace(GATE, id="own.broken", body="(?<=open )sesame")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("live")
    (folder / "cache").symlink_to(CACHE_DIR)
    return configuration.check({"data_dir": str(folder), "detection": {"model": False}}, "test")


def acts(live: Live, text: str = "now open the rear gate") -> bool:
    found = live.engine.judge([Segment(text, "user", Origin.USER, 0, ())], "").verdict.findings
    return any(one.pattern == GATE.id for one in found)


def held(*patterns: Pattern) -> dict[str, Pattern]:
    return {pattern.id: pattern for pattern in patterns}


def test_a_pattern_that_cannot_be_compiled_keeps_no_other_from_acting(settings: Settings) -> None:
    """All that was learnt later, and every rollback, waited for it to go; and the gateway did not start again."""
    began = live_module.build(settings, 1, 0.0, held(BROKEN, GATE))
    assert acts(began)
    assert began.left_out.keys() == {BROKEN}
    assert "own.broken: body: Hyperscan cannot take it" in began.left_out[BROKEN]
    empty = live_module.renew(began, 2, 0.0, held(BROKEN))
    assert not acts(empty), "what was taken back acts no more"
    other = replace(BROKEN, id="own.other", revision=2)
    again = live_module.renew(empty, 3, 0.0, held(BROKEN, other, GATE))
    assert acts(again)
    assert again.left_out.keys() == {BROKEN, other}
    mended = replace(BROKEN, body="open sesame", revision=3)
    assert live_module.renew(again, 4, 0.0, held(mended, GATE)).left_out == {}


def test_of_those_that_cannot_be_compiled_there_is_a_bound(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "MOST_LEFT_OUT", 3)
    live = live_module.build(settings, 1, 0.0, held(GATE))
    with pytest.raises(PatternError, match="Hyperscan cannot take it"):
        live_module.renew(live, 2, 0.0, held(GATE, *(replace(BROKEN, id=f"own.b{number}") for number in range(4))))


def test_a_pattern_that_could_hold_a_worker_does_not_act(settings: Settings) -> None:
    """One that another replica let in, say: while Python's engine looks for where a match starts, nothing else runs."""
    dear = replace(GATE, id="own.dear", body="(?:a|aa|aaa){1,200}b|lower", reach=601)
    began = live_module.build(settings, 1, 0.0, held(dear, GATE))
    assert acts(began)
    assert began.left_out.keys() == {dear}
    assert "own.dear: body: there are texts for which it takes longer" in began.left_out[dear]
    later = live_module.renew(began, 2, 0.0, held(dear, replace(dear, id="own.twin"), replace(GATE, severity=Severity.MEDIUM)))
    assert acts(later)
    assert {one.id for one in later.left_out} == {"own.dear", "own.twin"}
    later.engine.judge([Segment("a" * 60 + "lower", "user", Origin.USER, 0, ())], "")  # it would take years
