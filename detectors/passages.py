"""Passages: what the model reads in one go is judged in one go.

A caller may cut a message into parts as he likes, and an attack with it. Segments of one origin and turn that follow each
other are therefore joined before they are judged, and what is found is mapped back to the segments. An attack can be dealt
out over a message in which others stand between its pieces, and over turns, so what stands apart in one turn is also judged
as one text, and so is what a user said last.
"""

from __future__ import annotations

import re
import string
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from detectors.values import BESIDE, Origin, Segment

SEPARATOR: Final = "\n"

THREAD: Final = 1200
"""Characters of a user's last turns that are judged together: some four windows, which the front stage judges in half a
millisecond. Turns further back were judged together when they were the last ones."""

LONG_WORD: Final = 40
"""Characters within which a word ends, where a text is cut: longer ones are cut, too."""

DEALT: Final = frozenset({Origin.USER, Origin.DOCUMENT, Origin.TOOL_RESULT})
"""Whose texts are judged together where others stand between them: those by which an attack comes. What a model said is not
among them, and of its replies `passages` is told what is shown together."""

_GAP: Final = re.compile(r"\s")


class Span(NamedTuple):
    """A stretch of one segment in code points, end exclusive."""

    segment: int
    start: int
    end: int


class Passage(NamedTuple):
    """Segments of one origin as one text.

    ``numbers`` holds the segments' indexes in the request, ``begins`` where in each the passage begins with it, ``starts``
    where each begins in ``text``, and ``lengths`` how much of each is in it. All count code points.
    """

    text: str
    origin: Origin
    numbers: tuple[int, ...]
    begins: tuple[int, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    def locate(self, start: int, end: int) -> list[Span]:
        """Map a span of the text to spans of its segments (more than one where it crosses a boundary)."""
        spans = []
        place = max(0, bisect_right(self.starts, start) - 1)
        while place < len(self.starts) and self.starts[place] < max(end, start + 1):
            offset = self.starts[place]
            low, high = max(start - offset, 0), min(end - offset, self.lengths[place])
            if low < high or (start == end and low == high):
                begin = self.begins[place]
                spans.append(Span(self.numbers[place], begin + low, begin + high))
            place += 1
        return spans


def passages(segments: Sequence[Segment], together: Iterable[Sequence[int]] = ()) -> list[Passage]:
    """Join ``segments`` into passages, in order; then what stands apart in one turn; then those that are read ``together``
    although others stand between them, each list with nothing between its texts.

    Results of tools that follow each other are of one turn, also where a wire has a message for each.

    Where parts of one message are glued (the model may read them with nothing between), the passage comes in two readings:
    with a line break at the cut and with none. A word or a key that was cut in two is whole in the second. So does a passage in
    which a word may be cut by what stands between, an image as well. The last passages are what the user said over his
    last turns, where he spoke more than once; see `THREAD`.
    """
    if len(segments) == 1:  # nearly every reply, and many a request
        (one,) = segments
        return [_alone(one, 0)]
    result: list[Passage] = []
    runs: dict[tuple[int, Origin], list[range]] = {}
    turn = BESIDE
    at, count = 0, len(segments)
    while at < count:
        head = segments[at]
        stop = at + 1
        while stop < count and segments[stop].turn == head.turn and segments[stop].origin is head.origin:
            stop += 1
        numbers = range(at, stop)
        if stop == at + 1:
            result.append(_alone(head, at))
        else:
            spans = _whole(segments, numbers)
            result.append(_join(segments, spans))
            closed = _closed(segments, spans, _cut(segments, spans))
            if any(closed):
                result.append(_join(segments, spans, closed))
        if not (at and head.origin is segments[at - 1].origin is Origin.TOOL_RESULT and BESIDE not in (turn, head.turn)):
            turn = head.turn
        if head.turn != BESIDE and head.origin in DEALT:
            runs.setdefault((turn, head.origin), []).append(numbers)
        at = stop
    for apart in runs.values():
        if len(apart) > 1:
            spans = [span for run in apart for span in _ends(segments, run)]
            result.append(_join(segments, spans))
            closed = _closed(segments, spans, _cut(segments, spans))
            if any(closed):
                result.append(_join(segments, spans, closed))
    for some in together:
        if len(some) > 1:
            shown = _join(segments, _whole(segments, some), [True] * len(some))
            result += [shown] if shown not in result else []
    if thread := _thread(segments):
        cut = _cut(segments, thread)
        if any(cut):
            result.append(_join(segments, thread, _closed(segments, thread, cut)))
        result.append(_join(segments, thread))
    return result


def _thread(segments: Sequence[Segment]) -> list[Span]:
    """What the user said over his last turns, at most `THREAD` characters; nothing where that is a single turn.

    What stands beside the messages (`BESIDE`) is none of them, and is judged by itself. Of the first text its last words
    count: filler before them hides nothing.
    """
    taken: list[Span] = []
    left = THREAD
    for number in range(len(segments) - 1, -1, -1):
        if segments[number].origin is Origin.USER and segments[number].turn != BESIDE:
            text = segments[number].text
            left -= len(text)
            taken.append(Span(number, _word(text, -left) if left < 0 else 0, len(text)))
            if left <= 0:
                break
    return taken[::-1] if taken and segments[taken[0].segment].turn != segments[taken[-1].segment].turn else []


def _ends(segments: Sequence[Segment], run: range) -> list[Span]:
    """Of texts that follow each other, what is near to those that stand apart from them: the first and the last `THREAD` / 2
    characters. What lies between was judged with them already."""
    size = sum(len(segments[number].text) for number in run)
    if size <= THREAD + 2 * LONG_WORD:
        return _whole(segments, run)
    spans = []
    at = 0
    for number in run:
        text = segments[number].text
        head, tail = THREAD // 2 - at, size - THREAD // 2 - at
        if head >= len(text) or tail <= 0:
            spans.append(Span(number, 0, len(text)))
        else:
            if head > 0:
                spans.append(Span(number, 0, _word(text, head)))
            if tail < len(text):
                spans.append(Span(number, _word(text, tail), len(text)))
        at += len(text)
    return spans


def _cut(segments: Sequence[Segment], spans: Sequence[Span]) -> list[bool]:
    """For each span, whether the word before it may go on in it, although something stands between or another turn begins.
    Between a user's texts that are not glued stands something, too: mostly an image, which has no text.

    Where the model spoke between two turns, it does not: people end what they say without a full stop. Nor where more than
    letters is cut: an address or a key would go on in a word that is none of it.
    """
    found = [False]
    for before, after in pairwise(spans):
        one, other = segments[before.segment], segments[after.segment]
        loose = other.origin is Origin.USER and other.turn != BESIDE and not other.glued
        apart = loose or after.segment > before.segment + 1 or one.turn != other.turn
        between = range(before.segment + 1, after.segment)
        found.append(
            apart and _meet(segments, before, after) and _goes_on(one.text, other.text)
            and (one.turn == other.turn or all(segments[number].origin is not Origin.ASSISTANT for number in between))
        )  # fmt: skip
    return found


def _closed(segments: Sequence[Segment], spans: Sequence[Span], cut: Sequence[bool]) -> list[bool]:
    """For each span, whether it is read with nothing before it: where it is glued, and where a word may be ``cut``."""
    glued = [segments[after.segment].glued and _meet(segments, before, after) for before, after in pairwise(spans)]
    return [here or also for here, also in zip(cut, (False, *glued), strict=True)]


def _meet(segments: Sequence[Segment], before: Span, after: Span) -> bool:
    """Whether nothing of their segments is left out between two spans."""
    return not after.start and before.end == len(segments[before.segment].text)


def _goes_on(text: str, other: str) -> bool:
    """Whether a word of ``text`` may end in ``other``."""
    end = text[-LONG_WORD:]
    if not end or end[-1].isspace() or not other[:1].isalpha():
        return False
    word = end.split()[-1].lstrip(string.punctuation)
    return word.isidentifier() and not any(char.isdigit() for char in word)


def _word(text: str, at: int) -> int:
    """Where the next word begins, if that is near: half a number is another number."""
    gap = _GAP.search(text, at, at + LONG_WORD) if at else None
    return gap.end() if gap is not None and gap.end() < len(text) else at


def _alone(segment: Segment, number: int) -> Passage:
    return Passage(segment.text, segment.origin, (number,), (0,), (0,), (len(segment.text),))


def _whole(segments: Sequence[Segment], numbers: Iterable[int]) -> list[Span]:
    return [Span(number, 0, len(segments[number].text)) for number in numbers]


def _join(segments: Sequence[Segment], spans: Sequence[Span], closed: Sequence[bool] = ()) -> Passage:
    """One text of these spans; ``closed`` tells for each whether it follows the one before it with nothing between."""
    pieces: list[str] = []
    starts: list[int] = []
    at = 0
    for place, span in enumerate(spans):
        gap = "" if not place or (closed and closed[place]) else SEPARATOR
        pieces += (gap, segments[span.segment].text[span.start : span.end])
        starts.append(at + len(gap))
        at += len(gap) + span.end - span.start
    numbers, begins, _ = zip(*spans, strict=True)
    lengths = tuple(span.end - span.start for span in spans)
    return Passage("".join(pieces), segments[numbers[0]].origin, numbers, begins, tuple(starts), lengths)
