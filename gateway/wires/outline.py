"""Frames that say the same as the one before them but for the next piece of one text.

A reply is hundreds of frames that differ in one string, and perhaps in what numbers or fills them. Such a frame is known by its
bytes: all that stands around the places that vary is the same, and in each of them stands one string or one number, so it is
the same JSON with another text. Reading it key by key tells nothing more, and costs several times as much.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from detectors.values import Path
from gateway.wires.base import StreamEvent
from gateway.wires.frames import Frame
from gateway.wires.jsonedit import places

_TEXT: Final = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+')
"""The inside of a JSON string, whose escapes are looked at by whoever reads it."""

_OTHER: Final = re.compile(rb'"[A-Za-z0-9_-]{0,64}+"|0|[1-9][0-9]{0,10}+')
"""What may stand in another place that varies: an id, letters that fill, a whole number that is too short for a card's."""


class Outline:
    """The bytes of a frame around its text.

    Attributes:
        event: what the frame said, the one text that it carried.
        closed: whether such a frame's bytes end where the frame does, whatever follows them.
    """

    __slots__ = ("_data", "_event", "_last", "_steps", "closed", "event")

    def __init__(self, frame: Frame, event: StreamEvent, varies: Sequence[Path]) -> None:
        """``event`` is all that ``frame`` says; ``varies``: paths of strings and numbers that nobody reads.

        Raises:
            ValueError: the frame's data does not stand in its bytes as it is, or its text not in the data.
        """
        raw, offset = frame.raw, frame.raw.find(frame.data)
        if offset < 0 or raw.count(frame.data) != 1:
            raise ValueError("the data does not stand in the frame as it is")
        self._steps: list[tuple[bytes, int, re.Pattern[bytes]]] = []
        at = 0
        for start, end, path in places(frame.data, (event.path, *varies)):
            inside = path == event.path  # its quotation marks belong to what stands around it
            literal = raw[at : offset + start + inside]
            self._steps.append((literal, len(literal), _TEXT if inside else _OTHER))
            at = offset + end - inside
        if all(wanted is not _TEXT for *_, wanted in self._steps):
            raise ValueError("the text does not stand in the frame as it is")
        self._last = raw[at:]
        self._event = frame.event
        self._data = offset, len(raw) - offset - len(frame.data)
        self.event = event
        self.closed = raw.endswith(b"\n\n") and b"\r" not in raw

    def find(self, raw: bytes) -> tuple[int, int] | None:
        """Where in a frame's bytes the text stands, without its quotation marks; None where it is another kind of frame, or has
        no text."""
        at = start = end = 0
        for literal, length, wanted in self._steps:
            if not raw.startswith(literal, at) or (found := wanted.match(raw, at + length)) is None:
                return None
            at = found.end()
            if wanted is _TEXT:
                start, end = found.span()
        if start == end or len(raw) - at != len(self._last) or not raw.endswith(self._last):
            return None
        return start, end

    def frame(self, raw: bytes) -> Frame:
        """The frame that such bytes are."""
        before, behind = self._data
        return Frame(raw, self._event, raw[before : len(raw) - behind])
