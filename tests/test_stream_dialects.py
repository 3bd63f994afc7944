"""Streams of chat completions as the servers send them that speak OpenAI's dialect each in its way: real clients read the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import orjson
import pytest
from gateways import CACHE_DIR
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_openai import ChatOpenAI
from openai import OpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from test_relay import ACTING, KEY, SECRET, _refusal, _target
from test_stream_packs import shipped

from detectors.streamrules import StreamRules
from detectors.values import ChannelKind
from gateway import live
from gateway.redaction.vault import Vault
from gateway.screening.policy import preset
from gateway.streams.relay import Relay
from gateway.wires.base import Malformed
from gateway.wires.events import sse
from gateway.wires.openai_calls import MAX_CALLS
from patterns.schema import Pattern

__all__ = ["shipped"]  # a fixture

Doc = dict[str, Any]
WORDS = ["The har", "bour was ", "quiet when ", "we arrived", " in 2025, and ", "nobody 4111 ", "was there."]
USAGE = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
SAFE = {"hate": {"filtered": False, "severity": "safe"}}


def _chunk(delta: Any, finish: Any = None, *, choice: Doc | None = None, **top: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish, **(choice or {})}]
    return _top(choices=choices, **top)


def _top(**fields: Any) -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1764302400, "model": "m"}
    return sse(orjson.dumps({**head, **fields}))


def _words(made: Callable[[str], bytes], last: bytes, *more: bytes, before: bytes = b"") -> bytes:
    return before + b"".join(map(made, WORDS)) + last + b"".join(more) + b"data: [DONE]\n\n"


def _says(**more: Any) -> Callable[[str], bytes]:
    return lambda text: _chunk({"content": text}, **more)


def _call(id: str | None, arguments: str, number: int | None = 0, name: str | None = "f", **more: Any) -> Doc:
    numbered = {} if number is None else {"index": number}
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {**numbered, "id": id, "type": "function", "function": function, **more}


def _calls(*chunks: Sequence[Doc], finish: str = "tool_calls") -> bytes:
    made = [_chunk({"role": "assistant", "content": "", "tool_calls": list(calls)}) for calls in chunks]
    return b"".join(made) + _chunk({"role": "assistant", "content": ""}, finish) + b"data: [DONE]\n\n"


STOP = _chunk({}, "stop")
_AZURE = _top(choices=[], id="", created=0, model="", object="", prompt_filter_results=[{"prompt_index": 0, "content_filter_results": SAFE}])
_OFFSETS = {"content_filter_results": SAFE, "content_filter_offsets": {"check_offset": 44, "start_offset": 44, "end_offset": 198}}
_AZURE_LATER = _top(choices=[{"index": 0, "finish_reason": None, **_OFFSETS}], id="", created=0, model="", object="")
PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome", "zip": 4111}'

DIALECTS: dict[str, bytes] = {
    "Azure": _words(_says(choice={"content_filter_results": SAFE, "logprobs": None}, obfuscation="x9"), STOP, _top(choices=[], usage=USAGE), before=_AZURE),
    "Azure, filter beside": _words(_says(), _AZURE_LATER, STOP, _AZURE_LATER, before=_AZURE),
    "vLLM": _words(_says(choice={"logprobs": None, "token_ids": [1, 2]}, usage=USAGE), _chunk({"content": ""}, "stop", choice={"stop_reason": None}), _top(choices=[], usage=USAGE)),
    "llama.cpp": _words(_says(), _chunk({}, "stop", timings={"prompt_ms": 42.1, "predicted_n": 7}), _top(choices=[], usage=USAGE, timings={"cache_n": 2})),
    "Ollama": _words(lambda text: _chunk({"role": "assistant", "content": text}, system_fingerprint="fp_ollama"), STOP),
    "Groq": _words(_says(), _chunk({}, "stop", x_groq={"id": "req_01jbd6g2", "usage": {**USAGE, "queue_time": 0.03}}), before=_chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_01jbd6g2"})),
    "OpenRouter": _words(lambda text: _chunk({"role": "assistant", "content": text}, choice={"native_finish_reason": None}, provider="X"),
                         b": OPENROUTER PROCESSING\n\n", STOP, _chunk({"role": "assistant", "content": ""}, usage={**USAGE, "cost": 0.1}), before=b": OPENROUTER PROCESSING\n\n" * 2),
    "OpenRouter, thinking": _words(lambda text: _chunk({"content": "", "reasoning": text, "reasoning_details": [{"type": "reasoning.text", "text": text, "format": "f-v1", "index": 0}]}), STOP),
    "Together": _words(lambda text: _chunk({"token_id": 12, "role": "assistant", "content": text, "tool_calls": None}, choice={"text": text, "seed": None}, usage=None), STOP),
    "DeepSeek": _words(lambda text: _chunk({"content": None, "reasoning_content": text}), _chunk({"content": "So.", "reasoning_content": None}), STOP),
    "Mistral": _words(lambda text: _chunk({"content": [{"type": "text", "text": text}]}, p="abcd"), STOP, before=_chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm, "}], "closed": False}]})),
    "Gemini": _words(lambda text: _chunk({"role": "assistant", "content": text}, usage=USAGE), STOP),
    "LocalAI": _words(lambda text: _chunk({"role": "assistant", "content": text}, ""), STOP),
    "xAI": _words(_says(system_fingerprint="fp_1"), STOP, _top(choices=[], usage=USAGE, citations=["https://x.example/news"])),
    "Moonshot": _words(_says(), _chunk({}, "stop", choice={"usage": USAGE})),
    "Cerebras": _words(lambda text: _chunk({"content": text, "role": None}), _chunk({}, "stop", time_info={"created": 1764302400.123})),
    "no number": _words(lambda text: _top(choices=[{"delta": {"content": text}}]), STOP),
    "no choices at first": _words(_says(), STOP, before=_top(choices=None) + _top()),
    "Mistral, calls": _calls([_call("aB3dE5gH7", PARIS), _call("zB3dE5gH7", ROME, 1, "g")]),
    "SGLang, calls": _calls(*([_call(id, text, 0, name)] for id, name, text in (("c1", "f", ""), (None, None, '{"city"'), (None, None, ': "Rome"}')))),
    "Ollama, calls": _calls([_call("call_a", PARIS)], [_call("call_b", ROME, 0, "g")]),
    "Gemini, calls": _calls([_call("function-call-1", PARIS, extra_content={"google": {"thought_signature": "CvAB"}}), _call("function-call-2", ROME)]),
    "Gemini, calls without ids": _calls([_call("", PARIS)], [_call("", ROME, 0, "g")], finish="stop"),
}  # fmt: skip


def _through(data: bytes, rules: Any = ACTING, step: int = 61) -> bytes:
    relay = Relay(_target("chat")._replace(choices=1), "m", rules, Vault(KEY))
    out = b"".join(relay.feed(data[at : at + step], _refusal) for at in range(0, len(data), step)) + relay.end(_refusal)
    assert relay.cut is None
    return out


def _transport(out: bytes) -> Any:
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=out)
    return httpx.Client(transport=httpx.MockTransport(lambda _: answer))


def _chunks(out: bytes) -> list[Any]:
    return list(OpenAI(api_key="k", http_client=_transport(out)).chat.completions.create(model="m", messages=[], stream=True))


def _put_together(out: bytes) -> Any:
    """What OpenAI's client makes of all chunks."""
    state = ChatCompletionStreamState()
    for chunk in _chunks(out):
        state.handle_chunk(chunk)
    return state.current_completion_snapshot.to_dict()


def _printed(out: bytes) -> Any:
    """What a program prints that reads as OpenAI's first example does, and how it ends."""
    choices = [chunk.choices[0] for chunk in _chunks(out) if chunk.choices]
    deltas = [choice.delta for choice in choices if choice.delta]
    ends = [choice.finish_reason for choice in choices if choice.finish_reason]
    return "".join(delta.content for delta in deltas if isinstance(delta.content, str)), ends


def _langchain(out: bytes) -> Any:
    whole = None
    for piece in ChatOpenAI(api_key="k", model="m", http_client=_transport(out)).stream("x"):  # type: ignore[arg-type]
        whole = piece if whole is None else whole + piece
    assert whole is not None
    return whole


def _shown(out: bytes) -> Any:
    shown = re.sub(r"lc_run--[0-9a-f-]+", "", _langchain(out).model_dump_json())
    return shown.replace('"},{"type":"text","text":"', "")  # where pieces of Mistral's were held, they are cut elsewhere


CLIENTS = (_put_together, _printed, _shown)


def _read(client: Callable[[bytes], Any], out: bytes) -> Any:
    """What a client shows of a stream: nothing of what it cannot put together."""
    try:
        return client(out)
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_read_as_it_was_sent(name: str) -> None:
    out = _through(DIALECTS[name])
    for client in CLIENTS:
        assert _read(client, out) == _read(client, DIALECTS[name])
    assert _printed(out)[1]


@pytest.fixture(scope="module")
def rules(shipped: list[Pattern]) -> dict[ChannelKind, StreamRules]:
    return dict(live.stream_rules(shipped, preset("balanced"), CACHE_DIR))


VALUES = {"a key": {"k": "AKIAQ2W3E4R5T6Y7U8I9"}, "a card": {"card": "4111 1111 1111 1111"}, "a password": {"password": "Tr0ub4dor&3"}}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("ids", [("call_a", "call_b", "call_c"), ("", "", "")])
@pytest.mark.parametrize("number", [0, None])
def test_calls_of_one_number_keep_what_is_theirs(
    rules: dict[ChannelKind, StreamRules], value: str, together: bool, ids: Sequence[str], number: int | None
) -> None:
    """What is held at the end of one is no beginning of the next one."""
    given = [VALUES[value], {"city": "Rome"}, VALUES[value]]
    calls = [_call(id, json.dumps(one), number, name) for id, one, name in zip(ids, given, "fgh", strict=True)]
    out = _through(_calls(calls) if together else _calls(*([call] for call in calls)), rules)
    heard: list[str] = []
    for line in out.split(b"\n"):
        if line.startswith(b"data: {"):
            for call in json.loads(line[6:])["choices"][0]["delta"].get("tool_calls", ()):
                if call["function"].get("name"):
                    heard.append("")
                heard[-1] += call["function"]["arguments"]
    ((key, secret),) = VALUES[value].items()
    first, second, third = map(json.loads, heard)
    assert second == {"city": "Rome"}
    assert first == third
    assert re.fullmatch(r"\[[A-Z_]+_[0-9A-F]{10}\]", first[key])
    assert secret not in out.decode()
    if ids[0] and number is not None:  # LangChain tells calls of one number apart by their ids
        assert [call["args"] for call in _langchain(out).tool_calls] == [first, second, third]


PIECES = st.tuples(
    st.sampled_from(["a", "b", "", None]), st.sampled_from(["AKIAABCD", "EFGH12345678", f" {SECRET}", '{"x":"', '"}', "zz ", ""]),
    st.sampled_from([0, 0, 0, 1, None]), st.sampled_from(["f", None, ""]), st.booleans(),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=7))
def test_in_whatever_calls_a_value_is_dealt_out_no_client_has_it_whole(pieces: list[Any]) -> None:
    chunks: list[list[Doc]] = []
    for id, text, number, name, beside in pieces:
        call = _call(id, text, number, name)
        if beside and chunks:
            chunks[-1].append(call)
        else:
            chunks.append([call])
    data = _calls(*chunks)
    relay = Relay(_target("chat")._replace(choices=1), "m", ACTING, Vault(KEY))
    out = b""
    try:
        for at in range(0, len(data), 61):
            out += relay.feed(data[at : at + 61], _refusal)
            if relay.cut is not None:
                break
        out += relay.end(_refusal) if relay.cut is None else b""
    except Malformed:
        pass
    assert not re.search(rf"\b{SECRET}\b", str([_read(client, out) for client in CLIENTS]))


def test_a_piece_that_may_be_of_several_calls_ends_the_stream() -> None:
    """LangChain has it behind the first, OpenAI's client behind the last."""
    with pytest.raises(Malformed, match="several calls of one number"):
        _through(_calls([_call("a", "AKIAABCD")], [_call("b", "zz ")], [_call(None, "EFGH12345678", 0, None)]))


def test_a_stream_has_so_many_calls() -> None:
    made = _calls(*([_call(f"c{number}", "")] for number in range(MAX_CALLS)))
    assert _through(made, step=4_096).count(b'"f"') == MAX_CALLS
    with pytest.raises(Malformed, match=f"at most {MAX_CALLS} calls"):
        _through(_calls(*([_call(f"c{number}", "")] for number in range(MAX_CALLS + 1))), step=4_096)


def test_what_is_said_beside_a_delta_once_more_is_one_text_too() -> None:
    """Together's chunks have a text as those of text completions do."""
    pieces = ["it is AKIAABCD", "EFGH12345678", " so."]
    out = _through(b"".join(_chunk({"content": piece}, choice={"text": piece}) for piece in pieces) + STOP)
    choices = [chunk.choices[0] for chunk in _chunks(out)]
    printed, told = _printed(out)[0], "".join(getattr(choice, "text", "") for choice in choices)
    assert re.fullmatch(r"it is \[SECRET_CLOUD_KEY_[0-9A-F]{10}\] so\.", printed)
    assert told == printed
    assert all(choice.delta is not None for choice in choices)
