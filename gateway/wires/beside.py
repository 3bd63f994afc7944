"""What stands beside the data of a server-sent event: comments, ids, names of events, fields that nobody knows.

Most clients show none of it. But some hand it on to their programs, and Google's puts every line that is no data of its own
into the message of an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.wires.frames import Frame, read_event
from gateway.wires.names import is_short, is_words

LONGEST: Final = 4_096
"""Bytes of one such line that are looked at. What servers fill buffers with is white space; anything longer is left out."""

_LINE: Final = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?|(?<=[\r\n]))(?=[A-Za-z:])(?!data(?:[:\r\n]|\Z))([^\r\n]+)(?:\r\n|\r|\n|\Z)")
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
    """Those of a frame that may say something."""
    spare = len(frame.raw) - len(frame.data)
    if frame.event:
        spare -= len(frame.event) + _NAMED
    if spare <= _BARE and _is_words(frame.event):
        return []
    found = [Line(*one.span(), one[1].decode(errors="replace")) for one in _LINE.finditer(frame.raw)]
    return [line for line in found if not (is_short(said := line.text.strip(" :")) or is_words(said.removeprefix("event: ")))]


def without(frame: Frame, gone: Collection[Line]) -> Frame:
    """The frame without some of its lines."""
    raw, at = b"", 0
    for line in gone:
        raw += frame.raw[at : line.start]
        at = line.end
    raw += frame.raw[at:]
    return read_event(raw, raw)


@lru_cache(1_024)
def _is_words(name: bytes) -> bool:
    """Whether an event's name says nothing: the same few come again and again."""
    return not name or is_words(name.decode(errors="replace"))
