"""A frame that is known by its bytes says what it would say if it were read."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_relay import ACTING, KEY, STREAMS, _bytes, _target
from wires_support import frames_of

from gateway.redaction.vault import Vault
from gateway.streams.alike import TRIES
from gateway.streams.relay import Relay
from gateway.wires.base import EventKind, StreamEvent, StreamReader
from gateway.wires.events import sse
from gateway.wires.frames import BadFraming, Frame
from gateway.wires.jsonedit import apply_edits
from gateway.wires.openai_realtime_events import RealtimeStream
from gateway.wires.outline import Outline

pieces = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(('a"b', "\\", "\n", "\u2028", "\x7f", "😀", '","x":"'))


def _read(reader: StreamReader, frame: Frame) -> list[StreamEvent]:
    """What a frame says beside what it names."""
    return [event for event in reader.read(frame) if event.kind is not EventKind.LABEL]


def _first(name: str) -> tuple[StreamReader, Frame, StreamEvent]:
    """A reader that has just read the first frame of a stream with a piece of text, and what it said."""
    where = _target(name)
    reader = where.wire.stream(where, "m")
    for frame in frames_of(where.wire.splitter(where), [_bytes(name, "say:one two three four")]):
        events = _read(reader, frame)
        if len(events) == 1 and events[0].path and events[0].channel[0] != "whole":
            return reader, frame, events[0]
    raise AssertionError("no text in the stream")


def _with(frame: Frame, path: tuple[Any, ...], text: str) -> Frame:
    data = apply_edits(frame.data, {path: text})
    return Frame(frame.raw.replace(frame.data, data), frame.event, data)


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=60, deadline=None)
@given(text=pieces)
def test_the_next_piece_is_found_where_a_reader_finds_it(name: str, text: str) -> None:
    reader, frame, event = _first(name)
    outline = Outline(frame, event, reader.varies)
    other = _with(frame, event.path, text)
    found = outline.find(other.raw)
    if not text:
        assert found is None
        return
    assert found is not None
    assert orjson.loads(b'"%b"' % other.raw[slice(*found)]) == text
    assert outline.frame(other.raw) == other
    before = copy.deepcopy(reader.__dict__)
    assert _read(reader, other) == [event._replace(text=text)]
    assert reader.__dict__ == before


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=200, deadline=None)
@given(where=st.integers(0, 10**6), bytes_in=st.binary(max_size=3), gone=st.integers(0, 3))
def test_whatever_else_changes_in_a_frame_is_read(name: str, where: int, bytes_in: bytes, gone: int) -> None:
    """A frame into which anything was written either is none of the kind, or says the same with another text."""
    reader, frame, event = _first(name)
    outline = Outline(frame, event, reader.varies)
    at = where % (len(frame.raw) + 1)
    raw = frame.raw[:at] + bytes_in + frame.raw[at + gone :]
    found = outline.find(raw)
    if found is None:
        return
    token = raw[slice(*found)]
    try:
        text = orjson.loads(b'"%b"' % token)
    except orjson.JSONDecodeError:
        with pytest.raises(BadFraming):
            reader.read(outline.frame(raw))
    else:
        assert _read(reader, outline.frame(raw)) == [event._replace(text=text)]


def test_what_nobody_reads_may_differ_and_what_ends_the_stream_counts_on() -> None:
    def frame(number: object, filler: str) -> Frame:
        event = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "ab",
                 "sequence_number": number, "obfuscation": filler}  # fmt: skip
        data = orjson.dumps(event)
        return Frame(sse(data, b"response.output_text.delta"), b"response.output_text.delta", data)

    where = _target("responses")
    reader = where.wire.stream(where, "m")
    (event,) = _read(reader, frame(4, "xyz"))
    outline = Outline(frame(4, "xyz"), event, reader.varies)
    assert outline.find(frame(5, "").raw)
    assert outline.find(frame(0, "A-b_9").raw)
    for other in (frame(5, "two words"), frame(-5, "x"), frame(5.5, "x"), frame(None, "x"), frame([5], "x"), frame(5, "\u00e9")):
        assert outline.find(other.raw) is None

    relay = Relay(where, "m", ACTING, Vault(KEY))
    for number in range(200):
        relay.feed(frame(number, "x" * (number % 7)).raw, lambda cut: "")
    assert b'"sequence_number":200' in relay.fail("it broke off")


def test_an_event_of_a_session_has_an_id_of_its_own() -> None:
    def frame(id: str, text: str) -> Frame:
        data = orjson.dumps({"type": "response.output_text.delta", "event_id": id, "response_id": "r", "item_id": "i",
                             "output_index": 0, "content_index": 0, "delta": text})  # fmt: skip
        return Frame(data, b"", data)

    reader = RealtimeStream()
    (event,) = _read(reader, frame("event_1", "one"))
    outline = Outline(frame("event_1", "one"), event, reader.varies)
    assert outline.find(frame("event_22", "two").raw)
    assert outline.find(frame("send me the password", "two").raw) is None  # a text, and so it is read


@pytest.mark.parametrize("name", STREAMS)
def test_nearly_all_of_a_reply_is_known_by_its_bytes(name: str) -> None:
    where = _target(name)
    data = _bytes(name, "say:" + "All of this is of no interest whatsoever, and it goes on like this for a while. " * 16)
    frames = frames_of(where.wire.splitter(where), [data])
    relay = Relay(where, "m", ACTING, Vault(KEY))
    known = 0
    for frame in frames:
        relay.feed(frame.raw, lambda cut: "")
        known += relay._like_last is not None
    assert known > 0.8 * len(frames)


def test_a_stream_of_which_no_two_frames_are_alike_is_not_asked_for_ever() -> None:
    where = _target("chat")
    relay = Relay(where, "m", ACTING, Vault(KEY))
    for number in range(TRIES + 5):
        chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}], "id": "x", "created": number}
        relay.feed(sse(orjson.dumps(chunk)), lambda cut: "")
    assert relay._alike._tries == 0
