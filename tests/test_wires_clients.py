"""The real clients understand what the wires write: errors, refusals, and streams that are stopped on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import orjson
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types
from wires_support import CHAT, COMPLETIONS, GENERATE, MESSAGES, RESPONSES, STREAM, serving, target

from gateway import echo
from gateway.wires.base import SSE, Parsed, Reply, Target
from gateway.wires.frames import Frame

STATUSES = [400, 401, 403, 404, 408, 413, 415, 429, 500, 502, 503, 504, 529]
QUESTION: Any = [{"role": "user", "content": "one two three four five six seven eight nine ten"}]
MESSAGE = "stopped by policy"


class Canned:
    """An upstream that answers everything with one reply."""

    def __init__(self) -> None:
        self.reply = Reply(500, b"text/plain", b"")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        status, content_type, body = self.reply
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def canned() -> Iterator[tuple[Canned, str]]:
    app = Canned()
    with serving(app) as url:
        yield app, url


@pytest.fixture
def openai_client(canned: tuple[Canned, str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=canned[1] + "/v1", api_key="k", max_retries=0)


@pytest.fixture
def claude(canned: tuple[Canned, str]) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=canned[1], api_key="k", max_retries=0)


@pytest.fixture
def gemini(canned: tuple[Canned, str]) -> genai.Client:
    return genai.Client(api_key="k", http_options=genai_types.HttpOptions(base_url=canned[1]))


def refusal(path: str, as_reply: bool, streaming: bool, query: bytes = b"") -> Reply:
    where = target(path, query)
    return where.wire.refuse(where, Parsed("m", streaming, [], []), MESSAGE, as_reply, "id1")


def cut(where: Target, doc: dict[str, Any], fail: bool = False) -> Reply:
    """The echo model's stream, stopped in the middle of its text."""
    frames = list(echo.stream(where, doc))
    sent = frames[: len(frames) // 2]
    reader = where.wire.stream(where, "m")
    splitter = where.wire.splitter(where)
    for raw in sent:
        for frame in splitter.feed(raw):
            assert isinstance(frame, Frame)
            reader.read(frame)
    end = reader.fail(MESSAGE) if fail else reader.stop(MESSAGE)
    return Reply(200, SSE, b"".join(sent) + end)


@pytest.mark.parametrize("status", STATUSES)
def test_errors(
    status: int, canned: tuple[Canned, str], openai_client: openai.OpenAI, claude: anthropic.Anthropic, gemini: genai.Client
) -> None:
    canned[0].reply = target(CHAT).wire.error(status, "some_code", MESSAGE)
    with pytest.raises(openai.APIStatusError) as from_openai:
        openai_client.chat.completions.create(model="m", messages=QUESTION)
    assert (from_openai.value.status_code, from_openai.value.code) == (status, "some_code")
    assert MESSAGE in str(from_openai.value)

    canned[0].reply = target(MESSAGES).wire.error(status, "some_code", MESSAGE, "id1")
    with pytest.raises(anthropic.APIStatusError) as from_anthropic:
        claude.messages.create(model="m", max_tokens=9, messages=QUESTION)
    assert from_anthropic.value.status_code == status
    assert MESSAGE in str(from_anthropic.value)

    canned[0].reply = target(GENERATE).wire.error(status, "some_code", MESSAGE)
    with pytest.raises(genai_errors.APIError) as from_gemini:
        gemini.models.generate_content(model="m", contents="q")
    assert from_gemini.value.code == status
    assert from_gemini.value.message == MESSAGE


def test_a_refusal_as_an_error_of_openai(canned: tuple[Canned, str], openai_client: openai.OpenAI) -> None:
    canned[0].reply = refusal(CHAT, False, False)

    for call in (
        lambda: openai_client.chat.completions.create(model="m", messages=QUESTION),
        lambda: openai_client.chat.completions.create(model="m", messages=QUESTION, stream=True),
        lambda: openai_client.completions.create(model="m", prompt="q"),
        lambda: openai_client.responses.create(model="m", input="q"),
        lambda: openai_client.embeddings.create(model="m", input="q"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            call()
        assert refused.value.code == "content_filter"


def test_a_refusal_as_a_reply_of_openai(canned: tuple[Canned, str], openai_client: openai.OpenAI) -> None:
    canned[0].reply = refusal(CHAT, True, False)
    choice = openai_client.chat.completions.create(model="m", messages=QUESTION).choices[0]
    assert (choice.finish_reason, choice.message.refusal, choice.message.content) == ("content_filter", MESSAGE, None)

    canned[0].reply = refusal(CHAT, True, True)
    chunks = list(openai_client.chat.completions.create(model="m", messages=QUESTION, stream=True))
    assert chunks[0].choices[0].delta.refusal == MESSAGE
    assert chunks[-1].choices[0].finish_reason == "content_filter"

    for streaming in (False, True):
        canned[0].reply = refusal(COMPLETIONS, True, streaming)
        reply: Any = openai_client.completions.create(model="m", prompt="q", stream=streaming)
        last = list(reply)[-1] if streaming else reply
        assert last.choices[0].finish_reason == "content_filter"

    canned[0].reply = refusal(RESPONSES, True, False)
    response = openai_client.responses.create(model="m", input="q")
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "content_filter"

    canned[0].reply = refusal(RESPONSES, True, True)
    with openai_client.responses.stream(model="m", input="q") as events:
        seen = list(events)
    assert [event.delta for event in seen if event.type == "response.refusal.delta"] == [MESSAGE]
    assert seen[-1].type == "response.incomplete"


def test_a_refusal_of_anthropic(canned: tuple[Canned, str], claude: anthropic.Anthropic) -> None:
    canned[0].reply = refusal(MESSAGES, False, False)
    with pytest.raises(anthropic.BadRequestError, match=MESSAGE):
        claude.messages.create(model="m", max_tokens=9, messages=QUESTION)

    canned[0].reply = refusal(MESSAGES, True, False)
    assert claude.messages.create(model="m", max_tokens=9, messages=QUESTION).stop_reason == "refusal"

    canned[0].reply = refusal(MESSAGES, True, True)
    with claude.messages.stream(model="m", max_tokens=9, messages=QUESTION) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "refusal"
    assert [block.text for block in final.content if block.type == "text"] == [MESSAGE]


def test_a_refusal_of_gemini(canned: tuple[Canned, str], gemini: genai.Client) -> None:
    canned[0].reply = refusal(GENERATE, False, False)
    whole = gemini.models.generate_content(model="m", contents="q")
    canned[0].reply = refusal(STREAM, True, True, b"alt=sse")
    (chunk,) = gemini.models.generate_content_stream(model="m", contents="q")

    for reply in (whole, chunk):
        assert reply.prompt_feedback is not None
        assert reply.prompt_feedback.block_reason == genai_types.BlockedReason.SAFETY
        assert reply.prompt_feedback.block_reason_message == MESSAGE
        assert not reply.candidates


def test_a_stop_in_a_stream_of_chat(canned: tuple[Canned, str], openai_client: openai.OpenAI) -> None:
    where = target(CHAT)
    canned[0].reply = cut(where, {"model": "m", "messages": QUESTION})
    with openai_client.chat.completions.stream(model="m", messages=QUESTION) as stream:
        for _ in stream:
            pass
        final = stream.current_completion_snapshot
    raw = list(openai_client.chat.completions.create(model="m", messages=QUESTION, stream=True))

    assert final.choices[0].finish_reason == "content_filter"
    assert raw[-1].choices[0].finish_reason == "content_filter"
    assert len({chunk.id for chunk in raw}) == 1


def test_a_stop_in_a_stream_of_completions(canned: tuple[Canned, str], openai_client: openai.OpenAI) -> None:
    canned[0].reply = cut(target(COMPLETIONS), {"model": "m", "prompt": QUESTION[0]["content"]})
    chunks = list(openai_client.completions.create(model="m", prompt="q", stream=True))

    assert chunks[-1].choices[0].finish_reason == "content_filter"


def test_a_stop_in_a_stream_of_responses(canned: tuple[Canned, str], openai_client: openai.OpenAI) -> None:
    canned[0].reply = cut(target(RESPONSES), {"model": "m", "input": QUESTION[0]["content"]})
    with openai_client.responses.stream(model="m", input="q") as stream:
        events: list[Any] = list(stream)

    assert any(event.type == "response.output_text.delta" for event in events)
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details.reason == "content_filter"


@pytest.mark.parametrize(
    "content", [QUESTION[0]["content"], 'think:hm\ncall:f {"a": "a long argument, in many pieces, and more"}']
)
def test_a_stop_in_a_stream_of_messages(content: str, canned: tuple[Canned, str], claude: anthropic.Anthropic) -> None:
    doc = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": content}], "tools": [{"name": "f"}]}
    canned[0].reply = cut(target(MESSAGES), doc)
    with claude.messages.stream(model="m", max_tokens=9, messages=QUESTION) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()

    assert final.stop_reason == "refusal"
    assert final.stop_details is not None
    assert final.stop_details.explanation == MESSAGE
    assert events.count("content_block_start") == events.count("content_block_stop")
    assert events[-1] == "message_stop"


def test_a_stop_in_a_stream_of_gemini(canned: tuple[Canned, str], gemini: genai.Client) -> None:
    canned[0].reply = cut(target(STREAM, b"alt=sse"), {"contents": {"parts": {"text": QUESTION[0]["content"]}}})
    chunks = list(gemini.models.generate_content_stream(model="m", contents="q"))

    candidates = chunks[-1].candidates
    assert candidates
    assert candidates[0].finish_reason == genai_types.FinishReason.SAFETY


def test_a_broken_upstream_is_an_error_of_each_client(
    canned: tuple[Canned, str], openai_client: openai.OpenAI, claude: anthropic.Anthropic, gemini: genai.Client
) -> None:
    canned[0].reply = cut(target(CHAT), {"model": "m", "messages": QUESTION}, fail=True)
    with pytest.raises(openai.APIError, match=MESSAGE):
        list(openai_client.chat.completions.create(model="m", messages=QUESTION, stream=True))

    canned[0].reply = cut(target(MESSAGES), {"model": "m", "max_tokens": 99, "messages": QUESTION}, fail=True)
    with pytest.raises(anthropic.APIError, match=MESSAGE):
        list(claude.messages.create(model="m", max_tokens=9, messages=QUESTION, stream=True))

    canned[0].reply = cut(target(RESPONSES), {"model": "m", "input": QUESTION[0]["content"]}, fail=True)
    last: Any = list(openai_client.responses.create(model="m", input="q", stream=True))[-1]
    assert (last.type, last.message) == ("error", MESSAGE)

    canned[0].reply = cut(target(STREAM, b"alt=sse"), {"contents": {"parts": {"text": "a b c d e f g h i"}}}, fail=True)
    with pytest.raises(genai_errors.ServerError, match=MESSAGE):
        list(gemini.models.generate_content_stream(model="m", contents="q"))


def test_the_asynchronous_clients_see_the_same(canned: tuple[Canned, str]) -> None:
    async def finish_reasons() -> tuple[Any, Any, Any]:
        async with openai.AsyncOpenAI(base_url=canned[1] + "/v1", api_key="k") as one:
            canned[0].reply = cut(target(CHAT), {"model": "m", "messages": QUESTION})
            chat = [chunk async for chunk in await one.chat.completions.create(model="m", messages=QUESTION, stream=True)]
        async with anthropic.AsyncAnthropic(base_url=canned[1], api_key="k") as two:
            canned[0].reply = cut(target(MESSAGES), {"model": "m", "max_tokens": 99, "messages": QUESTION})
            async with two.messages.stream(model="m", max_tokens=9, messages=QUESTION) as stream:
                message = await stream.get_final_message()
        canned[0].reply = refusal(GENERATE, True, False)
        three = genai.Client(api_key="k", http_options=genai_types.HttpOptions(base_url=canned[1])).aio
        reply = await three.models.generate_content(model="m", contents="q")
        await three.aclose()
        return chat[-1].choices[0].finish_reason, message.stop_reason, reply.prompt_feedback

    chat, message, feedback = asyncio.run(finish_reasons())

    assert (chat, message) == ("content_filter", "refusal")
    assert feedback.block_reason == genai_types.BlockedReason.SAFETY


def test_a_refused_array_is_json() -> None:
    assert orjson.loads(refusal(STREAM, True, True).body)[0]["promptFeedback"]["blockReason"] == "SAFETY"
