"""Passages: what the model reads in one go is judged in one go.

A caller may cut a message into parts as he likes, and an attack with it. Segments of one origin and turn that follow each
other are therefore joined before they are judged, and what is found is mapped back to the segments.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from detectors.values import Origin, Segment

SEPARATOR: Final = "\n"


class Span(NamedTuple):
    """A stretch of one segment in code points, end exclusive."""

    segment: int
    start: int
    end: int


class Passage(NamedTuple):
    """Adjacent segments of one origin and turn as one text.

    ``starts`` holds where each segment begins in ``text``, ``first`` the index of the first one in the request.
    """

    text: str
    origin: Origin
    turn: int
    first: int
    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    def locate(self, start: int, end: int) -> list[Span]:
        """Map a span of the text to spans of its segments (more than one where it crosses a boundary)."""
        spans = []
        number = max(0, bisect_right(self.starts, start) - 1)
        while number < len(self.starts) and self.starts[number] < max(end, start + 1):
            offset = self.starts[number]
            low, high = max(start - offset, 0), min(end - offset, self.lengths[number])
            if low < high or (start == end and low == high):
                spans.append(Span(self.first + number, low, high))
            number += 1
        return spans


def passages(segments: Sequence[Segment]) -> list[Passage]:
    """Join ``segments`` into passages, in order.

    Where parts of one message are glued (the model may read them with nothing between), the passage comes in two readings:
    with a line break at the cut and with none. A word or a key that was cut in two is whole in the second.
    """
    result: list[Passage] = []
    at, count = 0, len(segments)
    while at < count:
        head = segments[at]
        stop = at + 1
        while stop < count and segments[stop].turn == head.turn and segments[stop].origin is head.origin:
            stop += 1
        if stop == at + 1:
            result.append(Passage(head.text, head.origin, head.turn, at, (0,), (len(head.text),)))
        else:
            run = segments[at:stop]
            result.append(_join(run, at, [SEPARATOR] * len(run)))
            if any(segment.glued for segment in run):
                result.append(_join(run, at, ["" if segment.glued else SEPARATOR for segment in run]))
        at = stop
    return result


def _join(run: Sequence[Segment], first: int, before: list[str]) -> Passage:
    pieces: list[str] = []
    starts: list[int] = []
    at = 0
    for number, segment in enumerate(run):
        gap = before[number] if number else ""
        pieces += (gap, segment.text)
        starts.append(at + len(gap))
        at += len(gap) + len(segment.text)
    head = run[0]
    return Passage("".join(pieces), head.origin, head.turn, first, tuple(starts), tuple(len(s.text) for s in run))
