"""Following one reading of a text that comes in pieces: what was found, and up to where text may be released.

A text has two readings: the plain one, as it came, and the folded one, in which disguised characters stand for what they
look like (`detectors.folded`). Each is a lane of its own.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

from detectors.checks import CONTEXT, ahead
from detectors.lexical import Match, code_points, widest
from detectors.streamrules import Act, StreamRules

SLACK: Final = 1_024
"""Code points beyond what is needed before text is forgotten: each time costs a copy."""

LONG_HOLD: Final = 256
"""Code points of a hold from which on it is looked through once for each `SHARE` of it that is added, and may go on so much
longer than it must. Looking through all of it for each piece would make a long one, sent a word at a time, dear."""

SHARE: Final = 16

GROWS: Final = 8
"""Code points behind a match from which on no more is found that it goes on with: automata tell of an end when it came, or with
the next character."""


def reach_back(stream_rules: StreamRules) -> int:
    """Code points before what is not released yet that a match, and what its check looks at, may reach back.

    What may become a match is held from the place where its value begins, so only the words that announce it are out.
    """
    return stream_rules.lead + CONTEXT


def told_once(found: list[tuple[Act, Match]]) -> list[tuple[Act, Match]]:
    """What was found, without each match that lies inside another of the same pattern, in order of their ends."""
    acts = {match.pattern.id: act for act, match in found}
    return [(acts[match.pattern.id], match) for match in widest([match for _, match in found])]


class _Found:
    """A match whose check may still want to see what follows: its span, where its value starts, and from where it is held."""

    __slots__ = ("ahead", "end", "held", "match", "rule", "start", "value")

    def __init__(self, rule: int, start: int, end: int, value: int, held: int, ahead: int) -> None:
        """``ahead``: how much of what follows its check wants to see."""
        self.rule = rule
        self.start, self.end, self.value, self.held = start, end, value, held
        self.ahead = ahead
        self.match: Match | None = None  # once its check was asked

    def widen(self, other: _Found) -> None:
        """Another match of the same rule goes on where this one ends."""
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)
        self.value, self.held = min(self.value, other.value), min(self.held, other.held)
        self.match = None


def _place(one: _Found) -> int:
    """Where a match of which it is known that it is one starts."""
    assert one.match is not None
    return one.match.start


class Lane:
    """One reading of a text, in that reading's own positions."""

    __slots__ = (
        "_announced", "_bytes", "_floor", "_flow", "_fresh", "_looked", "_most", "_rules", "_sure", "base", "begun", "text",
    )  # fmt: skip

    def __init__(self, stream_rules: StreamRules, base: int = 0) -> None:
        """``base``: where in the whole text the first piece begins."""
        self._rules = stream_rules
        self._flow = stream_rules.open()
        self._most = reach_back(stream_rules) + SLACK
        self.text = ""  # its end, as far as a match can reach back
        self.base = base  # where in the whole text that begins
        self._floor = base  # no match is looked for that is held from before that
        self._bytes = 0
        self._announced: dict[int, list[tuple[int, int]]] = {}  # where a value may begin, and which; by rule
        self._fresh: list[_Found] = []  # what may be no match, or grow
        self._sure: list[_Found] = []  # what is one, by where it starts: it waits for what was held before it
        self.begun = base  # where the beginning of a match starts that reaches to the end of what came
        self._looked = (base, base)  # how much had come when beginnings were last looked for, and where one was

    @property
    def pending(self) -> bool:
        """Whether a match was found that is not told yet."""
        return bool(self._fresh or self._sure)

    @property
    def total(self) -> int:
        return self.base + len(self.text)

    @property
    def kept(self) -> int:
        """Code points that are not forgotten yet."""
        return len(self.text)

    def feed(self, piece: str) -> int:
        """Take the next piece of the text; gives how many matches end in it."""
        data = piece.encode() if piece.isascii() else piece.encode("utf-8", "surrogatepass")
        self.text += piece
        ends = self._flow.scan(data)
        found = self._note(ends, data, self.base + len(self.text) - len(piece)) if ends else 0
        self._bytes += len(data)
        return found

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
        self._fresh.clear()
        self._sure.clear()
        here = {rule: [one for one in ones if one[0] == self._floor] for rule, ones in self._announced.items()}
        self._announced = {rule: ones for rule, ones in here.items() if ones}

    def bound(self, out: int, final: bool = False, known: int | None = None) -> int:
        """Up to where text may be released at most: before whatever may still be found.

        Args:
            out: up to where it was released.
            known: the `begun` of another reading that says the same.
        """
        if len(self.text) > self._most:
            self._trim(out)
        limit = self.total if final else self._open(out, known)
        return min(limit, self._settle(final)) if self._fresh else limit

    def _open(self, out: int, known: int | None) -> int:
        """Where something begins that may become a match."""
        came, found = self._looked
        total, hold = self.base + len(self.text), came - found
        # Nothing begins before what did so last, and a long hold is not looked through anew for each piece.
        if hold > LONG_HOLD and found >= out and (total - came) * SHARE < hold:
            return found
        self.begun = limit = self.base + self._rules.beginning(self.text, out - self.base) if known is None else known
        if self._announced:
            limit = min(limit, self._first_announced())
        self._looked = total, limit
        return limit

    def outside(self, limit: int) -> int:
        """``limit``, or what it has to be so that it is never inside what is replaced; after `bound`."""
        if not self.pending:
            return limit
        known = [one for one in self._fresh if one.match is not None and one.match.start < limit]
        known += self._sure[: bisect_left(self._sure, limit, key=_place)]
        known.sort(key=_place, reverse=True)
        for one in known:
            assert one.match is not None
            if one.match.start < limit < one.match.end and one.held < limit < one.end:
                limit = one.match.start
        return limit

    def take(self, limit: int, final: bool) -> list[tuple[Act, Match]]:
        """The matches that are certain now, in their order; they are pending no longer. After `bound`."""
        if not self.pending:
            return []
        sure = len(self._sure) if final else bisect_left(self._sure, limit, key=_place)
        decided = self._sure[:sure]
        del self._sure[:sure]
        rest: list[_Found] = []
        for one in self._fresh:
            (rest if one.match is None or one.match.start >= limit else decided).append(one)
        self._fresh = rest
        return told_once([(self._rules.acts[one.rule], one.match) for one in decided if one.match is not None])

    def _settle(self, final: bool) -> int:
        """Ask the checks of what was found that see enough now; gives up to where text is held for those that do not."""
        limit = total = self.total
        fresh: list[_Found] = []
        for one in self._fresh:
            behind = total - one.end
            if not final and behind < one.ahead:
                limit = min(limit, one.held)
            elif one.match is None and (match := self._confirm(one)) is None:
                continue
            else:
                one.match = one.match or match
                if final or behind > GROWS:
                    insort(self._sure, one, key=_place)
                    continue
            fresh.append(one)
        self._fresh = fresh
        return limit

    def _first_announced(self) -> int:
        """Where the first value begins that may still become one; those that cannot are forgotten."""
        text, base = self.text, self.base
        first = base + len(text)
        over: list[int] = []
        for rule, ones in self._announced.items():
            if ones[0][0] >= first:
                continue
            for at, (start, number) in enumerate(ones):
                where, value = start - base, self._rules.values[number]
                if where == len(text) or (len(text) - where <= value.longest and value.begun.match(text, where)):
                    first = min(first, start)
                    if at:
                        del ones[:at]
                    break
            else:
                over.append(rule)
        for rule in over:
            del self._announced[rule]
        return first

    def _note(self, ends: list[tuple[int, int]], data: bytes, origin: int) -> int:
        """Find where the matches start that end at ``ends`` (bytes of the whole text); keep them as pending; how many."""
        ends.sort(key=lambda one: one[1])
        # A match that needs a look at the next character is reported with that one, and may end in the piece before.
        early = [(rule, origin - self._points_back(data, self._bytes - end)) for rule, end in ends if end < self._bytes]
        here = [(rule, end - self._bytes) for rule, end in ends if end >= self._bytes]
        if not data.isascii():
            here = code_points(data, here)
        found = [*early, *((rule, origin + at) for rule, at in here)]
        count = len(self._rules.rules)
        for number, end in found:
            for value in self._rules.announced(number) if number >= count else ():
                self._announce(self._rules.values[value].rule, end, value)
        matches = [one for one in found if one[0] < count]
        over: dict[int, int] = {}
        for number, end in matches:
            self._found(number, end, over)
        return len(matches)

    def _announce(self, rule: int, start: int, value: int) -> None:
        ones = self._announced.setdefault(rule, [])
        ones.append((start, value))
        if len(ones) > 1 and ones[-2] > ones[-1]:
            ones.sort()

    def _found(self, number: int, end: int, over: dict[int, int]) -> None:
        """A rule's match ends there: find where it starts. ``over``: as for `_first_whole`."""
        rule = self._rules.rules[number]
        first, last = self._first_whole(number, end, over), self._last(number, end)
        if first is not None and last is not None and max(last.value, last.held) <= end - rule.reach:
            last.end, last.match = max(last.end, end), None  # it goes on, and nothing reaches back to where it began
            return
        # What announces a value stands right before it, so nothing that is further off need be looked through.
        low = 0 if first is None else max(0, first - self._rules.heads.get(number, rule.reach) - self.base)
        if (place := rule.place(self.text, end - self.base, low)) is None:
            return
        start, value = (self.base + at for at in place)
        held = value
        if first is not None:  # what is cut off may have begun already, what is replaced never
            held = first if self._rules.acts[number] is Act.CUT else min(first, value)
        if held < self._floor:
            return
        new = _Found(number, start, end, value, held, ahead(rule.pattern.check))
        if last is not None:
            last.widen(new)
        else:
            self._fresh.append(new)

    def _first_whole(self, rule: int, end: int, over: dict[int, int]) -> int | None:
        """The earliest place at which a value of the rule begins that is one up to ``end``; None where none was announced.

        ``over``: by rule, how many of its values are known to be over, the first ones; ends are asked for in ascending order.
        """
        if (ones := self._announced.get(rule)) is None:
            return None
        text, base, values = self.text, self.base, self._rules.values
        at = known = max(over.get(rule, 0), bisect_left(ones, (end - self._rules.rules[rule].reach, -1)))
        while at < len(ones):
            start, announced = ones[at]
            if start >= end:
                break
            value = values[announced]
            if value.whole.match(text, start - base, end - base):
                return start
            at += 1
            if at == known + 1 and not value.begun.match(text, start - base, end - base):
                over[rule] = known = at
        return None

    def _points_back(self, data: bytes, count: int) -> int:
        """How many code points the ``count`` bytes before the piece ``data`` are."""
        points = 0
        at = len(self.text) - len(data.decode("utf-8", "surrogatepass"))
        while count > 0:
            points += 1
            count -= len(self.text[at - points].encode("utf-8", "surrogatepass"))
        return points

    def _last(self, rule: int, end: int) -> _Found | None:
        """The last match of a rule, where one that ends at ``end`` goes on with it; see `detectors.lexical.runs`."""
        for one in reversed(self._fresh):
            if one.rule == rule:
                return one if one.end >= end - 1 else None
        return None

    def _confirm(self, one: _Found) -> Match | None:
        """The match, if it passes its check; the check sees the same context however the text was cut."""
        low = max(self.base, one.start - CONTEXT)
        view = self.text[low - self.base : one.end + one.ahead - self.base]
        match = self._rules.rules[one.rule].confirm(view, one.start - low, one.end - low, one.value - low)
        return match and match._replace(start=max(match.start + low, one.held), end=match.end + low)

    def _trim(self, out: int) -> None:
        """Forget text that no match can reach any more."""
        keep = min((one.start for one in (*self._fresh, *self._sure)), default=out)
        keep = min(keep, out - self._rules.lead) - CONTEXT
        if keep > self.base:
            self.text = self.text[keep - self.base :]
            self.base = keep
        self._most = len(self.text) + SLACK
