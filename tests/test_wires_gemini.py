"""Gemini's wires, in both spellings of their fields and both forms of their streams."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from wires_support import (
    BATCH,
    COUNT_GEMINI,
    EMBED,
    GENERATE,
    STREAM,
    bracketed,
    follow,
    listed,
    read,
    read_reply,
    singly,
    spoken,
    sse_events,
    target,
    unread,
)

from gateway.wires.base import EventKind, Malformed

# A part, what is listed of it, and what is not read.
PARTS: list[tuple[dict[str, Any], list[tuple[str, str, str]], list[tuple[str, str]]]] = [
    ({"text": "a"}, [("user", ".text", "+a")], []),
    ({"text": "a", "thought": True, "thoughtSignature": "zz"}, [("user", ".text", "+a")], []),
    ({"inlineData": {"mimeType": "image/png", "data": "QQ=="}}, [], [(".inlineData", "image")]),
    ({"inlineData": {"mimeType": "audio/wav", "data": "QQ=="}}, [], [(".inlineData", "audio")]),
    ({"inlineData": {"mimeType": "video/mp4", "data": "QQ=="}, "videoMetadata": {"fps": 1}}, [], [(".inlineData", "video")]),
    ({"inlineData": {"mimeType": "text/plain", "data": "QQ=="}}, [("document", ".inlineData.data~", "A")], []),
    ({"inlineData": {"mimeType": "application/pdf", "data": "QQ=="}}, [], [(".inlineData", "file")]),
    ({"fileData": {"mimeType": "application/pdf", "fileUri": "u"}}, [], [(".fileData", "file")]),
    ({"fileData": {"mimeType": "application/pdf", "fileUri": "u", "displayName": "a"}}, [("document", ".fileData.displayName", "a")],
        [(".fileData", "file")]),
    ({"inlineData": {"mimeType": "image/png", "data": "QQ==", "display_name": "a"}},
        [("document", ".inlineData.display_name", "a")], [(".inlineData", "image")]),
    ({"functionCall": {"id": "1", "name": "f", "args": {"q": ["v"]}}}, [("assistant", ".functionCall.name", "f"),
        ("assistant", ".functionCall.args.q[0]", "v")], []),
    ({"functionResponse": {"id": "1", "name": "f", "response": {"r": '{"deep":"w"}', "parts": "p"},
        "parts": [{"inlineData": {"mimeType": "image/png"}}]}},
     [("tool_result", ".functionResponse.response.r>deep", "w"), ("tool_result", ".functionResponse.response.parts", "p")],
     [(".functionResponse.parts[0].inlineData", "image")]),
    ({"executableCode": {"language": "PYTHON", "code": "print()"}}, [("assistant", ".executableCode.code", "print()")], []),
    ({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "o"}}, [("tool_result", ".codeExecutionResult.output", "o")],
        []),
    ({"toolCall": {"toolType": "GOOGLE", "args": {"q": "v"}}}, [("assistant", ".toolCall.args.q", "v")], []),
    ({"toolResponse": {"toolType": "GOOGLE", "response": {"r": "w"}}}, [("tool_result", ".toolResponse.response.r", "w")], []),
    ({"brandNew": {"words": ["w"]}, "type": "t"}, [("user", ".brandNew.words[0]", "w"), ("user", ".type", "t")], []),
]  # fmt: skip


def snake(value: Any) -> Any:
    """The same document with its fields in snake_case."""
    if isinstance(value, dict):
        return {re.sub("[A-Z]", lambda c: "_" + c[0].lower(), key): snake(item) for key, item in value.items()}
    return [snake(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("spelling", [lambda doc: doc, snake], ids=["camel", "snake"])
@pytest.mark.parametrize(("part", "parts", "hidden"), PARTS, ids=[next(iter(part[0])) for part in PARTS])
def test_parts(part: dict[str, Any], parts: list[tuple[str, str, str]], hidden: list[tuple[str, str]], spelling: Any) -> None:
    role = "model" if any(origin == "assistant" for origin, _, _ in parts) else "user"
    doc = {"contents": [{"role": role, "parts": [{"text": "before"}, spelling(part)]}]}
    parsed = read(GENERATE, doc)
    place = "contents[0].parts[1]"

    def path(written: str) -> str:
        return place + (written if spelling(part) == part else re.sub("[A-Z]", lambda c: "_" + c[0].lower(), written))

    assert [one for one in ((o, 0, path(p), t) for o, p, t in parts) if one not in listed(parsed)] == []
    assert unread(parsed) == [(path(p), reason) for p, reason in hidden]
    bracketed(orjson.dumps(doc), parsed)
    reply = read_reply(GENERATE, {"candidates": [{"content": {"parts": [{"text": "before"}, spelling(part)]}}]})
    assert {one.text for one in reply.segments} == {one.text for one in parsed.segments}


REQUEST = {
    "contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}],
    "systemInstruction": {"parts": [{"text": "s"}]},
    "tools": [
        {"functionDeclarations": [{"name": "f", "description": "d", "parameters": {"type": "OBJECT", "description": "p"}}]}
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "temperature": 1,
        "responseMimeType": "application/json",
        "responseSchema": {"description": "r"},
        "stopSequences": ["end"],
    },
    "safetySettings": [{"category": "C", "threshold": "T"}],
    "cachedContent": "cachedContents/1",
    "labels": {"k": "v"},
}


@pytest.mark.parametrize("path", [GENERATE, STREAM, COUNT_GEMINI])
@pytest.mark.parametrize("spelling", [lambda doc: doc, snake], ids=["camel", "snake"])
def test_requests(path: str, spelling: Any) -> None:
    doc = spelling(REQUEST)
    parsed = read(path, doc)

    assert {(part.origin.value, part.turn, part.text) for part in parsed.segments} >= {
        ("user", 0, "q"),
        ("assistant", 1, "a"),
        ("system", -1, "s"),
        ("tool_definition", 0, "d"),
        ("tool_definition", 0, "p"),
        ("tool_definition", -1, "r"),
        ("user", -1, "end"),
        ("user", -1, "v"),
    }
    assert [reason for _, reason in unread(parsed)] == ["upstream state"]
    assert parsed.model == "gemini-2"
    assert parsed.streaming is (path == STREAM)
    bracketed(orjson.dumps(doc), parsed)


@pytest.mark.parametrize(
    ("doc", "place"),
    [
        ({"contents": {"parts": {"text": "q"}}}, "contents.parts.text"),
        ({"contents": [{"parts": [{"text": "q"}]}]}, "contents[0].parts[0].text"),
        ({"contents": [{"role": "", "parts": [{"text": "q"}]}]}, "contents[0].parts[0].text"),
    ],
)
def test_one_message_may_stand_for_a_list_of_one(doc: dict[str, Any], place: str) -> None:
    assert listed(read(GENERATE, doc)) == [("user", 0, place, "q")]


def test_both_spellings_of_one_field_are_read() -> None:
    doc = {
        "contents": {"parts": {"text": "q"}},
        "systemInstruction": {"parts": {"text": "a"}},
        "system_instruction": {"parts": {"text": "b"}},
    }

    assert {part.text for part in read(GENERATE, doc).segments} == {"q", "a", "b"}


def test_a_system_instruction_is_the_systems_whatever_role_it_says() -> None:
    doc = {"contents": {"parts": {"text": "q"}}, "systemInstruction": {"role": "user", "parts": {"text": "s"}}}

    assert ("system", -1, "systemInstruction.parts.text", "s") in listed(read(GENERATE, doc))


def test_counting_takes_a_request_inside() -> None:
    parsed = read(COUNT_GEMINI, {"generateContentRequest": REQUEST})

    assert ("user", 0, "generateContentRequest.contents[0].parts[0].text", "q") in listed(parsed)
    assert ("tool_definition", 0, "generateContentRequest.tools[0].functionDeclarations[0].description", "d") in listed(parsed)


def test_both_spellings_of_the_request_to_count_are_read() -> None:
    other = {"contents": [{"parts": [{"text": "other"}]}]}
    parsed = read(COUNT_GEMINI, {"generateContentRequest": REQUEST, "generate_content_request": other})
    assert {"q", "other"} <= {text for *_, text in listed(parsed)}


def test_embeddings() -> None:
    one = read(
        EMBED, {"model": "models/x", "content": {"parts": [{"text": "a"}, {"text": "b"}]}, "taskType": "T", "title": "t"}
    )
    several = read(
        BATCH,
        {"requests": [{"model": "models/x", "content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "b"}]}}]},
    )

    assert listed(one) == [
        ("user", 0, "content.parts[0].text", "a"),
        ("user", 0, "content.parts[1].text", "+b"),
        ("document", 0, "title", "t"),
    ]
    assert [part[1:] for part in listed(several)] == [
        (0, "requests[0].content.parts[0].text", "a"),
        (1, "requests[1].content.parts[0].text", "b"),
    ]
    assert unread(read_reply(EMBED, {"embedding": {"values": [0.5]}})) == [("embedding", "vectors")]


@pytest.mark.parametrize(
    ("path", "doc"),
    [
        (GENERATE, {}),
        (GENERATE, {"contents": []}),
        (GENERATE, {"contents": "q"}),
        (GENERATE, {"contents": ["q"]}),
        (GENERATE, {"contents": [{"role": "root", "parts": [{"text": "q"}]}]}),
        (GENERATE, {"contents": [{"role": 7, "parts": [{"text": "q"}]}]}),
        (GENERATE, {"contents": [{"parts": "q"}]}),
        (GENERATE, {"contents": [{"parts": [7]}]}),
        (GENERATE, {"contents": [{"parts": [{"text": 7}]}]}),
        (GENERATE, {"contents": [{"parts": [{"text": "q"}]}], "systemInstruction": 7}),
        (GENERATE, {"contents": [{"parts": [{"text": "q"}]}], "generationConfig": 7}),
        (GENERATE, {"contents": [{"parts": [{"functionCall": 7}]}]}),
        (COUNT_GEMINI, {"generateContentRequest": "q"}),
        (EMBED, {"content": "q"}),
        (BATCH, {"requests": {"content": {}}}),
        (BATCH, {"requests": ["q"]}),
    ],
)
def test_a_wrong_type_where_text_should_be_is_the_callers_mistake(path: str, doc: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read(path, doc)


REPLY = {
    "candidates": [
        {
            "content": {"role": "model", "parts": [{"text": "a"}]},
            "finishReason": "STOP",
            "finishMessage": "f",
            "safetyRatings": [{"category": "C"}],
            "citationMetadata": {"citations": [{"uri": "u"}]},
            "groundingMetadata": {"groundingChunks": [{"web": {"title": "g"}}]},
            "logprobsResult": {"chosenCandidates": [{"token": "a"}]},
            "brandNew": "n",
        }
    ],
    "usageMetadata": {"promptTokenCount": 1},
    "modelVersion": "m",
    "responseId": "r",
    "brandNew": "o",
}


@pytest.mark.parametrize("spelling", [lambda doc: doc, snake], ids=["camel", "snake"])
def test_replies(spelling: Any) -> None:
    parsed = read_reply(GENERATE, spelling(REPLY))

    assert {(part.origin.value, part.turn, part.text) for part in parsed.segments} >= {
        ("assistant", 0, "a"),
        ("assistant", 0, "f"),
        ("document", 0, "u"),
        ("document", 0, "g"),
        ("assistant", 0, "n"),
        ("assistant", -1, "o"),
    }
    assert [reason for _, reason in unread(parsed)] == ["token probabilities"]
    bracketed(orjson.dumps(spelling(REPLY)), parsed)


def test_an_array_that_was_read_whole_is_its_chunks() -> None:
    assert ("assistant", 0, "[1].candidates[0].content.parts[0].text", "a") in listed(read_reply(STREAM, [{}, REPLY]))


@pytest.mark.parametrize(
    "doc", [None, [], "x", {}, {"candidates": "x"}, {"candidates": ["x"]}, {"candidates": [{"content": "x"}]}]
)
def test_a_reply_of_another_shape_is_walked(doc: Any) -> None:
    assert {part.text for part in read_reply(GENERATE, doc).segments} <= {"x"}


CHUNKS: list[dict[str, Any]] = [
    {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "hm", "thought": True}]}}],
        "modelVersion": "m2",
        "responseId": "r1",
    },
    {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Hel"}]}, "index": 0},
            {"content": {"parts": [{"text": "Other"}]}, "index": 1},
        ]
    },
    {"candidates": [{"content": {"parts": [{"text": "lo"}, {"functionCall": {"name": "f", "args": {"q": "v"}}}]}}]},
    {
        "candidates": [{"finishReason": "STOP", "groundingMetadata": {"webSearchQueries": ["g"]}}],
        "usageMetadata": {"totalTokenCount": 3},
    },
]
EVENTS = [
    ("reasoning", (0, "thought"), "hm"),
    ("text", (0, "text"), "Hel"),
    ("text", (1, "text"), "Other"),
    ("text", (0, "text"), "lo"),
    ("other", ("whole", "candidates", "0", "content", "parts", "1", "functionCall", "name"), "f"),
    ("other", ("whole", "candidates", "0", "content", "parts", "1", "functionCall", "args", "#q"), "q"),
    ("other", ("whole", "candidates", "0", "content", "parts", "1", "functionCall", "args", "q"), "v"),
    ("other", ("whole", "candidates", "0", "groundingMetadata", "#webSearchQueries"), "webSearchQueries"),
    ("other", ("whole", "candidates", "0", "groundingMetadata", "webSearchQueries", "0"), "g"),
]


def _sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\r\n\r\n" for chunk in chunks)


def _array(*chunks: Any) -> bytes:
    return b"[" + b"\n,\r\n".join(orjson.dumps(chunk) for chunk in chunks)


@pytest.mark.parametrize(("query", "stream"), [(b"alt=sse", _sse(*CHUNKS)), (b"", _array(*CHUNKS) + b"\n]\n")])
def test_streams(query: bytes, stream: bytes) -> None:
    for chunks in ([stream], singly(stream)):
        events, _ = follow(target(STREAM, query), chunks)

        assert spoken(events) == EVENTS
        assert EventKind.STOP in {event.kind for event in events}


END = {
    "candidates": [
        {"content": {"role": "model", "parts": []}, "finishReason": "SAFETY", "finishMessage": "blocked", "index": index}
        for index in (0, 1)
    ],
    "modelVersion": "m2",
    "responseId": "r1",
}


def test_a_stop_ends_the_candidates_that_are_open() -> None:
    _, sse = follow(target(STREAM, b"alt=sse"), [_sse(*CHUNKS[:2])])
    begun = _array(*CHUNKS[:2])
    _, array = follow(target(STREAM), [begun])

    assert list(sse_events(sse.stop("blocked"))) == [END]
    assert orjson.loads(begun + array.stop("blocked")) == [*CHUNKS[:2], END]


def test_a_stop_before_the_first_frame_is_a_stream_of_its_own() -> None:
    for query in (b"alt=sse", b""):
        _, reader = follow(target(STREAM, query), [])
        stop = reader.stop("blocked")
        (chunk,) = sse_events(stop) if query else orjson.loads(stop)

        assert chunk["candidates"][0]["finishReason"] == "SAFETY"


def test_a_reason_to_finish_is_not_the_end_of_a_stream() -> None:
    done = {"candidates": [{"finishReason": "STOP"}]}
    _, sse = follow(target(STREAM, b"alt=sse"), [_sse(done)])
    _, open_array = follow(target(STREAM), [_array(done)])
    _, array = follow(target(STREAM), [_array(done) + b"]"])

    (told,) = sse_events(sse.stop("x"))
    assert told["candidates"][0]["finishReason"] == "SAFETY"
    assert [one["candidates"][0]["finishReason"] for one in orjson.loads(_array(done) + open_array.stop("x"))] == ["STOP", "SAFETY"]
    assert array.stop("x") == array.fail("x") == b""


def test_a_broken_upstream_is_told_in_the_stream() -> None:
    _, sse = follow(target(STREAM, b"alt=sse"), [_sse(*CHUNKS[:1])])
    begun = _array(*CHUNKS[:1])
    _, array = follow(target(STREAM), [begun])

    (told,) = sse_events(sse.fail("it broke off"))
    assert (told["error"]["status"], told["error"]["message"]) == ("UNAVAILABLE", "it broke off")
    assert orjson.loads(begun + array.fail("it broke off"))[-1] == told


@pytest.mark.parametrize("data", [b"{}", b'{"candidates":7}', b'{"candidates":[7]}', b'{"candidates":[{"content":{"parts":7}}]}'])
def test_a_frame_that_makes_no_sense_is_of_kind_other(data: bytes) -> None:
    events, _ = follow(target(STREAM, b"alt=sse"), [b"data: " + data + b"\n\n"])

    assert [event.kind for event in events] == [EventKind.OTHER]


@pytest.mark.parametrize("as_reply", [True, False])
def test_a_refusal_is_googles_own_form(as_reply: bool) -> None:
    parsed = read(GENERATE, REQUEST)
    for path, query in ((GENERATE, b""), (STREAM, b"alt=sse"), (STREAM, b"")):
        where = target(path, query)
        reply = where.wire.refuse(where, parsed._replace(streaming=path == STREAM), "no", as_reply, "id")

        doc = next(sse_events(reply.body)) if query else orjson.loads(reply.body)
        assert reply.status == 200
        assert (doc if path == GENERATE or query else doc[0])["promptFeedback"] == {
            "blockReason": "SAFETY",
            "blockReasonMessage": "no",
        }


@pytest.mark.parametrize("path", [COUNT_GEMINI, EMBED, BATCH])
def test_a_refusal_without_a_reply_is_an_error(path: str) -> None:
    where = target(path)
    reply = where.wire.refuse(where, read(GENERATE, REQUEST), "no", True, "id")

    assert reply.status == orjson.loads(reply.body)["error"]["code"] == 400


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (405, "INVALID_ARGUMENT"),
        (408, "DEADLINE_EXCEEDED"),
        (413, "INVALID_ARGUMENT"),
        (415, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (529, "UNAVAILABLE"),
    ],
)
def test_errors_have_googles_shape(status: int, name: str) -> None:
    error = orjson.loads(target(GENERATE).wire.error(status, "some_code", "told").body)["error"]

    assert (error["code"], error["status"], error["message"]) == (status, name, "told")
    assert error["details"][0]["reason"] == "SOME_CODE"
