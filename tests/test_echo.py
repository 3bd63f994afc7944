"""The echo model speaks every wire, whole and streamed, the same each time, and the real clients understand it."""

from __future__ import annotations

import asyncio
import base64
import math
import struct
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import orjson
import pydantic
import pytest
from google import genai
from google.genai import types as genai_types
from hypothesis import given
from hypothesis import strategies as st
from wires_support import (
    ALL_PATHS,
    BATCH,
    CHAT,
    COMPLETIONS,
    COUNT,
    COUNT_GEMINI,
    EMBED,
    EMBEDDINGS,
    GENERATE,
    MESSAGES,
    RESPONSES,
    STREAM,
    follow,
    serving,
    sse_events,
    target,
)

from gateway import echo
from gateway.echo import asgi, model
from gateway.wires.base import EventKind

ARGUMENTS = {"city": "Rome", "days": [1, 2], "note": "a text that is cut into many pieces"}
CALL = "think:let me see\ncall:weather " + orjson.dumps(ARGUMENTS).decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]


def ask(path: str, text: str, tools: bool = False, **more: Any) -> dict[str, Any]:
    """A request of any wire that says ``text``."""
    match path:
        case "/v1/chat/completions":
            doc = {"model": "m", "messages": [{"role": "user", "content": text}], **({"tools": OPENAI_TOOLS} if tools else {})}
        case "/v1/completions":
            doc = {"model": "m", "prompt": text}
        case "/v1/embeddings":
            doc = {"model": "m", "input": text}
        case "/v1/responses":
            doc = {"model": "m", "input": text}
            doc |= {"tools": [{"type": "function", "name": "weather", "parameters": SCHEMA}]} if tools else {}
        case "/v1/messages" | "/v1/messages/count_tokens":
            doc = {"model": "m", "max_tokens": 999, "messages": [{"role": "user", "content": text}]}
            doc |= {"tools": [{"name": "weather", "input_schema": SCHEMA}]} if tools else {}
        case _ if path == EMBED:
            doc = {"content": {"parts": [{"text": text}]}}
        case _ if path == BATCH:
            doc = {"requests": [{"content": {"parts": [{"text": text}]}}]}
        case _:
            doc = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
            doc |= {"tools": [{"functionDeclarations": [{"name": "weather", "parameters": SCHEMA}]}]} if tools else {}
    return {**doc, **more}


def respond(path: str, doc: dict[str, Any]) -> Any:
    reply = echo.respond(target(path), doc)
    assert (reply.status, reply.content_type) == (200, b"application/json")
    return orjson.loads(reply.body)


def said(path: str, doc: dict[str, Any]) -> str:
    """The text of a whole reply."""
    reply = respond(path, doc)
    match path:
        case "/v1/chat/completions":
            return str(reply["choices"][0]["message"]["content"])
        case "/v1/completions":
            return str(reply["choices"][0]["text"])
        case "/v1/responses":
            return "".join(part["text"] for item in reply["output"] for part in item.get("content", ()))
        case "/v1/messages":
            return "".join(block.get("text", "") for block in reply["content"])
    parts = reply["candidates"][0]["content"]["parts"]
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


def streamed(path: str, doc: dict[str, Any], query: bytes = b"") -> dict[EventKind, str]:
    """What a stream says, by kind, as the wire's own reader hears it: what was said in pieces may be said once more, whole."""
    where = target(path, query)
    events, _ = follow(where, echo.stream(where, doc))
    heard: dict[EventKind, str] = {}
    for event in events:
        if event.kind in (EventKind.TEXT, EventKind.REASONING, EventKind.TOOL) and event.channel[0] == "whole":
            assert event.text in heard.values()
        else:
            heard[event.kind] = heard.get(event.kind, "") + event.text
    return heard


TALKING = [(CHAT, CHAT, b""), (COMPLETIONS, COMPLETIONS, b""), (RESPONSES, RESPONSES, b""), (MESSAGES, MESSAGES, b""),
           (GENERATE, STREAM, b"alt=sse"), (GENERATE, STREAM, b"")]  # fmt: skip


@pytest.mark.parametrize(("path", "stream_path", "query"), TALKING)
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("one two  three\nfour five", "You said: one two  three\nfour five"),
        ("say:exactly this,\n  with  spaces \n", "exactly this,\n  with  spaces \n"),
        ("before\nsay:after", "after"),
        ("think:hm\nask", "You said: ask"),
        ("call:weather {}", "You said: call:weather {}"),
        ("I say: no directive", "You said: I say: no directive"),
        ("say:", ""),
    ],
)
def test_what_is_said_whole_and_streamed(path: str, stream_path: str, query: bytes, text: str, answer: str) -> None:
    assert (said(path, ask(path, text)) or "") in (answer, answer or "None")
    assert streamed(stream_path, ask(stream_path, text), query).get(EventKind.TEXT, "") == answer


@pytest.mark.parametrize("path", ALL_PATHS)
def test_the_same_request_gets_the_same_bytes(path: str) -> None:
    doc = ask(path, "think:a\nsome words")
    other = ask(path, "other words")

    assert echo.respond(target(path), doc) == echo.respond(target(path), dict(reversed(doc.items())))
    if path not in (COUNT, COUNT_GEMINI):
        assert echo.respond(target(path), doc) != echo.respond(target(path), other)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_pieces_are_the_text(text: str) -> None:
    assert "".join(model.pieces(text)) == text
    assert "".join(model.argument_pieces(text)) == text
    assert all(len(piece.split()) <= model.WORDS_PER_CHUNK for piece in model.pieces(text))


def test_tool_calls_in_every_dialect() -> None:
    chat = respond(CHAT, ask(CHAT, CALL, tools=True))["choices"][0]
    responses = respond(RESPONSES, ask(RESPONSES, CALL, tools=True))["output"]
    messages = respond(MESSAGES, ask(MESSAGES, CALL, tools=True))
    gemini = respond(GENERATE, ask(GENERATE, CALL, tools=True))["candidates"][0]["content"]["parts"]

    assert chat["finish_reason"] == "tool_calls"
    assert chat["message"]["reasoning_content"] == "let me see"
    assert orjson.loads(chat["message"]["tool_calls"][0]["function"]["arguments"]) == ARGUMENTS
    assert [item["type"] for item in responses] == ["reasoning", "function_call"]
    assert orjson.loads(responses[1]["arguments"]) == ARGUMENTS
    assert messages["stop_reason"] == "tool_use"
    assert [block["type"] for block in messages["content"]] == ["thinking", "tool_use"]
    assert messages["content"][1]["input"] == ARGUMENTS
    assert gemini[0] == {"text": "let me see", "thought": True}
    assert (gemini[1]["functionCall"]["name"], gemini[1]["functionCall"]["args"]) == ("weather", ARGUMENTS)


@pytest.mark.parametrize(("path", "query"), [(CHAT, b""), (RESPONSES, b""), (MESSAGES, b"")])
def test_streamed_tool_calls(path: str, query: bytes) -> None:
    heard = streamed(path, ask(path, CALL, tools=True), query)

    assert heard[EventKind.REASONING] == "let me see"
    assert orjson.loads(heard[EventKind.TOOL]) == ARGUMENTS
    assert EventKind.TEXT not in heard


def test_several_calls_and_none() -> None:
    two = respond(CHAT, ask(CHAT, 'call:a {"x":1}\ncall:b', tools=True))["choices"][0]["message"]["tool_calls"]

    assert [(call["function"]["name"], call["function"]["arguments"]) for call in two] == [("a", '{"x":1}'), ("b", "{}")]
    assert len({call["id"] for call in two}) == 2
    assert "tool_calls" not in respond(CHAT, ask(CHAT, CALL, tools=True, tool_choice="none"))["choices"][0]["message"]


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (CHAT, {"tool_choice": "required"}),
        (CHAT, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
        (RESPONSES, {"tool_choice": "required"}),
        (RESPONSES, {"tool_choice": {"type": "function", "name": "weather"}}),
        (MESSAGES, {"tool_choice": {"type": "any"}}),
        (MESSAGES, {"tool_choice": {"type": "tool", "name": "weather"}}),
        (GENERATE, {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
        (GENERATE, {"tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["weather"]}}}),
    ],
)
def test_a_forced_tool_is_called_with_values_that_fit(path: str, more: dict[str, Any]) -> None:
    body = echo.respond(target(path), ask(path, "hello", tools=True, **more)).body

    assert b"weather" in body
    assert b'{\\"city\\":\\"hello\\"}' in body or b'{"city":"hello"}' in body


@pytest.mark.parametrize(
    ("path", "turns"),
    [
        (CHAT, {"messages": [{"role": "user", "content": CALL}, {"role": "assistant", "tool_calls": []},
                             {"role": "tool", "tool_call_id": "1", "content": '{"sky":"blue"}'}]}),
        (RESPONSES, {"input": [{"role": "user", "content": CALL}, {"type": "function_call_output", "call_id": "1",
            "output": "blue"}]}),
        (MESSAGES, {"messages": [{"role": "user", "content": CALL}, {"role": "assistant", "content": "x"},
                                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1",
                                     "content": "blue"}]}]}),
        (GENERATE, {"contents": [{"role": "user", "parts": [{"text": CALL}]}, {"role": "model", "parts": [{"text": "x"}]},
                                 {"role": "user", "parts": [{"functionResponse": {"name": "weather",
                                     "response": {"sky": "blue"}}}]}]}),
    ],
)  # fmt: skip
def test_after_a_tools_result_it_answers(path: str, turns: dict[str, Any]) -> None:
    assert said(path, {**ask(path, "x", tools=True), **turns}) == "The tool said: blue"


@pytest.mark.parametrize(
    ("path", "limit", "finish"),
    [
        (CHAT, {"max_tokens": 4}, "length"),
        (COMPLETIONS, {"max_tokens": 4}, "length"),
        (MESSAGES, {"max_tokens": 4}, "max_tokens"),
        (RESPONSES, {"max_output_tokens": 4}, "max_output_tokens"),
        (GENERATE, {"generationConfig": {"maxOutputTokens": 4}}, "MAX_TOKENS"),
    ],
)
def test_an_answer_has_a_greatest_length(path: str, limit: dict[str, Any], finish: str) -> None:
    assert said(path, ask(path, "one two three four", **limit)) == "You said: one two"
    assert finish.encode() in echo.respond(target(path), ask(path, "one two three", **limit)).body
    assert finish.encode() in echo.respond(target(path), ask(path, "stop:length\none")).body


def test_usage_counts_words() -> None:
    doc = ask(CHAT, "one two three")
    usage = respond(CHAT, doc)["usage"]
    last = list(sse_events(b"".join(echo.stream(target(CHAT), {**doc, "stream_options": {"include_usage": True}}))))[-1]

    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 5, 8)
    assert last["usage"] == usage
    assert respond(MESSAGES, ask(MESSAGES, "one two three"))["usage"] == {"input_tokens": 3, "output_tokens": 5}
    assert respond(GENERATE, ask(GENERATE, "one two three"))["usageMetadata"]["totalTokenCount"] == 8
    assert respond(RESPONSES, ask(RESPONSES, "one two three"))["usage"]["total_tokens"] == 8
    assert respond(COUNT, ask(COUNT, "one two three")) == {"input_tokens": 3}
    assert respond(COUNT_GEMINI, ask(COUNT_GEMINI, "one two three")) == {"totalTokens": 3}


def test_choices() -> None:
    assert len(respond(CHAT, ask(CHAT, "x", n=3))["choices"]) == 3
    assert len(respond(GENERATE, ask(GENERATE, "x", generationConfig={"candidateCount": 2}))["candidates"]) == 2


def test_embeddings_are_unit_vectors_of_the_size_asked_for() -> None:
    vectors = [
        respond(EMBEDDINGS, ask(EMBEDDINGS, "a cat", dimensions=12))["data"][0]["embedding"],
        respond(EMBED, ask(EMBED, "a cat", outputDimensionality=12))["embedding"]["values"],
        respond(BATCH, {"requests": [{"content": {"parts": [{"text": "a cat"}]}, "output_dimensionality": 12}]})["embeddings"][
            0
        ]["values"],
    ]
    packed = respond(EMBEDDINGS, ask(EMBEDDINGS, "a cat", dimensions=12, encoding_format="base64"))["data"][0]["embedding"]

    assert all(vector == vectors[0] for vector in vectors)
    assert math.isclose(sum(value * value for value in vectors[0]), 1.0)
    assert list(struct.unpack("<12f", base64.b64decode(packed))) == pytest.approx(vectors[0])
    assert len(respond(EMBEDDINGS, ask(EMBEDDINGS, ""))["data"][0]["embedding"]) == model.DIMENSIONS


@given(st.lists(st.text(max_size=20)), st.integers(1, 50))
def test_any_text_has_a_unit_vector(words: list[str], size: int) -> None:
    vector = model.embedding(" ".join(words), size)

    assert len(vector) == size
    assert math.isclose(sum(value * value for value in vector), 1.0)


def test_texts_that_share_words_lie_near_each_other() -> None:
    cat, same, other = (
        model.embedding(text, 256) for text in ("a big cat sleeps", "a big cat eats", "stocks fell sharply today")
    )

    assert sum(x * y for x, y in zip(cat, same, strict=True)) > sum(x * y for x, y in zip(cat, other, strict=True))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(echo.app) as base:
        yield base


def test_the_openai_client(url: str) -> None:
    class Trip(pydantic.BaseModel):
        city: str
        days: list[int]

    with openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": CALL}]
        with client.chat.completions.stream(model="m", messages=messages, tools=OPENAI_TOOLS) as stream:
            call = stream.get_final_completion().choices[0].message.tool_calls
        trip = client.chat.completions.parse(model="m", messages=[{"role": "user", "content": "x"}], response_format=Trip)
        with client.responses.stream(model="m", input="say:Hello there, all of you") as events:
            response = events.get_final_response()
        vectors = client.embeddings.create(model="m", input=["a", "b"], dimensions=8)

        assert call
        assert orjson.loads(call[0].function.arguments) == ARGUMENTS
        assert trip.choices[0].message.parsed == Trip(city="x", days=[])
        assert response.output_text == "Hello there, all of you"
        assert client.responses.parse(model="m", input="x", text_format=Trip).output_parsed == Trip(city="x", days=[])
        assert [len(entry.embedding) for entry in vectors.data] == [8, 8]
        assert [entry.id for entry in client.models.list()] == list(model.MODELS)
        assert client.models.retrieve("echo-1").id == "echo-1"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("echo-9")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="m", messages=[])


def test_the_anthropic_client(url: str) -> None:
    tools: Any = [{"name": "weather", "input_schema": SCHEMA}]
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client:
        with client.messages.stream(
            model="m", max_tokens=99, tools=tools, messages=[{"role": "user", "content": CALL}]
        ) as stream:
            streamed_message = stream.get_final_message()
        whole = client.messages.create(model="m", max_tokens=99, tools=tools, messages=[{"role": "user", "content": CALL}])

        assert streamed_message.content[1].type == whole.content[1].type == "tool_use"
        assert streamed_message.content[1].input == whole.content[1].input == ARGUMENTS
        assert client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "a b"}]).input_tokens == 2
        assert [entry.id for entry in client.models.list()] == list(model.MODELS)
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("echo-9")


def test_the_gemini_client(url: str) -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"rain in {city}"

    client = genai.Client(api_key="k", http_options=genai_types.HttpOptions(base_url=url))
    config = genai_types.GenerateContentConfig(tools=[weather])
    chunks = list(client.models.generate_content_stream(model="m", contents="say:Hello there, all of you"))
    answer = client.chats.create(model="m", config=config).send_message('call:weather {"city": "Rome"}')

    assert "".join(chunk.text or "" for chunk in chunks) == "Hello there, all of you"
    assert answer.text == "The tool said: rain in Rome"
    assert client.models.count_tokens(model="m", contents="a b").total_tokens == 2
    assert len(client.models.embed_content(model="m", contents=["a", "b"]).embeddings or ()) == 2
    assert [entry.name for entry in client.models.list()] == [f"models/{name}" for name in model.MODELS]


def request(method: str, path: str, body: bytes = b"", headers: Any = (), receive: Any = None) -> tuple[int, bytes]:
    """One request, without a server: status and body."""
    sent: list[Any] = []

    async def say() -> Any:
        return {"type": "http.request", "body": body}

    async def hear(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": list(headers)}
    asyncio.run(echo.app(scope, receive or say, hear))
    return sent[0]["status"] if sent else 0, b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "told"),
    [
        ("POST", "/v1/nothing", b"{}", [], 404, b'"invalid_request_error"'),
        ("POST", "/v1/messages/nothing", b"{}", [], 404, b'"not_found_error"'),
        ("POST", "/v1beta/nothing", b"{}", [], 404, b'"NOT_FOUND"'),
        ("GET", "/v1/messages", b"", [], 405, b'"invalid_request_error"'),
        ("POST", CHAT, b"{", [], 400, b"not valid JSON"),
        ("POST", CHAT, b"[]", [], 400, b"JSON object"),
        ("POST", CHAT, b'{"model":"m","model":"n"}', [], 400, b"repeats a key"),
        ("POST", MESSAGES, b'{"model":"m"}', [], 400, b"messages: got nothing"),
        ("POST", EMBED, b'{"content":7}', [], 400, b"INVALID_ARGUMENT"),
        ("GET", "/v1/models/echo-9", b"", [(b"anthropic-version", b"x")], 404, b'"not_found_error"'),
    ],
)
def test_mistakes_are_told_in_the_callers_wire(
    method: str, path: str, body: bytes, headers: Any, status: int, told: bytes
) -> None:
    found = request(method, path, body, headers)

    assert found[0] == status
    assert told in found[1]


def test_a_body_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "MAX_BODY", 10)

    assert request("POST", CHAT, b"x" * 11)[0] == 413


def test_a_slow_stream_ends_when_its_caller_is_gone() -> None:
    messages = iter([{"type": "http.request", "body": orjson.dumps(ask(CHAT, "x", stream=True))}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    status, body = request("POST", CHAT, headers=[(b"x-echo-delay-ms", b"50000")], receive=receive)

    assert (status, body) == (200, b"")


def test_a_delay_changes_no_byte() -> None:
    doc = orjson.dumps(ask(CHAT, "x", stream=True))

    async def receive(sent: list[int] = []) -> Any:  # noqa: B006
        sent.append(1)
        if len(sent) == 1:
            return {"type": "http.request", "body": doc}
        return await asyncio.Event().wait()

    assert request("POST", CHAT, headers=[(b"x-echo-delay-ms", b"1")], receive=receive) == request("POST", CHAT, doc)
