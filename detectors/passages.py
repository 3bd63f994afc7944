"""Passages: what the model reads in one go is judged in one go.

A caller may cut a message into parts as he likes, and an attack with it. Segments of one origin and turn that follow each
other are therefore joined before they are judged, and what is found is mapped back to the segments. An attack can be dealt
out over turns as well, so what a user said last is also judged as one text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from detectors.values import BESIDE, Origin, Segment

SEPARATOR: Final = "\n"

THREAD: Final = 1200
"""Characters of a user's last turns that are judged together: some four windows, which the front stage judges in half a
millisecond. Turns further back were judged together when they were the last ones."""

LONG_WORD: Final = 40
"""Characters within which a word ends, where a text is cut: longer ones are cut, too."""

_GAP: Final = re.compile(r"\s")


class Span(NamedTuple):
    """A stretch of one segment in code points, end exclusive."""

    segment: int
    start: int
    end: int


class Passage(NamedTuple):
    """Segments of one origin as one text.

    ``numbers`` holds the segments' indexes in the request, ``starts`` where each begins in ``text``; the first
    ``left_out`` code points of the first one are not in it.
    """

    text: str
    origin: Origin
    numbers: tuple[int, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    left_out: int = 0

    def locate(self, start: int, end: int) -> list[Span]:
        """Map a span of the text to spans of its segments (more than one where it crosses a boundary)."""
        spans = []
        place = max(0, bisect_right(self.starts, start) - 1)
        while place < len(self.starts) and self.starts[place] < max(end, start + 1):
            offset = self.starts[place]
            low, high = max(start - offset, 0), min(end - offset, self.lengths[place])
            if low < high or (start == end and low == high):
                before = 0 if place else self.left_out
                spans.append(Span(self.numbers[place], before + low, before + high))
            place += 1
        return spans


def passages(segments: Sequence[Segment], together: Iterable[Sequence[int]] = ()) -> list[Passage]:
    """Join ``segments`` into passages, in order, and then those that are read ``together`` although others stand between them,
    each list with nothing between its texts.

    Where parts of one message are glued (the model may read them with nothing between), the passage comes in two readings:
    with a line break at the cut and with none. A word or a key that was cut in two is whole in the second. The last passage
    is what the user said over his last turns, where he spoke more than once; see `THREAD`.
    """
    if len(segments) == 1:  # nearly every reply, and many a request
        (one,) = segments
        return [Passage(one.text, one.origin, (0,), (0,), (len(one.text),))]
    result: list[Passage] = []
    at, count = 0, len(segments)
    while at < count:
        head = segments[at]
        stop = at + 1
        while stop < count and segments[stop].turn == head.turn and segments[stop].origin is head.origin:
            stop += 1
        if stop == at + 1:
            result.append(Passage(head.text, head.origin, (at,), (0,), (len(head.text),)))
        else:
            numbers = range(at, stop)
            result.append(_join(segments, numbers))
            if any(segment.glued for segment in segments[at:stop]):
                result.append(_join(segments, numbers, glue=True))
        at = stop
    for some in together:
        if len(some) > 1:
            shown = _join({number: segments[number]._replace(glued=True) for number in some}, some, glue=True)
            result += [shown] if shown not in result else []
    thread, left_out = _thread(segments)
    if thread:
        result.append(_join(segments, thread, left_out=left_out))
    return result


def _thread(segments: Sequence[Segment]) -> tuple[list[int], int]:
    """The segments of the user's last turns, at most `THREAD` characters; none where that is a single turn.

    What stands beside the messages (`BESIDE`) is none of them, and is judged by itself.
    And how many characters are left out of the first one, which counts with its last words: filler before them hides nothing.
    """
    taken: list[int] = []
    left, left_out = THREAD, 0
    for number in range(len(segments) - 1, -1, -1):
        if segments[number].origin is Origin.USER and segments[number].turn != BESIDE:
            taken.append(number)
            left -= len(segments[number].text)
            if left <= 0:
                left_out = _word(segments[number].text, -left)
                break
    return (taken[::-1], left_out) if taken and segments[taken[0]].turn != segments[taken[-1]].turn else ([], 0)


def _word(text: str, at: int) -> int:
    """Where the next word begins, if that is near: half a number is another number."""
    gap = _GAP.search(text, at, at + LONG_WORD) if at else None
    return gap.end() if gap is not None and gap.end() < len(text) else at


def _join(
    segments: Sequence[Segment] | Mapping[int, Segment], numbers: Sequence[int], glue: bool = False, left_out: int = 0
) -> Passage:
    run = [segments[number] for number in numbers]
    if left_out:
        run[0] = run[0]._replace(text=run[0].text[left_out:])
    pieces: list[str] = []
    starts: list[int] = []
    at = 0
    for number, segment in enumerate(run):
        gap = "" if not number or (glue and segment.glued) else SEPARATOR
        pieces += (gap, segment.text)
        starts.append(at + len(gap))
        at += len(gap) + len(segment.text)
    return Passage("".join(pieces), run[0].origin, tuple(numbers), tuple(starts), tuple(len(s.text) for s in run), left_out)
