"""Text blocks of Anthropic's that follow each other are one text to who reads them: a value that is dealt out over them as well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_relay import ACTING, KEY, SECRET, _pattern, _refusal, _relay, _target
from wires_support import frames_of

from detectors.streamrules import Act, StreamRules
from detectors.values import ChannelKind
from gateway.redaction.vault import Vault
from gateway.streams.relay import Relay
from gateway.wires.base import Malformed
from gateway.wires.events import sse

Doc = dict[str, Any]
START: Doc = {"type": "message_start", "message": {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None, "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1}}}  # fmt: skip
END: list[Doc] = [{"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 9}},
                  {"type": "message_stop"}]  # fmt: skip
VALUE = re.compile(r"\bAKIA[0-9A-Z]{16}\b|\b(?:\d[ -]?){12,18}\d\b")
PLACEHOLDER = re.compile(r"\[[A-Z_]+_[0-9A-F]+\]")
TOOL: Doc = {"type": "tool_use", "id": "t", "name": "f", "input": {}}


def _begins(index: int, text: str = "", **block: Any) -> Doc:
    return {"type": "content_block_start", "index": index, "content_block": block or {"type": "text", "text": text}}


def _says(index: int, text: str) -> Doc:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def _ends(index: int) -> Doc:
    return {"type": "content_block_stop", "index": index}


def _block(index: int, pieces: Sequence[str], first: str = "") -> list[Doc]:
    return [_begins(index, first), *(_says(index, piece) for piece in pieces), _ends(index)]


def _sse(docs: Sequence[Doc]) -> list[bytes]:
    return [sse(orjson.dumps(doc), doc["type"].encode()) for doc in docs]


def _docs(out: bytes) -> list[Doc]:
    where = _target("messages")
    return [orjson.loads(frame.data) for frame in frames_of(where.wire.splitter(where), [out]) if frame.data]


def _shown(out: bytes) -> list[str]:
    """The texts that Anthropic's own client makes of it."""
    message: Any = None
    for doc in _docs(out):
        message = accumulate_event(event=doc, current_snapshot=message, json_bufs={})  # type: ignore[arg-type]
    return [block.text for block in message.content if block.type == "text"]


def _in_order(out: bytes) -> bool:
    """Whether each piece stands in the block that is open."""
    now: int | None = None
    for doc in _docs(out):
        match doc["type"]:
            case "content_block_start":
                assert now is None
                now = doc["index"]
            case "content_block_delta":
                assert doc["index"] == now
            case "content_block_stop":
                assert doc["index"] == now
                now = None
    return now is None


def _spans(block: list[Doc]) -> list[tuple[int, int]]:
    """What is replaced in a text of one block."""
    _, relay = _relay("messages", _sse([START, *block, *END]))
    return [(seen.match.start, seen.match.end) for seen in relay.seen]


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """A text with one mark in place of the spans that overlap."""
    out, at = "", 0
    for start, end in spans:
        if start >= at:
            out += text[at:start] + "#"
        at = max(at, end)
    return out + text[at:]


words = st.sampled_from(("hello ", "AKIA", "ABCDEF", "GH12345678", SECRET, "4111 1111 ", "1111 ", "1111", " so", "漢字", "end.", "AKIAAB"))
blocks = st.lists(st.lists(words, max_size=3), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(blocks, st.lists(st.booleans(), min_size=6, max_size=6))
@example([["AKIAABCDEF"], ["GH12345678"]], [False] * 6)
@example([["4111 1111 "], [], ["1111 1111"]], [True] * 6)
@example([[SECRET], ["so"]], [False] * 6)
@example([[" so"], [SECRET, "end."]], [False] * 6)
@example([["AKIA"], ["4111 1111 "], ["4111 1111 "]], [False] * 6)
@example([[SECRET], ["4111 1111 "], ["4111 1111 "]], [False] * 6)
@example([["4111 1111 1111 1111"], ["11"], ["1111 1111 1111 1111"]], [True] * 6)
def test_text_that_is_dealt_out_over_blocks_is_screened_as_one_and_by_itself(said: list[list[str]], at_once: list[bool]) -> None:
    docs: list[Doc] = [START]
    for index, pieces in enumerate(said):
        docs += _block(index, pieces[1:], pieces[0]) if at_once[index] and pieces else _block(index, pieces)
    out, relay = _relay("messages", _sse([*docs, *END]))
    texts = ["".join(pieces) for pieces in said]
    spans, at = _spans(_block(0, ["".join(texts)])), 0
    for text in texts:
        spans += [(start + at, end + at) for start, end in _spans(_block(0, [text]))]
        at += len(text)
    assert PLACEHOLDER.sub("#", "".join(_shown(out))) == _without("".join(texts), sorted(spans))
    # What was replaced was no end of a word where it stood before one.
    assert not any(VALUE.search(PLACEHOLDER.sub("x", text)) for text in ("".join(_shown(out)), *_shown(out)))
    assert _in_order(out)
    assert [doc["type"] for doc in _docs(out)][-2:] == ["message_delta", "message_stop"]
    assert not relay.held


def test_of_blocks_in_which_nothing_is_held_every_byte_is_the_upstreams() -> None:
    data = _sse([START, *_block(0, ["It is open. "]), *_block(1, ["So "], "the book says. "), *_block(2, []), *END])
    assert _relay("messages", data)[0] == b"".join(data)


def test_what_announces_a_value_does_so_in_the_block_before() -> None:
    rules = StreamRules([_pattern("word", r"password is (\S{8,20})\s", "secret.generic_credential")], lambda pattern: Act.REPLACE)
    relay = Relay(_target("messages"), "m", dict.fromkeys(ChannelKind, rules), Vault(KEY))
    out = b"".join(relay.feed(one, _refusal) for one in _sse([START, *_block(0, ["the password is "]), *_block(1, ["Tr0ub4dor&3 so"]), *END]))
    assert re.fullmatch(r"the password is \[SECRET_GENERIC_CREDENTIAL_\w+\]so", "".join(_shown(out + relay.end(_refusal))))


@pytest.mark.parametrize("between", [_begins(1, **TOOL), _begins(1, type="thinking", thinking="", signature=""), *END])
def test_what_is_held_goes_out_before_its_block_ends_where_no_text_follows(between: Doc) -> None:
    relay = Relay(_target("messages"), "m", ACTING, Vault(KEY))
    out = b"".join(relay.feed(one, _refusal) for one in _sse([START, *_block(0, ["it is AKIAAB"])]))
    assert relay.held
    out += relay.feed(_sse([between])[0], _refusal)
    assert not relay.held
    assert _shown(out) == ["it is AKIAAB"]
    assert [doc["type"] for doc in _docs(out)][-2:] == ["content_block_stop", between["type"]]


def test_a_hold_between_two_blocks_is_let_go_in_silence() -> None:
    relay = Relay(_target("messages"), "m", ACTING, Vault(KEY))
    out = b"".join(relay.feed(one, _refusal) for one in _sse([START, *_block(0, ["it is AKIAAB"])]))
    out += relay.release_overdue(_refusal)
    assert _shown(out) == ["it is AKIAAB"]
    out += b"".join(relay.feed(one, _refusal) for one in _sse([*_block(1, [", so"]), *END])) + relay.end(_refusal)
    assert _shown(out) == ["it is AKIAAB", ", so"]
    assert _in_order(out)


def test_a_command_that_is_dealt_out_over_blocks_is_cut() -> None:
    out, relay = _relay("messages", _sse([START, *_block(0, ["now rm -"]), *_block(1, ["rf / it"]), *END]))
    assert relay.cut is not None
    assert b"rf /" not in out
    assert out.count(b'"refusal"') >= 1


steps = st.lists(st.tuples(st.sampled_from(("begin", "say", "end", "tool", "ping")), st.integers(0, 3), words), max_size=40)


@settings(max_examples=300, deadline=None)
@given(steps)
@example([("begin", 0, " so"), ("end", 0, ""), ("begin", 0, SECRET)])
@example([("begin", 0, SECRET), ("end", 0, ""), ("begin", 0, " so"), ("say", 0, "so")])
@example([("begin", 0, SECRET), ("end", 0, ""), ("begin", 0, "so"), ("end", 0, "")])
@example([("begin", 0, "hello "), ("end", 0, ""), ("say", 0, "ABCDEF"), ("begin", 0, SECRET)])
@example([("begin", 0, ""), ("say", 0, "4111 1111 "), ("end", 0, ""), ("begin", 1, ""), ("end", 1, ""), ("say", 0, "1111 "), ("say", 0, "1111")])
def test_however_blocks_begin_and_end_no_value_stands_in_what_a_client_shows(events: list[tuple[str, int, str]]) -> None:
    """Blocks at once, again, without a beginning or an end, with pieces after it: each text, and those that follow each other."""
    docs: list[Doc] = [START]
    begun: list[int] = []
    for what, index, text in events:
        match what:
            case "begin" | "tool":
                place = len(begun)  # a client numbers them as they come
                begun.append(place)
                docs.append(_begins(place, text) if what == "begin" else _begins(place, **TOOL))
            case "say" if begun:
                docs.append(_says(begun[-1 - index % len(begun)], text))
            case "end" if begun:
                docs.append(_ends(begun[-1 - index % len(begun)]))
            case "ping":
                docs.append({"type": "ping"})
    relay, out = Relay(_target("messages"), "m", ACTING, Vault(KEY)), b""
    try:
        for piece in _sse([*docs, *END]):
            if relay.cut is None:
                out += relay.feed(piece, _refusal)
        out += relay.end(_refusal) if relay.cut is None else b""
    except Malformed:
        out += relay.fail("broke off")
        docs_out = [doc for doc in _docs(out) if doc["type"] != "error"]
        out = b"".join(_sse(docs_out))
    for text in _shown(out):
        assert not VALUE.search(text)
