"""Where a stretch of a rewritten text stood in the text that it was made from."""

from __future__ import annotations

from array import array
from bisect import bisect_right
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
    """The text is the source with stretches of it replaced; what lies between them is the same, character for character."""

    __slots__ = ("_from", "_to", "_until", "_upto")

    def __init__(self) -> None:
        # Four bytes each: the longest text is far below 2**32 code points, and a spaced-out megabyte has half a million.
        self._to = array("I")
        self._upto = array("I")
        self._from = array("I")
        self._until = array("I")

    def add(self, to: int, upto: int, start: int, end: int) -> None:
        """Say that ``to``..``upto`` of the text replaces ``start``..``end`` of the source. Calls come in order."""
        if to == upto and self._to and self._to[-1] == to and self._until[-1] == start:
            self._until[-1] = end  # removed right behind what was removed: one edit for both
            return
        self._to.append(to)
        self._upto.append(upto)
        self._from.append(start)
        self._until.append(end)

    def __len__(self) -> int:
        return len(self._to)

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


class Rewriter:
    """Replaces stretches of a text, from left to right, and keeps account of it."""

    __slots__ = ("_at", "_edits", "_length", "_pieces", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces: list[str] = []
        self._at = self._length = 0
        self._edits = Edits()

    def replace(self, start: int, end: int, new: str) -> None:
        """Put ``new`` in the place of ``start``..``end``, which begins where the last replacement ended or later."""
        if self._at < start:
            self._pieces.append(self._text[self._at : start])
            self._length += start - self._at
        if len(new) != 1 or end - start != 1:
            self._edits.add(self._length, self._length + len(new), start, end)
        self._pieces.append(new)
        self._length += len(new)
        self._at = end

    def done(self) -> tuple[str, Edits | None]:
        """The new text, and how it maps to the old one; no map where every character stands where it stood."""
        self._pieces.append(self._text[self._at :])
        return "".join(self._pieces), self._edits if len(self._edits) else None
