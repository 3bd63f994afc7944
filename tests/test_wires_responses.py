"""OpenAI's wire of responses."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from wires_support import (
    RESPONSES,
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

# An item of the input, what is listed of it, and what is not read.
ITEMS: list[tuple[dict[str, Any], list[tuple[str, str, str]], list[tuple[str, str]]]] = [
    ({"role": "user", "content": "a"}, [("user", ".content", "a")], []),
    ({"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text",
        "text": "b"}]},
     [("system", ".content[0].text", "a"), ("system", ".content[1].text", "+b")], []),
    ({"type": "message", "id": "1", "status": "completed", "role": "assistant", "content": [
        {"type": "output_text", "text": "a", "annotations": [{"type": "url_citation", "url": "u", "title": "t"}],
            "logprobs": [{"token": "a"}]},
        {"type": "refusal", "refusal": "no"}]},
     [("assistant", ".content[0].text", "a"), ("document", ".content[0].annotations[0].url", "u"),
      ("document", ".content[0].annotations[0].title", "t"), ("assistant", ".content[1].refusal", "+no")],
     [(".content[0].logprobs", "token probabilities")]),
    ({"role": "user", "content": [
        {"type": "input_image", "image_url": "https://x", "detail": "low"},
        {"type": "input_file", "filename": "f.pdf", "file_data": "data:application/pdf;base64,QQ=="},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
        {"type": "input_hologram", "words": "h"}]},
     [("document", ".content[1].filename", "f.pdf"), ("user", ".content[3].type", "input_hologram"), ("user",
         ".content[3].words", "h")],
     [(".content[0]", "image"), (".content[1]", "file"), (".content[2]", "audio")]),
    ({"role": "user", "content": [{"type": "input_file", "filename": "f.txt", "file_data": "data:text/plain;base64,QQ=="}]},
     [("document", ".content[0].filename", "f.txt"), ("document", ".content[0].file_data~", "A")], []),
    ({"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"q":"v"}'},
     [("assistant", ".name", "f"), ("assistant", ".arguments>q", "v")], []),
    ({"type": "function_call_output", "call_id": "1", "output": '{"r":["w"]}'}, [("tool_result", ".output>r[0]", "w")], []),
    ({"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": '["w"]'},
        {"type": "input_image", "image_url": "u"}]},
     [("tool_result", ".output[0].text>[0]", "w")], [(".output[1]", "image")]),
    ({"type": "custom_tool_call", "call_id": "1", "name": "f", "input": "free text"}, [("assistant", ".input", "free text")],
        []),
    ({"type": "custom_tool_call_output", "call_id": "1", "output": "w"}, [("tool_result", ".output", "w")], []),
    ({"type": "reasoning", "id": "1", "summary": [{"type": "summary_text", "text": "s"}],
        "content": [{"type": "reasoning_text", "text": "r"}],
      "encrypted_content": "zz"},
     [("assistant", ".summary[0].text", "s"), ("assistant", ".content[0].text", "r")], [(".encrypted_content", "encrypted")]),
    ({"type": "item_reference", "id": "1"}, [], [("", "upstream state")]),
    ({"id": "1"}, [], [("", "upstream state")]),
    ({"type": "compaction", "encrypted_content": "zz"}, [], [(".encrypted_content", "encrypted")]),
    ({"type": "file_search_call", "id": "1", "queries": ["q"], "results": [{"file_id": "x", "filename": "f", "text": "found",
        "attributes": {"k": "v"}}]},
     [("assistant", ".queries[0]", "q"), ("document", ".results[0].filename", "f"), ("document", ".results[0].text", "found"),
      ("document", ".results[0].attributes.k", "v")], []),
    ({"type": "web_search_call", "id": "1", "action": {"type": "search", "query": "q"}}, [("assistant", ".action.query",
        "q")], []),
    ({"type": "computer_call", "call_id": "1", "action": {"type": "type", "text": "typed"},
        "pending_safety_checks": [{"id": "i", "message": "m"}]},
     [("assistant", ".action.text", "typed"), ("tool_result", ".pending_safety_checks[0].message", "m")], []),
    ({"type": "computer_call_output", "call_id": "1", "output": {"type": "computer_screenshot", "image_url": "u"}}, [],
        [(".output", "image")]),
    ({"type": "code_interpreter_call", "id": "1", "code": "print()", "outputs": [{"type": "logs", "logs": "out"},
        {"type": "image", "url": "u"}]},
     [("assistant", ".code", "print()"), ("tool_result", ".outputs[0].logs", "out")], [(".outputs[1]", "image")]),
    ({"type": "local_shell_call", "call_id": "1", "action": {"type": "exec", "command": ["ls"], "env": {"K": "v"}}},
     [("assistant", ".action.command[0]", "ls"), ("assistant", ".action.env.K", "v")], []),
    ({"type": "local_shell_call_output", "id": "1", "output": '{"stdout":"o"}'}, [("tool_result", ".output>stdout", "o")], []),
    ({"type": "shell_call", "call_id": "1", "action": {"commands": ["ls"]}}, [("assistant", ".action.commands[0]", "ls")], []),
    ({"type": "shell_call_output", "call_id": "1", "output": [{"stdout": "o", "stderr": "e", "outcome": {"type": "exit"}}]},
     [("tool_result", ".output[0].stdout", "o"), ("tool_result", ".output[0].stderr", "e")], []),
    ({"type": "apply_patch_call", "call_id": "1", "operation": {"type": "update_file", "diff": "+d", "path": "p"}},
     [("assistant", ".operation.diff", "+d")], []),
    ({"type": "mcp_list_tools", "id": "1", "server_label": "l", "tools": [{"name": "n", "description": "d",
        "input_schema": {"description": "s"}}]},
     [("tool_definition", ".server_label", "l"), ("tool_definition", ".tools[0].description", "d"),
      ("tool_definition", ".tools[0].input_schema.description", "s")], []),
    ({"type": "mcp_approval_request", "id": "1", "name": "n", "arguments": '{"q":"v"}', "server_label": "l"}, [("assistant",
        ".arguments>q", "v")], []),
    ({"type": "mcp_approval_response", "approval_request_id": "1", "approve": True, "reason": "why"}, [("user", ".reason",
        "why")], []),
    ({"type": "mcp_call", "id": "1", "name": "n", "arguments": '{"q":"v"}', "output": '{"r":"w"}', "error": {"message": "e"}},
     [("assistant", ".arguments>q", "v"), ("tool_result", ".output>r", "w"), ("tool_result", ".error.message", "e")], []),
    ({"type": "image_generation_call", "id": "1", "result": "QQ==", "revised_prompt": "p"}, [("assistant", ".revised_prompt",
        "p")], [(".result", "image")]),
    ({"type": "tool_search_output", "call_id": "1", "tools": [{"type": "function", "name": "n", "description": "d"}]},
     [("tool_definition", ".tools[0].description", "d")], []),
    ({"type": "brand_new_call_output", "words": '{"r":"w"}'}, [("tool_result", ".words>r", "w")], []),
    ({"type": "brand_new_call", "words": "w"}, [("assistant", ".words", "w")], []),
    ({"type": "brand_new", "words": "w"}, [("user", ".words", "w")], []),
]  # fmt: skip


@pytest.mark.parametrize(("item", "parts", "hidden"), ITEMS, ids=[str(item[0].get("type", "none")) for item in ITEMS])
def test_items(item: dict[str, Any], parts: list[tuple[str, str, str]], hidden: list[tuple[str, str]]) -> None:
    doc = {"model": "m", "input": [{"role": "user", "content": "before"}, item]}
    parsed = read(RESPONSES, doc)
    found = listed(parsed)

    assert [part for part in ((o, 1, f"input[1]{p}", t) for o, p, t in parts) if part not in found] == []
    assert unread(parsed) == [(f"input[1]{path}", reason) for path, reason in hidden]
    edited = orjson.loads(bracketed(orjson.dumps(doc), parsed))
    assert edited["input"][0]["content"] == "<before>"
    reply = read_reply(RESPONSES, {"output": [{"type": "message", "role": "assistant", "content": "before"}, item]})
    assert {part.text for part in reply.segments} == {part.text for part in parsed.segments}


REQUEST = (
    b'{"model":"m","instructions":"i", "input" : "q","previous_response_id":"r","conversation":{"id":"c"},'
    b'"max_output_tokens":1e3,'
    b'"prompt":{"id":"p","variables":{"a":"v","b":{"type":"input_text","text":"w"},"c":{"type":"input_image",'
    b'"image_url":"u"}}},'
    b'"tools":[{"type":"function","name":"f","description":"d","parameters":{}},{"type":"mcp","server_label":"l",'
    b'"authorization":"key","headers":{"k":"v"}}],'
    b'"text":{"format":{"type":"json_schema","schema":{"description":"s"}}},"tool_choice":{"type":"function","name":"f"},'
    b'"metadata":{"k":"v"}}'
)


def test_what_stands_beside_the_items() -> None:
    parsed = read(RESPONSES, orjson.loads(REQUEST))
    found = listed(parsed)

    wanted: list[Listed] = [
        ("system", -1, "instructions", "i"),
        ("user", 0, "input", "q"),
        ("user", -1, "prompt.variables.a", "v"),
        ("user", -1, "prompt.variables.b.text", "w"),
        ("tool_definition", 0, "tools[0].description", "d"),
        ("tool_definition", 1, "tools[1].server_label", "l"),
        ("tool_definition", -1, "text.format.schema.description", "s"),
        ("tool_definition", -1, "tool_choice.name", "f"),
        ("user", -1, "metadata.k", "v"),
    ]
    assert [part for part in wanted if part not in found] == []
    assert sorted(unread(parsed)) == [
        ("conversation", "upstream state"),
        ("previous_response_id", "upstream state"),
        ("prompt", "upstream state"),
        ("prompt.variables.c", "image"),
        ("tools[1].authorization", "credential"),
        ("tools[1].headers", "credential"),
    ]
    edited = bracketed(REQUEST, parsed)
    assert b'"instructions":"<i>", "input" : "<q>",' in edited
    assert b'"max_output_tokens":1e3' in edited
    assert b'"authorization":"key","headers":{"k":"v"}' in edited


def test_a_stored_prompt_needs_no_model_and_no_input() -> None:
    assert read(RESPONSES, {"prompt": {"id": "p"}}).model is None
    with pytest.raises(Malformed):
        read(RESPONSES, {"input": "q"})


@pytest.mark.parametrize(
    "change",
    [
        {"input": 7},
        {"input": {"role": "user", "content": "x"}},
        {"input": ["x"]},
        {"input": [{"role": "root", "content": "x"}]},
        {"input": [{"role": "user", "content": {"type": "input_text", "text": "x"}}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": 7}]}]},
        {"input": [{"type": "function_call_output", "output": 7}]},
        {"instructions": ["x"]},
        {"instructions": {"text": "x"}},
        {"tools": {"type": "function"}},
        {"tools": ["f"]},
        {"prompt": "p"},
        {"stream": "yes"},
    ],
)
def test_a_wrong_type_where_text_should_be_is_the_callers_mistake(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read(RESPONSES, {"model": "m", "input": "q", **change})


def test_a_reply_repeats_the_request_and_each_part_keeps_its_speaker() -> None:
    reply = {
        "id": "r",
        "object": "response",
        "status": "completed",
        "model": "m",
        "instructions": "i",
        "tools": [{"type": "function", "name": "f", "description": "d"}],
        "metadata": {"k": "v"},
        "usage": {"input_tokens": 1},
        "error": {"code": "c", "message": "told"},
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}],
    }
    parsed = read_reply(RESPONSES, reply)

    assert ("system", -1, "instructions", "i") in listed(parsed)
    assert ("tool_definition", 0, "tools[0].description", "d") in listed(parsed)
    assert ("assistant", 0, "output[0].content[0].text", "a") in listed(parsed)
    assert ("assistant", -1, "error.message", "told") in listed(parsed)
    bracketed(orjson.dumps(reply), parsed)


@pytest.mark.parametrize(
    "doc", [None, [], "x", {}, {"output": "x"}, {"output": ["x"]}, {"output": [], "prompt": 7, "tools": 7}]
)
def test_a_reply_of_another_shape_is_walked(doc: Any) -> None:
    assert {part.text for part in read_reply(RESPONSES, doc).segments} <= {"x", "output"}


def _sse(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps({**event, "sequence_number": number}) + b"\n\n"
        for number, event in enumerate(events)
    )


HEAD = {"id": "r1", "object": "response", "model": "m2", "status": "in_progress", "instructions": "i", "output": []}
ITEM = {"id": "m1", "type": "message", "role": "assistant", "content": []}
CALL = {"id": "f1", "type": "function_call", "call_id": "c", "name": "f", "arguments": ""}
PLACE = {"item_id": "m1", "output_index": 0, "content_index": 0}
STARTED = (
    {"type": "response.created", "response": HEAD},
    {"type": "response.output_item.added", "output_index": 0, "item": ITEM},
    {"type": "response.content_part.added", **PLACE, "part": {"type": "output_text", "text": ""}},
    {"type": "response.output_text.delta", **PLACE, "delta": "Hel"},
    {"type": "response.output_text.delta", **PLACE, "delta": "lo", "obfuscation": "xx"},
)
STREAM = _sse(
    *STARTED,
    {"type": "response.output_text.done", **PLACE, "text": "Hello"},
    {"type": "response.reasoning_summary_text.delta", "item_id": "r", "output_index": 1, "summary_index": 0, "delta": "hm"},
    {"type": "response.refusal.delta", **PLACE, "delta": "no"},
    {"type": "response.output_item.added", "output_index": 2, "item": CALL},
    {"type": "response.function_call_arguments.delta", "item_id": "f1", "output_index": 2, "delta": '{"q"'},
    {
        "type": "response.shell_call_output_content.delta",
        "item_id": "s",
        "output_index": 3,
        "delta": {"stdout": "o", "stderr": None},
    },
    {"type": "response.brand_new.delta", "output_index": 4, "delta": "n"},
    {"type": "response.image_generation_call.partial_image", "partial_image_b64": "QQ=="},
    {"type": "response.output_item.done", "output_index": 5, "item": {"type": "mcp_call", "output": "w"}},
    {"type": "response.output_item.done", "output_index": 6, "item": {"type": "image_generation_call", "result": "QQ=="}},
    {"type": "response.completed", "response": {**HEAD, "status": "completed", "output": [{**ITEM, "content": "Hello"}]}},
)
EVENTS = [
    ("text", ("whole", "response", "instructions"), "i"),
    ("text", (0, 0, "response.output_text.delta"), "Hel"),
    ("text", (0, 0, "response.output_text.delta"), "lo"),
    ("text", ("whole", "text"), "Hello"),
    ("reasoning", (1, 0, "response.reasoning_summary_text.delta"), "hm"),
    ("refusal", (0, 0, "response.refusal.delta"), "no"),
    ("other", ("whole", "item", "name"), "f"),
    ("tool", (2, "response.function_call_arguments.delta"), '{"q"'),
    ("other", (3, "response.shell_call_output_content.delta", "stdout"), "o"),
    ("other", (4, "response.brand_new.delta"), "n"),
    ("unread", ("response.image_generation_call.partial_image",), "image"),
    ("other", ("whole", "item", "output"), "w"),
    ("unread", ("item", "result"), "image"),
    ("text", ("whole", "response", "instructions"), "i"),
    ("text", ("whole", "response", "output", "0", "content"), "Hello"),
]


def test_streams() -> None:
    for chunks in ([STREAM], singly(STREAM)):
        events, reader = follow(target(RESPONSES), chunks)

        assert spoken(events) == EVENTS
        assert EventKind.STOP in {event.kind for event in events}
        assert reader.stop("x") == b""
        assert reader.fail("x") == b""


def test_a_stop_ends_the_response_that_was_begun() -> None:
    _, reader = follow(target(RESPONSES), [_sse(*STARTED)])
    stop = reader.stop("blocked")
    (end,) = sse_events(stop)

    assert stop.startswith(b"event: response.incomplete\n")
    assert end["sequence_number"] == len(STARTED)
    assert end["response"]["id"] == "r1"
    assert end["response"]["status"] == "incomplete"
    assert end["response"]["incomplete_details"] == {"reason": "content_filter"}
    assert b"Hello" not in stop


def test_a_stop_before_the_first_frame_is_a_stream_of_its_own() -> None:
    _, reader = follow(target(RESPONSES), [])

    assert [event["type"] for event in sse_events(reader.stop("blocked"))] == ["response.created", "response.incomplete"]


def test_a_broken_upstream_is_told_in_the_stream() -> None:
    _, reader = follow(target(RESPONSES), [_sse(*STARTED)])

    assert list(sse_events(reader.fail("it broke off"))) == [
        {"type": "error", "code": "upstream_error", "message": "it broke off", "param": None, "sequence_number": len(STARTED)}
    ]


@pytest.mark.parametrize("data", [b"{}", b'{"type":7}', b'{"type":"response.output_text.delta"}'])
def test_a_frame_that_makes_no_sense_is_of_kind_other(data: bytes) -> None:
    events, _ = follow(target(RESPONSES), [b"data: " + data + b"\n\n"])

    assert [event.kind for event in events] == [EventKind.OTHER]


def test_a_refusal_as_a_reply() -> None:
    where = target(RESPONSES)
    parsed = read(RESPONSES, {"model": "m", "input": "q"})
    whole = orjson.loads(where.wire.refuse(where, parsed, "no", True, "id").body)
    streamed = list(sse_events(where.wire.refuse(where, parsed._replace(streaming=True), "no", True, "id").body))

    assert whole["incomplete_details"] == {"reason": "content_filter"}
    assert whole["output"][0]["content"] == [{"type": "refusal", "refusal": "no"}]
    assert streamed[-1]["type"] == "response.incomplete"
    assert streamed[-1]["response"] == whole
    assert [event["sequence_number"] for event in streamed] == list(range(len(streamed)))
    assert where.wire.refuse(where, parsed, "no", False, "id").status == 400
