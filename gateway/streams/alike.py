"""Frames of a stream that say what the one before them said, but for their text: looked for, and known by their bytes."""

from __future__ import annotations

import contextlib
from typing import Final, NamedTuple

import orjson

from gateway.wires.base import EventKind, StreamEvent, StreamReader
from gateway.wires.events import one_line
from gateway.wires.frames import Frame
from gateway.wires.outline import Outline
from gateway.wires.probabilities import without_probabilities

TRIES: Final = 8
"""Frames in a row that are each taken for the first of many that differ in their text alone. Where none of them was, nothing of
the kind is expected of the stream any more."""

_PIECES: Final = frozenset({EventKind.TEXT, EventKind.REASONING, EventKind.REFUSAL, EventKind.TOOL, EventKind.CODE})


class Piece(NamedTuple):
    """The text of a frame that is like the one before it, and how to write the frame with another one."""

    event: StreamEvent
    frame: Frame
    outline: Outline
    start: int
    end: int

    def saying(self, text: str) -> Frame:
        """The frame with ``text`` in place of its own."""
        raw = self.frame.raw
        return self.outline.frame(b"%b%b%b" % (raw[: self.start], one_line(orjson.dumps(text)[1:-1]), raw[self.end :]))


class Alike:
    """Knows what frames of one stream look like that say what the last one said, but for their text."""

    __slots__ = ("_candidate", "_outline", "_reader", "_tries")

    def __init__(self, reader: StreamReader) -> None:
        """``reader`` tells what may vary besides (`StreamReader.varies`)."""
        self._reader = reader
        self._outline: Outline | None = None
        self._candidate: tuple[Frame, StreamEvent] | None = None  # what may be the first of many
        self._tries = TRIES

    def note(self, frame: Frame, events: list[StreamEvent]) -> None:
        """A frame was read key by key; it is looked at when the next one comes, so that it does not wait for that itself."""
        if self._tries and len(events) == 1 and _is_piece(events[0]):
            self._candidate = frame, events[0]

    def forget(self) -> None:
        """A text is over: what follows is another one's."""
        self._outline = self._candidate = None

    def find(self, raw: bytes, framed: bool) -> Piece | None:
        """The piece that ``raw`` is, where it is like the frame before it; ``framed``: it is known that this is a frame."""
        if self._candidate is not None:
            self._expect(*self._candidate)
        outline = self._outline
        if outline is None or not (framed or outline.closed) or (found := outline.find(raw)) is None:
            return None
        start, end = found
        token = raw[start:end]
        try:
            text: str = orjson.loads(b'"%b"' % token) if b"\\" in token else token.decode()
        except (UnicodeDecodeError, orjson.JSONDecodeError):
            return None
        event = outline.event
        return Piece(StreamEvent(event.kind, event.channel, text, event.path), outline.frame(raw), outline, start, end)

    def confirm(self) -> None:
        """There was one, so more are expected."""
        self._tries = TRIES

    def _expect(self, frame: Frame, event: StreamEvent) -> None:
        self._candidate = None
        self._tries -= 1
        if without_probabilities(frame.data) is frame.data:
            with contextlib.suppress(ValueError):
                self._outline = Outline(frame, event, self._reader.varies)


def _is_piece(event: StreamEvent) -> bool:
    return bool(event.path) and event.kind in _PIECES and event.channel[0] != "whole" and event.repeats is None
