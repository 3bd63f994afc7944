"""Nothing is missed: in any document, each string is listed, known to be a setting, or listed as not read.

Rich documents of every wire get random values put anywhere into them. What the tests know of the wires is one list of
settings; that a field is listed otherwise is what is tested.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from wires_support import (
    BATCH,
    CHAT,
    COMPLETIONS,
    EMBED,
    EMBEDDINGS,
    GENERATE,
    MESSAGES,
    RESPONSES,
    STREAM,
    TEXT,
    VALUES,
    at,
    target,
)

from detectors.values import CODED, INNER, Key, Path
from gateway.wires.base import EventKind, Malformed, Parsed
from gateway.wires.collecting import SCHEMA_WORDS, strings, words
from gateway.wires.files import decoded
from gateway.wires.frames import Frame
from gateway.wires.jsonedit import apply_edits

SETTINGS = words(
    "model role type id call_id tool_call_id tool_use_id status index object created created_at cache_control is_error",
    "signature thoughtSignature temperature stream stream_options n max_tokens max_completion_tokens max_output_tokens",
    "top_p seed service_tier reasoning reasoning_effort store truncation include parallel_tool_calls finish_reason",
    "stop_reason finishReason usage usageMetadata system_fingerprint token_count safetyRatings safetySettings",
    "modelVersion responseId taskType media_type language outcome thought topP maxOutputTokens responseMimeType",
    "dimensions encoding_format item_id sequence_number output_index content_index logit_bias thinking score mode",
    "prompt_cache_key file_id promptFeedback",
)
"""Fields that hold no text for a model, wherever they stand."""

WORD = re.compile(r"[\w.:/+=-]*", re.ASCII)
"""What a setting looks like in a request. Numbers, as they are written, do too."""

REQUESTS: dict[str, Any] = {
    CHAT: {
        "model": "m",
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"q": ["v"]}'}}]},
            {"role": "tool", "tool_call_id": "1", "content": '{"r": {"s": "w"}}'},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"title": "t"}}},
    },
    COMPLETIONS: {"model": "m", "prompt": ["a", "b"], "suffix": "s", "stop": ["end"]},
    EMBEDDINGS: {"model": "m", "input": ["a", "b"], "user": "u"},
    RESPONSES: {
        "model": "m",
        "instructions": "i",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_file", "filename": "f"}]},
            {"type": "reasoning", "id": "1", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": "e"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"q": "v"}'},
            {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": '["w"]'}]},
            {"type": "web_search_call", "id": "1", "action": {"type": "search", "query": "q"}},
            {"type": "brand_new", "words": {"deep": "w"}},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "prompt": {"id": "p", "variables": {"v": "w"}},
        "text": {"format": {"type": "json_schema", "schema": {}}},
    },
    MESSAGES: {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "a", "citations": []},
                {"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
                {"type": "image", "source": {"type": "url", "url": "u"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "z"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"q": "v"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": '{"r": "w"}'}]},
                {"type": "brand_new", "words": {"deep": "w"}}]},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "metadata": {"user_id": "u"},
    },
    GENERATE: {
        "contents": [
            {"role": "user", "parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "Q"}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"q": "v"}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"r": '{"s": "w"}'}}}]},
        ],
        "systemInstruction": {"parts": [{"text": "s"}]},
        "tools": [{"functionDeclarations": [{"name": "f", "description": "d"}]}],
        "generationConfig": {"temperature": 1, "responseSchema": {"title": "t"}, "stopSequences": ["end"]},
    },
    EMBED: {"content": {"parts": [{"text": "a"}]}, "title": "t"},
    BATCH: {"requests": [{"content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "b"}]}}]},
}  # fmt: skip

REPLIES: dict[str, Any] = {
    CHAT: {"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {
        "role": "assistant", "content": "a", "refusal": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"q": "v"}'}}]}}]},
    COMPLETIONS: {"id": "1", "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]},
    RESPONSES: {"id": "1", "status": "completed", "output": REQUESTS[RESPONSES]["input"], "instructions": "i"},
    MESSAGES: {"id": "1", "type": "message", "role": "assistant", "content": REQUESTS[MESSAGES]["messages"][1]["content"]},
    GENERATE: {"candidates": [{"content": REQUESTS[GENERATE]["contents"][1], "finishReason": "STOP",
        "groundingMetadata": {"k": "g"}}]},
}  # fmt: skip

FRAMES: list[tuple[str, bytes, Any]] = [
    (CHAT, b"", {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]}),
    (
        CHAT,
        b"",
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}}]},
    ),
    (COMPLETIONS, b"", {"id": "1", "choices": [{"index": 0, "text": "a", "finish_reason": None}]}),
    (RESPONSES, b"", {"type": "response.output_text.delta", "item_id": "1", "output_index": 0, "delta": "a"}),
    (RESPONSES, b"", {"type": "response.output_item.done", "output_index": 0, "item": REQUESTS[RESPONSES]["input"][0]}),
    (RESPONSES, b"", {"type": "response.completed", "response": REPLIES[RESPONSES]}),
    (MESSAGES, b"", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}),
    (
        MESSAGES,
        b"",
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f", "input": {}}},
    ),
    (MESSAGES, b"", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
    (STREAM, b"alt=sse", REPLIES[GENERATE]),
]

NEW_KEYS = st.sampled_from(["words", "note", "text", "content", "data", "output", "name", "k"]) | TEXT
slow_is_fine = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], max_examples=30)


@st.composite
def mutated(draw: st.DrawFn, doc: Any) -> Any:
    """The document with random values put into some of its objects and lists, or in the place of others."""
    doc = copy.deepcopy(doc)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(_containers(doc)))
        container = at(doc, path)
        if container and draw(st.booleans()):
            place = draw(st.sampled_from(list(container) if isinstance(container, dict) else range(len(container))))
            container[place] = draw(VALUES)
        elif isinstance(container, dict):
            container[draw(NEW_KEYS)] = draw(VALUES)
        else:
            container.insert(draw(st.integers(0, len(container))), draw(VALUES))
    return doc


def _containers(value: Any, path: Path = ()) -> list[Path]:
    if not isinstance(value, dict | list):
        return []
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(found for key, item in pairs for found in _containers(item, (*path, key)))]


def _missed(doc: Any, listed: set[Path], opaque: set[Path], numbers: bool = True, words_only: bool = False) -> list[Path]:
    """The places of strings, and of ``numbers`` that count as such, that are neither listed nor known. ``words_only``: what does
    not look like a setting is none, wherever it stands."""
    missed = []
    for text, path in strings(doc, (), numbers):
        is_key = bool(path) and isinstance(path[-1], Key)
        known = (
            not text
            or is_key
            or text in SCHEMA_WORDS
            or path in listed
            or any(path[: len(place)] == place for place in opaque)
            or (any(step in SETTINGS for step in path) and (not words_only or WORD.fullmatch(text) is not None))
            or _entered(text, path, listed, numbers)
        )
        if not known:
            missed.append(path)
    return missed


def _entered(text: str, path: Path, listed: set[Path], numbers: bool) -> bool:
    """Whether a string is JSON whose own strings are listed."""
    try:
        inner = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(inner, dict | list):
        return False
    inside = {place[len(path) + 1 :] for place in listed if place[: len(path) + 1] == (*path, INNER)}
    return not _missed(inner, inside, set(), numbers)


def _check(parsed: Parsed, doc: Any, words_only: bool = False) -> None:
    listed = {part.path for part in parsed.segments}
    assert _missed(doc, listed, {part.path for part in parsed.opaque}, words_only=words_only) == []


@pytest.mark.parametrize("path", list(REQUESTS))
@slow_is_fine
@given(st.data())
def test_every_string_of_a_request_is_accounted_for(path: str, data: st.DataObject) -> None:
    doc = data.draw(mutated(REQUESTS[path]))
    where = target(path)
    try:
        parsed = where.wire.read_request(doc, where)
    except Malformed:
        assume(False)  # refused is not missed
    _check(parsed, doc, words_only=True)


@pytest.mark.parametrize("path", list(REPLIES))
@slow_is_fine
@given(st.data())
def test_every_string_of_a_reply_is_accounted_for(path: str, data: st.DataObject) -> None:
    doc = data.draw(mutated(REPLIES[path]) | VALUES)
    where = target(path)

    _check(where.wire.read_reply(doc, where), doc)


@pytest.mark.parametrize(("path", "query", "frame"), FRAMES)
@slow_is_fine
@given(st.data())
def test_every_string_of_a_frame_is_accounted_for(path: str, query: bytes, frame: Any, data: st.DataObject) -> None:
    doc = data.draw(mutated(frame))
    where = target(path, query)
    reader = where.wire.stream(where, "m")

    try:
        events = reader.read(Frame(b"", b"", orjson.dumps(doc)))
    except Malformed:
        assume(False)  # refused is not missed

    opaque = {place for place in _containers(doc) if place and place[-1] == "logprobs"}
    opaque |= {(*place, key) for place in _containers(doc) for key in ("encrypted_content", "inlineData", "fileData")}
    opaque |= {("response", "prompt", "id"), ("item", "filename")}
    # Loose numbers in frames are not looked at; where a whole item stands in one, its numbers are read as text.
    assert _missed(doc, {event.path for event in events}, opaque, numbers=False) == []
    for event in events:
        if event.kind is EventKind.UNREAD:  # its text is the reason
            continue
        reached = _reached(doc, event.path)
        assert not event.text or reached == event.text or isinstance(reached, int | float)
    assert isinstance(reader.stop("x"), bytes)
    assert isinstance(reader.fail("x"), bytes)


def _reached(doc: Any, path: Path) -> Any:
    for step in path:
        if isinstance(step, Key):
            return step.name
        doc = orjson.loads(doc) if step is INNER else decoded(doc) if step is CODED else doc[step]
    return doc


@pytest.mark.parametrize("path", list(REQUESTS))
@slow_is_fine
@given(st.data())
def test_edits_of_listed_parts_give_exactly_that_document(path: str, data: st.DataObject) -> None:
    doc = data.draw(mutated(REQUESTS[path]))
    where = target(path)
    try:
        parsed = where.wire.read_request(doc, where)
    except Malformed:
        assume(False)
    body = orjson.dumps(doc, option=orjson.OPT_INDENT_2)
    # A number that is edited becomes a string and stays one: see test_wires_numbers.py.
    places = {part.path: part.text for part in parsed.segments if isinstance(_reached(doc, part.path), str)}

    assert orjson.loads(apply_edits(body, places)) == _same(doc)
    chosen = data.draw(st.lists(st.sampled_from(sorted(places, key=repr)), unique=True, max_size=5)) if places else []
    chosen = [place for place in chosen if not isinstance(place[-1], Key)]
    new = {place: data.draw(TEXT) for place in chosen}
    edited = orjson.loads(apply_edits(body, new))
    assert {place: _reached(edited, place) for place in chosen} == new
    again = apply_edits(orjson.dumps(edited), {place: places[place] for place in chosen})
    assert orjson.loads(again) == _same(doc)


def _same(doc: Any) -> Any:
    """As JSON sees it."""
    return orjson.loads(orjson.dumps(doc))
