"""A text that comes in pieces: release at once what can no longer become part of a match, hold the rest.

What is released, replaced and reported does not depend on where the text was cut: that is what the tests are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from detectors.fold import folds
from detectors.lanes import FoldedLane, Lane, reach_back, told_once
from detectors.lexical import Match
from detectors.streamrules import Act, StreamRules
from detectors.values import by_name

MAX_HOLD: Final = 16_384
"""Code points held at most: four times the longest match. A text that is the beginning of matches for ever ends here."""


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


class TextStream:
    """One text of a stream (one channel of one choice), from its first piece to its end.

    It is read in two ways: as it came, and, from the first character or escape on that stands for another one, folded (see
    `detectors.fold`). What either reading finds is replaced; what either may still find is held.
    """

    __slots__ = ("_ended", "_folded", "_out", "_plain", "_rules", "_stand_in")

    def __init__(self, stream_rules: StreamRules, stand_in: Callable[[Match, str], str]) -> None:
        """``stand_in`` gives what takes the place of a value that a match marks."""
        self._rules = stream_rules
        self._stand_in = stand_in
        self._plain = Lane(stream_rules)
        self._folded: FoldedLane | None = None
        self._out = 0  # up to where the whole text was released
        self._ended = 0  # up to where that was done although it was held

    @property
    def held(self) -> int:
        """Code points that came and were not released."""
        return self._plain.total - self._out

    def feed(self, piece: str) -> Released:
        """Take the next piece of the text."""
        plain = self._plain
        plain.feed(piece)
        if self._folded is not None:
            self._folded.feed(piece)
            if self._folded.over(self._out):
                self._folded.close()
                self._folded = None
        elif _stands_for_another(piece):
            self._folded = self._fold()
        if plain.pending or self._folded is not None:
            return self._within_bounds(self._advance(final=False))
        out = self._out
        self._out = limit = plain.free(out)
        released = Released(plain.text[out - plain.base : limit - plain.base])
        return released if plain.total - limit <= MAX_HOLD else self._within_bounds(released)

    def finish(self) -> Released:
        """The text is over: release or replace all that was held. Nothing may be fed afterwards."""
        self._plain.finish()
        if self._folded is not None:
            self._folded.finish()
        return self._advance(final=True)

    def close(self) -> None:
        """Free the stream's memory without an end (the client left, the stream was cut)."""
        self._plain.close()
        if self._folded is not None:
            self._folded.close()

    def release_overdue(self) -> Released:
        """A hold's time is up: what is a match as it stands is acted on, as at the text's end, and the rest is released."""
        released = self.finish()
        if released.cut is not None:
            return released
        # From here on the text is followed anew, with what announces a value still in sight.
        seed = self._plain.text[-reach_back(self._rules) :]
        self._plain = Lane(self._rules, self._plain.total - len(seed))
        self._plain.feed(seed)
        self._plain.forget()
        self._ended = self._out
        self._folded = self._fold() if _stands_for_another(seed) else None
        return released._replace(overdue=True)

    def _fold(self) -> FoldedLane:
        """Begin to read folded, with as much of what came before as a match may reach back: nothing in that is folded."""
        plain = self._plain
        base = max(plain.base, self._out - reach_back(self._rules))
        folded = FoldedLane(self._rules, base, self._out)
        ended = max(self._ended, base) - plain.base
        folded.feed(plain.text[base - plain.base : ended])
        folded.forget()
        folded.feed(plain.text[ended:])
        return folded

    def _within_bounds(self, released: Released) -> Released:
        """Also release what is held where that has become too long."""
        if self.held <= MAX_HOLD or released.cut is not None:
            return released
        more = self.release_overdue()
        return Released(released.text + more.text, released.found + more.found, more.cut, more.overdue)

    def _advance(self, final: bool) -> Released:
        plain, folded = self._plain, self._folded
        limit = plain.limit(self._out, final)
        if folded is None:
            found = plain.take(limit, final)
        else:
            limit = self._common_limit(limit, folded, final)
            found = told_once(plain.take(limit, final) + folded.take(limit, final))
        cut = min(
            (match for act, match in found if act is Act.CUT), key=lambda match: match.start, default=None
        )
        if cut is not None:
            limit = min(limit, cut.start)
        spans = _joined([match for act, match in found if act is Act.REPLACE])
        return self._release(limit, spans, cut)._replace(found=tuple(found))

    def _common_limit(self, limit: int, folded: FoldedLane, final: bool) -> int:
        """Up to where both readings allow a release: neither may end inside what the other one replaces."""
        while True:
            out = min(self._out, limit)
            common = min(limit, folded.limit(out, final, limit, 0 if final else self._plain.begun(out)))
            again = self._plain.limit(self._out, final, common)
            if again == common == limit:
                return common
            limit = min(common, again)

    def _release(self, limit: int, spans: Sequence[tuple[int, int, Match]], cut: Match | None) -> Released:
        text, base = self._plain.text, self._plain.base
        parts: list[str] = []
        for start, end, match in spans:
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


def _stands_for_another(piece: str) -> bool:
    """Whether a character or an escape in it stands for another character."""
    return "\\" in piece or (not piece.isascii() and folds(piece))


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
