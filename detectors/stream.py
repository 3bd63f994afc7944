"""A text that comes in pieces: release at once what can no longer become part of a match, hold the rest.

Two automata run over the stream. One (`FlowAutomata`) carries its state over the cuts and finds every match. The other looks
at the end of what is not yet released and tells whether it is the *beginning* of a match that the policy would act on;
only then is something held, from where that beginning starts. So what is released, replaced and reported does not depend
on where the text was cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from detectors.automata import Block, Expression, FlowAutomata
from detectors.checks import CONTEXT
from detectors.lexical import Match, Rule, anchored, code_points, rules, widest
from detectors.prefix import beginnings
from detectors.values import Origin
from patterns.schema import Pattern

MAX_HOLD: Final = 16_384
"""Code points held at most: four times the longest match. A text that is the beginning of matches for ever ends here."""


class Act(Enum):
    """What is to be done about a match in a stream."""

    REPORT = "report"
    REPLACE = "replace"
    CUT = "cut"


class Released(NamedTuple):
    """What one step gives: text that may go out now, matches that are certain now (absolute positions), and the end.

    ``cut`` is the match at which the stream must end; nothing is released from its start on. ``overdue`` is true where
    text had to be released although it might have become part of a match.
    """

    text: str
    matches: tuple[Match, ...] = ()
    cut: Match | None = None
    overdue: bool = False


class _Pending(NamedTuple):
    rule: int
    start: int
    end: int


class StreamRules:
    """Patterns compiled for streams under one policy; shared by all streams of a worker."""

    def __init__(self, patterns: Sequence[Pattern], act: Callable[[Pattern], Act], cache: Path | None = None) -> None:
        """
        Args:
            patterns: those that do not apply to what a model says are left out.
            act: what the policy does about a match of a pattern.
            cache: a folder for compiled databases.

        Raises:
            PatternError: a pattern cannot be followed in a stream, or none applies.
        """
        self.rules: list[Rule] = rules([p for p in patterns if not p.origins or Origin.ASSISTANT in p.origins])
        self.acts = [act(rule.pattern) for rule in self.rules]
        self.reach = max(rule.reach for rule in self.rules)
        self.flow = FlowAutomata([rule.expression for rule in self.rules], cache)
        held = [rule for rule, what in zip(self.rules, self.acts, strict=True) if what is not Act.REPORT]
        bodies = [beginnings(rule.body, rule.pattern.id) for rule in held]
        self._beginnings = [(body, rule.pattern.kind) for body, rule in zip(bodies, held, strict=True)]
        self._searches: dict[int, re.Pattern[str]] = {}
        self._block = (
            Block(
                [
                    Expression(rule.pattern.id, body + r"\z", rule.expression.caseless)
                    for body, rule in zip(bodies, held, strict=True)
                ],
                cache,
            )
            if held
            else None
        )

    def beginning(self, text: str, at: int) -> int:
        """Where, from ``at`` on, the beginning of a match starts that reaches to the end of ``text``; its length if nowhere."""
        first = len(text)
        if self._block is None or at >= first:
            return first
        # One character before ``at`` goes along: whether a word begins at ``at`` depends on it.
        before = max(0, at - 1)
        for number, _ in self._block.scan(text[before:].encode("utf-8", "surrogatepass")).found:
            search = self._searches.get(number)
            if search is None:
                search = self._searches[number] = anchored(*self._beginnings[number])
            if (found := search.search(text, at)) is not None:
                first = min(first, found.start())
        return first


class TextStream:
    """One text of a stream (one channel of one choice), from its first piece to its end."""

    __slots__ = ("_base", "_bytes", "_flow", "_last", "_out", "_pending", "_rules", "_stand_in", "_text")

    def __init__(self, stream_rules: StreamRules, stand_in: Callable[[Match, str], str]) -> None:
        """``stand_in`` gives what takes the place of a value that a match marks."""
        self._rules = stream_rules
        self._stand_in = stand_in
        self._flow = stream_rules.flow.open()
        self._text = ""  # what may still be needed: unreleased text, and before it as far as a match can reach
        self._base = 0  # where in the whole text `_text` begins
        self._out = 0  # up to where the whole text was released
        self._bytes = 0
        self._pending: list[_Pending] = []
        self._last: dict[int, int] = {}  # by rule, how far the matches reported so far reach

    @property
    def held(self) -> int:
        """Code points that came and were not released."""
        return self._base + len(self._text) - self._out

    def feed(self, piece: str) -> Released:
        """Take the next piece of the text."""
        data = piece.encode("utf-8", "surrogatepass")
        ends = self._flow.scan(data)
        before = len(self._text)
        self._text += piece
        if ends:
            self._note(ends, data, self._base + before)
        self._bytes += len(data)
        return self._advance(final=False)

    def finish(self) -> Released:
        """The text is over: release or replace all that was held. Nothing may be fed afterwards."""
        ends = self._flow.close()
        if ends:
            self._note(ends, b"", self._base + len(self._text))
        return self._advance(final=True)

    def close(self) -> None:
        """Free the stream's memory without an end (the client left, the stream was cut)."""
        self._flow.close()

    def release_overdue(self) -> Released:
        """Release all that is held, although it may become part of a match (a hold's time is up)."""
        text = self._text[self._out - self._base :]
        self._out = self._base + len(self._text)
        return Released(text, overdue=True)

    def _note(self, ends: list[tuple[int, int]], data: bytes, origin: int) -> None:
        """Find where the matches start that end at ``ends`` (bytes of the whole text); keep them as pending."""
        ends.sort(key=lambda one: one[1])
        # A match that needs a look at the next character is reported with that one, and may end in the piece before.
        early = [(rule, origin - self._points_back(self._bytes - end)) for rule, end in ends if end < self._bytes]
        here = [(rule, end - self._bytes) for rule, end in ends if end >= self._bytes]
        if not data.isascii():
            here = code_points(data, here)
        for number, end in (*early, *((rule, origin + at) for rule, at in here)):
            start = self._rules.rules[number].start(self._text, end - self._base)
            if start is not None:
                self._pend(_Pending(number, self._base + start, end))

    def _points_back(self, count: int) -> int:
        """How many code points the ``count`` bytes before the current piece are."""
        points = 0
        for char in reversed(self._text):
            if count <= 0:
                break
            count -= len(char.encode("utf-8", "surrogatepass"))
            points += 1
        return points

    def _pend(self, new: _Pending) -> None:
        for at in range(len(self._pending) - 1, -1, -1):
            one = self._pending[at]
            if one.rule == new.rule:
                if one.end >= new.end - 1:  # the same match, one character longer
                    self._pending[at] = new
                    return
                break
        self._pending.append(new)

    def _advance(self, final: bool) -> Released:
        total = self._base + len(self._text)
        limit = total if final else self._base + self._rules.beginning(self._text, self._out - self._base)
        if not self._pending:
            return self._release(limit, [], [], None)
        confirmed = self._confirmed(total, final)
        limit = self._limit(limit, total, final, confirmed)
        decided: list[tuple[_Pending, Match]] = []
        rest: list[_Pending] = []
        for one in self._pending:
            acts = self._rules.acts[one.rule] is not Act.REPORT
            if one in confirmed and (final or (one.start < limit if acts else self._certain(one, total))):
                if (match := confirmed[one]) is not None:
                    decided.append((one, match))
            else:
                rest.append(one)
        self._pending = rest
        matches = self._new(decided)
        acting = [match for one, match in decided if self._rules.acts[one.rule] is not Act.REPORT and match in matches]
        cut = min(
            (match for one, match in decided if self._rules.acts[one.rule] is Act.CUT and match in matches),
            key=lambda match: match.start,
            default=None,
        )
        return self._release(limit, matches, acting, cut)

    def _confirmed(self, total: int, final: bool) -> dict[_Pending, Match | None]:
        """The pending matches that have all the context their checks look at, with what the checks say."""
        confirmed: dict[_Pending, Match | None] = {}
        for one in self._pending:
            if final or total - one.end >= CONTEXT:
                low = max(self._base, one.start - CONTEXT)
                view = self._text[low - self._base : one.end + CONTEXT - self._base]
                match = self._rules.rules[one.rule].confirm(view, one.start - low, one.end - low)
                confirmed[one] = match and match._replace(start=match.start + low, end=match.end + low)
        return confirmed

    def _limit(self, limit: int, total: int, final: bool, confirmed: dict[_Pending, Match | None]) -> int:
        """Up to where text may be released: before every match that is still open, and never through one that acts."""
        if final:
            return total
        acting = [one for one in self._pending if self._rules.acts[one.rule] is not Act.REPORT]
        for one in acting:
            if one not in confirmed:
                limit = min(limit, one.start)
        moved = True
        while moved:
            moved = False
            for one in acting:
                if one.start < limit < one.end and confirmed.get(one) is not None:
                    limit, moved = one.start, True
        return max(limit, self._out)

    def _certain(self, one: _Pending, total: int) -> bool:
        """Whether no later match of the same pattern can contain this one; then it is reported."""
        return total >= one.start + 2 * self._rules.rules[one.rule].reach + CONTEXT

    def _new(self, decided: list[tuple[_Pending, Match]]) -> list[Match]:
        """The matches that no other of the same pattern contains, now or before."""
        fresh = [
            match for one, match in sorted(decided, key=lambda pair: pair[1].start)
            if match.end > self._last.get(one.rule, -1)
        ]  # fmt: skip
        for one, match in decided:
            self._last[one.rule] = max(match.end, self._last.get(one.rule, -1))
        return widest(fresh)

    def _release(self, limit: int, matches: list[Match], acting: list[Match], cut: Match | None) -> Released:
        overdue = False
        if cut is not None:
            limit = min(limit, cut.start)
        elif self._base + len(self._text) - limit > MAX_HOLD:
            limit, overdue = self._base + len(self._text), True
        parts: list[str] = []
        for start, end, match in _joined([match for match in acting if match is not cut]):
            if start >= limit:
                break
            if end > limit:  # only where the stream is cut inside of it
                limit = start
                break
            if end > self._out:
                parts.append(self._text[max(self._out, self._base) - self._base : max(start, self._out) - self._base])
                parts.append(self._stand_in(match, self._text[start - self._base : end - self._base]))
                self._out = end
        if limit > self._out:
            parts.append(self._text[self._out - self._base : limit - self._base])
            self._out = limit
        self._trim()
        return Released("".join(parts), tuple(matches), cut, overdue)

    def _trim(self) -> None:
        """Forget text that no match can reach any more. Done seldom: each time costs a copy."""
        keep = min((one.start for one in self._pending), default=self._out)
        keep = min(keep, self._out, self._base + len(self._text) - self._rules.reach) - CONTEXT
        if keep - self._base > self._rules.reach + 1024:
            self._text = self._text[keep - self._base :]
            self._base = keep


def _joined(matches: list[Match]) -> list[tuple[int, int, Match]]:
    """Overlapping matches as one span, named after the one that begins first and reaches furthest."""
    joined: list[tuple[int, int, Match]] = []
    for match in sorted(matches, key=lambda match: (match.start, -match.end)):
        if joined and match.start < joined[-1][1]:
            start, end, first = joined[-1]
            joined[-1] = (start, max(end, match.end), first)
        else:
            joined.append((match.start, match.end, match))
    return joined
