"""Where a stretch of a rewritten text stood in the text that it was made from."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Map(Protocol):
    """Maps code points of a text to those of the text it was made from; spans are (start, end), end exclusive."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The smallest stretch of the source that the span was made from. An empty span maps to an empty one."""


class Shift(NamedTuple):
    """The text is a stretch of the source, character for character, that begins at ``offset``."""

    offset: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        return start + self.offset, end + self.offset


class Blob(NamedTuple):
    """Every part of the text was made from the whole stretch ``start`` to ``end``."""

    start: int
    end: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        return self.start, self.end


class Mirror(NamedTuple):
    """The text is the stretch ``start`` to ``end`` of the source read from its end."""

    start: int
    end: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        return self.end - end, self.end - start


class Edits:
    """The text is the source with stretches of it replaced; what lies between them is the same, character for character.

    The arrays hold, for each replaced stretch in order: where its replacement begins and ends in the text, and where it
    began and ended in the source.
    """

    __slots__ = ("_from", "_to", "_until", "_upto")

    def __init__(self, to: array[int], upto: array[int], start: array[int], end: array[int]) -> None:
        self._to, self._upto, self._from, self._until = to, upto, start, end

    def span(self, start: int, end: int) -> tuple[int, int]:
        first = self._source(start)[0]
        return (first, first) if end <= start else (first, self._source(end - 1)[1])

    def _source(self, at: int) -> tuple[int, int]:
        """The stretch of the source that one character of the text was made from."""
        edit = bisect_right(self._to, at) - 1
        if edit < 0:
            return at, at + 1
        if at < self._upto[edit]:
            return self._from[edit], self._until[edit]
        origin = self._until[edit] + at - self._upto[edit]
        return origin, origin + 1


Change = tuple[int, int, str]
"""A stretch of a text, as start and end, and what takes its place."""


def rewrite(text: str, changes: Iterable[Change]) -> tuple[str, Edits | None]:
    """Make ``changes``, which come in order and do not overlap.

    Returns the new text and how it maps to the old one: None where every character stands where it stood.
    """
    # Four bytes each: no text has 2**32 code points, and a megabyte of letters set apart has half a million changes.
    arrays = to, upto, starts, ends = array("I"), array("I"), array("I"), array("I")
    pieces: list[str] = []
    at = length = 0
    for start, end, new in changes:
        if at < start:
            pieces.append(text[at:start])
            length += start - at
        pieces.append(new)
        size = len(new)
        if size != 1 or end - start != 1:
            to.append(length)
            upto.append(length + size)
            starts.append(start)
            ends.append(end)
        length += size
        at = end
    pieces.append(text[at:])
    return "".join(pieces), Edits(*arrays) if to else None
