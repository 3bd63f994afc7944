"""A text that comes in pieces: release at once what can no longer become part of a match, hold the rest.

What is released, replaced and reported does not depend on where the text was cut: that is what the tests are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from detectors.lanes import reach_back, told_once
from detectors.lexical import Match
from detectors.streamreadings import StreamReadings
from detectors.streamrules import Act, StreamRules
from detectors.values import by_name

MAX_HOLD: Final = 16_384
"""Code points held at most: four times the longest match. A text that is the beginning of matches for ever ends here."""

STRIDE: Final = 64
"""Code points at a time in which a text is taken in which much is found, however small its pieces are: looking at one costs
nearly as much as looking at them all. Until it is complete, a stride is held."""

WORTH: Final = 32
"""Code points of a text for each match that ends in it before it counts as dear: ordinary ones have hundreds."""

DEAR: Final = 2_048
"""Code points' worth of matches too many from which on a text is dear, until all of it, at most twice as much, was made up for.
Our documentation and Python's, and code as JSON, come to 308."""


class Released(NamedTuple):
    """What one step gives: text that may go out now, matches that are certain now, and perhaps the end.

    ``found`` holds the matches, in positions of the whole text, each with what is done about it. ``cut`` is the match at
    which the stream must end; nothing is released from its start on. ``overdue`` is true where text had to be released
    although it might have become part of a match.
    """

    text: str
    found: tuple[tuple[Act, Match], ...] = ()
    cut: Match | None = None
    overdue: bool = False


class _Apart(NamedTuple):
    """What some see who see a text begin within the whole: after an edge, or with its pieces."""

    readings: StreamReadings
    begin: int
    after_edge: bool = True


class TextStream:
    """One text of a stream (one channel of one choice), from its first piece to its end, in all its readings (see
    `detectors.streamreadings`). What one of them finds is replaced; what one may still find is held.
    """

    __slots__ = (
        "_aparts", "_begun", "_dear", "_ended", "_in_json", "_known", "_out", "_rules", "_stand_in", "_strides", "_told",
        "_waits", "_whole",
    )  # fmt: skip

    def __init__(self, stream_rules: StreamRules, stand_in: Callable[[Match, str], str], in_json: bool = False) -> None:
        """
        Args:
            stand_in: gives what takes the place of a value that a match marks.
            in_json: the text is JSON, and must be JSON still with that in it.
        """
        self._rules = stream_rules
        self._in_json = in_json
        self._stand_in = stand_in
        self._whole = StreamReadings(stream_rules)
        self._aparts: list[_Apart] = []  # of what follows the last edge, where that tells another story
        self._known: list[tuple[Act, Match]] = []  # what was found up to edges in what is held
        self._out = 0  # up to where the whole text was released
        self._ended = 0  # up to where that was done although it was held
        self._told = 0  # up to where `let_go` told all that was found
        self._begun: int | None = None  # where what was held began that `let_go` released, and what follows may go on with
        self._dear = 0  # how much more was found than a text of its length mostly has, in code points
        self._strides = False  # whether that is so much that it is taken in strides
        self._waits = ""  # what came for the next one

    @property
    def held(self) -> int:
        """Code points that came and were not released."""
        return self.total - self._out

    @property
    def total(self) -> int:
        """Code points that came."""
        return self._whole.plain.total + len(self._waits)

    def feed(self, piece: str) -> Released:
        """Take the next piece of the text."""
        if self._strides:
            self._waits += piece
            if len(self._waits) < STRIDE:
                return _NOTHING
            piece, self._waits = self._waits, ""
        return self._take(piece)

    def edge(self) -> None:
        """To some who read it the text ends here, and what follows is another one; to others both are one. What either sees is
        replaced."""
        if self._waits:
            self._read(self._waits)
            self._waits = ""
        end = self._whole.plain.total
        if self._out < end and not any(one.after_edge for one in self._aparts):
            self._known += self._whole.as_ended(self._out, self._ended)
        self._known += self._ended_apart(end)

    def pieces_begin(self) -> None:
        """What was released stands where some do not look, in the event that begins a text: to them it begins here, with what
        is held. What they see is replaced as well."""
        if self._waits:
            self._read(self._waits)
            self._waits = ""
        plain, begin = self._whole.plain, self._out
        readings = StreamReadings(self._rules, begin)
        readings.feed(plain.text[begin - plain.base :], begin, begin)
        self._aparts.append(_Apart(readings, begin, after_edge=False))

    def settled(self) -> Released:
        """After an `edge`, release what was held for those alone to whom the text has ended. Held on, it would be shown before
        what follows, and behind nothing of what it was said behind."""
        return self._advance(final=False)

    def let_go(self) -> Released:
        """Something else follows the text here, and it may go on behind that: what is held goes out, or is replaced where it
        is a match as it stands. Where what follows makes a match of it, that is replaced from there on."""
        before = _NOTHING
        if self._waits:
            piece, self._waits = self._waits, ""
            before = self._take(piece)
        if before.cut is not None:
            return before
        begun, end = self._looked_from, self._whole.plain.total
        found = self._known + self._whole.as_ended(begun, self._ended)
        found += self._ended_apart(end)
        self._known = []
        released = self._acted(told_once(found), end)
        self._begun, self._told = begun if begun < end else None, end
        return _both(before, released)

    @property
    def _looked_from(self) -> int:
        """Where what may become a match is looked for."""
        return self._out if self._begun is None else self._begun

    def _ended_apart(self, end: int) -> list[tuple[Act, Match]]:
        """There is an edge at the ``end`` of what came; gives what was found by those who saw a text begin before it."""
        found: list[tuple[Act, Match]] = []
        for readings, begin, _ in self._aparts:
            if self._out < end:
                found += readings.end(max(self._out, begin))
            else:
                readings.close()
        self._aparts = [_Apart(StreamReadings(self._rules, end), end)]
        return found

    def _take(self, piece: str) -> Released:
        self._read(piece)
        whole = self._whole
        plain = whole.plain
        if plain.pending or whole.others or self._known or self._aparts:
            return self._within_bounds(self._advance(final=False))
        out = self._out
        self._out = limit = plain.bound(out)
        released = Released(plain.text[out - plain.base : limit - plain.base])
        return released if plain.total - limit <= MAX_HOLD else self._within_bounds(released)

    def _read(self, piece: str) -> None:
        ends = self._whole.feed(piece, self._looked_from, self._ended)
        for one in tuple(self._aparts):
            if self._out - one.begin > reach_back(self._rules) and not one.readings.pending:
                one.readings.close()
                self._aparts.remove(one)  # where it began is out of sight
            else:
                one.readings.feed(piece, max(self._out, one.begin), self._ended)
        if ends or self._dear:
            self._dear = min(max(0, self._dear + ends * WORTH - len(piece)), 2 * DEAR)
            self._strides = self._dear > (0 if self._strides else DEAR)

    def finish(self) -> Released:
        """The text is over: release or replace all that was held. Nothing may be fed afterwards."""
        if self._waits:
            piece, self._waits = self._waits, ""
            before = self._take(piece)
            return before if before.cut is not None else _both(before, self.finish())
        for readings in self._readings:
            readings.finish()
        return self._advance(final=True)

    def close(self) -> None:
        """Free the stream's memory without an end (the client left, the stream was cut)."""
        for readings in self._readings:
            readings.close()

    @property
    def _readings(self) -> tuple[StreamReadings, ...]:
        return (self._whole, *(one.readings for one in self._aparts))

    def release_overdue(self) -> Released:
        """A hold's time is up: what is a match as it stands is acted on, as at the text's end, and the rest is released."""
        if self._waits:
            piece, self._waits = self._waits, ""
            before = self._take(piece)
            return before if before.cut is not None or not self.held else _both(before, self.release_overdue())
        released = self.finish()
        if released.cut is not None:
            return released
        self._ended, self._begun = self._out, None
        self._whole = self._whole.anew(self._out)  # from here on the text is followed anew
        self._aparts = [one._replace(readings=one.readings.anew(self._out)) for one in self._aparts]
        return released._replace(overdue=True)

    def _within_bounds(self, released: Released) -> Released:
        """Also release what is held where that has become too long."""
        if self.held <= MAX_HOLD or released.cut is not None:
            return released
        return _both(released, self.release_overdue())

    def _advance(self, final: bool) -> Released:
        limit = self._whole.bound(self._looked_from, final)
        if self._begun is not None:
            if limit > self._out and not self._whole.pending:
                self._begun = None  # nothing that follows goes on with what was let go
            limit = max(limit, self._out)
        for readings, begin, _ in self._aparts:
            limit = min(limit, readings.bound(max(self._out, begin), final))
        if not (self._known or any(readings.pending for readings in self._readings)):
            return self._release(limit, (), None)
        until = self._outside(limit)
        found = self._whole.take(until, final)
        for one in self._aparts:
            found = told_once(found + one.readings.take(until, final))
        if self._known:
            found = told_once(found + [one for one in self._known if final or one[1].start < until])
            self._known = [] if final else [one for one in self._known if one[1].start >= until]
        return self._acted(found, max(until, self._out))

    def _acted(self, found: list[tuple[Act, Match]], limit: int) -> Released:
        """Release up to ``limit`` with what was ``found`` acted on."""
        found = [one for one in found if one[1].end > self._told]
        cut = min(
            (match for act, match in found if act is Act.CUT), key=lambda match: match.start, default=None
        )
        if cut is not None:
            limit = min(limit, cut.start)
        spans = _joined([match for act, match in found if act is Act.REPLACE])
        return self._release(limit, spans, cut)._replace(found=tuple(found))

    def _outside(self, limit: int) -> int:
        """``limit``, or what it has to be so that it ends inside of nothing that some reading replaces."""
        while True:
            again = limit
            for readings in self._readings:
                again = readings.outside(again)
            for _, match in self._known:
                again = match.start if match.start < again < match.end else again
            if again == limit:
                return limit
            limit = again

    def _release(self, limit: int, spans: Sequence[tuple[int, int, Match]], cut: Match | None) -> Released:
        text, base = self._whole.plain.text, self._whole.plain.base
        parts: list[str] = []
        for begin, end, match in spans:
            # `\njane@example.com`: to who does not undo escapes the address begins with their last letter
            start = base + behind_escape(text, begin - base) if self._in_json else begin
            if end > limit:  # only where the stream is cut inside of it
                limit = min(limit, start)
                break
            if end > self._out:
                parts.append(text[self._out - base : max(start, self._out) - base])
                parts.append(self._stand_in(match, text[start - base : end - base]))
                self._out = end
        parts.append(text[self._out - base : max(limit, self._out) - base])
        self._out = max(self._out, limit)
        return Released("".join(parts), (), cut)


def behind_escape(text: str, at: int) -> int:
    """``at``, or the end of the escape in whose midst that is: of JSON, or of JSON in a string of it."""
    mark = text.rfind("\\", max(0, at - _LONGEST_ESCAPE + 1), at)
    before = text[: mark + 1]
    marks = len(before) - len(before.rstrip("\\"))
    if not (marks % 2 or (marks % 4 and '\\"' in before)):
        return at
    return max(at, mark + (_LONGEST_ESCAPE if text[mark + 1] == "u" else 2))


_LONGEST_ESCAPE: Final = 6
"""Characters of ``\\u00e9``."""

_NOTHING: Final = Released("")


def _both(first: Released, then: Released) -> Released:
    return Released(first.text + then.text, first.found + then.found, then.cut, then.overdue)


def _joined(matches: list[Match]) -> list[tuple[int, int, Match]]:
    """Overlapping matches as one span, named after the one that begins first and reaches furthest."""
    joined: list[tuple[int, int, Match]] = []
    for match in sorted(matches, key=lambda match: (match.start, -match.end, by_name(match.pattern.category))):
        if joined and match.start < joined[-1][1]:
            start, end, first = joined[-1]
            joined[-1] = (start, max(end, match.end), first)
        else:
            joined.append((match.start, match.end, match))
    return joined
