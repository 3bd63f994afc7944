"""The automata's side of a stream: what is found in a text that comes in pieces, and what may still be found.

Two automata run over a text. One (`FlowAutomata`) carries its state over the cuts and finds every match. The other looks at
the end of what is not yet released and tells whether it is the *beginning* of a match that the policy would act on.
Nothing here depends on where the text was cut: a match is taken when all that could change it is known.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from detectors.automata import Block, FlowAutomata, fits
from detectors.checks import CONTEXT
from detectors.fold import Token, half_escape, json_tokens, tokens
from detectors.lexical import Match, Rule, anchored, code_points, rules, widest
from detectors.prefix import MAX_FINE, MAX_FINE_REACH, SURE_TO_FIT, beginnings, coarse_beginnings, unbounded
from detectors.values import Origin
from patterns.schema import Pattern

SLACK: Final = 1_024
"""Code points beyond what is needed before text is forgotten: each time costs a copy."""


class Act(Enum):
    """What is to be done about a match in a stream."""

    REPLACE = "replace"
    CUT = "cut"


class _Pending(NamedTuple):
    rule: int
    start: int
    end: int


class StreamRules:
    """The patterns that act on a stream under one policy, compiled; shared by all streams of a worker."""

    def __init__(
        self,
        patterns: Sequence[Pattern],
        act: Callable[[Pattern], Act | None],
        cache: Path | None = None,
        waits: bool = True,
    ) -> None:
        """
        Args:
            patterns: those that do not apply to what a model says are left out.
            act: what the policy does about a pattern's match; None for nothing but a report, which can wait for the end.
            cache: a folder for compiled databases.
            waits: whether ordinary words may be held because some pattern can begin with any word (an opaque key without
                a prefix). If not, such patterns are left out, and ``late`` names them: they are told when the text is over.

        Raises:
            PatternError: a pattern cannot be followed in a stream, or none acts.
        """
        spoken = [one for one in patterns if one.kind.lexical and (not one.origins or Origin.ASSISTANT in one.origins)]
        acting = [(one, what) for one in spoken if (what := act(one)) is not None]
        ready = rules([one for one, _ in acting])
        begun = [_beginnings(rule, cache) for rule in ready]
        wide = set() if waits else _wide(ready, begun)
        self.late = [rule.pattern.id for at, rule in enumerate(ready) if at in wide]
        self.rules = [rule for at, rule in enumerate(ready) if at not in wide]
        self.acts = [what for at, (_, what) in enumerate(acting) if at not in wide]
        begun = [one for at, one in enumerate(begun) if at not in wide]
        self.reach = max(rule.reach for rule in self.rules)
        self.flow = FlowAutomata([rule.expression for rule in self.rules], cache)
        self._beginnings = [(one.search, rule.pattern.kind) for one, rule in zip(begun, self.rules, strict=True)]
        self._searches: dict[int, re.Pattern[str]] = {}
        self._block = Block(
            [
                rule.expression._replace(body=one.automaton + r"\z")
                for one, rule in zip(begun, self.rules, strict=True)
            ],
            cache,
        )

    def beginning(self, text: str, at: int) -> int:
        """Where, from ``at`` on, the beginning of a match starts that reaches to the end of ``text``; its length if nowhere."""
        first = len(text)
        if at >= first:
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


WORDS: Final = tuple(
    "the and for with that this from have your about which when there their would could should people time year work made "
    "first also after because think other well Hello Yes Sure Here What How Please information example question answer "
    "system data model request response number value order account health policy member name code file report".split()
)  # fmt: skip
"""Ordinary words, to tell which patterns would hold ordinary text."""


def _wide(ready: Sequence[Rule], begun: Sequence[_Beginnings]) -> set[int]:
    """The rules of which many an ordinary word is a beginning."""
    hits = [0] * len(ready)
    for at, (one, rule) in enumerate(zip(begun, ready, strict=True)):
        search = anchored(one.search, rule.pattern.kind)
        hits[at] = sum(search.search(f"so {word}", 3) is not None for word in WORDS)
    return {at for at, count in enumerate(hits) if count > len(WORDS) * WIDE_SHARE}


WIDE_SHARE: Final = 0.04
"""The share of ordinary words that a pattern may hold: some begin with a word of the language, as `password` does."""


class _Beginnings(NamedTuple):
    """Beginnings of a rule's matches, for Hyperscan and for Python's engine."""

    automaton: str
    search: str


def _beginnings(rule: Rule, cache: Path | None) -> _Beginnings:
    """The finest expression of the beginnings of a rule's matches that Hyperscan takes."""
    where = rule.pattern.id
    fine = beginnings(rule.body, where)
    small = rule.reach <= MAX_FINE_REACH
    if small and len(fine) <= SURE_TO_FIT:
        return _Beginnings(fine, fine)
    choices = [_Beginnings(fine, fine)] if small and len(fine) <= MAX_FINE else []
    for most in (64, 3, 1):
        coarse = coarse_beginnings(rule.body, rule.reach, where, most)
        choices.append(_Beginnings(unbounded(coarse), coarse))
    for choice in choices[:-1]:
        if fits(rule.expression._replace(body=choice.automaton + r"\z"), cache):
            return choice
    return choices[-1]


class Lane:
    """One reading of a text, in that reading's own positions."""

    __slots__ = ("_base", "_bytes", "_flow", "_rules", "_text", "pending")

    def __init__(self, stream_rules: StreamRules) -> None:
        self._rules = stream_rules
        self._flow = stream_rules.flow.open()
        self._text = ""
        self._base = 0
        self._bytes = 0
        self.pending: list[_Pending] = []

    @property
    def total(self) -> int:
        return self._base + len(self._text)

    @property
    def kept(self) -> int:
        """Code points that are not forgotten yet."""
        return len(self._text)

    def feed(self, piece: str) -> None:
        """Take the next piece of the text."""
        data = piece.encode("utf-8", "surrogatepass")
        ends = self._flow.scan(data)
        origin = self.total
        self._text += piece
        if ends:
            self._note(ends, data, origin)
        self._bytes += len(data)

    def finish(self) -> None:
        """The text is over."""
        ends = self._flow.close()
        if ends:
            self._note(ends, b"", self.total)

    def close(self) -> None:
        self._flow.close()

    def limit(self, out: int, final: bool, at_most: int | None = None) -> int:
        """Up to where text may be released: before whatever may still be found, and never inside what is replaced.

        Args:
            out: up to where it was released.
            at_most: another reading's limit.
        """
        if len(self._text) > 2 * (self._rules.reach + SLACK):
            self._trim(out)
        total = self.total
        limit = total if final else self._base + self._rules.beginning(self._text, out - self._base)
        if at_most is not None:
            limit = min(limit, at_most)
        if not self.pending:
            return limit
        settled = [one for one in self.pending if final or total - one.end >= CONTEXT]
        if len(settled) < len(self.pending):
            limit = min(limit, *(one.start for one in self.pending if one not in settled))
        moved = True
        while moved:
            moved = False
            for one in settled:
                if one.start < limit < one.end and self._confirm(one) is not None:
                    limit, moved = one.start, True
        return max(limit, out)

    def take(self, limit: int, final: bool) -> list[tuple[Act, Match]]:
        """The matches that are certain now, in their order; they are pending no longer."""
        if not self.pending:
            return []
        total = self.total
        decided: list[tuple[_Pending, Match]] = []
        rest: list[_Pending] = []
        for one in self.pending:
            if final or (one.start < limit and total - one.end >= CONTEXT):
                if (match := self._confirm(one)) is not None:
                    decided.append((one, match))
            else:
                rest.append(one)
        self.pending = rest
        return self._new(decided)

    def _note(self, ends: list[tuple[int, int]], data: bytes, origin: int) -> None:
        """Find where the matches start that end at ``ends`` (bytes of the whole text); keep them as pending."""
        ends.sort(key=lambda one: one[1])
        # A match that needs a look at the next character is reported with that one, and may end in the piece before.
        early = [(rule, origin - self._points_back(data, self._bytes - end)) for rule, end in ends if end < self._bytes]
        here = [(rule, end - self._bytes) for rule, end in ends if end >= self._bytes]
        if not data.isascii():
            here = code_points(data, here)
        for number, end in (*early, *((rule, origin + at) for rule, at in here)):
            start = self._rules.rules[number].start(self._text, end - self._base)
            if start is not None:
                self._pend(_Pending(number, self._base + start, end))

    def _points_back(self, data: bytes, count: int) -> int:
        """How many code points the ``count`` bytes before the piece ``data`` are."""
        points = 0
        at = len(self._text) - len(data.decode("utf-8", "surrogatepass"))
        while count > 0:
            points += 1
            count -= len(self._text[at - points].encode("utf-8", "surrogatepass"))
        return points

    def _pend(self, new: _Pending) -> None:
        for at in range(len(self.pending) - 1, -1, -1):
            one = self.pending[at]
            if one.rule == new.rule:
                if one.end >= new.end - 1:  # see `detectors.lexical.runs`
                    self.pending[at] = _Pending(one.rule, min(one.start, new.start), max(one.end, new.end))
                    return
                break
        self.pending.append(new)

    def _confirm(self, one: _Pending) -> Match | None:
        """The match, if it passes its check; the check sees the same context however the text was cut."""
        low = max(self._base, one.start - CONTEXT)
        view = self._text[low - self._base : one.end + CONTEXT - self._base]
        match = self._rules.rules[one.rule].confirm(view, one.start - low, one.end - low)
        return match and match._replace(start=match.start + low, end=match.end + low)

    def _new(self, decided: list[tuple[_Pending, Match]]) -> list[tuple[Act, Match]]:
        """The matches that no other of the same pattern contains."""
        acts = {match.pattern.id: self._rules.acts[one.rule] for one, match in decided}
        return [(acts[match.pattern.id], match) for match in widest([match for _, match in decided])]

    def _trim(self, out: int) -> None:
        """Forget text that no match can reach any more."""
        keep = min((one.start for one in self.pending), default=out)
        keep = min(keep, out, self.total - self._rules.reach) - CONTEXT
        if keep > self._base:
            self._text = self._text[keep - self._base :]
            self._base = keep


class FoldedLane:
    """The folded reading of a text, in positions of the original. It reports only what the plain reading cannot see."""

    __slots__ = ("_changed", "_escaped", "_first", "_half", "_lane", "_raw", "_starts")

    def __init__(self, stream_rules: StreamRules, base: int, escaped: bool) -> None:
        """``base`` is where in the original the first piece begins; ``escaped`` as for `TextStream`."""
        self._lane = Lane(stream_rules)
        self._escaped = escaped
        self._half = ""  # an escape that the last piece began
        self._raw = base  # how much of the original was read
        self._first = 0  # the folded position that the two lists begin with
        self._starts: list[int] = []  # for each folded character, where in the original it begins
        self._changed: list[bool] = []  # and whether it stands for another

    def feed(self, piece: str) -> None:
        text = self._half + piece
        if self._escaped:
            cut = half_escape(text)
            text, self._half = text[:cut], text[cut:]
        self._take(json_tokens(text) if self._escaped else tokens(text))

    def finish(self) -> None:
        self._take(tokens(self._half))
        self._half = ""
        self._lane.finish()

    def close(self) -> None:
        self._lane.close()

    def limit(self, out: int, final: bool, at_most: int) -> int:
        """As `Lane.limit`, in positions of the original."""
        folded = self._lane.limit(self._to(out), final, self._to(at_most))
        if len(self._starts) > self._lane.kept + SLACK:
            drop = len(self._starts) - self._lane.kept
            del self._starts[:drop], self._changed[:drop]
            self._first += drop
        return min(at_most, self._from(folded), self._raw)

    def take(self, limit: int, final: bool) -> list[tuple[Act, Match]]:
        """As `Lane.take`, in positions of the original."""
        found = []
        for act, match in self._lane.take(self._to(limit), final):
            start, end = match.start - self._first, match.end - self._first
            if any(self._changed[start:end]):
                found.append((act, match._replace(start=self._starts[start], end=self._from(match.end))))
        return found

    def _take(self, read: list[Token]) -> None:
        pieces: list[str] = []
        for raw, text in read:
            changed = raw != text
            for _ in text:
                self._starts.append(self._raw)
                self._changed.append(changed)
            if not text and self._changed:
                # Something invisible after this character: a match that reaches over it differs from the original.
                self._changed[-1] = True
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
