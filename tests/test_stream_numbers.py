"""Numbers of choices, blocks, items and calls that one client reads in one way and another in another: no value comes by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import orjson
import pytest
from anthropic import Anthropic
from langchain_openai import ChatOpenAI
from openai import OpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from test_relay import ACTING, KEY, SECRET, _refusal, _target
from wires_support import CHAT, COMPLETIONS, GENERATE, read

from gateway.redaction.vault import Vault
from gateway.streams.relay import Relay
from gateway.streams.texts import MAX_OPEN, Texts
from gateway.wires.base import Malformed
from gateway.wires.collecting import MAX_PARTS
from gateway.wires.events import sse
from gateway.wires.openai_places import Places

Doc = dict[str, Any]
A, B = "it is AKIAABCD", "EFGH12345678 so."
SSE = {"content-type": "text/event-stream"}


def _chat(*choices: Doc) -> bytes:
    return sse(orjson.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": list(choices)}))


def _choice(index: Any, text: str) -> Doc:
    return {"index": index, "delta": {"content": text}, "finish_reason": "stop" if text == A else None}


def _call(index: Any, text: str) -> bytes:
    call = {"index": index, "id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
    return _chat({"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls" if text == A else None})


def _candidate(index: Any, text: str, **more: Any) -> Doc:
    return {"index": index, "content": {"role": "model", "parts": [{"text": text, **more}]}}


def _gemini(*candidates: Doc) -> bytes:
    return sse(orjson.dumps({"candidates": list(candidates)}))


def _named(*docs: Doc) -> bytes:
    return b"".join(sse(orjson.dumps(doc), doc["type"].encode()) for doc in docs)


def _message(*content: Doc) -> Doc:
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": list(content), "stop_reason": None,
               "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    return {"type": "message_start", "message": message}


def _begins(index: Any, thinking: str = "") -> Doc:
    return {"type": "content_block_start", "index": index, "content_block": {"type": "thinking", "thinking": thinking, "signature": ""}}


def _thinks(index: Any, text: str) -> Doc:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "thinking_delta", "thinking": text}}


def _ends(index: int) -> Doc:
    return {"type": "content_block_stop", "index": index}


def _created(*output: Doc) -> Doc:
    return {"type": "response.created", "response": {"id": "r", "object": "response", "created_at": 0, "model": "m", "tools": [],
            "tool_choice": "auto", "parallel_tool_calls": True, "status": "in_progress", "output": list(output)}}  # fmt: skip


def _item(arguments: str = "") -> Doc:
    return {"id": "f", "type": "function_call", "call_id": "f", "name": "f", "arguments": arguments, "status": "in_progress"}


def _added(index: Any, item: Doc) -> Doc:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def _argument(index: Any, text: str) -> Doc:
    return {"type": "response.function_call_arguments.delta", "item_id": "f", "output_index": index, "delta": text}


def _part(index: int, text: str) -> Doc:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "response.content_part.added", "item_id": "m", "output_index": 0, "content_index": index, "part": part}


_DONE = {"type": "response.function_call_arguments.done", "item_id": "f", "output_index": 0, "arguments": A}
_EMPTY = {"id": "m", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
_SAID = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": B, "logprobs": []}

BROKEN: dict[str, tuple[str, bytes]] = {
    "the second choice of one": ("chat", _chat(_choice(0, A)) + _chat(_choice(1, B))),
    "two of one number in a chunk": ("chat", _chat(_choice(0, A), _choice(0, "and ")) + _chat(_choice(0, B))),
    "choice -1": ("chat", _chat(_choice(0, A)) + _chat(_choice(-1, B))),
    "choice true": ("chat", _chat(_choice(0, A)) + _chat(_choice(True, B))),
    "choice 1.0": ("chat", _chat(_choice(0, A)) + _chat(_choice(1.0, B))),
    "call -1": ("chat", _call(0, A) + _call(-1, B)),
    "the second completion of one": ("completions", b"".join(
        sse(orjson.dumps({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [
            {"index": number, "text": text, "finish_reason": None}]})) for number, text in enumerate((A, B)))),
    "the second candidate of one": ("gemini-sse", _gemini(_candidate(0, "4111 1111")) + _gemini(_candidate(1, " 1111 1111"))),
    "two candidates of one number": ("gemini-sse", _gemini(_candidate(0, A), _candidate(0, "and ")) + _gemini(_candidate(0, B))),
    "candidate -1": ("gemini-sse", _gemini(_candidate(0, A)) + _gemini(_candidate(-1, B))),
    "a thought that is none": ("gemini-sse", _gemini(_candidate(0, A)) + _gemini(_candidate(0, B, thought="no"))),
    "a message that came whole": ("messages", _named(
        _message({"type": "thinking", "thinking": A, "signature": ""}), _thinks(0, B))),
    "block -1": ("messages", _named(_message(), _begins(0), _thinks(0, A), _ends(0), _thinks(-1, B))),
    "a block at the place of another": ("messages", _named(_message(), _begins(5, A), _ends(5), _thinks(0, B))),
    "a response that came whole": ("responses", _named(_created(_item(A)), _argument(0, B))),
    "item -1": ("responses", _named(_created(), _added(0, _item()), _argument(0, A), _DONE, _argument(-1, B))),
    "an item at the place of another": ("responses", _named(_created(), _added(5, _item(A)), {**_DONE, "output_index": 5}, _argument(0, B))),
    "a part before one that said something": ("responses", _named(_created(), _added(0, _EMPTY), _part(0, ""), _part(1, A), _SAID)),
    "a part at the place of another": ("responses", _named(_created(), _added(0, _EMPTY), _part(5, A), _part(6, "and "), _SAID)),
}  # fmt: skip


def _asking(name: str) -> Any:
    """What a stream of the wire answers: a request for one reply."""
    said = [{"role": "user", "content": "x"}]
    asked = {
        "chat": lambda: read(CHAT, {"model": "m", "messages": said}),
        "completions": lambda: read(COMPLETIONS, {"model": "m", "prompt": "x"}),
        "gemini-sse": lambda: read(GENERATE, {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}),
    }
    where = _target(name)
    return where._replace(choices=asked[name]().choices) if name in asked else where


@pytest.mark.parametrize("what", BROKEN)
def test_a_stream_that_two_clients_read_in_two_ways_breaks_off(what: str) -> None:
    name, data = BROKEN[what]
    relay, out = Relay(_asking(name), "m", ACTING, Vault(KEY)), []

    def read_on() -> None:
        out.extend(relay.feed(data[at : at + 50], _refusal) for at in range(0, len(data), 50))
        out.append(relay.end(_refusal))

    with pytest.raises(Malformed):
        read_on()
    sent = b"".join([*out, relay.fail("broke off")])
    assert b"EFGH12345678" not in sent
    assert b" 1111 1111" not in sent


def _through(out: bytes) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, headers=SSE, content=out)))


@pytest.mark.parametrize("show", [
    lambda client: "".join(chunk.choices[0].delta.content or "" for chunk in OpenAI(api_key="k", http_client=client)
                           .chat.completions.create(model="m", messages=[], stream=True)),
    lambda client: "".join(str(piece.content) for piece in ChatOpenAI(api_key="k", model="m", http_client=client).stream("x")),
])  # fmt: skip
def test_programs_that_want_one_choice_show_the_first_of_each_chunk(show: Callable[[httpx.Client], str]) -> None:
    """Which is why it is one."""
    assert SECRET in show(_through(_chat(_choice(0, A)) + _chat(_choice(1, B)) + b"data: [DONE]\n\n"))


def test_minus_one_is_the_last_one_to_a_client() -> None:
    out = _chat(_choice(0, A)) + _chat(_choice(-1, B)) + b"data: [DONE]\n\n"
    state = ChatCompletionStreamState()
    for chunk in OpenAI(api_key="k", http_client=_through(out)).chat.completions.create(model="m", messages=[], stream=True):
        state.handle_chunk(chunk)
    assert SECRET in str(state.current_completion_snapshot.choices[0].message.content)


def test_what_a_message_begins_with_goes_on_in_a_client() -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 1}}
    out = BROKEN["a message that came whole"][1] + _named(_ends(0), end, {"type": "message_stop"})
    answer = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=SSE, content=out))
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    with Anthropic(api_key="k", http_client=httpx2.Client(transport=answer)) as client, client.messages.stream(**asked) as stream:
        assert SECRET in stream.get_final_message().model_dump_json(warnings=False)


def test_thoughts_over_two_blocks_are_read_as_one_too() -> None:
    relay = Relay(_target("messages"), "m", ACTING, Vault(KEY))
    data = _named(_message(), _begins(0), _thinks(0, A), _ends(0), _begins(1), _thinks(1, B), _ends(1), {"type": "message_stop"})
    out = relay.feed(data, _refusal) + relay.end(_refusal)
    assert b"EFGH12345678" not in out
    assert b" so." in out


@pytest.mark.parametrize(("path", "doc", "choices"), [
    (CHAT, {"n": 3}, 3), (CHAT, {"n": "3"}, None), (CHAT, {"n": None}, 1), (COMPLETIONS, {"prompt": ["x", "y"], "n": 2}, 4),
    (COMPLETIONS, {"prompt": [1, 2, 3]}, 1), (COMPLETIONS, {"prompt": [[1], [2]]}, 2),
    (GENERATE, {"generationConfig": {"candidateCount": 2}}, 2), (GENERATE, {"generation_config": {"candidate_count": 2}}, 2),
])  # fmt: skip
def test_how_many_are_asked_for(path: str, doc: Doc, choices: int | None) -> None:
    base: dict[str, Doc] = {CHAT: {"model": "m", "messages": [{"role": "user", "content": "x"}]}, COMPLETIONS: {"model": "m", "prompt": "x"},
                            GENERATE: {"contents": [{"parts": [{"text": "x"}]}]}}  # fmt: skip
    assert read(path, {**base[path], **doc}).choices == choices


def test_as_many_choices_as_were_asked_for_pass_as_they_came() -> None:
    data = b"".join(_chat(_choice(number, "All is well. ")) for number in (1, 0, 1, 0)) + b"data: [DONE]\n\n"
    relay = Relay(_target("chat")._replace(choices=2), "m", ACTING, Vault(KEY))
    assert relay.feed(data, _refusal) + relay.end(_refusal) == data


def test_parts_of_all_items_together_are_bounded() -> None:
    places = Places()
    places.note("response.output_item.added", {"output_index": 0, "item": {"content": [0] * MAX_PARTS}})
    with pytest.raises(Malformed, match=f"at most {MAX_PARTS} parts"):
        places.note("response.output_item.added", {"output_index": 1, "item": {"content": [0]}})


def test_a_field_that_is_called_as_a_text_is_none_of_its_parts() -> None:
    odd = {"type": "response.x.delta", "delta": {"response.output_text.delta": "hi"}}
    piece = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "x"}
    data = b"".join(b"data: %b\n\n" % orjson.dumps(one) for one in (odd, piece))
    relay = Relay(_target("responses"), "m", ACTING, Vault(KEY))
    assert relay.feed(data, _refusal) + relay.end(_refusal) == data


def test_more_texts_than_are_remembered_are_left_out_where_they_are_said_once_more() -> None:
    texts = Texts()
    for number in range(MAX_OPEN + 2):
        texts.keep((number, "text"), "went out")
    assert [texts.again((number, "text")) for number in (0, MAX_OPEN - 1, MAX_OPEN, MAX_OPEN + 2)] == ["went out", "went out", "", None]
    texts.keep((MAX_OPEN, "text"), None)
    assert texts.again((MAX_OPEN, "text")) is None
