"""What a chat completion's chunks name things by: clients keep it, and put together what stands in one place in several chunks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_openai import ChatOpenAI
from openai import OpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from test_relay import KEY, RULES, SECRET, _chunk, _relay, _target
from test_stream_pieces import _docs

from detectors.streamrules import Act, StreamRules
from detectors.values import ChannelKind
from gateway.redaction.vault import Vault
from gateway.streams.relay import Relay
from gateway.streams.screened import MAX_LABELS
from gateway.wires.events import sse
from patterns.schema import read_pattern

Doc = dict[str, Any]
TEXT = f"it-{SECRET}."


def _call(**fields: Any) -> bytes:
    return _chunk({"tool_calls": [{"index": 0, **fields}]})


def _top(**fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": " a "}, "finish_reason": None}
    return sse(orjson.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **fields}))


PLACES: dict[str, Callable[[str], bytes]] = {
    "a role": lambda one: _chunk({"role": one}),
    "a call's id": lambda one: _call(id=one, type="function", function={"name": "f", "arguments": ""}),
    "a call's name": lambda one: _call(id="x", type="function", function={"name": one, "arguments": ""}),
    "a call's kind": lambda one: _call(type=one, function={"arguments": ""}),
    "an id of audio": lambda one: _chunk({"audio": {"id": one}}),
    "a name in what nobody knows": lambda one: _chunk({"provider_specific_fields": {"vendor": {"name": one}}}),
    "a form of thoughts": lambda one: _chunk({"reasoning_details": [{"type": "reasoning.text", "format": one, "index": 0}]}),
    "a reason to finish": lambda one: _chunk({}, finish_reason=one),
    "a fingerprint": lambda one: _top(system_fingerprint=one),
    "a model": lambda one: _top(model=one),
    "an id": lambda one: _top(id=one),
    "a tier": lambda one: _top(service_tier=one),
}


def _kept(out: bytes) -> list[str]:
    """What OpenAI's client and LangChain have in the end, as JSON."""
    answer = httpx.MockTransport(lambda _: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=out))
    state, found = ChatCompletionStreamState(), []
    with httpx.Client(transport=answer) as through:
        client = OpenAI(api_key="k", http_client=through)
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
            state.handle_chunk(chunk)
        found.append(orjson.dumps(state.current_completion_snapshot.to_dict()).decode())
        try:
            whole: Any = None
            for piece in ChatOpenAI(api_key="k", model="m", http_client=through).stream("x"):
                whole = piece if whole is None else whole + piece
            found.append(whole.model_dump_json())
        except (AttributeError, TypeError, ValueError):
            pass  # a role or a kind that it does not know
    return found


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=15, deadline=None)
@given(marks=st.sets(st.integers(1, len(TEXT) - 1), min_size=1, max_size=3), again=st.booleans())
def test_a_value_over_several_chunks_is_not_put_together(place: str, marks: set[int], again: bool) -> None:
    edges = [0, *sorted(marks), len(TEXT)]
    pieces = [TEXT[a:b] for a, b in pairwise(edges)]
    out, relay = _relay("chat", [b"".join(map(PLACES[place], pieces)) + _chunk({}, finish_reason="stop") * again])
    assert relay.cut is None
    assert not any(SECRET in one for one in _kept(out))


@pytest.mark.parametrize("place", PLACES)
def test_a_whole_value_is_replaced_each_time_it_stands_there(place: str) -> None:
    out, relay = _relay("chat", [PLACES[place](TEXT) * 3])
    assert SECRET.encode() not in out
    assert out.count(b"[SECRET_CLOUD_KEY_") == 3
    assert relay.seen


@pytest.mark.parametrize("first", ["AKIAABC", "it-AKIAABCDEFG"])
def test_a_name_that_goes_on_beside_its_arguments_is_one(first: str) -> None:
    rest = TEXT[TEXT.index(first) + len(first) :]
    out, _ = _relay("chat", [_call(id="x", function={"name": first}) + _call(function={"name": rest, "arguments": "{}"})])
    name = "".join(doc["choices"][0]["delta"]["tool_calls"][0]["function"].get("name", "") for doc in _docs("chat", out))
    assert name.removeprefix("it-").startswith("[SECRET_CLOUD_KEY_")
    out, _ = _relay("chat", [_call(id="x", function={"name": first, "arguments": ""}) + _call(function={"name": rest})])
    assert not any(SECRET in one for one in _kept(out))


def test_calls_that_share_a_place_pass_as_they_came() -> None:
    calls = [_call(id=f"call_{n}aB3", type="function", function={"name": name, "arguments": "{}"})
             for n, name in enumerate(["look_up", "dial", "look_up"])]  # fmt: skip
    data = b"".join([*calls, _chunk({}, finish_reason="tool_calls")])
    assert _relay("chat", [data])[0] == data


def test_what_stands_in_a_label_as_words_is_judged_as_words() -> None:
    _, relay = _relay("chat", [_top(model="a model of many words") * 2])
    assert [text for text in relay.said.texts.values() if text != [" a ", " a "]] == [["a model of many words"]]


def test_what_all_streams_name_alike_is_looked_at_once() -> None:
    raw = {"id": "card", "kind": "pii", "body": r"\b(?:\d[ -]?){12,18}\d\b", "category": "pii.payment", "severity": "high",
           "check": "payment_card", "hits": ["4111 1111 1111 1111"], "misses": ["4111 1111 1111 1112"]}  # fmt: skip
    rules = StreamRules([read_pattern(raw, "test")], lambda pattern: Act.REPLACE)
    passing = {"gpt-4o-mini-2024-07-18": True, "m-4111 1111 1111 1112": True, "m-4111 1111 1111 1111": False}
    for name, passes in (*passing.items(), *passing.items()):
        relay = Relay(_target("chat"), "m", dict.fromkeys(ChannelKind, rules), Vault(KEY))
        assert (relay.feed(_top(model=name), lambda cut: "") == _top(model=name)) is passes
        relay.close()
    assert passing.items() <= rules.labels.items()


def test_no_more_is_remembered_than_is_worth_while() -> None:
    for number in range(MAX_LABELS + 10):
        _relay("chat", [_top(id=f"chatcmpl-{number}")])
        assert 0 < len(RULES.labels) <= MAX_LABELS


def test_what_passes_in_one_stream_comes_back_as_a_value_in_another() -> None:
    vault = Vault(KEY)
    stand_in = vault.stand_in("jane@example.org", "pii.contact")
    assert _relay("chat", [_top(model=stand_in)])[0] == _top(model=stand_in)
    assert _relay("chat", [_top(model=stand_in)], vault)[0] == _top(model="jane@example.org")
    assert _relay("chat", [_top(model=stand_in)])[0] == _top(model=stand_in)
