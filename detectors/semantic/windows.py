"""Overlapping windows over a long text, cut at sentences where they can be.

Every character lies in a window, and each lies with at least ``OVERLAP`` characters of what stands before it, or is in
the first window: an order of up to ``OVERLAP`` characters is never seen only in halves.
"""

from __future__ import annotations

import re
from typing import Final

WINDOW: Final = 400
"""Characters in a window: about 90 tokens of English, which the encoder judges in 4 ms; a short prompt is one window."""

OVERLAP: Final = 120
"""Characters that consecutive windows share: longer than most single orders, and 30 % of the cost."""

_SENTENCE_END = re.compile(r"(?s:.*)(?:[.!?。！？؟।][\"'»”)\]]*\s+|\n|[。！？])")
_SPACE = re.compile(r"(?s:.*)\s")
"""Each ends at the last boundary of a stretch: what may be anything takes all of it first and is given back from the end."""


def spans(text: str, window: int = WINDOW, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """The windows of a text as (start, end) in code points, in order; one window for a text up to ``window`` long.

    A window ends behind a sentence where one ends in its last third, else at white space there, else where it must;
    the next begins at least ``overlap`` code points before that end, moved back to the start of a sentence or word.
    """
    length = len(text)
    if length <= window:
        return [(0, length)]
    found = []
    start = 0
    while True:
        end = _end(text, start, min(start + window, length), window)
        found.append((start, end))
        if end >= length:
            return found
        start = _start(text, max(end - overlap, start + 1), start, overlap)


def _end(text: str, start: int, latest: int, window: int) -> int:
    if latest == len(text):
        return latest
    earliest = start + window * 2 // 3
    return _last_boundary(text, earliest, latest)


def _start(text: str, wanted: int, previous: int, overlap: int) -> int:
    # A third of the overlap may be spent on moving back to a boundary; progress is at least a third of a window.
    earliest = max(wanted - overlap // 3, previous + 1)
    return _last_boundary(text, earliest, wanted)


def _last_boundary(text: str, start: int, end: int) -> int:
    """Where the last sentence of a stretch ends, or its last word, or else the stretch."""
    found = _SENTENCE_END.match(text, start, end) or _SPACE.match(text, start, end)
    return found.end() if found else end
