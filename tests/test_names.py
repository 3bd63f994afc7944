"""What replies name things by, and whatever else stands beside their texts: programs have it in their hands, so it is looked at."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

import httpx
import httpx2
import orjson
import pytest
from anthropic import Anthropic
from gateways import Gateway
from google import genai
from google.genai import types as genai_types
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI
from test_relay import ACTING, KEY, SECRET, STREAMS, _bytes, _chunk, _cut, _refusal, _relay, _target
from test_stream_pieces import _docs, _sse
from upstreams import reply, upstream

from gateway.redaction.vault import Vault
from gateway.streams.labels import PIECE, TURN
from gateway.streams.relay import Relay
from gateway.streams.steps import begun
from gateway.wires.base import Malformed
from gateway.wires.collecting import MAX_PARTS
from gateway.wires.events import sse
from gateway.wires.names import names

Doc = dict[str, Any]
TEXT = "say:The harbour was quiet when we arrived, and nobody was there."
CARD = 4111111111111111
UNTOLD = frozenset({"obfuscation", "data", "signature", "encrypted_content", "thoughtSignature"})

MESSAGE: Doc = {
    "id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "stop_sequence": None, "content": [
        {"type": "thinking", "thinking": "t", "signature": "EqQB"}, {"type": "text", "text": "Well."},
        {"type": "server_tool_use", "id": "srvtoolu_01A", "name": "web_search", "input": {"query": "q"}, "caller": {"type": "direct"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01A", "content": {
            "type": "web_search_tool_result_error", "error_code": "unavailable"}},
        {"type": "container_upload", "file_id": "file_011C"},
    ], "usage": {"input_tokens": 1, "output_tokens": 1, "service_tier": "standard"},
    "container": {"id": "container_011C", "expires_at": "2026-01-01T00:00:00Z", "skills": []},
}  # fmt: skip
RESPONSE: Doc = {
    "id": "resp_0d9d5b6c", "object": "response", "created_at": 1764302400, "model": "m", "status": "completed", "tools": [],
    "tool_choice": "auto", "parallel_tool_calls": True, "metadata": {}, "service_tier": "default", "truncation": "disabled",
    "reasoning": {"effort": "low"}, "prompt_cache_key": "k", "safety_identifier": "s", "output": [
        {"id": "msg_0d9d5b6c", "type": "message", "role": "assistant", "status": "completed", "phase": "final_answer",
         "content": [{"type": "output_text", "text": "Well.", "annotations": [], "logprobs": []}]},
        {"id": "fc_0d9d5b6c", "type": "function_call", "call_id": "call_9", "name": "f", "arguments": "{}", "status": "completed"},
        {"id": "ci_0d9d5b6c", "type": "code_interpreter_call", "status": "completed", "container_id": "cntr_1", "code": "1",
         "outputs": [{"type": "image", "url": "https://files.example/i.png"}]},
    ],
}  # fmt: skip
CANDIDATES: Doc = {
    "candidates": [{
        "index": 0, "finishReason": "STOP", "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}],
        "content": {"role": "model", "parts": [
            {"text": "Well."}, {"functionCall": {"id": "c1", "name": "f", "args": {"a": "b"}}},
            {"executableCode": {"id": "x", "language": "PYTHON", "code": "1"}},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://files.example/v1/files/a"}}]},
    }],
    "promptFeedback": {"blockReason": "OTHER", "safetyRatings": []}, "usageMetadata": {"trafficType": "ON_DEMAND"},
    "modelVersion": "m-001", "responseId": "mAitaLmkHPPlz7IPvtfYgQ4", "createTime": "2026-01-01T00:00:00Z",
    "modelStatus": {"modelStage": "STABLE", "message": "None."},
}  # fmt: skip
CHAT: Doc = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion", "created": 1764302400, "model": "m",
    "system_fingerprint": "fp_44709d6fcb", "service_tier": "default", "choices": [{
        "index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "content": "Well.",
            "tool_calls": [{"id": "call_abc", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        "logprobs": {"content": [{"token": "Well", "logprob": -1, "bytes": None, "top_logprobs": [
            {"token": "Oh", "logprob": -2, "bytes": None}]}]},
    }], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip
STREAMED: dict[str, list[Doc]] = {
    "chat": [{**CHAT, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Well."}}]}],
    "completions": [],
    "responses": [{"type": "response.created", "response": {**RESPONSE, "output": []}, "sequence_number": 0},
                  *({"type": "response.output_item.done", "output_index": n, "item": one, "sequence_number": 1}
                    for n, one in enumerate(RESPONSE["output"])),
                  {"type": "response.completed", "response": RESPONSE, "sequence_number": 9}],
    "messages": [{"type": "message_start", "message": {**MESSAGE, "content": []}},
                 *({"type": "content_block_start", "index": n, "content_block": one} for n, one in enumerate(MESSAGE["content"])),
                 {"type": "message_delta", "delta": {"stop_reason": "end_turn", "container": MESSAGE["container"]}, "usage": {}}],
    "gemini-sse": [CANDIDATES],
    "gemini-array": [CANDIDATES],
}  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every string that a sender may write a value into, and every object, which may have a field more."""
    if isinstance(value, dict):
        yield path
        for key, one in value.items():
            if key not in UNTOLD:
                yield from _places(one, (*path, key))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _places(one, (*path, index))
    elif isinstance(value, str):
        yield path


def _with(doc: Doc, path: tuple[Any, ...], value: Any) -> Doc:
    """The document with a value at a place: instead of the string that stands there, or as a field's name or value."""
    made = copy.deepcopy(doc)
    there: Any = made
    for step in path[:-1]:
        there = there[step]
    if not path or isinstance(there[path[-1]], dict):
        there = there[path[-1]] if path else there
        there.update({value: "x"} if isinstance(value, str) else {"serial": value})
    elif isinstance(value, str):
        there[path[-1]] = value
    return made


def _stream(name: str, docs: list[Doc]) -> bytes:
    return b"[" + b",".join(map(orjson.dumps, docs)) + b"]" if name == "gemini-array" else _sse(docs)


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_value_stands_anywhere_in_a_stream(name: str, data: st.DataObject) -> None:
    docs = [*_docs(name, _bytes(name, TEXT))[:3], *STREAMED[name]]
    at = data.draw(st.integers(0, len(docs) - 1))
    path = data.draw(st.sampled_from(sorted(_places(docs[at]), key=str)))
    value = data.draw(st.sampled_from([f"it-{SECRET}.", CARD]))
    docs[at] = _with(docs[at], path, value)
    sent = _stream(name, docs)
    if path == ("type",):  # else its name says it, too, which no client shows
        sent = sent.replace(f"event: {value}\n".encode(), b"")
    out, _ = _relay(name, _cut(sent, data.draw(st.lists(st.integers(0, len(sent)), max_size=3))))
    assert SECRET.encode() not in out
    assert str(CARD).encode() not in out


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_in_which_nothing_is_found_passes_as_it_came(name: str) -> None:
    sent = _stream(name, [*_docs(name, _bytes(name, TEXT)), *STREAMED[name]])
    assert _relay(name, [sent])[0] == sent


def test_a_field_named_by_a_value_is_not_named_so_in_a_later_frame() -> None:
    """What is held of its text goes out in a frame that is made after this one."""
    out, _ = _relay("chat", [_chunk({SECRET: "4111"}) + _chunk({SECRET: " and"}) + _chunk({}, finish_reason="stop")])
    assert SECRET.encode() not in out
    said = [value for doc in _docs("chat", out) for value in doc["choices"][0]["delta"].values()]
    assert "".join(said) == "4111 and"


def test_a_frame_that_is_made_names_its_item() -> None:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    docs: list[Doc] = [{"type": "response.output_text.delta", **place, "delta": one, "sequence_number": 1} for one in ("so ", "4111")]
    docs.append({"type": "response.output_text.done", **place, "text": "so 4111", "sequence_number": 2})
    out, _ = _relay("responses", [_sse(docs)])
    deltas = [doc for doc in _docs("responses", out) if doc["type"].endswith(".delta")]
    assert "".join(doc["delta"] for doc in deltas) == "so 4111"
    assert {doc["item_id"] for doc in deltas} == {"msg_1"}


def test_numbers_that_count_pass_and_cards_are_looked_at() -> None:
    doc = {"created": 1764302400, "vector": [0.25] * 9, "tokens": [4, 8], "serial": CARD, "deep": [{"n": CARD}, [CARD]], "x": 4.1e15}
    found = dict(names(doc, []))
    assert found == {str(CARD): ("deep", 1, 0), "4100000000000000": ("x",)}
    assert len(names(doc, [])) == 4


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, list[bytes]]]:
    """A gateway, and the body that its upstream answers with."""
    says = [b"{}"]

    async def answer(_body: bytes, _reader: Any, writer: Any) -> None:
        writer.write(reply(says[0]))
        await writer.drain()

    folder: File = tmp_path_factory.mktemp("hostile")
    with upstream(answer) as running:
        root = running.base_url.removesuffix("/v1")
        urls = {"openai": running.base_url, "anthropic": root, "gemini": root}
        settings = {
            "limits": {"ready_grace_seconds": 0, "drain_seconds": 2}, "detection": {"encoder": False},
            "upstreams": {name: {"base_url": url, "attempts": 1} for name, url in urls.items()},
        }  # fmt: skip
        gateway = Gateway(folder, settings, 1, {})
        yield gateway, says
        gateway.stop()


def _ask(gateway: Gateway, name: str) -> tuple[str, str]:
    """What a provider's client has in the end, as JSON, and what the gateway did."""
    said: Any = [{"role": "user", "content": "Hello there"}]
    if name in ("chat", "responses"):
        with OpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=0, http_client=httpx.Client(trust_env=False)) as client:
            if name == "chat":
                raw: Any = client.chat.completions.with_raw_response.create(model="m", messages=said)
            else:
                raw = client.responses.with_raw_response.create(model="m", input="Hello there")
            return raw.parse().model_dump_json(warnings=False), raw.headers["x-portcullis-action"]
    if name == "messages":
        with Anthropic(base_url=gateway.url, api_key="k", max_retries=0, http_client=httpx2.Client(trust_env=False)) as asker:
            got = asker.messages.with_raw_response.create(model="m", max_tokens=9, messages=said)
            return got.parse().model_dump_json(warnings=False), got.headers["x-portcullis-action"]
    google = genai.Client(api_key="k", http_options=genai_types.HttpOptions(base_url=gateway.url))
    answer = google.models.generate_content(model="m", contents="Hello there")
    headers = answer.sdk_http_response.headers if answer.sdk_http_response else None
    return answer.model_dump_json(), (headers or {})["x-portcullis-action"]


WHOLE = {"chat": CHAT, "responses": RESPONSE, "messages": MESSAGE, "gemini": CANDIDATES}


@pytest.mark.filterwarnings("ignore:.* is not a valid:UserWarning")  # Google's client, of a state that it does not know
@pytest.mark.parametrize("name", WHOLE)
def test_no_value_stands_anywhere_in_what_a_client_has(name: str, hostile: tuple[Gateway, list[bytes]]) -> None:
    gateway, says = hostile
    for path in _places(WHOLE[name]):
        says[0] = orjson.dumps(_with(WHOLE[name], path, SECRET))
        try:
            has, action = _ask(gateway, name)
        except ValueError:  # the client knows no such kind of a thing
            continue
        assert SECRET not in has, path
        assert action == "redact" or SECRET.encode() not in says[0], path


@pytest.mark.parametrize("name", WHOLE)
def test_what_names_things_as_providers_do_passes(name: str, hostile: tuple[Gateway, list[bytes]]) -> None:
    gateway, says = hostile
    says[0] = orjson.dumps(WHOLE[name])
    has, action = _ask(gateway, name)
    assert action == "allow"
    assert "[" + "SECRET" not in has


def test_too_many_names_are_told_by_their_bound() -> None:
    with pytest.raises(Malformed, match=f"at most {MAX_PARTS} names in one body"):
        names({"ids": [f"ab-{number}xyz" for number in range(MAX_PARTS + 1)]}, ())


def test_others_have_their_turn_among_the_names_of_a_frame() -> None:
    many = [f"ab! {number:06}x" for number in range(1_000)]
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": {"of": many}}
    steps = Relay(_target("chat"), "m", ACTING, Vault(KEY)).steps(sse(orjson.dumps(chunk)), _refusal)
    turns = 0

    def had_one() -> bool:
        nonlocal turns
        turns += 1
        return False

    assert begun(steps, had_one) is not None
    assert turns >= 1_000 // TURN


@pytest.mark.parametrize("where", ["id", "role", "comment"])
def test_others_have_their_turn_within_a_long_name(where: str) -> None:
    """It is looked at piece by piece: a value across two of them is one, and no sender can stop a worker with a name."""
    long = "x-1 " * PIECE
    name = f"{long[: PIECE * 2 - 9]} {SECRET} {long}"
    doc = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]}
    if where == "id":
        doc["id"] = name
    elif where == "role":
        doc["choices"][0]["delta"]["role"] = name  # type: ignore[index]
    lines = b": %b\n" % name.encode() if where == "comment" else b""
    relay = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    steps = relay.steps(lines + sse(orjson.dumps(doc)), _refusal)
    turns, answer, out = 0, None, None
    while out is None:
        try:
            work = steps.send(answer)
            answer, turns = work() if work is not None else None, turns + (work is None)
        except StopIteration as over:
            out = over.value
    assert SECRET.encode() not in out
    assert out.count(b"x-1 ") >= PIECE or where == "comment"
    assert turns >= len(name) // PIECE or where == "comment"
