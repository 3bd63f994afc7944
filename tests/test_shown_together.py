"""Texts of a whole reply that clients show as one, with a call, thoughts or sources between them: no value is dealt out over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import orjson
import pytest
from gateways import Gateway
from google import genai
from google.genai import types as genai_types
from hypothesis import given
from hypothesis import strategies as st
from test_stream_forms import KEY, _ask
from upstreams import Answer, reply, says, upstream

from detectors.passages import passages
from detectors.values import Origin, Segment
from gateway.wires.shown import shown_together

CARD = "4111 1111 1111 1111"
Doc = dict[str, Any]
Ask = Callable[[Gateway], str]


def _message(texts: list[str], *between: Doc) -> Doc:
    content = [{"type": "text", "text": texts[0]}]
    for text in texts[1:]:
        content += [*between, {"type": "text", "text": text}]
    return {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": "end_turn",
            "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip


def _response(texts: list[str], *between: Doc) -> Doc:
    output: list[Doc] = []
    for number, text in enumerate(texts):
        part = {"type": "output_text", "text": text, "annotations": []}
        said = {"type": "message", "id": f"m{number}", "role": "assistant", "status": "completed", "content": [part]}
        output += [*(between if number else ()), said]
    return {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": output, "tools": [],
            "parallel_tool_calls": True, "tool_choice": "auto"}  # fmt: skip


def _candidate(texts: list[str], *between: Doc) -> Doc:
    parts: list[Doc] = [{"text": texts[0]}]
    for text in texts[1:]:
        parts += [*between, {"text": text}]
    return {"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}


def _read_message(gateway: Gateway) -> str:
    with anthropic.Anthropic(base_url=gateway.url, api_key="unused", max_retries=0) as client:
        got = client.messages.create(model="m", max_tokens=99, messages=_ask())
    return "".join(block.text for block in got.content if block.type == "text")


def _read_response(gateway: Gateway) -> str:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        return client.responses.create(model="m", input="Tell me.").output_text


def _read_candidate(gateway: Gateway) -> str:
    with genai.Client(api_key="unused", http_options=genai_types.HttpOptions(base_url=gateway.url)) as client:
        return client.models.generate_content(model="g", contents="Tell me.").text or ""


class _Says:
    answer: Answer

    async def __call__(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.answer(body, reader, writer)


@pytest.fixture(scope="module")
def model() -> _Says:
    return _Says()


@pytest.fixture(scope="module")
def gateway(model: _Says, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with upstream(model) as running:
        root = running.base_url.removesuffix("/v1")
        settings = {
            "limits": {"ready_grace_seconds": 0}, "detection": {"encoder": False},
            "upstreams": {name: {"base_url": root + path} for name, path in (("openai", "/v1"), ("anthropic", ""), ("gemini", ""))},
        }  # fmt: skip
        started = Gateway(tmp_path_factory.mktemp("together"), settings, 1, {})
        yield started
        started.stop()


USE = {"type": "tool_use", "id": "t", "name": "look", "input": {"where": "harbour"}}
THINKING = {"type": "thinking", "thinking": "Where is it?", "signature": "c2ln"}
CALL = {"type": "function_call", "id": "f", "call_id": "c", "name": "look", "arguments": '{"where":"harbour"}', "status": "completed"}
REASONED = {"type": "reasoning", "id": "x", "summary": [{"type": "summary_text", "text": "Where is it?"}]}


@pytest.mark.parametrize("value", [KEY, CARD])
@pytest.mark.parametrize(("read", "make", "between"), [
    (_read_message, _message, [USE]), (_read_message, _message, [THINKING]), (_read_message, _message, [THINKING, USE]),
    (_read_response, _response, []), (_read_response, _response, [CALL]), (_read_response, _response, [REASONED, CALL]),
    (_read_candidate, _candidate, [{"functionCall": {"name": "look", "args": {"where": "harbour"}}}]),
    (_read_candidate, _candidate, [{"text": "Where is it?", "thought": True}]),
])  # fmt: skip
def test_a_value_over_two_texts_does_not_go_out(
    gateway: Gateway, model: _Says, read: Ask, make: Callable[..., Doc], between: list[Doc], value: str
) -> None:
    for texts in (["it is " + value[:11], value[11:] + " indeed"], ["it is " + value[:3], value[3:12], value[12:] + " indeed"]):
        model.answer = says(reply(orjson.dumps(make(texts, *between))))
        text = read(gateway)
        assert value not in text
        assert text.startswith("it is [")
        assert text.endswith("] indeed")


def test_texts_in_which_nothing_is_found_pass_as_they_came(gateway: Gateway, model: _Says) -> None:
    body = orjson.dumps(_message(["It is open ", "on Sundays", " and 41", " (or 42)."], THINKING, USE))
    model.answer = says(reply(body))
    with gateway.client() as client:
        assert client.post("/v1/messages", json={"model": "m", "max_tokens": 9, "messages": _ask()}).content == body


@pytest.mark.parametrize(("doc", "paths"), [
    (_message(["a"]), []),
    (_message(["a", "b"], USE), [[("content", 0, "text"), ("content", 2, "text")]]),
    (_response(["a", "b"], CALL), [[("output", 0, "content", 0, "text"), ("output", 2, "content", 0, "text")]]),
    ([_candidate(["a"]), _candidate(["b"])], [[(at, "candidates", 0, "content", "parts", 0, "text") for at in (0, 1)]]),
    ({"choices": [{"message": {"content": [{"type": "text", "text": one} for one in "ab"]}}]},
     [[("choices", 0, "message", "content", at, "text") for at in (0, 1)]]),
    ({"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}, []),
    ({"content": "a", "output": 5, "candidates": [{"content": []}, 7], "choices": {}}, []),
    (["a", {"content": [7, {"text": 5}]}], []), (None, []), ("a", []),
])  # fmt: skip
def test_what_is_shown_as_one(doc: Any, paths: list[Any]) -> None:
    assert shown_together(doc) == paths


@given(st.lists(st.tuples(st.text("ab1 ", min_size=1, max_size=5), st.booleans(), st.integers(0, 2)), min_size=2, max_size=8), st.data())
def test_a_place_in_them_is_found_again_in_each(texts: list[tuple[str, bool, int]], data: st.DataObject) -> None:
    segments = [Segment(text, "assistant", Origin.ASSISTANT, turn, (at,), glued) for at, (text, glued, turn) in enumerate(texts)]
    numbers = sorted(data.draw(st.sets(st.integers(0, len(texts) - 1), min_size=2)))
    before, made = passages(segments), passages(segments, [numbers])
    together = "".join(texts[at][0] for at in numbers)
    assert [one for one in made if one in before] == before
    whole = [one for one in made if one.numbers == tuple(numbers) and one.text == together]
    assert len(whole) == 1
    for one in whole:
        start = data.draw(st.integers(0, len(together) - 1))
        end = data.draw(st.integers(start + 1, len(together)))
        spans = one.locate(start, end)
        assert "".join(segments[span.segment].text[span.start : span.end] for span in spans) == together[start:end]


def test_a_thought_before_them_hides_nothing() -> None:
    segments = [Segment(text, "model", Origin.ASSISTANT, 0, (at,), at > 0) for at, text in enumerate(("thought", "AKIA", "ABCD"))]
    assert "AKIAABCD" in {one.text for one in passages(segments, [[1, 2]])}


def test_an_empty_list_and_one_of_one_add_nothing() -> None:
    segments = [Segment(text, "assistant", Origin.ASSISTANT, 0, (text,)) for text in "ab"]
    assert passages(segments, [[], [1]]) == passages(segments)
