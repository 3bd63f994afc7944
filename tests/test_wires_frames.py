"""Streams are cut into frames that lose nothing, whichever way their bytes are cut."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wires_support import VALUES, cuts, frames_of, singly

from gateway.wires import frames
from gateway.wires.frames import MAX_LINES, BadFraming, Frame, FrameTooLong, JsonArraySplitter, SseSplitter

SSE_CASES: list[tuple[str, bytes, list[Frame]]] = [
    ("one event", b"data: x\n\n", [Frame(b"data: x\n\n", b"", b"x")]),
    (
        "named, two of them",
        b"event: e\ndata: x\n\ndata: y\n\n",
        [Frame(b"event: e\ndata: x\n\n", b"e", b"x"), Frame(b"data: y\n\n", b"", b"y")],
    ),
    ("no space after the colon", b"data:x\n\n", [Frame(b"data:x\n\n", b"", b"x")]),
    ("one space is dropped, not two", b"data:  x\n\n", [Frame(b"data:  x\n\n", b"", b" x")]),
    ("lines are joined", b"data: x\ndata: y\n\n", [Frame(b"data: x\ndata: y\n\n", b"", b"x\ny")]),
    ("data without a colon is empty", b"data\n\n", [Frame(b"data\n\n", b"", b"")]),
    ("CRLF", b"event: e\r\ndata: x\r\n\r\n", [Frame(b"event: e\r\ndata: x\r\n\r\n", b"e", b"x")]),
    (
        "CR",
        b"data: x\r\rdata: y\r\r",
        [Frame(b"data: x\r\r", b"", b"x"), Frame(b"data: y\r\r", b"", b"y")],
    ),
    ("LF, then CRLF", b"data: x\n\r\n", [Frame(b"data: x\n\r\n", b"", b"x")]),
    ("CRLF, then LF", b"data: x\r\n\n", [Frame(b"data: x\r\n\n", b"", b"x")]),
    ("LF, then CR", b"data: x\n\rdata: y\n\n", [Frame(b"data: x\n\r", b"", b"x"), Frame(b"data: y\n\n", b"", b"y")]),
    ("a CR at the very end", b"data: x\n\r", [Frame(b"data: x\n\r", b"", b"x")]),
    ("comment", b": ping\n\n", [Frame(b": ping\n\n", b"", b"")]),
    ("comment in an event", b": c\ndata: x\n\n", [Frame(b": c\ndata: x\n\n", b"", b"x")]),
    ("id and retry", b"id: 1\nretry: 2\ndata: x\n\n", [Frame(b"id: 1\nretry: 2\ndata: x\n\n", b"", b"x")]),
    ("the last event name holds", b"event: a\nevent: b\ndata\n\n", [Frame(b"event: a\nevent: b\ndata\n\n", b"b", b"")]),
    ("byte order mark", b"\xef\xbb\xbfdata: x\n\n", [Frame(b"\xef\xbb\xbfdata: x\n\n", b"", b"x")]),
    ("a mark later is none", b"data\n\n\xef\xbb\xbfdata: x\n\n", [
        Frame(b"data\n\n", b"", b""), Frame(b"\xef\xbb\xbfdata: x\n\n", b"", b"\xef\xbb\xbfdata: x"),
    ]),
    ("left unfinished", b"data: x\n\ndata: y", [Frame(b"data: x\n\n", b"", b"x"), Frame(b"data: y", b"", b"y")]),
    ("a field of another name", b"datax: y\ndata : z\n\n", [Frame(b"datax: y\ndata : z\n\n", b"", b"")]),
    ("so is JSON that is no field", b'{"a":\r\n1}\r\n\r\n', [Frame(b'{"a":\r\n1}\r\n\r\n', b"", b'{"a":\n1}')]),
    ("nothing", b"", []),
]  # fmt: skip

ARRAY_CASES: list[tuple[str, bytes, list[Frame]]] = [
    ("empty", b"[]", [Frame(b"[]", b"", b"")]),
    (
        "as Gemini sends it",
        b'[{"a": 1}\n,\r\n{"b": 2}\n]\n',
        [
            Frame(b'[{"a": 1}', b"", b'{"a": 1}'),
            Frame(b'\n,\r\n{"b": 2}', b"", b'{"b": 2}'),
            Frame(b"\n]", b"", b""),
            Frame(b"\n", b"", b""),
        ],
    ),
    (
        "brackets in strings, and deeper",
        b'[{"a":"}]\\"{[\\\\","b":[{},[]]}]',
        [Frame(b'[{"a":"}]\\"{[\\\\","b":[{},[]]}', b"", b'{"a":"}]\\"{[\\\\","b":[{},[]]}'), Frame(b"]", b"", b"")],
    ),
    ("left unfinished", b'[{"a":1},{"b', [Frame(b'[{"a":1}', b"", b'{"a":1}'), Frame(b',{"b', b"", b'{"b')]),
    ("nothing", b"", []),
]


@pytest.mark.parametrize(("data", "expected"), [case[1:] for case in SSE_CASES], ids=[case[0] for case in SSE_CASES])
def test_server_sent_events(data: bytes, expected: list[Frame]) -> None:
    assert frames_of(SseSplitter(), [data]) == expected
    assert frames_of(SseSplitter(), singly(data)) == expected


@pytest.mark.parametrize(("data", "expected"), [case[1:] for case in ARRAY_CASES], ids=[c[0] for c in ARRAY_CASES])
def test_json_arrays(data: bytes, expected: list[Frame]) -> None:
    assert frames_of(JsonArraySplitter(), [data]) == expected
    assert frames_of(JsonArraySplitter(), singly(data)) == expected


def _spoken(frames: list[Frame]) -> list[Frame]:
    """The frames, those that say nothing put together where they follow each other, as they are when they come together."""
    spoken: list[Frame] = []
    for frame in frames:
        if spoken and not (frame.data or frame.event or spoken[-1].data or spoken[-1].event):
            frame = Frame(spoken.pop().raw + frame.raw, b"", b"")
        spoken.append(frame)
    return spoken


def test_what_says_nothing_is_one_frame_however_much_it_is() -> None:
    nothing = b": c\n\n" + b"\n" * 10_000 + b"id: 1\n\n"
    frames = frames_of(SseSplitter(), [b"data: x\n\n" + nothing + b"data: y\n\n" + nothing.replace(b"\n", b"\r\n")])
    assert [(len(frame.raw), frame.data) for frame in frames] == [
        (9, b"x"), (len(nothing), b""), (9, b"y"), (len(nothing) + nothing.count(b"\n"), b""),
    ]  # fmt: skip


@given(st.data(), st.lists(st.sampled_from([b"data", b": ", b":", b"x", b"\n", b"\r", b"\r\n", b"event: e", b"\xef\xbb\xbf"])))
@example(None, [b"\n", b"\r", b"\r\n"])
@example(None, [b"\n"] * 6)
def test_any_cut_of_events_gives_the_same_frames(data: st.DataObject | None, parts: list[bytes]) -> None:
    stream = b"".join(parts)
    chunks = data.draw(cuts(stream)) if data else singly(stream)
    try:
        whole = frames_of(SseSplitter(), [stream])
    except BadFraming:
        with pytest.raises(BadFraming, match="in fields and outside of them"):
            frames_of(SseSplitter(), chunks)
        return

    assert _spoken(frames_of(SseSplitter(), chunks)) == _spoken(whole)
    assert b"".join(frame.raw for frame in whole) == stream


@given(st.data(), st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=4), st.sampled_from(["", "\n", " \r\n"]))
def test_any_cut_of_an_array_gives_its_objects(data: st.DataObject, docs: list[Any], space: str) -> None:
    gap = space.encode()
    stream = b"[" + gap + (gap + b"," + gap).join(orjson.dumps(doc) for doc in docs) + gap + b"]" + gap
    chunks = data.draw(cuts(stream))

    found = frames_of(JsonArraySplitter(), chunks)

    assert found == frames_of(JsonArraySplitter(), singly(stream))
    assert [orjson.loads(frame.data) for frame in found if frame.data] == docs
    assert b"".join(frame.raw for frame in found) == stream


@pytest.mark.parametrize("stream", [b'{"a":1}', b"[1]", b'["x"]', b"[{},]", b"[{}{}]", b"[{}]x", b"[,{}]", b"[[]]"])
def test_what_is_no_array_of_objects_is_an_error(stream: bytes) -> None:
    for chunks in ([stream], singly(stream)):
        with pytest.raises(BadFraming):
            frames_of(JsonArraySplitter(), chunks)


@pytest.mark.parametrize(
    ("begun", "missing"),
    [
        (b"", b""), (b'data: {"a":1}', b"\n\n"), (b'data: {"a":1}\n', b"\n"), (b'event: x\r\ndata: {"a":1}\r\n', b"\n"),
        (b'data: {"a":1}\r', b"\n\n"), (b"data: [DONE]", b"\n\n"), (b'\xef\xbb\xbfdata: {"a":1}', b"\n\n"),
        (b'data: {"a":1', b""), (b"data: 1", b""), (b"data: [1]", b""), (b": ping", b""), (b'{"error":{}}\n', b"\n"),
    ],
)  # fmt: skip
def test_what_a_last_frame_lacks(begun: bytes, missing: bytes) -> None:
    splitter = SseSplitter()

    assert splitter.feed(begun) == []
    assert splitter.missing == missing
    assert len(splitter.feed(missing)) == (1 if missing else 0)
    assert not missing or splitter.end() == []


@pytest.mark.parametrize(("splitter", "begin", "more"), [(SseSplitter, b"data: ", b"x"), (JsonArraySplitter, b'[{"a":"', b"x")])
def test_a_frame_has_a_bound(monkeypatch: pytest.MonkeyPatch, splitter: Any, begin: bytes, more: bytes) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME", 100)
    whole, piecemeal = splitter(), splitter()

    with pytest.raises(FrameTooLong):
        whole.feed(begin + more * 101 + b'"}]\n\n')
    for byte in singly(begin + more * (100 - len(begin))):
        assert piecemeal.feed(byte) == []
    with pytest.raises(FrameTooLong):
        piecemeal.feed(more)


LINES = st.lists(st.sampled_from([b"data", b"event", b"id", b":", b" ", b"\n", b"\r", b"\r\n", b"x", b"data: ", b"\x0b"]), max_size=30)


@given(LINES.map(b"".join))
def test_an_event_says_what_its_lines_say_one_by_one(text: bytes) -> None:
    event, data, alien, fields = b"", [], False, False
    for line in re.split(rb"\r\n|\n|\r", text):
        name, _, value = line.partition(b":")
        fields = fields or line[:1].isalpha() or line[:1] == b":"
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            event = value.removeprefix(b" ")
        elif line and not line[:1].isalpha() and line[:1] != b":" and not text.isspace():
            data.append(line)
            alien = alien or bool(line.strip())
    if alien and fields:
        with pytest.raises(BadFraming, match="in fields and outside of them"):
            frames.read_event(text, text)
    else:
        assert frames.read_event(text, text) == Frame(text, event, b"\n".join(data))


@pytest.mark.parametrize("line", [b"data:\n", b"event: e\r", b"data\r\n"])
def test_an_event_is_of_so_many_lines(line: bytes) -> None:
    (frame,) = SseSplitter().feed(line * MAX_LINES + b"\n\n")
    assert frame.data.strip() == b""
    with pytest.raises(BadFraming, match=f"more than {MAX_LINES} lines"):
        SseSplitter().feed(line * (MAX_LINES + 1) + b"\n\n")


def test_a_whole_frame_at_the_bound_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME", 100)

    assert SseSplitter().feed(b"data: " + b"x" * 92 + b"\n\n")[0].data == b"x" * 92
    with pytest.raises(FrameTooLong):
        SseSplitter().feed(b"data: " + b"x" * 93 + b"\n\n")
