"""Anthropic's wire of messages."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from wires_support import (
    COUNT,
    MESSAGES,
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

from gateway.wires.base import EventKind, Malformed, Thread

# A content block, who speaks around it, what is listed of it, and what is not read.
BLOCKS: list[tuple[dict[str, Any], list[tuple[str, str, str]], list[tuple[str, str]]]] = [
    ({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}, "citations": [{"type": "char_location",
        "cited_text": "c"}]},
     [("user", ".text", "a"), ("document", ".citations[0].cited_text", "c")], []),
    ({"type": "image", "source": {"type": "url", "url": "https://x"}}, [], [("", "image")]),
    ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}}, [], [("", "image")]),
    ({"type": "document", "title": "t", "context": "c", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
     [("document", ".title", "t"), ("document", ".context", "c"), ("document", ".source.data", "d")], []),
    ({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}, {"type": "text",
        "text": "b"}, {"type": "image", "source": {}}]}},
     [("document", ".source.content[0].text", "a"), ("document", ".source.content[1].text", "+b")], [(".source.content[2]",
         "image")]),
    ({"type": "document", "source": {"type": "content", "content": "d"}}, [("document", ".source.content", "d")], []),
    ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}}, [], [(".source",
        "file")]),
    ({"type": "document", "source": {"type": "url", "url": "https://x"}}, [], [(".source", "file")]),
    ({"type": "document", "source": {"type": "file", "file_id": "x"}}, [], [(".source", "file")]),
    ({"type": "document", "source": {"type": "new", "words": "w"}}, [("document", ".source.words", "w")], []),
    ({"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "a"}]},
     [("document", ".source", "s"), ("document", ".title", "t"), ("document", ".content[0].text", "a")], []),
    ({"type": "tool_result", "tool_use_id": "1", "content": "plain", "is_error": True}, [("tool_result", ".content",
        "plain")], []),
    ({"type": "tool_result", "tool_use_id": "1", "content": '{"r":"w"}'}, [("tool_result", ".content>r", "w")], []),
    ({"type": "tool_result", "tool_use_id": "1", "content": [
        {"type": "text", "text": '[{"r":"{\\"deep\\":\\"w\\"}"}]'}, {"type": "image", "source": {}},
        {"type": "document", "source": {"type": "text", "data": "d"}}, {"type": "search_result", "source": "s",
            "content": [{"type": "text", "text": "f"}]},
        {"type": "tool_reference", "tool_name": "n"}]},
     [("tool_result", ".content[0].text>[0].r>deep", "w"), ("document", ".content[2].source.data", "d"), ("document",
         ".content[3].content[0].text", "f"),
      ("tool_result", ".content[4].tool_name", "n")], [(".content[1]", "image")]),
    ({"type": "tool_use", "id": "1", "name": "f", "input": {"q": {"deep": ["v"]}}}, [("assistant", ".name", "f"),
        ("assistant", ".input.q.deep[0]", "v")], []),
    ({"type": "thinking", "thinking": "hm", "signature": "zz"}, [("assistant", ".thinking", "hm")], []),
    ({"type": "redacted_thinking", "data": "zz"}, [], [("", "encrypted")]),
    ({"type": "server_tool_use", "id": "1", "name": "web_search", "input": {"query": "q"}}, [("assistant", ".input.query",
        "q")], []),
    ({"type": "web_search_tool_result", "tool_use_id": "1", "content": [
        {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "zz", "page_age": "p"}]},
     [("document", ".content[0].url", "u"), ("document", ".content[0].title", "t")], [(".content[0].encrypted_content",
         "encrypted")]),
    ({"type": "web_search_tool_result", "tool_use_id": "1", "content": {"type": "web_search_tool_result_error",
        "error_code": "e"}},
     [("document", ".content.error_code", "e")], []),
    ({"type": "web_fetch_tool_result", "tool_use_id": "1", "content": {"type": "web_fetch_result", "url": "u", "content":
        {"type": "document", "title": "t", "source": {"type": "text", "data": "d"}}}},
     [("document", ".content.url", "u"), ("document", ".content.content.source.data", "d")], []),
    ({"type": "mcp_tool_use", "id": "1", "name": "f", "server_name": "s", "input": {"q": "v"}}, [("assistant", ".server_name",
        "s"), ("assistant", ".input.q", "v")], []),
    ({"type": "mcp_tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": '{"r":"w"}'}]}, [("tool_result",
        ".content[0].text>r", "w")], []),
    ({"type": "code_execution_tool_result", "tool_use_id": "1", "content": {"type": "code_execution_result", "stdout": "o",
        "stderr": "e", "return_code": 0,
        "content": [{"type": "code_execution_output", "file_id": "x"}]}},
     [("tool_result", ".content.stdout", "o"), ("tool_result", ".content.stderr", "e")], [(".content.content", "file")]),
    ({"type": "text_editor_code_execution_tool_result", "tool_use_id": "1",
        "content": {"type": "text_editor_code_execution_view_result", "content": "c", "file_type": "text"}},
     [("tool_result", ".content.content", "c")], []),
    ({"type": "container_upload", "file_id": "x"}, [], [("", "file")]),
    ({"type": "compaction", "content": "c", "encrypted_content": "zz"}, [("assistant", ".content", "c")],
        [(".encrypted_content", "encrypted")]),
    ({"type": "mcp_tool_listing", "mcp_server_name": "s", "tools": [{"name": "n", "description": "d"}]}, [("tool_definition",
        ".tools[0].description", "d")], []),
    ({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"name": "n", "description": "d"}}},
     [("tool_definition", ".tool.definition.description", "d")], []),
    ({"type": "brand_new_result", "words": '{"r":"w"}'}, [("tool_result", ".words>r", "w")], []),
    ({"type": "brand_new", "words": ["w"]}, [("user", ".words[0]", "w")], []),
]  # fmt: skip


def speaker(parts: list[tuple[str, str, str]]) -> str:
    """In whose message a block stands."""
    return "assistant" if any(origin == "assistant" for origin, _, _ in parts) else "user"


@pytest.mark.parametrize(("block", "parts", "hidden"), BLOCKS, ids=[block[0]["type"] for block in BLOCKS])
def test_blocks(block: dict[str, Any], parts: list[tuple[str, str, str]], hidden: list[tuple[str, str]]) -> None:
    doc = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": speaker(parts), "content": [{"type": "text", "text": "before"}, block]}],
    }
    parsed = read(MESSAGES, doc)
    place = "messages[0].content[1]"

    wanted = [(speaker(parts), 0, "messages[0].content[0].text", "before"), *((o, 0, place + path, text) for o, path, text in parts)]
    found = [(*part[:3], part[3].removeprefix("+")) if part[2] == f"{place}.text" else part for part in listed(parsed)]
    assert [part for part in wanted if part not in found] == []
    assert unread(parsed) == [(place + path, reason) for path, reason in hidden]
    bracketed(orjson.dumps(doc), parsed)
    reply = read_reply(MESSAGES, {"content": [{"type": "text", "text": "before"}, block]})
    assert {part.text for part in reply.segments} == {part.text for part in parsed.segments}


REQUEST = (
    b'{"model":"m", "max_tokens":1e2,"system":[{"type":"text","text":"s"},{"type":"text","text":"t",'
    b'"cache_control":{"type":"ephemeral"}}],'
    b'"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f",'
    b'"input":{"a":"\\u00e9"}}]},'
    b'{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"{\\"r\\": \\"w\\"}"}]}],'
    b'"tools":[{"name":"f","description":"d","input_schema":{"type":"object","properties":{"a":{"type":"string"}}},'
    b'"cache_control":{"type":"ephemeral"}},'
    b'{"type":"web_search_20250305","name":"web_search","user_location":{"type":"approximate","city":"Rome"}}],'
    b'"mcp_servers":[{"type":"url","name":"n","url":"u","authorization_token":"key"}],"metadata":{"user_id":"bob"},'
    b'"stop_sequences":["end"]}'
)
EDITED = (
    b'{"model":"m", "max_tokens":1e2,"system":[{"type":"text","text":"<s>"},{"type":"text","text":"<t>",'
    b'"cache_control":{"type":"ephemeral"}}],'
    b'"messages":[{"role":"user","content":"<q>"},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"<f>",'
    b'"input":{"<a>":"<\xc3\xa9>"}}]},'
    b'{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"{\\"<r>\\": \\"<w>\\"}"}]}],'
    b'"tools":[{"name":"<f>","description":"<d>","input_schema":{"type":"object","properties":{"<a>":{"type":"string"}}},'
    b'"cache_control":{"type":"ephemeral"}},'
    b'{"type":"web_search_20250305","name":"<web_search>","<user_location>":{"type":"<approximate>","<city>":"<Rome>"}}],'
    b'"mcp_servers":[{"type":"url","name":"<n>","<url>":"<u>","authorization_token":"key"}],'
    b'"<metadata>":{"<user_id>":"<bob>"},"<stop_sequences>":["<end>"]}'
)
LISTED: list[Listed] = [
    ("system", -1, "system[0].text", "s"),
    ("system", -1, "system[1].text", "+t"),
    ("user", 0, "messages[0].content", "q"),
    ("assistant", 1, "messages[1].content[0].input.a", "é"),
    ("tool_result", 2, "messages[2].content[0].content>r", "w"),
    ("tool_definition", 0, "tools[0].description", "d"),
    ("tool_definition", 1, "tools[1].user_location.city", "Rome"),
    ("tool_definition", 0, "mcp_servers[0].url", "u"),
    ("user", -1, "metadata.user_id", "bob"),
    ("user", -1, "stop_sequences[0]", "end"),
]


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
def test_requests(path: str) -> None:
    parsed = read(path, orjson.loads(REQUEST))

    assert [part for part in LISTED if part not in listed(parsed)] == []
    assert unread(parsed) == [("mcp_servers[0].authorization_token", "credential")]
    assert bracketed(REQUEST, parsed) == EDITED


def test_tools_are_listed_whatever_else_the_request_has() -> None:
    doc = {"model": "m", "messages": [{"role": "user", "content": "q"}], "tools": [{"name": "f", "description": "d"}]}

    assert ("tool_definition", 0, "tools[0].description", "d") in listed(read(MESSAGES, doc))


@pytest.mark.parametrize(
    "change",
    [
        {"messages": "q"},
        {"messages": []},
        {"messages": ["q"]},
        {"messages": [{"role": "tool", "content": "q"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": {"type": "text", "text": "q"}}]},
        {"messages": [{"role": "user", "content": [7]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": 7}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": 7}]}]},
        {"system": 7},
        {"system": {"type": "text", "text": "s"}},
        {"system": [{"type": "text", "text": 7}]},
        {"tools": {"name": "f"}},
        {"tools": [7]},
        {"mcp_servers": {}},
        {"stream": "yes"},
        {"model": 7},
    ],
)
def test_a_wrong_type_where_text_should_be_is_the_callers_mistake(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read(MESSAGES, {"model": "m", "messages": [{"role": "user", "content": "q"}], **change})


def test_results_within_results_have_a_bound() -> None:
    block: dict[str, Any] = {"type": "text", "text": "x"}
    for _ in range(60):
        block = {"type": "tool_result", "content": [block]}

    with pytest.raises(Malformed):
        read(MESSAGES, {"model": "m", "messages": [{"role": "user", "content": [block]}]})


@pytest.mark.parametrize("doc", [None, [], "x", {}, {"content": "x"}, {"content": ["x", 7]}, {"input_tokens": 3}])
def test_a_reply_of_another_shape_is_walked(doc: Any) -> None:
    assert {part.text for part in read_reply(MESSAGES, doc).segments} <= {"x"}


def _sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n" for event in events)


STARTED = (
    {
        "type": "message_start",
        "message": {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": "m2",
            "content": [],
            "usage": {"output_tokens": 1},
        },
    },
    {"type": "ping"},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
)
STREAM = _sse(
    *STARTED,
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"cited_text": "c"}}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "signature_delta", "signature": "zz"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"q"'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "new_delta", "words": "w"}},
    {"type": "content_block_stop", "index": 2},
    {"type": "content_block_start", "index": 3, "content_block": {"type": "web_search_tool_result", "content": [
        {"type": "web_search_result", "title": "t", "encrypted_content": "zz"}]}},
    {"type": "content_block_stop", "index": 3},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": "end"}, "usage": {"output_tokens": 7}},
    {"type": "brand_new", "words": "n"},
    {"type": "message_stop"},
)  # fmt: skip
EVENTS = [
    ("text", (0, "text"), "Hel"),
    ("text", (0, "text"), "lo"),
    ("other", ("whole", "delta", "citation", "cited_text"), "c"),
    ("reasoning", (1, "thinking"), "hm"),
    ("other", ("whole", "content_block", "name"), "f"),
    ("tool", (2, "partial_json"), '{"q"'),
    ("other", (2, "words"), "w"),
    ("unread", ("content_block", "content", "0", "encrypted_content"), "encrypted"),
    ("other", ("whole", "content_block", "content", "0", "title"), "t"),
    ("other", ("whole", "delta", "stop_sequence"), "end"),
    ("other", ("whole", "type"), "brand_new"),
    ("other", ("whole", "words"), "n"),
]


def test_streams() -> None:
    for chunks in ([STREAM], singly(STREAM)):
        events, reader = follow(target(MESSAGES), chunks)

        assert spoken(events) == EVENTS
        assert events[-1].kind is EventKind.STOP
        assert reader.stop("x") == b""
        assert reader.fail("x") == b""


def test_a_stop_closes_the_blocks_that_are_open() -> None:
    _, reader = follow(target(MESSAGES), [_sse(*STARTED)])

    assert list(sse_events(reader.stop("blocked"))) == [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {
                "stop_reason": "refusal",
                "stop_sequence": None,
                "stop_details": {"type": "refusal", "category": None, "explanation": "blocked"},
            },
            "usage": {"output_tokens": 0},
        },
        {"type": "message_stop"},
    ]


def test_a_stop_before_the_first_frame_is_a_stream_of_its_own() -> None:
    _, reader = follow(target(MESSAGES), [])

    assert [event["type"] for event in sse_events(reader.stop("no"))] == ["message_start", "message_delta", "message_stop"]


def test_a_broken_upstream_is_told_in_the_stream() -> None:
    _, reader = follow(target(MESSAGES), [_sse(*STARTED)])
    failed = reader.fail("it broke off")

    assert failed.startswith(b"event: error\n")
    assert list(sse_events(failed)) == [{"type": "error", "error": {"type": "api_error", "message": "it broke off"}}]


def test_an_error_in_a_stream_is_one() -> None:
    events, reader = follow(
        target(MESSAGES), [_sse({"type": "error", "error": {"type": "overloaded_error", "message": "told"}})]
    )

    assert events[0].kind is EventKind.ERROR
    assert "told" in [event.text for event in events]
    assert reader.stop("x") == b""


@pytest.mark.parametrize("data", [b"{}", b'{"type":7}', b'{"type":"content_block_delta"}', b'{"type":"ping"}'])
def test_a_frame_that_makes_no_sense_is_of_kind_other(data: bytes) -> None:
    events, _ = follow(target(MESSAGES), [b"data: " + data + b"\n\n"])

    assert {event.kind for event in events} == {EventKind.OTHER}


def test_a_refusal_as_a_reply() -> None:
    where = target(MESSAGES)
    parsed = read(MESSAGES, orjson.loads(REQUEST))
    whole = orjson.loads(where.wire.refuse(where, parsed, "no", True, "id").body)
    streamed = list(sse_events(where.wire.refuse(where, parsed._replace(streaming=True), "no", True, "id").body))

    assert whole["stop_reason"] == "refusal"
    assert whole["content"] == [{"type": "text", "text": "no"}]
    assert [event["type"] for event in streamed] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert streamed[-2]["delta"]["stop_reason"] == "refusal"


@pytest.mark.parametrize(("path", "as_reply"), [(MESSAGES, False), (COUNT, False), (COUNT, True)])
def test_a_refusal_as_an_error(path: str, as_reply: bool) -> None:
    where = target(path)
    reply = where.wire.refuse(where, read(path, orjson.loads(REQUEST)), "no", as_reply, "id")

    assert reply.status == 400
    assert orjson.loads(reply.body) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "no"},
        "request_id": "id",
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (408, "timeout_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_anthropics_shape(status: int, kind: str) -> None:
    reply = target(MESSAGES).wire.error(status, "some_code", "told")

    assert reply.status == status
    assert orjson.loads(reply.body) == {"type": "error", "error": {"type": kind, "message": "told"}, "request_id": None}


def test_what_a_thread_holds_is_listed_as_kept_by_the_provider() -> None:
    messages = [{"role": "user", "content": "q"}]
    begun = read(MESSAGES, {"model": "m", "messages": messages, "thread": {"type": "create"}})
    assert (unread(begun), begun.thread) == ([], Thread(()))
    more = {"type": "continue", "previous_message_id": "msg_1", "note": "n"}
    gone_on = read(MESSAGES, {"model": "m", "messages": messages, "thread": more})
    assert (unread(gone_on), gone_on.thread) == ([("thread", "upstream state")], Thread(("msg_1",)))
    assert ("user", -1, "thread.note", "n") in listed(gone_on)
    assert read(MESSAGES, {"model": "m", "messages": messages}).thread is None
