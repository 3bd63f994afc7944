"""OpenAI's wires of chat, completions, embeddings and models: what is listed, edited, refused and stopped."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from wires_support import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    Listed,
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

# A body as it may come, what is listed of it, what is not read, and the body with each listed text in brackets.
Case = tuple[str, str, bytes, list[Listed], list[tuple[str, str]], bytes]
REQUESTS: list[Case] = [
    (
        "plain chat, oddly written",
        CHAT,
        b'{ "model":"m", "n" : 1.0e0,\n"messages":[{"role":"system","content":"be\\u0020kind"} ,{"role":"user",'
        b'"content":"hi"}]}',
        [("system", 0, "messages[0].content", "be kind"), ("user", 1, "messages[1].content", "hi")],
        [],
        b'{ "model":"m", "n" : 1.0e0,\n"messages":[{"role":"system","content":"<be kind>"} ,{"role":"user","content":"<hi>"}]}',
    ),
    (
        "chat with parts",
        CHAT,
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b",'
        b'"cache_control":'
        b'{"type":"ephemeral"}},{"type":"image_url","image_url":{"url":"https://x/y.png"}},{"type":"text","text":"c"},'
        b'{"type":"input_audio","input_audio":{"data":"QQ==","format":"wav"}},'
        b'{"type":"file","file":{"filename":"f.pdf","file_data":"data:application/pdf;base64,QQ=="}}]}]}',
        [
            ("user", 0, "messages[0].content[0].text", "a"),
            ("user", 0, "messages[0].content[1].text", "+b"),
            ("user", 0, "messages[0].content[3].text", "c"),
            ("document", 0, "messages[0].content[5].file.filename", "f.pdf"),
        ],
        [
            ("messages[0].content[2]", "image"),
            ("messages[0].content[4]", "audio"),
            ("messages[0].content[5].file", "file"),
        ],
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"<a>"},{"type":"text","text":"<b>",'
        b'"cache_control":'
        b'{"type":"ephemeral"}},{"type":"image_url","image_url":{"url":"https://x/y.png"}},{"type":"text","text":"<c>"},'
        b'{"type":"input_audio","input_audio":{"data":"QQ==","format":"wav"}},'
        b'{"type":"file","file":{"filename":"<f.pdf>","file_data":"data:application/pdf;base64,QQ=="}}]}]}',
    ),
    (
        "an agent's chat",
        CHAT,
        b'{"model":"m","messages":[{"role":"developer","content":"d"},{"role":"assistant","content":null,'
        b'"reasoning_content":"r",'
        b'"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\\"q\\": \\"v\\"}"}}]},'
        b'{"role":"tool","tool_call_id":"1","content":"{\\"out\\":[\\"w\\",2]}"},{"role":"tool","tool_call_id":"2",'
        b'"content":"plain"}],'
        b'"tools":[{"type":"function","function":{"name":"f","description":"does","parameters":{"type":"object","properties":'
        b'{"q":{"type":"string","description":"the query"}}}}}]}',
        [
            ("system", 0, "messages[0].content", "d"),
            ("assistant", 1, "messages[1].tool_calls[0].function.name", "f"),
            ("assistant", 1, "messages[1].tool_calls[0].function.arguments>#q", "q"),
            ("assistant", 1, "messages[1].tool_calls[0].function.arguments>q", "v"),
            ("assistant", 1, "messages[1]#reasoning_content", "reasoning_content"),
            ("assistant", 1, "messages[1].reasoning_content", "r"),
            ("tool_result", 2, "messages[2].content>#out", "out"),
            ("tool_result", 2, "messages[2].content>out[0]", "w"),
            ("tool_result", 3, "messages[3].content", "plain"),
            ("tool_definition", 0, "tools[0].function.name", "f"),
            ("tool_definition", 0, "tools[0].function.description", "does"),
            ("tool_definition", 0, "tools[0].function.parameters.properties#q", "q"),
            ("tool_definition", 0, "tools[0].function.parameters.properties.q.description", "the query"),
        ],
        [],
        b'{"model":"m","messages":[{"role":"developer","content":"<d>"},{"role":"assistant","content":null,'
        b'"<reasoning_content>":"<r>",'
        b'"tool_calls":[{"id":"1","type":"function","function":{"name":"<f>","arguments":"{\\"<q>\\": \\"<v>\\"}"}}]},'
        b'{"role":"tool","tool_call_id":"1","content":"{\\"<out>\\":[\\"<w>\\",2]}"},{"role":"tool","tool_call_id":"2",'
        b'"content":"<plain>"}],'
        b'"tools":[{"type":"function","function":{"name":"<f>","description":"<does>","parameters":{"type":"object",'
        b'"properties":'
        b'{"<q>":{"type":"string","description":"<the query>"}}}}}]}',
    ),
    (
        "chat with more beside the messages",
        CHAT,
        b'{"model":"m","messages":[{"role":"user","name":"bob","content":"x"}],"stop":["end"],"metadata":{"k":"v"},"user":"u",'
        b'"prediction":{"type":"content","content":"p"},"response_format":{"type":"json_schema","json_schema":{"schema":'
        b'{"description":"s"}}},"web_search_options":{"user_location":{"city":"Rome"}},"temperature":0.5}',
        [
            ("user", 0, "messages[0].name", "bob"),
            ("user", 0, "messages[0].content", "x"),
        ],
        [],
        b"",
    ),
    (
        "completions",
        COMPLETIONS,
        b'{"model":"m","prompt":["a","b",[1,2]],"suffix":"s","max_tokens":5}',
        [("user", 0, "prompt[0]", "a"), ("user", 1, "prompt[1]", "b"), ("user", 2, "suffix", "s")],
        [("prompt[2]", "tokens")],
        b'{"model":"m","prompt":["<a>","<b>",[1,2]],"suffix":"<s>","max_tokens":5}',
    ),
    ("completions of one text", COMPLETIONS, b'{"model":"m","prompt":"a"}', [("user", 0, "prompt", "a")], [],
     b'{"model":"m","prompt":"<a>"}'),
    ("completions of tokens", COMPLETIONS, b'{"model":"m","prompt":[1,2]}', [], [("prompt", "tokens")],
     b'{"model":"m","prompt":[1,2]}'),
    ("embeddings", EMBEDDINGS, b'{"input":["a"],"model":"m","dimensions":3,"user":"u"}',
     [("user", 0, "input[0]", "a"), ("user", -1, "user", "u")], [], b""),
    ("embeddings of tokens", EMBEDDINGS, b'{"input":[[1],[2]],"model":"m"}', [], [("input[0]", "tokens"), ("input[1]",
        "tokens")],
     b'{"input":[[1],[2]],"model":"m"}'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "parts", "hidden", "edited"), [c[1:] for c in REQUESTS], ids=[c[0] for c in REQUESTS])
def test_requests(path: str, body: bytes, parts: list[Listed], hidden: list[tuple[str, str]], edited: bytes) -> None:
    parsed = read(path, orjson.loads(body))
    found = listed(parsed)

    assert [part for part in parts if part not in found] == []
    assert unread(parsed) == hidden
    if edited:
        assert found == parts
        assert bracketed(body, parsed) == edited
    assert parsed.model == "m"
    assert not parsed.streaming


def test_what_stands_beside_the_messages_is_listed_by_who_speaks() -> None:
    parsed = read(CHAT, orjson.loads(REQUESTS[3][2]))

    assert {(part.origin.value, part.text) for part in parsed.segments} >= {
        ("user", "end"),
        ("user", "v"),
        ("user", "u"),
        ("user", "Rome"),
        ("assistant", "p"),
        ("tool_definition", "s"),
    }


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (CHAT, {"messages": "hi"}),
        (CHAT, {"messages": []}),
        (CHAT, {"messages": None}),
        (CHAT, {"messages": ["hi"]}),
        (CHAT, {"messages": [{"content": "hi"}]}),
        (CHAT, {"messages": [{"role": "root", "content": "hi"}]}),
        (CHAT, {"messages": [{"role": ["user"], "content": "hi"}]}),
        (CHAT, {"messages": [{"role": "user", "content": 7}]}),
        (CHAT, {"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}]}),
        (CHAT, {"messages": [{"role": "user", "content": [7]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": ["hi"]}]}]}),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": {"function": {}}}]}),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": ["f"]}]}),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": "f"}]}]}),
        (CHAT, {"tools": {"type": "function"}}),
        (CHAT, {"tools": ["f"]}),
        (CHAT, {"model": None}),
        (CHAT, {"model": ["m"]}),
        (CHAT, {"stream": "true"}),
        (CHAT, {"stream": 1}),
        (COMPLETIONS, {"prompt": None}),
        (COMPLETIONS, {"prompt": {"text": "a"}}),
        (COMPLETIONS, {"prompt": [["a"]]}),
        (COMPLETIONS, {"prompt": [1, "a"]}),
        (COMPLETIONS, {"suffix": ["s"]}),
        (EMBEDDINGS, {"input": None}),
        (EMBEDDINGS, {"input": [{"text": "a"}]}),
    ],
)
def test_a_wrong_type_where_text_should_be_is_the_callers_mistake(path: str, change: dict[str, Any]) -> None:
    good = {CHAT: {"messages": [{"role": "user", "content": "hi"}]}, COMPLETIONS: {"prompt": "a"}, EMBEDDINGS: {"input": "a"}}

    assert read(path, {"model": "m", **good[path]}).segments
    with pytest.raises(Malformed):
        read(path, {"model": "m", **good[path], **change})


def test_a_mistake_is_named_by_its_field_and_not_by_its_value() -> None:
    with pytest.raises(Malformed, match=r"messages\[0\]\.content\[0\]\.text: got a list; wanted a string") as mistake:
        read(CHAT, {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": ["secret"]}]}]})
    assert "secret" not in str(mistake.value)


def test_depth_and_part_count_have_bounds() -> None:
    deep: Any = "x"
    for _ in range(120):
        deep = [deep]
    for body in (
        {"metadata": deep},
        {"tools": [deep]},
        {"messages": [{"role": "tool", "content": orjson.dumps(deep).decode()}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 50_001}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}] * 50_001}]},
    ):
        with pytest.raises(Malformed):
            read(CHAT, {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body})


REPLIES: list[tuple[str, str, dict[str, Any], list[Listed], list[tuple[str, str]]]] = [
    (
        "chat",
        CHAT,
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "usage": {"prompt_tokens": 1},
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "logprobs": {"content": [{"token": "a"}]},
                    "message": {
                        "role": "assistant",
                        "content": "a",
                        "refusal": "no",
                        "reasoning_content": "r",
                        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"q":"v"}'}}],
                        "audio": {"id": "1", "data": "QQ==", "transcript": "said"},
                    },
                }
            ],
        },
        [
            ("assistant", 0, "choices[0].message.content", "a"),
            ("assistant", 0, "choices[0].message.refusal", "no"),
            ("assistant", 0, "choices[0].message.reasoning_content", "r"),
            ("assistant", 0, "choices[0].message.audio.transcript", "said"),
            ("assistant", 0, "choices[0].message.tool_calls[0].function.arguments>q", "v"),
        ],
        [("choices[0].logprobs", "token probabilities"), ("choices[0].message.audio", "audio")],
    ),
    (
        "what is no chat reply at all",
        CHAT,
        {"choices": [{"message": {"content": 7, "tool_calls": "x"}}, "y"], "note": {"k": ["z"]}},
        [
            ("assistant", 0, "choices[0].message.tool_calls", "x"),
            ("assistant", 1, "choices[1]", "y"),
            ("assistant", -1, "note.k[0]", "z"),
        ],
        [],
    ),
    ("an error", CHAT, {"error": {"message": "told"}}, [("assistant", 0, "error.message", "told")], []),
    (
        "completions",
        COMPLETIONS,
        {"choices": [{"text": "a", "index": 0, "logprobs": {"tokens": ["a"]}, "finish_reason": "stop", "note": "n"}]},
        [("assistant", 0, "choices[0].text", "a"), ("assistant", 0, "choices[0].note", "n")],
        [("choices[0].logprobs", "token probabilities")],
    ),
    ("embeddings", EMBEDDINGS, {"data": [{"embedding": [0.1]}], "model": "m", "note": "n"}, [("assistant", -1, "note", "n")],
     [("data", "vectors")]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "doc", "parts", "hidden"), [c[1:] for c in REPLIES], ids=[c[0] for c in REPLIES])
def test_replies(path: str, doc: dict[str, Any], parts: list[Listed], hidden: list[tuple[str, str]]) -> None:
    parsed = read_reply(path, doc)
    found = listed(parsed)

    assert [part for part in parts if part not in found] == []
    assert unread(parsed) == hidden
    bracketed(orjson.dumps(doc), parsed)  # every path leads to its text


@pytest.mark.parametrize("doc", [None, [], "x", 7, {}, {"choices": {}}, {"choices": [None]}, {"choices": [{"message": None}]}])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, EMBEDDINGS])
def test_a_reply_of_another_shape_is_walked(path: str, doc: Any) -> None:
    assert {part.text for part in read_reply(path, doc).segments} <= {"x", "choices", "message"}


CHAT_STREAM = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":5,"model":"m2","choices":[{"index":0,'
    b'"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"Hel"}},{"index":1,"delta":{"content":"Other"}}]}\n\n'
    b": comment\n\n"
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"lo"},"logprobs":{"content":[{"token":"lo"}]}}]}\n\n'
    b'data: {"id":"c1","choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"id":"t","type":"function",'
    b'"function":{"name":"f","arguments":""}}]}}]}\n\n'
    b'data: {"id":"c1","choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"q\\""}}]}}]}\n\n'
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"refusal":"no","images":[{"url":"u"}],'
    b'"audio":{"transcript":"said"}}}]}\n\n'
    b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"c1","choices":[],"usage":{"total_tokens":3}}\n\n'
    b"data: [DONE]\n\n"
)
CHAT_EVENTS = [
    ("reasoning", (0, "reasoning_content"), "hm"),
    ("text", (0, "content"), "Hel"),
    ("text", (1, "content"), "Other"),
    ("text", (0, "content"), "lo"),
    ("tool", (1, "tool", 0), '{"q"'),
    ("refusal", (0, "refusal"), "no"),
    ("other", ("whole", "choices", "0", "delta", "images", "0", "url"), "u"),
    ("text", (0, "audio"), "said"),
]
CHAT_LABELS = {(("id",), "c1"), (("model",), "m2"), ((1, "tool", 0, "id"), "t"), ((1, "tool", 0, "name"), "f")}
COMPLETION_STREAM = (
    b'data: {"id":"c1","object":"text_completion","created":5,"model":"m2","choices":[{"index":0,"text":"a ",'
    b'"finish_reason":null}]}\r\n\r\n'
    b'data: {"id":"c1","choices":[{"index":0,"text":"b","finish_reason":"stop","note":"n"}]}\r\n\r\n'
    b"data: [DONE]\r\n\r\n"
)
COMPLETION_EVENTS = [
    ("text", (0, "text"), "a "),
    ("text", (0, "text"), "b"),
    ("other", ("whole", "choices", "0", "note"), "n"),
]
COMPLETION_LABELS = {(("id",), "c1"), (("model",), "m2")}


@pytest.mark.parametrize(
    ("path", "stream", "expected", "labels"),
    [(CHAT, CHAT_STREAM, CHAT_EVENTS, CHAT_LABELS), (COMPLETIONS, COMPLETION_STREAM, COMPLETION_EVENTS, COMPLETION_LABELS)],
)
def test_streams(path: str, stream: bytes, expected: list[Any], labels: set[Any]) -> None:
    for chunks in ([stream], singly(stream)):
        events, reader = follow(target(path), chunks)

        said = spoken(events)
        assert [one for one in said if one[0] != "label"] == expected
        assert {one[1:] for one in said if one[0] == "label"} == labels
        assert events[-1].kind is EventKind.STOP
        assert reader.stop("x") == b""
        assert reader.fail("x") == b""


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("data", [b"{}", b'{"choices":7}', b'{"choices":[7]}', b'{"choices":[{"delta":7,"text":7}]}'])
def test_a_frame_that_makes_no_sense_is_of_kind_other(path: str, data: bytes) -> None:
    events, _ = follow(target(path), [b"data: " + data + b"\n\n"])

    assert [event.kind for event in events] == [EventKind.OTHER]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_an_error_in_a_stream_is_one(path: str) -> None:
    events, _ = follow(target(path), [b'data: {"error":{"message":"told"}}\n\n'])

    assert events[0].kind is EventKind.ERROR
    assert spoken(events) == [("other", ("whole", "error", "message"), "told")]


def test_a_stop_ends_the_choices_that_are_open() -> None:
    cut = CHAT_STREAM.index(b'data: {"id":"c1","choices":[],')
    _, reader = follow(target(CHAT), [CHAT_STREAM[:cut]])

    stop = reader.stop("blocked")

    assert stop.endswith(b"data: [DONE]\n\n")
    assert list(sse_events(stop)) == [
        {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 5,
            "model": "m2",
            "choices": [{"index": 1, "delta": {}, "logprobs": None, "finish_reason": "content_filter"}],
        }
    ]


def test_a_stop_before_the_first_frame_is_a_stream_of_its_own() -> None:
    for path in (CHAT, COMPLETIONS):
        _, reader = follow(target(path), [])
        (chunk,) = sse_events(reader.stop("blocked"))

        assert chunk["model"] == "m"
        assert chunk["choices"][0]["finish_reason"] == "content_filter"


def test_a_broken_upstream_is_told_in_the_stream() -> None:
    for path in (CHAT, COMPLETIONS):
        _, reader = follow(target(path), [])
        failed = reader.fail("it broke off")

        assert next(sse_events(failed))["error"]["message"] == "it broke off"
        assert b"[DONE]" not in failed


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, EMBEDDINGS])
def test_a_refusal_is_an_error_by_default(path: str) -> None:
    where = target(path)
    reply = where.wire.refuse(where, read(CHAT, {"model": "m", "messages": [{"role": "user"}]}), "no", False, "id")

    assert (reply.status, reply.content_type) == (400, b"application/json")
    assert orjson.loads(reply.body)["error"]["code"] == "content_filter"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 413, 415, 429, 500, 502, 503, 504, 529])
def test_errors_have_openais_shape(status: int) -> None:
    reply = target(CHAT).wire.error(status, "some_code", "told")

    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    assert reply.status == status
    assert orjson.loads(reply.body) == {"error": {"message": "told", "type": kind, "param": None, "code": "some_code"}}
