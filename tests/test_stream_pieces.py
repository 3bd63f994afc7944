"""Texts whose pieces stand where few would look for them, in every wire: in lists, where a text begins, in parts of a call.

And what is sent after a frame of which something was held: it says the rest of that text, and nothing once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta
from test_relay import ACTING, KEY, SECRET, _chunk, _refusal, _relay, _target
from wires_support import frames_of

from gateway.redaction.vault import Vault
from gateway.screening.policy import Mode
from gateway.streams.relay import Relay
from gateway.wires.events import sse
from gateway.wires.frames import BadFraming

Doc = dict[str, Any]


def _sse(docs: Sequence[Doc]) -> bytes:
    return b"".join(sse(orjson.dumps(doc), str(doc.get("type", "")).encode()) for doc in docs)


def _docs(name: str, out: bytes) -> list[Doc]:
    where = _target(name)
    frames = frames_of(where.wire.splitter(where), [out])
    return [orjson.loads(frame.data) for frame in frames if frame.data and frame.data != b"[DONE]"]


def _deltas(make: Callable[[str], Doc]) -> Callable[[list[str]], bytes]:
    return lambda pieces: b"".join(_chunk(make(piece)) for piece in pieces) + _chunk({}, finish_reason="stop")


def _block(kind: str, field: str) -> Callable[[list[str]], bytes]:
    def stream(pieces: list[str]) -> bytes:
        first, *more = pieces
        deltas: list[Doc] = [
            {"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", field: one}} for one in more
        ]
        return _sse(
            [{"type": "content_block_start", "index": 0, "content_block": {"type": kind, field: first}}, *deltas,
             {"type": "content_block_stop", "index": 0}, {"type": "message_stop"}]
        )  # fmt: skip

    return stream


def _unknown_delta(pieces: list[str]) -> bytes:
    deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "words": one}} for one in pieces]
    return _sse([*deltas, {"type": "content_block_stop", "index": 0}])


def _part(
    kind: str, field: str, event: str, place: str, added: str = "response.content_part.added"
) -> Callable[[list[str]], bytes]:
    def stream(pieces: list[str]) -> bytes:
        first, *more = pieces
        where = {"item_id": "i", "output_index": 0, place: 0}
        deltas = [{"type": f"{event}.delta", **where, "delta": one} for one in more]
        begun = {"type": added, **where, "part": {"type": kind, field: first}}
        return _sse([begun, *deltas, {"type": f"{event}.done", **where}])

    return stream


def _item(item: Doc, event: str, *places: str) -> Callable[[list[str]], bytes]:
    """``item`` has the beginning of its text where it says ``FIRST``."""

    def stream(pieces: list[str]) -> bytes:
        first, *more = pieces
        whole = orjson.loads(orjson.dumps(item).replace(b'"FIRST"', orjson.dumps(first)))
        where = {"item_id": "i", "output_index": 0, **dict.fromkeys(places, 0)}
        deltas = [{"type": f"{event}.delta", **where, "delta": one} for one in more]
        added = {"type": "response.output_item.added", "output_index": 0, "item": {"id": "i", **whole}}
        return _sse([added, *deltas, {"type": f"{event}.done", **where}])

    return stream


def _call(spelling: Callable[[str], str]) -> Callable[[list[str]], bytes]:
    def stream(pieces: list[str]) -> bytes:
        path, value, more = map(spelling, ("jsonPath", "stringValue", "willContinue"))
        begun = [{spelling("partialArgs"): [{path: "$.k", value: one, more: True}], more: True} for one in pieces[:-1]]
        last = {spelling("partialArgs"): [{path: "$.k", value: pieces[-1]}], more: True}
        calls = [{"name": "f", more: True}, *begun, last, {}]
        parts = [{spelling("functionCall"): call} for call in calls]
        return _sse([{"candidates": [{"content": {"parts": [part]}}]} for part in parts])

    return stream


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: "_" + letter.group().lower(), name)


PLACES: dict[str, tuple[str, Callable[[list[str]], bytes]]] = {
    "mistral's parts": ("chat", _deltas(lambda one: {"content": [{"type": "text", "text": one}]})),
    "mistral's thoughts": (
        "chat", _deltas(lambda one: {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": one}]}]})
    ),
    "openrouter's thoughts": (
        "chat", _deltas(lambda one: {"reasoning_details": [{"type": "reasoning.text", "text": one, "index": 0}]})
    ),
    "openrouter's summary": (
        "chat", _deltas(lambda one: {"reasoning_details": [{"type": "reasoning.summary", "summary": one, "index": 1}]})
    ),
    "openrouter's part that nobody knows": (
        "chat", _deltas(lambda one: {"reasoning_details": [{"type": "reasoning.new", "words": one, "index": 0}]})
    ),
    "a field that nobody knows": ("chat", _deltas(lambda one: {"provider_specific_fields": {"vendor": {"words": one}}})),
    "a field of a call that nobody knows": (
        "chat", _deltas(lambda one: {"tool_calls": [{"index": 0, "function": {"arguments": "", "reason": one}}]})
    ),
    "litellm's thoughts": ("chat", _deltas(lambda one: {"thinking_blocks": [{"type": "thinking", "thinking": one}]})),
    "a block's text": ("messages", _block("text", "text")),
    "a block's thoughts": ("messages", _block("thinking", "thinking")),
    "a delta nobody knows": ("messages", _unknown_delta),
    "a part": ("responses", _part("output_text", "text", "response.output_text", "content_index")),
    "a refusal": ("responses", _part("refusal", "refusal", "response.refusal", "content_index")),
    "a summary": (
        "responses",
        _part("summary_text", "text", "response.reasoning_summary_text", "summary_index",
              "response.reasoning_summary_part.added"),
    ),
    "a message": (
        "responses",
        _item({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "FIRST"}]},
              "response.output_text", "content_index"),
    ),
    "a call": (
        "responses", _item({"type": "function_call", "name": "f", "arguments": "FIRST"}, "response.function_call_arguments")
    ),
    "code": ("responses", _item({"type": "code_interpreter_call", "code": "FIRST"}, "response.code_interpreter_call_code")),
    "a part of a call": ("gemini-sse", _call(str)),
    "a part of a call, in snake case": ("gemini-sse", _call(_snake)),
}  # fmt: skip
SETTINGS = {"type", "name", "id", "item_id", "jsonPath", "json_path", "object", "model", "role", "finish_reason"}


def _strings(value: Any) -> Iterator[str]:
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(one, dict | list):
            yield from _strings(one)
        elif isinstance(one, str) and key not in SETTINGS:
            yield one


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=40, deadline=None)
@given(marks=st.sets(st.integers(1, len(SECRET) + 11), min_size=1), more=st.sampled_from(["", "!"]))
def test_a_value_in_pieces_is_replaced(place: str, marks: set[int], more: str) -> None:
    name, stream = PLACES[place]
    text = f"it is {SECRET} so{more}"
    edges = [0, *sorted(marks), len(text)]
    out, relay = _relay(name, [stream([text[a:b] for a, b in pairwise(edges)])])
    docs = _docs(name, out)
    said = "".join(one for doc in docs for one in _strings(doc))
    assert re.fullmatch(rf"it is \[SECRET_CLOUD_KEY_[0-9A-F]{{10}}\] so{more}", said)
    assert not relay.held
    begun = [doc["type"] for doc in docs if str(doc.get("type")).endswith((".added", "_start"))]
    assert len(begun) <= 1, "what has begun does not begin again"


@pytest.mark.parametrize("place", PLACES)
def test_what_is_held_to_the_end_is_a_piece_like_the_others(place: str) -> None:
    name, stream = PLACES[place]
    docs = _docs(name, _relay(name, [stream(["it is ", "the number 41"])])[0])
    assert "".join(one for doc in docs for one in _strings(doc)) == "it is the number 41"
    docs = _docs(name, _relay(name, [stream(["number 41", ""])])[0])
    assert "".join(one for doc in docs for one in _strings(doc)) == "number 41"


def test_what_a_chunk_says_once_is_not_said_again_with_what_was_held_of_it() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "dial", "arguments": '{"number": 4111 1111'}}
    delta = {"role": "assistant", "content": "The number 4111 1111", "tool_calls": [call]}
    whole = _chunk(delta, logprobs={"content": [{"token": "4111"}]})
    out, _ = _relay("chat", [b"\xef\xbb\xbf" + whole + _chunk({}, finish_reason="tool_calls")])
    assert out.count(b"\xef\xbb\xbf") == 1
    docs = _docs("chat", out)
    message: dict[object, object] = {}
    for doc in docs:
        message = accumulate_delta(message, doc["choices"][0]["delta"])
    assert message == delta
    assert b"token" not in out


@pytest.mark.parametrize("name", ["gemini-sse", "gemini-array"])
def test_a_call_or_an_image_beside_a_text_is_not_repeated_with_what_was_held_of_it(name: str) -> None:
    parts = [{"text": "The number 4111 1111"}, {"functionCall": {"name": "dial", "args": {"a": "b"}}},
             {"inlineData": {"mimeType": "image/png", "data": "QQ=="}}]  # fmt: skip
    chunks: list[Doc] = [{"candidates": [{"content": {"role": "model", "parts": parts}}], "modelVersion": "m"},
              {"candidates": [{"content": {"role": "model", "parts": []}, "finishReason": "STOP"}]}]  # fmt: skip
    out, _ = _relay(name, [_sse(chunks) if name == "gemini-sse" else orjson.dumps(chunks)])
    said = [part for doc in _docs(name, out) for part in doc["candidates"][0]["content"]["parts"]]
    assert "".join(part.get("text", "") for part in said) == "The number 4111 1111"
    assert [part for part in said if "text" not in part] == parts[1:]


def test_a_part_of_a_call_that_is_let_go_in_silence_says_of_what_it_is_part() -> None:
    relay = Relay(_target("gemini-sse"), "m", ACTING, Vault(KEY))
    out = relay.feed(_call(str)(["number 41", "11", ""])[:-80], _refusal) + relay.release_overdue(_refusal)
    pieces = [piece for doc in _docs("gemini-sse", out) for part in doc["candidates"][0]["content"]["parts"]
              for piece in part["functionCall"].get("partialArgs", [])]  # fmt: skip
    assert "".join(piece["stringValue"] for piece in pieces) == "number 4111"
    assert {piece["jsonPath"] for piece in pieces} == {"$.k"}


@settings(max_examples=40, deadline=None)
@given(marks=st.sets(st.integers(1, len(SECRET) + 30)))
def test_a_message_that_says_all_so_far_says_what_the_deltas_did(marks: set[int]) -> None:
    text = f"The number 4111 1111 1111 1111 and the key {SECRET}"
    edges = [0, *sorted(marks), len(text)]
    chunks = [
        _chunk({"content": text[a:b]}, message={"role": "assistant", "content": text[:b]}) for a, b in pairwise(edges)
    ]
    end = _chunk({"content": ""}, message={"role": "assistant", "content": text}, finish_reason="stop")
    out, relay = _relay("chat", [*chunks, end])
    said = ""
    for doc in _docs("chat", out):
        choice = doc["choices"][0]
        said += choice["delta"]["content"]
        if "message" in choice:
            assert said.startswith(choice["message"]["content"]) or choice["finish_reason"]
    assert re.fullmatch(r"The number \[PII_PAYMENT_[0-9A-F]{10}\] and the key \[SECRET_CLOUD_KEY_[0-9A-F]{10}\]", said)
    assert choice["message"]["content"] == said
    assert relay.said.texts.keys() == {(0, "content")}, "what is said again is not judged again"


def test_a_message_that_says_what_its_delta_does_says_all_of_it() -> None:
    texts = ["The number ", "is 4111 ", "1111, or so"]
    chunks = [_chunk({"content": one}, message={"role": "assistant", "content": one}) for one in texts]
    docs = _docs("chat", _relay("chat", [*chunks, _chunk({}, finish_reason="stop")])[0])
    said = [doc["choices"][0] for doc in docs]
    assert "".join(one["message"]["content"] for one in said if "message" in one) == "".join(texts)
    assert "".join(one["delta"].get("content", "") for one in said) == "".join(texts)


@pytest.mark.parametrize("name", ["A", "Pay2025", "dial"])
def test_a_called_functions_name_waits_for_nothing_once_its_arguments_begin(name: str) -> None:
    function = {"name": name, "arguments": ""}
    relay = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    begun = _chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
    assert relay.feed(begun, _refusal) == begun


@pytest.mark.parametrize("name", ["chat", "messages", "gemini-sse"])
def test_json_that_stands_beside_the_data_is_read_or_does_not_pass(name: str) -> None:
    doc = {"type": "error", "error": {"message": f"it is {SECRET}"}}
    one = orjson.dumps(doc)
    for data in (one, b"data: {}\n" + one, one + b"\n" + one, orjson.dumps(doc, option=orjson.OPT_INDENT_2)):
        relay, out = Relay(_target(name), "m", ACTING, Vault(KEY)), b""
        try:
            out += relay.feed(data + b"\n\n", _refusal) + relay.end(_refusal)
        except BadFraming:
            out += relay.fail("broke off")
        assert SECRET.encode() not in out
        assert b"error" in out


CALL = {"to": "me", "cmd": "first do rm -rf / and wait", "a": "1", "b": "2", "c": "3"}
GEMINIS = {"candidates": [{"content": {"parts": [{"functionCall": {"name": "run", "args": CALL}}]}}]}
BLOCK = {"type": "tool_use", "id": "t", "name": "run", "input": CALL}
WHOLE_CALLS = {
    "chat": _chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "run", "arguments": CALL}}]}),
    "messages": _sse([{"type": "content_block_start", "index": 0, "content_block": BLOCK}]),
    "responses": _sse([{"type": "response.output_item.added", "item": {"type": "brand_new_call", "action": CALL}}]),
    "gemini-sse": _sse([GEMINIS]),
    "gemini-array": b"[" + orjson.dumps(GEMINIS),
}


@pytest.mark.parametrize("name", WHOLE_CALLS)
def test_of_a_call_that_comes_whole_and_is_cut_nothing_goes_out(name: str) -> None:
    out, relay = _relay(name, [WHOLE_CALLS[name]])
    assert relay.cut is not None
    assert b"first do" not in out
    assert b'"run"' not in out
    assert len(_docs(name, out)) >= 1, "the stream ends as the wire ends"


@pytest.mark.parametrize("size", [1, 3, 1_000])
@pytest.mark.parametrize("mode", Mode)
def test_a_value_has_the_stand_in_in_a_streamed_call_that_it_has_in_a_text(mode: Mode, size: int) -> None:
    vault = Vault(KEY, {"pii": mode, "secret": mode})
    arguments = r'{"card": "4111\u0020\u0034111 1111 1111", "key": "AKIA\u0041BCDEFGH12345678", "more": 1}'
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    call = [_chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces]
    relay = Relay(_target("chat"), "m", ACTING, vault)
    out = relay.feed(b"".join(call), _refusal) + relay.end(_refusal)
    said = "".join(doc["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] for doc in _docs("chat", out))
    own = vault.sealed()
    card, key = own.stand_in("4111 4111 1111 1111", "pii.payment"), own.stand_in(SECRET, "secret.cloud_key")
    assert orjson.loads(said) == {"card": card, "key": key, "more": 1}
