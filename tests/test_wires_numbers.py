"""Numbers that are written as JSON numbers reach a model like any text: they are listed, screened and replaced."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wires import routes
from gateway.wires.collecting import LEAST_NUMBER, strings
from gateway.wires.jsonedit import apply_edits

CARD = 4111111111111111
CALL = {"id": "c", "type": "function", "function": {"name": "pay", "arguments": orjson.dumps({"card": CARD}).decode()}}


def _listed(path: str, doc: dict[str, Any]) -> list[str]:
    target = routes.find("POST", path)
    assert target is not None
    return [segment.text for segment in target.wire.read_request(doc, target).segments]


@pytest.mark.parametrize(
    ("path", "doc"),
    [
        ("/v1/chat/completions", {"model": "m", "messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]}),
        ("/v1/chat/completions",
         {"model": "m", "messages": [{"role": "tool", "tool_call_id": "c", "content": '{"rows":[{"card":4111111111111111.0}]}'}]}),
        ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "pay", "input": {"card": CARD}}]}]}),
        ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": '[4111111111111111]'}]}]}),
        ("/v1beta/models/m:generateContent", {"contents": [
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"card": CARD}}}]}]}),
        ("/v1beta/models/m:generateContent", {"contents": [
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"card": CARD}}}]}]}),
        ("/v1/responses", {"model": "m", "input": [{"type": "function_call_output", "call_id": "c", "output": '{"card":4111111111111111}'}]}),
    ],
    ids=["chat call", "chat result", "anthropic call", "anthropic result", "gemini result", "gemini call", "responses result"],
)  # fmt: skip
def test_a_number_in_a_call_or_a_result_is_listed(path: str, doc: dict[str, Any]) -> None:
    assert str(CARD) in _listed(path, doc)


@pytest.mark.parametrize("value", [True, False, None, 0, LEAST_NUMBER - 1, -0.25, 0.4111111111111111])
def test_what_is_too_short_for_an_identifier_is_not(value: object) -> None:
    assert strings({"x": value}, ()) == strings({"x": None}, ())


@given(st.integers(LEAST_NUMBER, 2**64 - 1), st.sampled_from(["%d", " %d ", "[%d,1]"]))
def test_a_number_is_replaced_where_it_stands(number: int, form: str) -> None:
    body = b'{"keep": 1.50, "x":' + (form % number).encode() + b', "y":-0e1}'
    ((text, path),) = [found for found in strings(orjson.loads(body), ()) if found[0] == str(number)]
    edited = apply_edits(body, {path: "[GONE]"})
    assert edited == body.replace(text.encode(), b'"[GONE]"')


def test_a_number_inside_json_inside_a_string_is_replaced() -> None:
    doc = {"messages": [{"role": "assistant", "tool_calls": [CALL]}], "model": "m"}
    target = routes.find("POST", "/v1/chat/completions")
    assert target is not None
    (segment,) = [one for one in target.wire.read_request(doc, target).segments if one.text == str(CARD)]
    edited = orjson.loads(apply_edits(orjson.dumps(doc), {segment.path: "[GONE]"}))
    assert orjson.loads(edited["messages"][0]["tool_calls"][0]["function"]["arguments"]) == {"card": "[GONE]"}
