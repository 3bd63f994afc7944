"""Tokens of an exchange: what providers say in each dialect, whole and streamed however it is cut, and what is not believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.values import Origin, Segment
from gateway.limits.usage import FREE, MAX_EVENT, MOST, Usage
from gateway.wires import routes

WHOLE: list[tuple[dict[str, Any], int | None, int | None]] = [
    ({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}, 7, 5),
    ({"object": "list", "data": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}, 7, None),
    ({"output": [], "usage": {"input_tokens": 7, "output_tokens": 5}}, 7, 5),
    ({"content": [], "usage": {"input_tokens": 7, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 99, "output_tokens": 5}}, 9, 5),
    ({"candidates": [], "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 5, "thoughtsTokenCount": 3}}, 7, 8),
    ({"usage": None}, None, None),
    ({"usage": {"prompt_tokens": -7, "completion_tokens": "5"}}, None, None),
    ({"usage": {"prompt_tokens": True, "completion_tokens": 10**30}}, None, None),  # no JSON reader of ours takes that number
    ({"usage": {"prompt_tokens": 10**15, "completion_tokens": 10**15}}, MOST, MOST),
    ({"choices": [{"message": {"usage": {"prompt_tokens": 1}}}], "content": [{"input": {"usage": {"input_tokens": 1}}}]}, None, None),
    ({"choices": [{"message": {"content": '"usage": {"prompt_tokens": 1}'}}]}, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("doc", "first", "second"), WHOLE)
def test_a_whole_reply_tells(doc: dict[str, Any], first: int | None, second: int | None) -> None:
    usage = Usage()
    usage.whole(json.dumps(doc).encode())
    assert (usage.input, usage.output) == (first, second)


def sse(*events: dict[str, Any], end: str = "\n\n") -> bytes:
    return "".join(f"event: x{end[:1]}data: {json.dumps(event)}{end}" for event in events).encode()


STREAMS: dict[str, tuple[bytes, int | None, int | None]] = {
    "openai": (sse({"choices": [{"delta": {"content": "hi"}}], "usage": None}, {"choices": [], "usage": WHOLE[0][0]["usage"]}), 7, 5),
    "openai, not asked": (sse({"choices": [{"delta": {"content": "usage"}}]}) + b"data: [DONE]\n\n", None, None),
    "responses": (sse({"type": "response.created", "response": {"usage": None}},
                      {"type": "response.completed", "response": {"usage": {"input_tokens": 7, "output_tokens": 5}}}), 7, 5),
    "anthropic": (sse({"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}},
                      {"type": "message_delta", "usage": {"output_tokens": 3}}, {"type": "message_delta", "usage": {"output_tokens": 5}}), 7, 5),
    "gemini": (sse({"usageMetadata": {"promptTokenCount": 7}}, {"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 5}},
                   end="\r\n\r\n"), 7, 5),
    "realtime": (b'{"type":"response.created","response":{}}\x1e{"type":"response.done","response":{"usage":'
                 b'{"input_tokens":7,"output_tokens":5}}}\x1e', 7, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
@given(cuts=st.sets(st.integers(1, 400), max_size=8))
def test_a_stream_tells_however_it_is_cut(name: str, cuts: set[int]) -> None:
    data, first, second = STREAMS[name]
    usage, ends = Usage(), [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in zip([0, *ends], ends, strict=False):
        usage.feed(data[start:end])
    assert (usage.input, usage.output) == (first, second)


def test_a_line_without_end_fills_no_memory_and_hides_nothing_after_it() -> None:
    usage = Usage()
    for _ in range(40):
        usage.feed(b"x" * (MAX_EVENT // 10))
        assert len(usage._line) <= MAX_EVENT
    usage.feed(b'"usage": 1\n' + STREAMS["openai"][0])
    assert (usage.input, usage.output) == (7, 5)


def test_what_is_not_said_is_estimated() -> None:
    said = [Segment("x" * 40, "user", Origin.USER, 0, ())], [Segment("日本語の" * 3, "assistant", Origin.ASSISTANT, 0, ())]
    usage = Usage()
    assert usage.tokens(*said) == 10 + 9
    usage.input = 1_000
    assert usage.tokens(*said) == 1_009
    usage.output = MOST
    assert usage.tokens(*said) == MOST
    assert usage.take() == MOST
    assert usage.take() == 0


def test_what_takes_no_tokens_is_known_by_its_operation() -> None:
    asked = [("POST", "/v1/messages/count_tokens"), ("POST", "/v1beta/models/m:countTokens"), ("GET", "/v1beta/models"),
             ("GET", "/v1/models"), ("GET", "/v1/models/m"), ("POST", "/v1/responses/input_tokens"),
             ("GET", "/v1/responses/resp_1")]  # fmt: skip
    found = [routes.find(method, path) for method, path in asked]
    assert {target.operation for target in found if target is not None} == FREE


@given(st.binary(max_size=200))
def test_anything_else_is_nothing(data: bytes) -> None:
    usage = Usage()
    usage.whole(b'"usage' + data)
    usage.feed(b'"usage' + data + b"\n")
    assert usage.take() == 0
