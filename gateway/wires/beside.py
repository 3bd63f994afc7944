"""What stands beside the data of a server-sent event: comments, ids, names of events, fields that nobody knows.

Most clients show none of it. But some hand it on to their programs, and Google's puts every line that is no data of its own
into the message of an error.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.wires.frames import MAX_LINES, BadFraming, Frame, read_event
from gateway.wires.names import is_short, is_words

LONGEST: Final = 4_096
"""Bytes of one such line that are looked at. What servers fill buffers with is white space; anything longer is left out."""

_MARK: Final = b"\xef\xbb\xbf"
_BARE: Final = 13
"""Bytes that an event has beside data in one line: the field's name, two line ends, a byte order mark. What else fits there is
too short for a value."""

_NAMED: Final = 9
"""Bytes that the line of an event's name has beside the name."""


class Line(NamedTuple):
    """One line beside the data: where it stands in a frame's bytes, line end included, and what it says."""

    start: int
    end: int
    text: str


def lines(frame: Frame) -> list[Line]:
    """Those of a frame that may say something.

    Raises:
        BadFraming: they are too many.
    """
    spare = len(frame.raw) - len(frame.data)
    if frame.event:
        spare -= len(frame.event) + _NAMED
    if spare <= _BARE and _is_words(frame.event):
        return []
    found, end = [], 0
    for line in frame.raw.splitlines(keepends=True):
        start, end = end, end + len(line)
        said = line.rstrip(b"\r\n")
        said = said if start else said.removeprefix(_MARK)
        if (said[:1].isalpha() or said[:1] == b":") and said.partition(b":")[0] != b"data":
            found.append(Line(start, end, said.decode(errors="replace")))
            if len(found) > MAX_LINES:
                raise BadFraming(f"an event of the stream has more than {MAX_LINES} lines beside its data")
    return [line for line in found if not _says_nothing(line.text.strip(" :"))]


def _says_nothing(text: str) -> bool:
    return is_short(text) or is_words(text.removeprefix("event: "))


def without(frame: Frame, gone: Collection[Line]) -> Frame:
    """The frame without some of its lines."""
    kept, at = [], 0
    for line in gone:
        kept.append(frame.raw[at : line.start])
        at = line.end
    raw = b"".join((*kept, frame.raw[at:]))
    return read_event(raw, raw.removeprefix(_MARK))


@lru_cache(1_024)
def _is_words(name: bytes) -> bool:
    """Whether an event's name says nothing: the same few come again and again."""
    return not name or is_words(name.decode(errors="replace"))
