"""The relay: every wire's stream, cut anywhere, gives the caller what may be given and ends as the wire ends."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_echo import OPENAI_TOOLS, ask
from wires_support import CHAT, COMPLETIONS, GENERATE, MESSAGES, RESPONSES, STREAM, frames_of, target

from detectors.streamrules import Act, StreamRules
from detectors.values import ChannelKind
from gateway import echo
from gateway.redaction.vault import Vault
from gateway.screening.policy import preset
from gateway.streams.following import Cut, Follower
from gateway.streams.listening import SLICE
from gateway.streams.relay import Relay
from gateway.wires.base import EventKind, Malformed, Target
from gateway.wires.events import sse
from gateway.wires.frames import BadFraming
from patterns.schema import read_pattern

KEY = b"k" * 32
SECRET = "AKIAABCDEFGH12345678"


def _pattern(name: str, body: str, category: str) -> Any:
    raw = {"id": name, "kind": "pii", "body": body, "category": category, "severity": "high", "hits": ["x"], "misses": ["y"]}
    return read_pattern(raw, "test")


RULES = StreamRules(
    [
        _pattern("key", r"\bAKIA[0-9A-Z]{16}\b", "secret.cloud_key"),
        _pattern("card", r"\b(?:\d[ -]?){12,18}\d\b", "pii.payment"),
        _pattern("shell", r"\brm\s{1,3}-rf\s{1,3}/", "harmful_code.destructive_command"),
    ],
    lambda pattern: Act.CUT if pattern.id == "shell" else Act.REPLACE,
)
ACTING = dict.fromkeys(ChannelKind, RULES)

STREAMS = {
    "chat": (CHAT, b""),
    "completions": (COMPLETIONS, b""),
    "responses": (RESPONSES, b""),
    "messages": (MESSAGES, b""),
    "gemini-sse": (STREAM, b"alt=sse"),
    "gemini-array": (STREAM, b""),
}


def _target(name: str) -> Target:
    path, query = STREAMS[name]
    return target(path, query)


def _bytes(name: str, text: str, tools: bool = False) -> bytes:
    path, _ = STREAMS[name]
    doc = ask(GENERATE if path == STREAM else path, text, tools)
    if path != STREAM:
        doc["stream"] = True
    return b"".join(echo.stream(_target(name), doc))


def _refusal(cut: Cut) -> str:
    return f"blocked: {cut.cause}"


def _relay(name: str, chunks: Sequence[bytes], vault: Vault | None = None) -> tuple[bytes, Relay]:
    relay = Relay(_target(name), "m", ACTING, vault or Vault(KEY))
    out = b""
    for chunk in chunks:
        out += relay.feed(chunk, _refusal)
        if relay.cut is not None:
            return out, relay
    return out + relay.end(_refusal), relay


def _said(name: str, data: bytes) -> dict[tuple[Any, ...], str]:
    """What a caller reads on each channel."""
    where = _target(name)
    reader = where.wire.stream(where, "m")
    said: defaultdict[tuple[Any, ...], str] = defaultdict(str)
    for frame in frames_of(where.wire.splitter(where), [data]):
        for event in reader.read(frame):
            if event.path and event.kind is not EventKind.LABEL and event.channel[0] != "whole":
                said[event.channel] += event.text
    return dict(said)


def _cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    marks = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]


cuts = st.lists(st.integers(0, 10**6), max_size=12)
words = st.sampled_from(
    ("hello", "AKIA", SECRET, "4111 1111 1111 1111", "4111", "and", "so\nit goes", "漢字", "😀", "AKIAAB", "12", "end.")
)
texts = st.lists(words, min_size=1, max_size=10).map(" ".join)


@pytest.mark.parametrize("name", STREAMS)
def test_a_clean_stream_is_the_very_bytes_received(name: str) -> None:
    data = _bytes(name, "say:Nothing of note happened today, and all was well.")
    assert _relay(name, [data])[0] == data


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=30, deadline=None)
@given(text=texts, where=cuts)
def test_however_it_is_cut_the_caller_reads_the_same(name: str, text: str, where: list[int]) -> None:
    data = _bytes(name, f"say:{text}")
    whole, _ = _relay(name, [data])
    pieces, relay = _relay(name, _cut(data, where))
    assert _said(name, pieces) == _said(name, whole)
    assert SECRET.encode() not in pieces
    assert b"4111 1111 1111 1111" not in pieces
    assert not relay.held


@pytest.mark.parametrize("name", STREAMS)
def test_a_value_is_replaced_wherever_the_stream_repeats_it(name: str) -> None:
    data = _bytes(name, f"say:the key is {SECRET} indeed")
    out, relay = _relay(name, _cut(data, range(0, len(data), 7)))
    assert SECRET.encode() not in out
    (text,) = [text for text in _said(name, out).values() if text]
    assert text.startswith("the key is [SECRET_CLOUD_KEY_")
    assert text.endswith("] indeed")
    assert {seen.act for seen in relay.seen} == {Act.REPLACE}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [1, 11, 10**6])
def test_a_cut_ends_the_stream_as_the_wire_ends(name: str, size: int) -> None:
    data = _bytes(name, "say:first do this, then type rm -rf / and wait for it to finish its work on all of your files")
    out, relay = _relay(name, _cut(data, range(0, len(data), size)))
    assert relay.cut is not None
    text = "".join(_said(name, out).values())
    assert "rm -rf" not in text
    assert b"wait for it" not in out
    mark = {
        "chat": b'"finish_reason":"content_filter"', "completions": b'"finish_reason":"content_filter"',
        "responses": b'"reason":"content_filter"', "messages": b'"stop_reason":"refusal"',
        "gemini-sse": b'"finishReason":"SAFETY"', "gemini-array": b'"finishReason":"SAFETY"',
    }[name]  # fmt: skip
    assert out.count(mark) == 1
    ends = {"chat": b"data: [DONE]\n\n", "completions": b"data: [DONE]\n\n", "messages": b"event: message_stop\n"}
    if name in ends:
        assert out.count(ends[name]) == 1
    if name == "gemini-array":
        orjson.loads(out)


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=20, deadline=None)
@given(where=cuts)
def test_what_the_request_had_to_hide_comes_back(name: str, where: list[int]) -> None:
    vault = Vault(KEY)
    stand_in = vault.stand_in('Ada "the" Countess', "pii.name")
    foreign = "[PII_NAME_0123456789]"
    data = _bytes(name, f"say:dear {stand_in}, this is {foreign} speaking")
    out, _ = _relay(name, _cut(data, where), vault)
    assert [text for text in _said(name, out).values() if text] == [f'dear Ada "the" Countess, this is {foreign} speaking']


@pytest.mark.parametrize("name", ["chat", "responses", "messages"])
@settings(max_examples=20, deadline=None)
@given(where=cuts)
def test_in_a_tool_call_values_come_back_as_json(name: str, where: list[int]) -> None:
    vault = Vault(KEY)
    stand_in = vault.stand_in('a "quoted"\nname', "pii.name")
    arguments = orjson.dumps({"city": stand_in, "key": SECRET}).decode()
    data = _bytes(name, f"call:weather {arguments}", tools=True)
    out, _ = _relay(name, _cut(data, where), vault)
    assert SECRET.encode() not in out
    calls = [text for text in _said(name, out).values() if text.startswith("{")]
    assert len(calls) == 1
    call = orjson.loads(calls[0])
    assert call["city"] == 'a "quoted"\nname'
    assert call["key"].startswith("[SECRET_CLOUD_KEY_")


def _chunk(delta: dict[str, Any], index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": None, **more}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def test_choices_and_channels_are_followed_each_for_itself() -> None:
    frames = [
        _chunk({"content": "AKIAABCD"}, 0),
        _chunk({"content": "the other choice"}, 1),
        _chunk({"reasoning_content": "AKIAABCDEFGH"}, 0),
        _chunk({"content": "EFGH12345678 done"}, 0),
        _chunk({"reasoning_content": "12345678."}, 0),
        _chunk({}, 0, finish_reason="stop"),
        _chunk({}, 1, finish_reason="stop"),
        b"data: [DONE]\n\n",
    ]
    out, _ = _relay("chat", frames)
    said = _said("chat", out)
    assert SECRET.encode() not in out
    assert said[(1, "content")] == "the other choice"
    assert said[(0, "content")].startswith("[SECRET_CLOUD_KEY_")
    assert said[(0, "content")].endswith("] done")
    assert said[(0, "reasoning_content")].endswith("].")


@pytest.mark.parametrize("key", ["logprobs", "l\\u006fgpr\\u006fbs"])
def test_the_probabilities_of_held_tokens_are_not_told(key: str) -> None:
    logprobs = {"content": [{"token": "AKIAAB", "logprob": -0.1, "top_logprobs": []}]}
    data = _chunk({"content": "AKIAAB"}, logprobs=logprobs).replace(b'"logprobs"', f'"{key}"'.encode())
    out, _ = _relay("chat", [data, _chunk({"content": "CD no more"})])
    assert b"top_logprobs" not in out
    assert _said("chat", out) == {(0, "content"): "AKIAABCD no more"}


def _tokens(name: str, text: str, *tokens: str) -> bytes:
    told = [{"token": one, "logprob": -0.1, "top_logprobs": [{"token": "or another"}]} for one in tokens]
    if name == "chat":
        return _chunk({"content": text}, logprobs={"content": told, "refusal": None})
    if name == "completions":
        choice = {"index": 0, "text": text, "logprobs": {"tokens": list(tokens), "token_logprobs": [-0.1] * len(tokens)}}
        return sse(orjson.dumps({"id": "c", "object": "text_completion", "choices": [choice]}))
    if name == "responses":
        doc = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text, "logprobs": told}
        return sse(orjson.dumps(doc), b"response.output_text.delta")
    chosen = {"chosenCandidates": told, "topCandidates": [{"candidates": [{"token": "or another"}]}]}
    return sse(orjson.dumps({"candidates": [{"content": {"parts": [{"text": text}]}, "logprobsResult": chosen}]}))


@pytest.mark.parametrize("name", ["chat", "completions", "responses", "gemini-sse"])
def test_the_probabilities_of_other_tokens_than_the_frames_own_are_not_told(name: str) -> None:
    own = _tokens(name, "the key", "the", " key")
    assert _relay(name, [own])[0] == own
    server_is_ahead = _tokens(name, "the key", "the", " key is ", SECRET[:9])
    assert SECRET[:9].encode() not in _relay(name, [server_is_ahead])[0]
    assert SECRET[:9].encode() not in _relay(name, [_tokens(name, "", SECRET[:9])])[0]


@settings(max_examples=60)
@given(st.integers(SLICE // 5 - 14, SLICE // 5), st.integers(0, SLICE), texts, texts, cuts)
def test_a_long_piece_is_screened_as_its_parts_are(words: int, more: int, first: str, last: str, where: list[int]) -> None:
    text = "well " * words + first + " " * more + last
    out, relay = _relay("chat", [_chunk({"content": text}), _chunk({}, finish_reason="stop")])
    cut = [piece.decode("utf-8", "ignore") for piece in _cut(text.encode(), where)]
    parted, wanted = _relay("chat", [*(_chunk({"content": piece}) for piece in cut), _chunk({}, finish_reason="stop")])
    if "".join(cut) == text:
        assert _said("chat", out) == _said("chat", parted)
        assert relay.seen == wanted.seen


def test_of_a_long_piece_nothing_goes_out_from_where_it_is_cut() -> None:
    before = "well " * SLICE
    out, relay = _relay("chat", [_chunk({"content": f"{before} and now rm -rf / it is " + "gone " * SLICE})])
    assert relay.cut is not None
    assert _said("chat", out)[(0, "content")].startswith(before)
    assert b"gone" not in out
    assert b"rm -rf" not in out


@pytest.mark.parametrize(
    ("name", "mark"),
    [("chat", b"[DONE]"), ("completions", b"[DONE]"), ("responses", b'"type":"response.completed"'), ("messages", b'"message_stop"}')],
)
@pytest.mark.parametrize("held", ["", SECRET[:9], "4111 1111 1111"])
def test_a_stream_ends_once_and_behind_all_that_was_held(name: str, mark: bytes, held: str) -> None:
    data = _bytes(name, f"say:Nothing of note happened. {held}")
    last = data.rstrip(b"\n").rpartition(b"\n\n")[2] + b"\n\n"
    out, relay = _relay(name, [data, last, last])
    assert data.count(mark) == out.count(mark) == 1
    assert out.rstrip(b"\n").endswith(last.rstrip(b"\n").rpartition(b"\n")[2])
    assert f"Nothing of note happened. {held}".rstrip() in "".join(_said(name, out).values())
    assert not relay.held


def test_comments_and_unknown_events_pass_untouched() -> None:
    for frame in (b": keep-alive\n\n", b"event: ping\ndata: {}\n\n", b"id: 7\r\nretry: 10\r\n\r\n"):
        assert _relay("chat", [frame])[0] == frame


def test_what_is_held_when_the_stream_ends_in_the_middle() -> None:
    out, relay = _relay("chat", [_chunk({"content": "it is AKIAABCD"})])
    assert _said("chat", out)[(0, "content")] == "it is AKIAABCD"
    assert not relay.held


@pytest.mark.parametrize("half", [b'data: {"choices"', b"event: x", b"ev", b": ping\ndata: {"])
def test_what_is_held_when_the_stream_ends_within_a_frame(half: bytes) -> None:
    relay = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    out = relay.feed(_chunk({"content": "it is AKIAABCD"}) + half, _refusal)
    with pytest.raises(BadFraming):
        relay.end(_refusal)
    out += relay.fail("it broke off")
    assert _said("chat", out)[(0, "content")] == "it is AKIAABCD"
    assert out.count(b"it broke off") == 1
    assert half not in out
    assert not relay.held


@pytest.mark.parametrize("left", [b"\n", b"\r\n\n", b": keep-alive", b": keep-alive\n"])
def test_what_says_nothing_may_be_left_at_the_end(left: bytes) -> None:
    first = _chunk({"content": "it is"}, finish_reason="stop")
    relay = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    out = relay.feed(first + left, _refusal) + relay.end(_refusal)
    assert out.rstrip(b"\r\n") == first.rstrip(b"\n")


@pytest.mark.parametrize("size", [1, 10, 1_000])
def test_what_is_held_goes_out_before_an_array_ends_although_no_candidate_did(size: int) -> None:
    data = b'[{"candidates": [{"content": {"role": "model", "parts": [{"text": "it is AKIAABCD"}]}}]}]\r\n'
    out, _ = _relay("gemini-array", [data[at : at + size] for at in range(0, len(data), size)])
    chunks = orjson.loads(out)
    assert "".join(part["text"] for one in chunks for part in one["candidates"][0]["content"]["parts"]) == "it is AKIAABCD"


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=60)
@given(st.lists(st.integers(0, 60), max_size=60), cuts)
def test_in_whatever_order_a_provider_sends_its_frames_no_value_goes_out(name: str, order: list[int], where: list[int]) -> None:
    data = _bytes(name, f"say:it is {SECRET} or 4111 1111 1111 1111 so.")
    if name == "gemini-array":
        chunks = orjson.loads(data)
        data = orjson.dumps([chunks[number % len(chunks)] for number in order])
    else:
        frames = frames_of(_target(name).wire.splitter(_target(name)), [data])
        data = b"".join(frames[number % len(frames)].raw for number in order)
    relay, out = Relay(_target(name), "m", ACTING, Vault(KEY)), b""
    try:
        for chunk in _cut(data, where):
            out += relay.feed(chunk, _refusal)
        out += relay.end(_refusal)
    except Malformed:
        out += relay.fail("broke off")
    for said in _said(name, out).values():
        assert not re.search(r"\bAKIA[0-9A-Z]{16}\b|\b(?:\d[ -]?){12,18}\d\b", said)


@pytest.mark.parametrize("name", ["gemini-sse", "gemini-array"])
def test_a_value_is_replaced_although_each_piece_of_it_is_said_to_be_the_last(name: str) -> None:
    chunks = [{"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}]}
              for text in ("it is AKIAABC", "DEFGH123", "45678 then", " rm -rf", " / now")]  # fmt: skip
    pieces = [sse(orjson.dumps(one)) for one in chunks] if name == "gemini-sse" else [orjson.dumps(chunks)]
    out, relay = _relay(name, pieces)
    ((said, text),) = _said(name, out).items()
    assert said == (0, "text")
    assert re.fullmatch(r"it is \[SECRET_CLOUD_KEY_[0-9A-F]{10}\] then (rm -)?", text)
    assert relay.cut is not None
    assert b'"SAFETY"' in out, "a reason to finish that came before is not the caller's last word"
    if name == "gemini-array":
        orjson.loads(out)


def test_a_last_piece_goes_out_as_it_came_when_more_follows_it() -> None:
    first = {"candidates": [{"content": {"role": "model", "parts": [{"text": "in 20"}]}, "finishReason": "STOP"}]}
    second = {"candidates": [{"content": {"role": "model", "parts": [{"text": " days"}]}, "finishReason": "STOP"}]}
    relay = Relay(_target("gemini-sse"), "m", ACTING, Vault(KEY))
    assert relay.feed(sse(orjson.dumps(first)), _refusal) == b"", "whether it was the last one is not known"
    out = relay.feed(sse(orjson.dumps(second)), _refusal) + relay.end(_refusal)
    reasons = [orjson.loads(frame.data)["candidates"][0].get("finishReason")
               for frame in frames_of(_target("gemini-sse").wire.splitter(_target("gemini-sse")), [out])]  # fmt: skip
    assert _said("gemini-sse", out) == {(0, "text"): "in 20 days"}
    assert reasons == ["STOP", "STOP"]


def _last(text: str, index: int = 0) -> bytes:
    parts = [{"text": text}]
    return sse(orjson.dumps({"candidates": [{"index": index, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}))


def test_a_last_piece_that_waits_is_let_go_in_silence_and_may_be_followed() -> None:
    relay = Relay(_target("gemini-sse"), "m", ACTING, Vault(KEY))
    out = relay.feed(_last("in 20"), _refusal) + relay.release_overdue(_refusal)
    assert _said("gemini-sse", out) == {(0, "text"): "in 20"}
    out += relay.feed(_last(" days"), _refusal) + relay.end(_refusal)
    assert _said("gemini-sse", out) == {(0, "text"): "in 20 days"}


def test_what_stands_between_two_last_pieces_ends_no_text() -> None:
    usage = sse(b'{"usageMetadata": {"totalTokenCount": 3}}')
    out, _ = _relay("gemini-sse", [_last("in 20"), usage, _last("in AKIAAB", 1), _last(" days"), _last("CDEFGH12345678 so", 1)])
    said = _said("gemini-sse", out)
    assert said[(0, "text")] == "in 20 days"
    assert re.fullmatch(r"in \[SECRET_CLOUD_KEY_[0-9A-F]{10}\] so", said[(1, "text")])


@pytest.mark.parametrize(("first", "then"), [("the password is ", "Tr0ub4dor&3 now"), ("run rm", " -rf / now")])
def test_what_announces_a_value_or_a_command_announces_it_beyond_an_end(first: str, then: str) -> None:
    rules = StreamRules(
        [_pattern("word", r"password is (\S{8,20})\s", "secret.generic_credential"), _pattern("shell", r"\brm\s{1,3}-rf\s{1,3}/", "harmful_code.destructive_command")],
        lambda pattern: Act.CUT if pattern.id == "shell" else Act.REPLACE,
    )
    relay = Relay(_target("chat"), "m", dict.fromkeys(ChannelKind, rules), Vault(KEY))
    out = relay.feed(_chunk({"content": first}) + _chunk({}, finish_reason="stop") + _chunk({"content": ""}), _refusal)
    out += relay.feed(_chunk({"content": then}), _refusal)
    assert b"Tr0ub4dor" not in out
    assert b"rf /" not in out


def test_a_text_that_goes_on_after_its_end_brings_no_second_half() -> None:
    """What was held went out with its end: the stream is cut, as its wire does that."""
    relay = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    out = relay.feed(_chunk({"content": "it is AKIAABC"}) + _chunk({}, finish_reason="stop"), _refusal)
    out += relay.feed(_chunk({"content": "DEFGH12345678"}), _refusal)
    assert relay.cut is not None
    assert _said("chat", out) == {(0, "content"): "it is AKIAABC"}
    assert out.endswith(b"data: [DONE]\n\n")


def _call(index: int, arguments: str) -> bytes:
    return _chunk({"tool_calls": [{"index": index, "id": str(index), "type": "function", "function": {"name": "f", "arguments": arguments}}]})


def _arguments(out: bytes) -> dict[tuple[Any, ...], str]:
    return {channel: text for channel, text in _said("chat", out).items() if channel[-2:-1] == ("tool",)}


def test_calls_that_are_written_in_turns_go_on() -> None:
    data = [_call(0, '{"city": "Ro'), _call(1, '{"city": "Os'), _call(0, 'me"}'), _call(1, 'lo"}'), _chunk({}, finish_reason="tool_calls")]
    out, relay = _relay("chat", data)
    assert out == b"".join(data)
    assert relay.cut is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), words), max_size=14))
def test_in_calls_that_are_written_in_turns_no_value_goes_out(pieces: list[tuple[int, str]]) -> None:
    out, relay = _relay("chat", [*(_call(index, text) for index, text in pieces), _chunk({}, finish_reason="tool_calls")])
    for text in _arguments(out).values():
        assert not re.search(r"\bAKIA[0-9A-Z]{16}\b|\b(?:\d[ -]?){12,18}\d\b", text)
    if relay.cut is not None:
        assert b'"content_filter"' in out


@pytest.mark.parametrize("data", [b"{broken}", b"[\"text\"]", b"\"text\"", b"7"])
def test_a_frame_that_nobody_can_read_ends_the_stream_and_does_not_pass(data: bytes) -> None:
    relay = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    with pytest.raises(BadFraming, match="not a JSON object"):
        relay.feed(_chunk({"content": "it is so."}) + b"data: " + data + b"\n\n" + _chunk({"content": "more"}), _refusal)
    out = relay.fail("broke off")
    assert _said("chat", out) == {(0, "content"): "it is so."}, "what came before it went out"
    assert data not in out
    assert b"broke off" in out


def test_a_late_hold_can_be_let_go() -> None:
    relay = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    first = relay.feed(_chunk({"content": "it is AKIAAB"}), _refusal)
    assert relay.held
    late = relay.release_overdue(_refusal)
    assert _said("chat", first + late) == {(0, "content"): "it is AKIAAB"}
    assert relay.overdue
    relay.close()


def test_a_hold_that_ends_on_a_command_cuts_the_stream() -> None:
    relay = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    first = relay.feed(_chunk({"content": "do it: rm -rf /"}), _refusal)
    late = relay.release_overdue(_refusal) if relay.cut is None else b""
    assert relay.cut is not None
    assert b"rm -rf /" not in first + late
    assert (first + late).count(b"[DONE]") == 1


def test_nothing_acts_where_the_policy_does_not() -> None:
    data = _bytes("chat", f"say:the key is {SECRET}, run rm -rf / now")
    relay = Relay(_target("chat"), "m", {}, Vault(KEY))
    assert relay.feed(data, _refusal) + relay.end(_refusal) == data
    assert "".join(relay.said.texts[(0, "content")]) == f"the key is {SECRET}, run rm -rf / now"


def test_kinds_of_events_are_what_the_relay_reads() -> None:
    assert {EventKind.STOP, EventKind.ERROR} <= set(EventKind)
    assert OPENAI_TOOLS


@pytest.mark.parametrize("together", [False, True])
def test_a_call_is_whole_before_the_next_one_begins(together: bool) -> None:
    """Clients parse a call's arguments where the next call begins."""
    rules = StreamRules([_pattern("pair", r"\bRome\W{1,8}secret\b", "secret.generic_credential")], lambda pattern: Act.REPLACE)
    relay = Relay(_target("chat"), "m", dict.fromkeys(ChannelKind, rules), Vault(KEY))
    calls = [
        {"index": index, "id": str(index), "type": "function", "function": {"name": "f", "arguments": '{"city":"Rome"}'}}
        for index in range(3)
    ]
    chunks = [_chunk({"tool_calls": calls})] if together else [_chunk({"tool_calls": [call]}) for call in calls]
    out = b"".join(relay.feed(chunk, _refusal) for chunk in chunks)
    assert relay.held
    out += relay.feed(_chunk({}, finish_reason="tool_calls"), _refusal) + relay.end(_refusal)
    where = _target("chat")
    deltas = [orjson.loads(frame.data)["choices"][0]["delta"] for frame in frames_of(where.wire.splitter(where), [out])]
    said = [(call["index"], call["function"].get("arguments", "")) for delta in deltas for call in delta.get("tool_calls", [])]
    assert [index for index, _ in said] == sorted(index for index, _ in said)
    assert ["".join(text for at, text in said if at == index) for index in range(3)] == ['{"city":"Rome"}'] * 3


def _choice_of(name: str, number: int, text: str) -> dict[str, Any]:
    if name == "chat":
        return {"index": number, "delta": {"content": text}, "finish_reason": "stop"}
    if name == "completions":
        return {"index": number, "text": text, "finish_reason": "stop"}
    return {"index": number, "content": {"parts": [{"text": text}]}, "finishReason": "STOP"}


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize(("name", "key", "finish", "told"), [
    ("chat", "choices", "finish_reason", "content_filter"), ("completions", "choices", "finish_reason", "content_filter"),
    ("gemini-sse", "candidates", "finishReason", "SAFETY"), ("gemini-array", "candidates", "finishReason", "SAFETY"),
])  # fmt: skip
def test_a_choice_of_which_nothing_went_out_is_the_one_that_is_cut(
    name: str, key: str, finish: str, told: str, judged: bool
) -> None:
    docs = [{key: [_choice_of(name, 1, "all is well")]}, {key: [_choice_of(name, 0, "then rm -rf / it")]}]
    follower = Follower(preset("strict"), 0)
    relay = Relay(_target(name), "m", ACTING, Vault(KEY), follower)
    first, second = (orjson.dumps(doc) for doc in docs)
    parts = [b"[" + first, b"," + second] if name == "gemini-array" else [sse(first), sse(second)]
    out = relay.feed(parts[0], _refusal)
    if judged:
        follower.judged = follower.heard
        out += relay.allowed()
    out += relay.feed(parts[1], _refusal)
    assert relay.cut is not None
    where = _target(name)
    frames = frames_of(where.wire.splitter(where), [out])
    ends = [(choice["index"], choice[finish]) for frame in frames if frame.data not in (b"", b"[DONE]")
            for choice in orjson.loads(frame.data)[key] if choice.get(finish)]  # fmt: skip
    assert sorted(ends) == ([(0, told), (1, _choice_of(name, 1, "")[finish])] if judged else [(0, told), (1, told)])
