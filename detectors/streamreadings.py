"""All the readings of a text that comes in pieces, as one."""

from __future__ import annotations

from detectors.fold import FOLDED, Reading, folds
from detectors.folded import FoldedLane
from detectors.lanes import Lane, reach_back, told_once
from detectors.lexical import Match
from detectors.streamrules import Act, StreamRules


class StreamReadings:
    """A text is read as it came, and, from the first character or escape on that stands for another one, folded (see
    `detectors.fold`); where that joins what is apart, with escapes undone and nothing folded, too: once, or at every level.
    Positions are those of the whole text.

    Attributes:
        plain: the reading as it came.
        others: those there are beside it.
    """

    __slots__ = ("_rules", "others", "plain")

    def __init__(self, stream_rules: StreamRules, base: int = 0) -> None:
        """``base``: where in the whole text the first piece begins."""
        self._rules = stream_rules
        self.plain = Lane(stream_rules, base)
        self.others: list[FoldedLane] = []

    @property
    def pending(self) -> bool:
        """Whether a match was found that is not told yet."""
        return self.plain.pending or any(folded.pending for folded in self.others)

    def feed(self, piece: str, out: int, ended: int) -> int:
        """Take the next piece; gives how many matches end in it.

        Args:
            out: up to where the whole text was released.
            ended: up to where that was done although it was held.
        """
        ends = self.plain.feed(piece)
        if self.others:
            ends += sum([folded.feed(piece) for folded in self.others])
            if all(folded.over(out) for folded in self.others):
                self._close_others()
        elif _stands_for_another(piece):
            self.others.append(self._fold(out, ended))
        if self.others:
            self._part(out, ended)
        return ends

    def finish(self) -> None:
        """The text is over."""
        self.plain.finish()
        for folded in self.others:
            folded.finish()

    def close(self) -> None:
        """Free what they hold."""
        self.plain.close()
        self._close_others()

    def bound(self, out: int, final: bool) -> int:
        """As `Lane.bound`."""
        limit = self.plain.bound(out, final)
        for folded in self.others:
            limit = min(limit, folded.bound(out, final, self.plain.begun))
        return limit

    def outside(self, limit: int) -> int:
        """As `Lane.outside`."""
        limit = self.plain.outside(limit)
        for folded in self.others:
            limit = folded.outside(limit)
        return limit

    def take(self, limit: int, final: bool) -> list[tuple[Act, Match]]:
        """As `Lane.take`."""
        found = self.plain.take(limit, final)
        for folded in self.others:
            found = told_once(found + folded.take(limit, final))
        return found

    def anew(self, out: int) -> StreamReadings:
        """Readings that go on where these, which are finished, end: all was released; what announces a value is in sight."""
        seed = self.plain.text[-reach_back(self._rules) :]
        made = StreamReadings(self._rules, self.plain.total - len(seed))
        made.plain.feed(seed)
        made.plain.forget()
        if _stands_for_another(seed):
            made.others.append(made._fold(out, out))
            made._part(out, out)
        return made

    def as_ended(self, out: int, ended: int) -> list[tuple[Act, Match]]:
        """What is found in what is held were the text over here, which goes on all the same."""
        text, base = self.plain.text, max(self.plain.base, out - reach_back(self._rules))
        made = StreamReadings(self._rules, base)
        known = max(ended, base) - self.plain.base
        made.plain.feed(text[base - self.plain.base : known])
        made.plain.forget()
        made.feed(text[known:], base, ended)
        return made.end(out)

    def end(self, out: int) -> list[tuple[Act, Match]]:
        """The text is over: what was found in what is not released, and not told yet."""
        self.finish()
        self.bound(out, True)
        found = self.take(self.plain.total, True)
        self.close()
        return [(act, match) for act, match in found if match.end > out and (match.start >= out or act is Act.CUT)]

    def _part(self, out: int, ended: int) -> None:
        """Begin to read what the folded reading joins apart, as far as that is not done."""
        for reading in self.others[0].others[len(self.others) - 1 :]:
            self.others.append(self._fold(out, ended, reading))

    def _fold(self, out: int, ended: int, reading: Reading = FOLDED) -> FoldedLane:
        """Begin to read folded, with as much of what came before as a match may reach back: nothing in that is folded."""
        plain = self.plain
        base = max(plain.base, out - reach_back(self._rules))
        folded = FoldedLane(self._rules, base, out, reading)
        known = max(ended, base) - plain.base
        folded.feed(plain.text[base - plain.base : known])
        folded.forget()
        folded.feed(plain.text[known:])
        return folded

    def _close_others(self) -> None:
        for folded in self.others:
            folded.close()
        self.others.clear()


def _stands_for_another(piece: str) -> bool:
    """Whether a character or an escape in it stands for another character."""
    return "\\" in piece or (not piece.isascii() and folds(piece))
