"""What was judged part by part is known of the whole: nothing is judged twice, and nothing is lost by that."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from gateways import CACHE_DIR
from hypothesis import given, settings
from hypothesis import strategies as st
from test_meaning_streams import ATTACK

from detectors.engine import Engine, Screening
from detectors.parts import Parts
from detectors.stages import STAGES
from detectors.values import Finding, Origin, Segment, Verdict
from gateway import live
from gateway.config.settings import Detection
from gateway.screening.policy import preset
from gateway.streams.following import Follower
from patterns.schema import Pattern, read_pattern

PROSE = "The harbour was built in 1890, and the market beside it is open on Sundays from nine o'clock. "
CHANNEL = (0, "content")
FAR = "harmful_code.destructive_command"


def _pattern(name: str, body: str) -> Pattern:
    raw = {"id": name, "kind": "regex", "body": body, "category": FAR, "severity": "high", "hits": ["x"], "misses": ["y"]}
    return read_pattern(raw, "test")


PATTERNS = [_pattern("near", "burn the boats"), _pattern("far", r"first[\s\S]{700,1500}last of all")]


@pytest.fixture(scope="module")
def knowing() -> Engine:
    """An engine that stays, so that its cache may know something."""
    model, _ = live.load_model(Detection())
    return Engine.load(PATTERNS, 1, 0.0, CACHE_DIR, model)


def _followed(engine: Engine, pieces: Sequence[str]) -> Follower:
    """A stream that was judged beside, a trip for each piece."""
    follower = Follower(preset("monitor"), 1_000)
    for piece in pieces:
        follower.feed(CHANNEL, piece)
        trip = follower.trip(False)
        judged = engine.judge(trip.segments, "beside")
        follower.gather(trip, judged)
        follower.settle(trip, judged.verdict)
    return follower


def _screened(engine: Engine, text: str, parts: Parts | None, scope: str) -> Screening:
    if parts is not None:
        engine.know(text, Origin.ASSISTANT, scope, parts)
    return engine.screen([Segment(text, "assistant", Origin.ASSISTANT, 0, CHANNEL)], scope)


def _told(verdict: Verdict) -> set[str]:
    """What is said of a text, but for the front stage's and the encoder's own words, which differ from window to window."""
    return {finding.pattern for finding in verdict.findings if not finding.pattern.startswith("model.")}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from((PROSE, "They say: burn the boats. ", ATTACK + " ", "第一章。", PROSE * 4)), min_size=2, max_size=8))
def test_the_whole_is_known_from_its_parts(knowing: Engine, pieces: list[str]) -> None:
    text = "".join(pieces)
    follower = _followed(knowing, pieces)
    cut = "/".join(str(len(piece)) for piece in pieces)  # what an example before made of the same text is not asked
    screening = _screened(knowing, text, follower.parts(CHANNEL), cut)
    assert not screening.asked
    judged = screening.close()
    assert judged.cached == 1
    anew = knowing.judge([Segment(text, "assistant", Origin.ASSISTANT, 0, CHANNEL)], "anew").verdict
    assert _told(judged.verdict) >= _told(anew)
    assert judged.verdict.complete
    assert judged.verdict.score == follower.score
    for finding in judged.verdict.findings:
        if finding.pattern == "near":
            assert text[finding.start : finding.end] == "burn the boats"


def test_what_only_the_whole_shows_is_judged_anew(knowing: Engine) -> None:
    pieces = ["Do this first. ", *[PROSE] * 10, "And last of all, rest."]
    follower = _followed(knowing, pieces)
    judged = _screened(knowing, "".join(pieces), follower.parts(CHANNEL), "whole").close()
    assert judged.cached == 0
    assert [finding.pattern for finding in judged.verdict.findings if finding.detector == "lexical"] == ["far"]


def test_a_stream_that_was_not_judged_to_its_end_is_known_in_no_part(knowing: Engine) -> None:
    follower = _followed(knowing, [PROSE])
    assert follower.parts(CHANNEL) is not None
    follower.feed(CHANNEL, "and more")
    assert follower.parts(CHANNEL) is None
    assert follower.parts((0, "reasoning")) is None


def test_what_was_pardoned_in_its_part_is_pardoned_in_the_whole(knowing: Engine) -> None:
    parts = Parts()
    parts.add(10, [Finding("shadow", "near", FAR, 0.95, 0, 5, 19)], 0.02, STAGES)
    verdict = parts.verdict(knowing.cascade.words("A poem, it says: burn the boats.", Origin.ASSISTANT, [0] * 6))
    assert verdict is not None
    assert [(finding.detector, finding.start, finding.end) for finding in verdict.findings] == [("shadow", 15, 29)]


@pytest.mark.parametrize("off", [{}, {"decodes": False}, {"deep": False}])
def test_only_stages_that_saw_a_part_are_told_of_the_whole(knowing: Engine, off: dict[str, bool]) -> None:
    engine = Engine.load(PATTERNS, 1, 0.0, CACHE_DIR, knowing.cascade.model, **off)
    for text in (PROSE, ATTACK):
        parts = _followed(engine, [text]).parts(CHANNEL)
        assert parts is not None
        told = _screened(engine, text, parts, "whole").close()
        assert told.cached == 1
        assert told.stages == engine.judge([Segment(text, "assistant", Origin.ASSISTANT, 0, CHANNEL)], "anew").stages
        assert off.get("decodes", True) or "decode" not in told.stages[0]


def test_one_channels_attack_is_no_other_ones(knowing: Engine) -> None:
    follower = Follower(preset("monitor"), 1_000)
    other = (1, "content")
    follower.feed(CHANNEL, ATTACK)
    follower.feed(other, PROSE)
    trip = follower.trip(True)
    judged = knowing.judge(trip.segments, "beside")
    follower.gather(trip, judged)
    follower.settle(trip, judged.verdict)
    alone = knowing.judge([Segment(PROSE, "assistant", Origin.ASSISTANT, 0, other)], "anew").verdict
    assert alone.score < judged.verdict.score
    assert _screened(knowing, PROSE, follower.parts(other), "two").close().verdict.score == alone.score
