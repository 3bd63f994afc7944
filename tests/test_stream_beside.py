"""What stands beside the data of server-sent events: clients show it in places where nobody looks for it."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import orjson
import pytest
from google import genai
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st
from test_relay import ACTING, KEY, SECRET, _chunk, _cut, _refusal, _relay, _target, cuts

from gateway.redaction.vault import Vault
from gateway.streams.labels import TURN
from gateway.streams.relay import Relay
from gateway.streams.steps import begun
from gateway.wires.base import EventKind
from gateway.wires.beside import LONGEST
from gateway.wires.frames import MAX_LINES, BadFraming

HELLO = _chunk({"content": "hello there, "})
DATA = HELLO.removesuffix(b"\n")


def _google(text: str) -> bytes:
    return orjson.dumps({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}]})


def _shown(out: bytes) -> str:
    """All that a program sees of a stream through Google's client, errors included."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=out)

    options = types.HttpOptions(base_url="http://x", httpx_client=httpx.Client(transport=httpx.MockTransport(answer)))
    shown = ""
    try:
        for chunk in genai.Client(api_key="k", http_options=options).models.generate_content_stream(model="m", contents="x"):
            shown += chunk.text or ""
    except Exception as error:
        shown += str(error)
    return shown


FIELDS = [
    b": it is %b",
    b":%b",
    b"id: %b",
    b"event: %b",
    b"retry: %b",
    b"x-more: %b",
    b"x-%b",
    b"Data: %b",
    b': {"text": "%b"}',
]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("value", [SECRET, "4111 1111 1111 1111"])
def test_a_value_in_a_line_beside_the_data_stays(field: bytes, end: bytes, value: str) -> None:
    said = f"-{value}" if field == b"x-%b" else value
    line = field % said.encode() + end
    data = b"data: " + _google("hi") + end * 2
    for stream in (line + data, line + end + data, data.removesuffix(end) + line + end, b"\xef\xbb\xbf" + line + data):
        for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
            out, relay = _relay("gemini-sse", pieces)
            assert value.encode() not in out
            assert value not in _shown(out)
            assert _shown(out) == "hi" or out.startswith(b"\xef\xbb\xbf")
            assert relay.seen


LINES = [*FIELDS, b": ping", b"id: 17", b": ping - 2025-11-28 11:22:33.123456+00:00", b"\n", DATA]


@given(st.lists(st.sampled_from(LINES)), cuts)
def test_whatever_lines_there_are_no_value_passes_and_the_rest_does(lines: Sequence[bytes], marks: Sequence[int]) -> None:
    made = [line % SECRET.encode() if b"%b" in line else line for line in lines]
    stream = b"".join(line + b"\n" for line in made) + b"\n"
    out, _ = _relay("chat", _cut(stream, marks))
    assert SECRET.encode() not in out
    for line in made:
        if SECRET.encode() not in line and line.strip():
            assert out.count(line) == stream.count(line)


def test_no_frame_that_is_like_one_with_such_a_line_passes_with_it() -> None:
    frame = b": it is %b\n" % SECRET.encode() + HELLO
    out, _ = _relay("chat", [frame] * 9)
    assert out == HELLO * 9


def test_a_line_that_is_too_long_to_look_at_is_left_out() -> None:
    room = b":" + b" " * LONGEST * 2 + b"\n\n"
    out, _ = _relay("chat", [room, b": " + b"x-1 " * LONGEST + b"\n\n", HELLO])
    assert out == room + b"\n" + HELLO


def test_where_nothing_is_looked_for_such_lines_pass() -> None:
    frame = b": it is %b\n\n" % SECRET.encode()
    relay = Relay(_target("chat"), "m", {}, Vault(KEY))
    assert relay.feed(frame, _refusal) == frame


def test_others_have_their_turn_among_many_such_lines() -> None:
    many = b"".join(b": number %d of them\n" % number for number in range(TURN * 4)) + b"\n"
    relay = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    assert begun(relay.steps(many, _refusal), lambda: True) is None


def test_data_in_fields_and_outside_of_them_is_two_documents_to_a_client() -> None:
    """Google's client reads fields by themselves, and other lines by themselves."""
    halves = [b'{"k":[\ndata: %b\n]}\n\n' % _google(half) for half in ("it is AKIAABCD", "EFGH12345678 so.")]
    assert SECRET in _shown(b"".join(halves))
    with pytest.raises(BadFraming, match="in fields and outside of them"):
        _relay("gemini-sse", halves)


def test_an_error_over_several_lines_is_read() -> None:
    body = orjson.dumps({"error": {"code": 429, "message": f"it is {SECRET}"}}, option=orjson.OPT_INDENT_2) + b"\n\n"
    out, _ = _relay("gemini-sse", [body])
    assert b'"code": 429' in out.replace(b":429", b": 429")
    assert SECRET.encode() not in out


def test_a_name_that_was_no_word_is_none() -> None:
    out, _ = _relay("messages", [b'event: %b\ndata: {"type":"ping"}\n\n' % SECRET.encode()])
    assert out == b'data: {"type":"ping"}\n\n'
    where = _target("messages")
    assert where.wire.stream(where, "m").read(where.wire.splitter(where).feed(out)[0])[0].kind is EventKind.OTHER


def test_a_mark_before_the_first_event_is_no_part_of_its_data() -> None:
    line = b": mail %b now\n" % SECRET.encode()
    out, _ = _relay("chat", [b"\xef\xbb\xbf" + DATA + line + b"\n", HELLO])
    assert out == b"\xef\xbb\xbf" + HELLO * 2


def test_an_id_is_nothing_that_the_model_said() -> None:
    _, relay = _relay("chat", [b"id: 8f3a%d9x\n" % number + HELLO for number in range(9)])
    assert {text for texts in relay.said.texts.values() for text in texts} == {"hello there, "}


def test_an_event_of_too_many_such_lines_breaks_off() -> None:
    with pytest.raises(BadFraming, match=f"more than {MAX_LINES} lines beside its data"):
        _relay("chat", [DATA + b":a\n" * (MAX_LINES + 1) + b"\n"])
