"""Escapes that are half a character: what has one is read with U+FFFD for it, passes so, and goes on being screened."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
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
from realtime_support import SECRET, Provider, begin, closing, delta, dial, done
from test_stream_forms import KEY, _ask, _Model, gateway, model, said
from upstreams import reply, says, upstream
from websockets.sync.server import ServerConnection

from gateway.wires.frames import Frame
from gateway.wires.halves import may_have_halves, without_halves, without_halves_in

__all__ = ["gateway", "model", "said"]  # the fixtures
HALF = re.compile("[\ud800-\udfff]")
MARK = "\N{PERPENDICULAR}"
SAID = f"say:It is {MARK} open, the key is {KEY}{MARK} and no more{MARK}"
READ = re.compile("It is \ufffd open, the key is \\[SECRET_[A-Z_]+_[0-9A-F]{10}\\]\ufffd and no more\ufffd")

atoms = st.sampled_from(
    (r"\ud83d", r"\uDE00", r"\ude00", r"\uD83D", "\\\\", r"\n", r"\"", r"\u0041", r"\ud55c", "u", "d83d", "x", "é", " ")
)


@given(st.lists(atoms, max_size=12).map("".join))
def test_what_is_left_is_what_a_lenient_reader_reads_but_for_the_halves(inside: str) -> None:
    data = f'"{inside}"'.encode()
    lenient = HALF.sub("\ufffd", json.loads(data))
    assert orjson.loads(without_halves(data)) == lenient
    assert may_have_halves(data) or without_halves(data) is data


@pytest.mark.parametrize("data", [b"\\", b"\\u", b"\\ud8", b'{"a": "\\ud8"}', b"\\ud83d", b"\\ud83d\\", b": \\\n", b"x" * 9])
def test_what_is_no_json_stays_what_it_is(data: bytes) -> None:
    assert without_halves(data) in (data, data.replace(b"\\ud83d", b"\\ufffd"))


def test_a_frame_without_one_is_the_same_frame() -> None:
    frame = Frame(b'data: "\\ud83d\\ude00"\n\n', b"", b'"\\ud83d\\ude00"')
    assert without_halves_in(frame) is frame


def _halved(data: bytes) -> list[bytes]:
    return [data.replace(MARK.encode(), rb"\ud83d")]


def _chat(client: openai.OpenAI) -> str:
    chunks = list(client.chat.completions.create(model="m", messages=_ask(), stream=True))
    assert chunks[-1].choices[-1].finish_reason == "stop"
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def _responses(client: openai.OpenAI) -> str:
    with client.responses.stream(model="m", input="Tell me.") as stream:
        return stream.get_final_response().output_text


@pytest.mark.parametrize("ask", [_chat, _responses])
def test_openai(gateway: Gateway, model: _Model, ask: Callable[[openai.OpenAI], str]) -> None:
    model.directive, model.written = SAID, _halved  # type: ignore[method-assign]
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        assert READ.fullmatch(ask(client))


def test_anthropic(gateway: Gateway, model: _Model) -> None:
    model.directive, model.written = SAID, _halved  # type: ignore[method-assign]
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="unused", max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=99, messages=_ask()) as stream,
    ):
        assert READ.fullmatch(stream.get_final_text())


def test_gemini(gateway: Gateway, model: _Model) -> None:
    model.directive, model.written = SAID, _halved  # type: ignore[method-assign]
    options = genai_types.HttpOptions(base_url=gateway.url)
    with genai.Client(api_key="unused", http_options=options) as client:
        chunks = list(client.models.generate_content_stream(model="g", contents="Tell me."))
    assert READ.fullmatch("".join(chunk.text or "" for chunk in chunks))


def test_a_last_frame_without_its_end_is_heard_too(gateway: Gateway, model: _Model) -> None:
    model.raw = rb'data: {"id":"c","choices":[{"index":0,"delta":{"content":"half of it \ud83d"},"finish_reason":null}]}'
    with gateway.client() as client:
        got = client.post("/v1/chat/completions", json={"model": "m", "stream": True, "messages": _ask()})
    assert got.text.rstrip("\n") == model.raw.decode().replace(r"\ud83d", r"\ufffd")


def test_a_frame_of_megabytes(gateway: Gateway, model: _Model) -> None:
    words = r"The market \ud83d\ude00 beside the \\ harbour \ud83d is open. " * 20_000
    doc = f'{{"id":"c","choices":[{{"index":0,"delta":{{"content":"{words}the key is {KEY} and no more"}},"finish_reason":"stop"}}]}}'
    model.raw = b"data: " + doc.encode() + b"\n\ndata: [DONE]\n\n"
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        text = _chat(client)
    assert text.startswith("The market \N{GRINNING FACE} beside the \\ harbour \ufffd is open. " * 20_000)
    assert KEY not in text


def test_a_whole_reply(tmp_path_factory: pytest.TempPathFactory) -> None:
    body = rb'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":'
    body += rb'{"role":"assistant","content":"It is \ud83d open, the key is %b\ude00 and no more\ud83d"}}]}' % KEY.encode()
    with upstream(says(reply(body))) as running:
        settings: dict[str, Any] = {"limits": {"ready_grace_seconds": 0}, "detection": {"encoder": False},
                                    "upstreams": {"openai": {"base_url": running.base_url}}}  # fmt: skip
        started = Gateway(tmp_path_factory.mktemp("halves"), settings, 1, {})
        try:
            with openai.OpenAI(base_url=f"{started.url}/v1", api_key="unused", max_retries=0) as client:
                got = client.chat.completions.create(model="m", messages=_ask())
        finally:
            started.stop()
    assert READ.fullmatch(got.choices[0].message.content or "")


def test_in_a_realtime_session(scripted: Gateway, provider: Provider) -> None:
    def script(server: ServerConnection) -> None:
        for event in (*begin(), delta(MARK), *(delta(one) for one in f"It is {MARK} open, the key is {SECRET}{MARK} ok"), done()):
            server.send(json.dumps(event, ensure_ascii=False).replace(MARK, r"\ud83d"))
        closing(server)

    with provider.plays(script), dial(scripted) as session:
        told = ""
        while (event := json.loads(session.recv(timeout=20)))["type"] != "response.done":
            told += event.get("delta", "")
    assert re.fullmatch("\ufffdIt is \ufffd open, the key is \\[SECRET_[A-Z_]+_[0-9A-F]{10}\\]\ufffd ok", told)
