"""The folded reading of a text that comes in pieces, in which disguised characters stand for what they look like."""

from __future__ import annotations

from bisect import bisect_left

from detectors.fold import DEEP, FOLDED, NEAR, Reading, Token, tokens, unescape
from detectors.lanes import SLACK, Lane, reach_back
from detectors.lexical import Match
from detectors.streamrules import Act, StreamRules


class FoldedLane:
    """The folded reading of a text, in positions of the original.

    What the plain reading may see too, it reports as well: whether something is a match depends on what stands around it, and
    that may be an escape's last letter there (the ``n`` of ``\\n``).
    """

    __slots__ = (
        "_back", "_changed", "_doubled", "_escaped", "_first", "_half", "_joined", "_lane", "_last", "_raw", "_reading",
        "_starts", "_told",
    )  # fmt: skip

    def __init__(self, stream_rules: StreamRules, base: int, told: int, reading: Reading = FOLDED) -> None:
        """``base`` is where in the original the first piece begins; up to ``told`` the plain reading told all.

        ``reading``: that, or one in which escapes are undone, and nothing else is folded.
        """
        self._reading = reading
        self._escaped = self._joined = self._doubled = False  # whether there were escapes, doubled ones, and what is invisible
        self._lane = Lane(stream_rules)
        self._back = reach_back(stream_rules)
        self._told = told
        self._half = ""  # an escape that the last piece began
        self._raw = base  # how much of the original was read
        self._first = 0  # the folded position that the two sequences begin with
        self._starts: list[int] = []  # for each folded character, where in the original it begins
        self._changed = bytearray()  # and whether it stands for another
        self._last = 0  # the folded position behind the last one that does

    def over(self, out: int) -> bool:
        """Whether this reading has nothing left to see that the plain one does not; the text is released up to ``out``."""
        return self._to(out) - self._last > self._back and not self._half and not self._lane.pending

    @property
    def others(self) -> tuple[Reading, ...]:
        """Those in which what it may join is apart: by a doubled escape, to who undoes escapes once; by something invisible, to
        who undoes them as often as there are any, too."""
        if self._doubled:
            return (NEAR, DEEP) if self._joined else (NEAR,)
        return (NEAR,) if self._escaped and self._joined else ()

    @property
    def pending(self) -> bool:
        """Whether a match was found of which it is not decided yet whether it is one."""
        return self._lane.pending

    def feed(self, piece: str) -> int:
        """As `Lane.feed`."""
        text = self._half + piece
        if "\\" in text:
            cut = self._reading.half(text)
            text, self._half = text[:cut], text[cut:]
            return self._take(self._reading.tokens(text))
        self._half = ""
        return self._take_plain(text) if self._reading is not FOLDED or text.isascii() else self._take(tokens(text))

    def finish(self) -> None:
        self._take_plain(self._half)
        self._half = ""
        self._lane.finish()

    def close(self) -> None:
        self._lane.close()

    def forget(self) -> None:
        """As `Lane.forget`."""
        self._lane.forget()

    def bound(self, out: int, final: bool, begun: int) -> int:
        """As `Lane.bound`, in positions of the original. ``begun`` is what the plain reading says: it holds for this one too
        where nothing that is not released stands for another character."""
        at = self._to(out)
        same = not final and not self._half and 1 not in self._changed[max(0, at - self._first - 1) :]
        folded = self._lane.bound(at, final, self._to(begun) if same else None)
        if len(self._starts) > self._lane.kept + SLACK:
            drop = len(self._starts) - self._lane.kept
            del self._starts[:drop], self._changed[:drop]
            self._first += drop
        return min(self._from(folded), self._raw)

    def outside(self, limit: int) -> int:
        """As `Lane.outside`, in positions of the original."""
        at = self._to(limit)
        if at > self._first and self._from(at) > limit:  # inside an escape, or what is invisible: of what is before it
            at -= 1
            limit = self._from(at)
        moved = self._lane.outside(at)
        return limit if moved == at else self._from(moved)

    def take(self, limit: int, final: bool) -> list[tuple[Act, Match]]:
        """As `Lane.take`, in positions of the original."""
        found = self._lane.take(self._to(limit), final)
        placed = [(act, match._replace(start=self._from(match.start), end=self._from(match.end))) for act, match in found]
        return [(act, match) for act, match in placed if match.end > self._told]

    def _take_plain(self, text: str) -> int:
        """Take text of which every character stands for itself."""
        self._starts.extend(range(self._raw, self._raw + len(text)))
        self._changed.extend(bytes(len(text)))
        self._raw += len(text)
        return self._lane.feed(text)

    def _take(self, read: list[Token]) -> int:
        pieces: list[str] = []
        for raw, text in read:
            changed = raw != text
            if raw[0] == "\\" and len(raw) > 1:
                self._escaped = True
                self._doubled = self._doubled or raw[1] == "\\"
            self._joined = self._joined or (changed and text != (raw if len(raw) == 1 else unescape(raw)))
            for _ in text:
                self._starts.append(self._raw)
                self._changed.append(changed)
            if not text and self._changed:
                # Something invisible after this character: a match that reaches over it differs from the original.
                self._changed[-1] = changed = True
            if changed:
                self._last = self._first + len(self._changed)
            pieces.append(text)
            self._raw += len(raw)
        return self._lane.feed("".join(pieces))

    def _to(self, raw: int) -> int:
        """The folded position of the first character that begins at ``raw`` or later."""
        return self._first + bisect_left(self._starts, raw)

    def _from(self, folded: int) -> int:
        """Where in the original a folded position is."""
        at = folded - self._first
        return self._starts[at] if at < len(self._starts) else self._raw
