"""Cut the bytes of a reply stream into frames, at any cut of the bytes, without losing one of them.

The raw bytes of the frames, put together again, are the bytes that came in: what is forwarded is what was
received.

Server-sent events follow the WHATWG HTML standard, section 9.2 ("Parsing an event stream"): lines end in LF,
CRLF or CR, a blank line ends an event, one byte order mark may open the stream.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from itertools import groupby
from typing import Final, NamedTuple

import orjson

from gateway.wires.halves import without_halves

MAX_FRAME: Final = 16 * 1024 * 1024
"""Bytes that one frame may have. A whole reply of a model with its tool results is far smaller; an image in
base64 fits."""


MAX_LINES: Final = 65_536
"""Lines of data and names that one server-sent event may have: JSON of half a megabyte and more, a value a line."""


class FrameTooLong(ValueError):  # noqa: N818 - it is the upstream's fault, named as such
    """A frame has more than `MAX_FRAME` bytes."""

    def __init__(self) -> None:
        super().__init__(f"a frame of the stream has more than {MAX_FRAME} bytes")


class BadFraming(ValueError):  # noqa: N818 - it is the upstream's fault, named as such
    """The bytes are not a JSON array of objects, or a frame's data is not a JSON object, or dealt out over too many lines."""


class Frame(NamedTuple):
    """One frame of a stream: its raw bytes (forwarded as they are), its SSE event name and its data.

    A frame without data says nothing: a comment, or the white space and bracket that end an array.
    """

    raw: bytes
    event: bytes
    data: bytes


class Splitter(ABC):
    """Cuts one stream.

    Attributes:
        between: nothing of a frame has come yet, and the next bytes are read as those of the last frame were.
    """

    __slots__ = ("between",)

    def __init__(self) -> None:
        self.between = False

    @property
    @abstractmethod
    def begun(self) -> int:
        """Bytes of a frame that is not whole yet."""

    @abstractmethod
    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that ``chunk`` completes, in order.

        Raises:
            FrameTooLong: the frame that has begun passes `MAX_FRAME`.
            BadFraming: the stream is not of the splitter's form.
        """

    @abstractmethod
    def end(self) -> list[Frame]:
        """What is left when the stream has ended: nothing, or one frame that its sender may not have
        finished.

        Clients differ in what they make of it, so it is read as far as it goes.
        """


    @property
    def missing(self) -> bytes:
        """What would end the frame that has begun, if it says all it has to: some senders leave that out of the last one."""
        return b""


_BOM: Final = b"\xef\xbb\xbf"
_DATA: Final = re.compile(rb"\ndata(?::[ ]?+([^\n]*+))?+(?=\n)")
_NAME: Final = re.compile(rb"\nevent(?::[ ]?+([^\n]*+))?+(?=\n)")
# A line that can be no field of an event, whatever its name. The standard passes it by, but Google's client reads JSON in it:
# it is read as data.
_ALIEN: Final = re.compile(rb"\n(?![A-Za-z:\n])([^\n]++)(?=\n)")
_FIELD: Final = re.compile(rb"\n[A-Za-z:]")
# Where an event ends: a line's end and a blank line. After LF or CRLF, a CR that is the last byte so far may
# be half a CRLF, so it waits for the next byte. After a bare CR it does not: there CR is the sender's line
# end, and a LF that follows after all opens the next frame as one more blank line, which says nothing.
_EVENT_END: Final = re.compile(rb"\n\n|\r\n\r\n|\r\n\n|\n\r\n|\r\r|\r?\n\r(?=[^\n])")
_OVERLAP: Final = 3  # bytes of an event's end that may stand before a cut


class SseSplitter(Splitter):
    """Cuts server-sent events."""

    __slots__ = ("_buffer", "_started")

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._started = False

    @property
    def begun(self) -> int:
        return len(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        buffer = self._buffer
        frames: list[Frame] = []
        if not buffer and b"\r" not in chunk:  # whole events and the beginning of one, in lines that end in LF alone
            *events, rest = chunk.split(b"\n\n")
            frames += [self._frame(event + b"\n\n") for event in events]
            buffer += rest
        else:
            search = max(0, len(buffer) - _OVERLAP)
            buffer += chunk
            begin = 0
            while found := _EVENT_END.search(buffer, search):
                search = found.end()
                frames.append(self._frame(bytes(buffer[begin:search])))
                begin = search
            del buffer[:begin]
        self.between = not buffer
        if len(buffer) > MAX_FRAME:
            raise FrameTooLong
        return _joined(frames) if len(frames) > 1 else frames

    def end(self) -> list[Frame]:
        rest = bytes(self._buffer)
        self._buffer.clear()
        return [self._frame(rest)] if rest else []

    @property
    def missing(self) -> bytes:
        raw = bytes(self._buffer)
        data = without_halves(read_event(raw, raw.removeprefix(_BOM)).data.strip())
        try:
            whole = data == b"[DONE]" or isinstance(orjson.loads(data), dict)
        except orjson.JSONDecodeError:
            whole = False
        if not whole:
            return b""
        return b"\n" if raw.endswith(b"\n") else b"\n\n"

    def _frame(self, raw: bytes) -> Frame:
        if len(raw) > MAX_FRAME:
            raise FrameTooLong
        text = raw
        if not self._started:
            self._started = True
            text = raw.removeprefix(_BOM)
        if text.startswith(b"data: ") and text.find(b"\n") == len(text) - 2 and b"\r" not in text:
            return Frame(raw, b"", text[6:-2])
        return read_event(raw, text)


def _joined(frames: list[Frame]) -> list[Frame]:
    """The same with one frame for those that say nothing and follow each other: a sender may write any number of blank lines
    and comments, and each frame costs what comes after this."""
    joined: list[Frame] = []
    for silent, run in groupby(frames, lambda frame: not frame.data and not frame.event):
        some = list(run)
        joined += [Frame(b"".join([frame.raw for frame in some]), b"", b"")] if silent else some
    return joined


def read_event(raw: bytes, text: bytes) -> Frame:
    """The frame that the lines of ``text`` are; ``raw``: as they came.

    Raises:
        BadFraming: they are too many, or data in fields and outside of them, which a client that reads both takes apart.
    """
    if text.isspace():  # blank lines, of which a sender may write any number
        return Frame(raw, b"", b"")
    lines = b"\n%b\n" % text
    if b"\r" in lines:
        lines = lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    alien = _ALIEN.search(lines)
    if (lines.count(b"\n") if alien else lines.count(b"\ndata") + lines.count(b"\nevent")) > MAX_LINES:
        raise BadFraming(f"an event of the stream has more than {MAX_LINES} lines")
    if alien:
        if _FIELD.search(lines) and any(line.strip() for line in _ALIEN.findall(lines)):
            raise BadFraming("an event of the stream has data in fields and outside of them")
        lines = _ALIEN.sub(rb"\ndata: \1", lines)
    names = _NAME.findall(lines)
    return Frame(raw, names[-1] if names else b"", b"\n".join(_DATA.findall(lines)))


_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_OUTSIDE: Final = re.compile(rb'[^"\[\]{}]*+')
_INSIDE: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
# What may come next between the objects, and which place that leads to.
_BETWEEN: Final = {
    "start": {0x5B: "first"},
    "first": {0x7B: "object", 0x5D: "done"},
    "after": {0x2C: "next", 0x5D: "done"},
    "next": {0x7B: "object"},
    "done": {},
}


class JsonArraySplitter(Splitter):
    """Cuts a JSON array of objects, as Gemini streams them: ``[{...}\\n,\\n{...}\\n]``.

    A frame is one object with the separators before it; its data is the object alone. The array's end is a
    frame too.
    """

    __slots__ = ("_at", "_buffer", "_depth", "_object", "_place", "_quoted")

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()  # the frame that has begun, and what follows it
        self._at = 0  # how much of it was read
        self._object = 0  # where its object begins
        self._depth = 0
        self._quoted = False
        self._place = "start"

    @property
    def begun(self) -> int:
        return len(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        self._buffer += chunk
        frames: list[Frame] = []
        while self._at < len(self._buffer):
            if self._place == "object":
                at = self._at
                self._read_object()
                if self._depth:
                    if self._at == at:
                        break  # half an escape
                    continue
                self._place = "after"
                frames.append(self._cut(self._object))
            else:
                self._at = _SPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr]
                if self._at < len(self._buffer) and self._step(self._buffer[self._at]):
                    frames.append(self._cut(self._at))
        if len(self._buffer) > MAX_FRAME:
            raise FrameTooLong
        return frames

    def end(self) -> list[Frame]:
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._at = 0
        return [Frame(rest, b"", rest[self._object :] if self._place == "object" else b"")] if rest else []

    def _step(self, byte: int) -> bool:
        """Take one separator; tell whether it ends the array."""
        place = _BETWEEN[self._place].get(byte)
        if place is None:
            raise BadFraming(f"the stream is not a JSON array of objects: unexpected byte {byte:#04x}")
        self._place = place
        if place == "object":
            self._object = self._at
            self._depth = 0
            return False
        self._at += 1
        return place == "done"

    def _read_object(self) -> None:
        """Read on inside an object, up to its end or to the end of the buffer."""
        buffer, at, end = self._buffer, self._at, len(self._buffer)
        while at < end:
            if self._quoted:
                at = _INSIDE.match(buffer, at).end()  # type: ignore[union-attr]
                if at == end or buffer[at] == 0x5C:  # \, cut from the character that it escapes
                    break
                self._quoted = False
                at += 1
            at = _OUTSIDE.match(buffer, at).end()  # type: ignore[union-attr]
            if at == end:
                break
            byte = buffer[at]
            at += 1
            if byte == 0x22:  # "
                self._quoted = True
            else:
                self._depth += 1 if byte in b"{[" else -1
                if not self._depth:
                    break
        self._at = at

    def _cut(self, data: int) -> Frame:
        raw = bytes(self._buffer[: self._at])
        if len(raw) > MAX_FRAME:
            raise FrameTooLong
        del self._buffer[: self._at]
        self._object -= self._at
        body = raw[data:]
        self._at = 0
        return Frame(raw, b"", body)
