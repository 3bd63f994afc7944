"""Following one reading of a text that comes in pieces: what was found, and up to where text may be released.

A text has two readings: the plain one, as it came, and the folded one, in which disguised characters stand for what they
look like. Each is a lane of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple

from detectors.checks import CONTEXT, ahead
from detectors.fold import Token, half_escape, json_tokens, tokens
from detectors.lexical import Match, code_points, widest
from detectors.streamrules import Act, StreamRules

SLACK: Final = 1_024
"""Code points beyond what is needed before text is forgotten: each time costs a copy."""


def reach_back(stream_rules: StreamRules) -> int:
    """Code points before what is not released yet that a match, and what its check looks at, may reach back.

    What may become a match is held from the place where its value begins, so only the words that announce it are out.
    """
    return stream_rules.lead + CONTEXT


def told_once(found: list[tuple[Act, Match]]) -> list[tuple[Act, Match]]:
    """What was found, without each match that lies inside another of the same pattern, in order of their ends."""
    acts = {match.pattern.id: act for act, match in found}
    return [(acts[match.pattern.id], match) for match in widest([match for _, match in found])]


class _Pending(NamedTuple):
    """A match whose check may still want to see what follows: its span, where its value starts, and from where it is held."""

    rule: int
    start: int
    end: int
    value: int
    held: int
    ahead: int  # how much of what follows its check wants to see


class Lane:
    """One reading of a text, in that reading's own positions."""

    __slots__ = ("_announced", "_begun", "_bytes", "_floor", "_flow", "_most", "_rules", "base", "pending", "text")

    def __init__(self, stream_rules: StreamRules, base: int = 0) -> None:
        """``base``: where in the whole text the first piece begins."""
        self._rules = stream_rules
        self._flow = stream_rules.open()
        self._most = reach_back(stream_rules) + SLACK
        self.text = ""  # its end, as far as a match can reach back
        self.base = base  # where in the whole text that begins
        self._floor = base  # no match is looked for that is held from before that
        self._bytes = 0
        self._announced: list[tuple[int, int]] = []  # where a value may begin, and which
        self.pending: list[_Pending] = []
        self._begun = (-1, -1, 0)  # how much had come and was released, and where a match may have begun

    @property
    def total(self) -> int:
        return self.base + len(self.text)

    @property
    def kept(self) -> int:
        """Code points that are not forgotten yet."""
        return len(self.text)

    def feed(self, piece: str) -> None:
        """Take the next piece of the text."""
        data = piece.encode() if piece.isascii() else piece.encode("utf-8", "surrogatepass")
        self.text += piece
        if ends := self._flow.scan(data):
            self._note(ends, data, self.base + len(self.text) - len(piece))
        self._bytes += len(data)

    def finish(self) -> None:
        """The text is over."""
        ends = self._flow.close()
        if ends:
            self._note(ends, b"", self.total)

    def close(self) -> None:
        self._flow.close()

    def forget(self) -> None:
        """All that came has gone out: what began in it is no longer looked for."""
        self._floor = self.total
        self.pending.clear()
        self._announced = [one for one in self._announced if one[0] == self._floor]

    def free(self, out: int) -> int:
        """As `limit`, before the end and where nothing is pending."""
        text = self.text
        if len(text) > self._most:
            self._trim(out)
            text = self.text
        base = self.base
        limit = base + self._rules.beginning(text, out - base)
        return min(limit, self._first_announced()) if self._announced else limit

    def begun(self, out: int, known: int | None = None) -> int:
        """Where the beginning of a match starts that reaches to the end of what came; ``known`` where another reading told."""
        total = self.base + len(self.text)
        last = self._begun
        if last[0] == total and last[1] == out:
            return last[2]
        found = self.base + self._rules.beginning(self.text, out - self.base) if known is None else known
        self._begun = (total, out, found)
        return found

    def limit(self, out: int, final: bool, at_most: int | None = None, known: int | None = None) -> int:
        """Up to where text may be released: before whatever may still be found, and never inside what is replaced.

        Args:
            out: up to where it was released.
            at_most: another reading's limit.
            known: as for `begun`.
        """
        if len(self.text) > self._most:
            self._trim(out)
        limit = total = self.base + len(self.text)
        if not final:
            limit = self.begun(out, known)
            if self._announced:
                limit = min(limit, self._first_announced())
        if at_most is not None:
            limit = min(limit, at_most)
        if not self.pending:
            return limit
        settled = [one for one in self.pending if final or total - one.end >= one.ahead]
        if len(settled) < len(self.pending):
            limit = min(limit, *(one.held for one in self.pending if one not in settled))
        moved = True
        while moved:
            moved = False
            for one in settled:
                if one.held < limit < one.end and (match := self._confirm(one)) and match.start < limit < match.end:
                    limit, moved = match.start, True
        return max(limit, out)

    def take(self, limit: int, final: bool) -> list[tuple[Act, Match]]:
        """The matches that are certain now, in their order; they are pending no longer."""
        if not self.pending:
            return []
        total = self.total
        decided: list[tuple[_Pending, Match]] = []
        rest: list[_Pending] = []
        for one in self.pending:
            if not final and total - one.end < one.ahead:
                rest.append(one)
            elif (match := self._confirm(one)) is not None:
                if final or match.start < limit:
                    decided.append((one, match))
                else:
                    rest.append(one)
        self.pending = rest
        return self._new(decided)

    def _first_announced(self) -> int:
        """Where the first value begins that may still become one; those that cannot are forgotten."""
        text, base = self.text, self.base
        for at, (start, value) in enumerate(self._announced):
            where = start - base
            if where == len(text) or self._rules.values[value].begun.match(text, where):
                del self._announced[:at]
                return start
        self._announced.clear()
        return self.total

    def _note(self, ends: list[tuple[int, int]], data: bytes, origin: int) -> None:
        """Find where the matches start that end at ``ends`` (bytes of the whole text); keep them as pending."""
        ends.sort(key=lambda one: one[1])
        # A match that needs a look at the next character is reported with that one, and may end in the piece before.
        early = [(rule, origin - self._points_back(data, self._bytes - end)) for rule, end in ends if end < self._bytes]
        here = [(rule, end - self._bytes) for rule, end in ends if end >= self._bytes]
        if not data.isascii():
            here = code_points(data, here)
        found = [*early, *((rule, origin + at) for rule, at in here)]
        count = len(self._rules.rules)
        announced = [(end, value) for number, end in found if number >= count for value in self._rules.announced(number)]
        if announced:
            self._announced += announced
            self._announced.sort()
        for number, end in found:
            if number < count and (place := self._rules.rules[number].place(self.text, end - self.base)) is not None:
                start, value = (self.base + at for at in place)
                held = self._held(number, value, end)
                if held >= self._floor:
                    self._pend(_Pending(number, start, end, value, held, ahead(self._rules.rules[number].pattern.check)))

    def _held(self, rule: int, value: int, end: int) -> int:
        """From where on a match was held: the earliest place at which its value can begin."""
        for start, announced in self._announced:
            if start >= end:
                break
            one = self._rules.values[announced]
            if one.rule == rule and one.whole.match(self.text, start - self.base, end - self.base):
                # What is cut off may have begun already, what is replaced never.
                return start if self._rules.acts[rule] is Act.CUT else min(start, value)
        return value

    def _points_back(self, data: bytes, count: int) -> int:
        """How many code points the ``count`` bytes before the piece ``data`` are."""
        points = 0
        at = len(self.text) - len(data.decode("utf-8", "surrogatepass"))
        while count > 0:
            points += 1
            count -= len(self.text[at - points].encode("utf-8", "surrogatepass"))
        return points

    def _pend(self, new: _Pending) -> None:
        for at in range(len(self.pending) - 1, -1, -1):
            one = self.pending[at]
            if one.rule == new.rule:
                if one.end >= new.end - 1:  # see `detectors.lexical.runs`
                    self.pending[at] = _Pending(
                        one.rule, min(one.start, new.start), max(one.end, new.end), min(one.value, new.value),
                        min(one.held, new.held), one.ahead,
                    )  # fmt: skip
                    return
                break
        self.pending.append(new)

    def _confirm(self, one: _Pending) -> Match | None:
        """The match, if it passes its check; the check sees the same context however the text was cut."""
        low = max(self.base, one.start - CONTEXT)
        view = self.text[low - self.base : one.end + one.ahead - self.base]
        match = self._rules.rules[one.rule].confirm(view, one.start - low, one.end - low, one.value - low)
        return match and match._replace(start=max(match.start + low, one.held), end=match.end + low)

    def _new(self, decided: list[tuple[_Pending, Match]]) -> list[tuple[Act, Match]]:
        """The matches that no other of the same pattern contains."""
        return told_once([(self._rules.acts[one.rule], match) for one, match in decided])

    def _trim(self, out: int) -> None:
        """Forget text that no match can reach any more."""
        keep = min((one.start for one in self.pending), default=out)
        keep = min(keep, out - self._rules.lead) - CONTEXT
        if keep > self.base:
            self.text = self.text[keep - self.base :]
            self.base = keep
        self._most = len(self.text) + SLACK


class FoldedLane:
    """The folded reading of a text, in positions of the original.

    What the plain reading may see too, it reports as well: whether something is a match depends on what stands around it, and
    that may be an escape's last letter there (the ``n`` of ``\\n``).
    """

    __slots__ = ("_back", "_changed", "_first", "_half", "_lane", "_last", "_raw", "_starts", "_told")

    def __init__(self, stream_rules: StreamRules, base: int, told: int) -> None:
        """``base`` is where in the original the first piece begins; up to ``told`` the plain reading told all."""
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
    def pending(self) -> bool:
        """Whether a match was found of which it is not decided yet whether it is one."""
        return bool(self._lane.pending)

    def feed(self, piece: str) -> None:
        text = self._half + piece
        if "\\" in text:
            cut = half_escape(text)
            text, self._half = text[:cut], text[cut:]
            self._take(json_tokens(text))
        elif text.isascii():
            self._half = ""
            self._take_plain(text)
        else:
            self._half = ""
            self._take(tokens(text))

    def finish(self) -> None:
        self._take_plain(self._half)
        self._half = ""
        self._lane.finish()

    def close(self) -> None:
        self._lane.close()

    def forget(self) -> None:
        """As `Lane.forget`."""
        self._lane.forget()

    def limit(self, out: int, final: bool, at_most: int, begun: int) -> int:
        """As `Lane.limit`, in positions of the original. ``begun`` is what the plain reading says: it holds for this one too
        where nothing that is not released stands for another character."""
        at = self._to(out)
        same = not final and not self._half and 1 not in self._changed[max(0, at - self._first - 1) :]
        folded = self._lane.limit(at, final, self._to(at_most), self._to(begun) if same else None)
        if len(self._starts) > self._lane.kept + SLACK:
            drop = len(self._starts) - self._lane.kept
            del self._starts[:drop], self._changed[:drop]
            self._first += drop
        return min(at_most, self._from(folded), self._raw)

    def take(self, limit: int, final: bool) -> list[tuple[Act, Match]]:
        """As `Lane.take`, in positions of the original."""
        found = self._lane.take(self._to(limit), final)
        placed = [(act, match._replace(start=self._from(match.start), end=self._from(match.end))) for act, match in found]
        return [(act, match) for act, match in placed if match.end > self._told]

    def _take_plain(self, text: str) -> None:
        """Take text of which every character stands for itself."""
        self._starts.extend(range(self._raw, self._raw + len(text)))
        self._changed.extend(bytes(len(text)))
        self._raw += len(text)
        self._lane.feed(text)

    def _take(self, read: list[Token]) -> None:
        pieces: list[str] = []
        for raw, text in read:
            changed = raw != text
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
        self._lane.feed("".join(pieces))

    def _to(self, raw: int) -> int:
        """The folded position of the first character that begins at ``raw`` or later."""
        return self._first + bisect_left(self._starts, raw)

    def _from(self, folded: int) -> int:
        """Where in the original a folded position is."""
        at = folded - self._first
        return self._starts[at] if at < len(self._starts) else self._raw
