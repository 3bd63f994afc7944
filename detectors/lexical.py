"""All lexical patterns at once.

Hyperscan walks the text once, in linear time, whatever the number of patterns, and reports where matches end. The start of
a match is then found by Python's own engine on the few characters that the pattern can reach back, and the pattern's check
(a checksum, an entropy) decides whether the match is real.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from detectors.automata import Block, Expression, Expressions, compile_ahead
from detectors.checks import CHECKS, Check
from detectors.expressions import Make, anchor, anchored, compiled
from detectors.tails import tail
from detectors.values import Origin
from patterns.schema import Kind, Pattern, PatternError, Severity

SCORES: Final = {Severity.LOW: 0.25, Severity.MEDIUM: 0.6, Severity.HIGH: 0.95, Severity.CRITICAL: 0.99}
"""How probable an attack (or, for values, a real value) is when nothing but one pattern of this severity matched."""


class Match(NamedTuple):
    """One confirmed match: the pattern, and the span that it marks in code points, end exclusive."""

    pattern: Pattern
    start: int
    end: int


class Scan(NamedTuple):
    """All matches of a text in order of their ends; ``exhausted`` when there were too many to look at all of them."""

    matches: list[Match]
    exhausted: bool


MOST_OVERLAYS: Final = 4
"""Parts that the pattern store's patterns are compiled in. Each costs every text a microsecond; when one more is needed, the
smallest are compiled together."""

LARGE_OVERLAY: Final = 200
"""From so many patterns on a part is compiled in a process of its own and kept on disk, for other workers and later starts."""

LOOKING_SECONDS: Final = 0.25
"""CPU that one pattern may take to find where its matches in a text start. Nearly all take microseconds for each match; on a
text that was written to be dear one can take a tenth of a millisecond, twenty thousand times. The other patterns go on."""

ALL_SECONDS: Final = 0.5
"""CPU that all patterns may take for that over one text: each has half of what is left, so that none takes it from the rest."""

LONG: Final = 250_000
"""Characters from which on both grow with the text: a list of addresses is looked at whole, however long it is."""

LOOKS: Final = 64
"""Matches of one pattern between two looks at the clock; among the first ones it is looked at more often."""

_EARLY: Final = frozenset({2, 4, 8, 16, 32})
_CLEAN: Final = Scan([], False)
_BY_END: Final = itemgetter(1)


class Rule:
    """A lexical pattern made ready. What finds the start of a match is compiled when `prepare` says so, or at its first match,
    and made then.

    A capturing group in the body marks where the value begins: the words that announce it are no part of what is redacted.
    """

    __slots__ = ("_expression", "_make", "check", "pattern", "reach")

    def __init__(self, pattern: Pattern) -> None:
        """
        Raises:
            PatternError: the pattern names a check that does not exist.
        """
        if pattern.check is not None and pattern.check not in CHECKS:
            known = ", ".join(sorted(CHECKS))
            raise PatternError(f"{pattern.id}: check: unknown {pattern.check!r}; known: {known}")
        self.pattern = pattern
        self.reach = pattern.reach or 0
        self.check: Check | None = CHECKS[pattern.check] if pattern.check is not None else None
        self._expression: re.Pattern[str] | None = None
        self._make: Make | None = None

    def concerns(self, origin: Origin) -> bool:
        """Whether the pattern is about what ``origin`` says."""
        return not self.pattern.origins or origin in self.pattern.origins

    @property
    def ready(self) -> bool:
        """Whether nothing is left to be compiled at its first match."""
        return self._make is not None or self.pattern.kind is Kind.LITERAL

    def same(self, other: Rule) -> bool:
        """Whether both are compiled alike."""
        return (self.pattern.body, self.pattern.kind) == (other.pattern.body, other.pattern.kind)

    @property
    def body(self) -> str:
        return re.escape(self.pattern.body) if self.pattern.kind is Kind.LITERAL else self.pattern.body

    @property
    def expression(self) -> Expression:
        """What the automata look for: it ends wherever a match does, and elsewhere, too, for `place` to tell."""
        value = self.pattern.kind is Kind.PII
        return Expression(self.pattern.id, tail(self.pattern.id, self.body), caseless=not value, exact=value)

    def place(self, text: str, end: int, low: int = 0) -> tuple[int, int] | None:
        """Where the longest match that ends at ``end`` starts, and where the value in it does (its capturing group).

        ``low``: none starts before that. None where Python's engine sees no match.
        """
        if self.pattern.kind is Kind.LITERAL:  # as many characters as it has
            start = end - len(self.pattern.body)
            same = start >= 0 and text[start:end].casefold() == self.pattern.body.casefold()
            return (start, start) if same else None
        if self._expression is None:
            self._expression = self._make() if self._make is not None else anchored(self.body, self.pattern.kind)
        found = self._expression.search(text, max(low, end - self.reach), end)
        if found is None:
            return None
        if found.lastindex is None:
            return found.start(), found.start()
        if found.re.groups == 1:
            return found.start(), found.start(1)
        return found.start(), min(at for at in map(found.start, range(1, found.re.groups + 1)) if at >= 0)

    def confirm(self, text: str, start: int, end: int, value: int) -> Match | None:
        """The match, if it passes the pattern's check: from ``value`` to ``end``, or what the check names of that."""
        if self.check is None:
            return Match(self.pattern, value, end)
        span = self.check(text, start, end)
        return None if span is None else Match(self.pattern, max(span[0], value), span[1])


def rules(patterns: Sequence[Pattern]) -> list[Rule]:
    """The lexical ones among ``patterns``.

    Raises:
        PatternError: there is none (an empty set would call every text clean), or a check does not exist.
    """
    ready = [Rule(pattern) for pattern in patterns if pattern.kind.lexical]
    if not ready:
        raise PatternError("no lexical patterns: a scan with none would call every text clean")
    return ready


def _by_audience(patterns: Sequence[Pattern]) -> list[list[Rule]]:
    found: defaultdict[tuple[bool, bool], list[Rule]] = defaultdict(list)
    for rule in rules(patterns):
        found[rule.concerns(Origin.USER), rule.concerns(Origin.ASSISTANT)].append(rule)
    return [some for _, some in sorted(found.items(), reverse=True)]


def prepare(some: Iterable[Rule], cache: Path | None) -> None:
    """Compile what finds the starts of matches, before anything waits for it. ``cache`` as `expressions.compiled`."""
    wanted = [rule for rule in some if rule.pattern.kind is not Kind.LITERAL]
    made = compiled([anchor(rule.pattern.body, rule.pattern.kind) for rule in wanted], cache)
    for rule, make in zip(wanted, made, strict=True):
        rule._make = make


class _Hidden(Rule):
    """A rule that keeps its place in what was compiled and matches nothing any more."""

    __slots__ = ()

    def concerns(self, origin: Origin) -> bool:
        return False


class _Part(NamedTuple):
    """Rules that are matched together."""

    rules: list[Rule]
    block: Block


class Lexical:
    """An immutable set of compiled patterns, for one thread at a time.

    Patterns are compiled in up to four parts, by whether they concern what a user says and what a model says, and a text is
    matched against the parts that concern its origin. Half of all patterns never act on a model's words, and the dearest
    ones act on documents and tools alone: most texts need not pay for them.
    """

    def __init__(self, patterns: Sequence[Pattern], cache: Path | None = None) -> None:
        """Compile the lexical ones among ``patterns``; ``cache`` is a folder for compiled databases.

        Raises:
            PatternError: as `rules`; also an expression that Hyperscan cannot take.
        """
        together = [(some, Expressions(rule.expression for rule in some)) for some in _by_audience(patterns)]
        compile_ahead([expressions for _, expressions in together], (), cache)
        parts = [_Part(some, Block(expressions, cache)) for some, expressions in together]
        prepare([rule for part in parts for rule in part.rules], cache)
        self._cache = cache
        self._overlay: tuple[_Part, ...] = ()
        self._parts = _by_origin(parts)

    def overlaid(self, patterns: Sequence[Pattern], hidden: Collection[str], known: Lexical | None = None) -> Lexical:
        """These patterns with some more, and without those whose ids are ``hidden``.

        What is new is compiled as a part of its own, which takes milliseconds where all together take many seconds.

        Args:
            known: what was laid over these patterns before: of what stands in it still, nothing is compiled again.

        Raises:
            PatternError: as for the constructor, but for an empty set.
        """
        wanted = {pattern.id: Rule(pattern) for pattern in patterns if pattern.kind.lexical}
        base = {id(part): part for each in self._parts.values() for part in each if part not in self._overlay}
        parts = [
            _Part([_Hidden(rule.pattern) if rule.pattern.id in hidden else rule for rule in part.rules], part.block.twin())
            for part in base.values()
        ]
        overlay = _reused(wanted, known._overlay if known else ())
        while len(overlay) >= MOST_OVERLAYS:
            smallest = min(overlay, key=_living)
            overlay.remove(smallest)
            wanted |= {rule.pattern.id: rule for rule in smallest.rules if not isinstance(rule, _Hidden)}
        if wanted:
            rules = list(wanted.values())
            cache = self._cache if len(rules) >= LARGE_OVERLAY else None
            # Each generation of a store brings another set: files of them would fill the disk, unpacked, within an hour.
            overlay.append(_Part(rules, Block([rule.expression for rule in rules], cache, lasting=False)))
            prepare(rules, cache)
        return self._with([*parts, *overlay], overlay)

    def twin(self) -> Lexical:
        """The same patterns for another thread."""
        parts = {id(part): part._replace(block=part.block.twin()) for each in self._parts.values() for part in each}
        return self._with(parts.values(), [parts[id(part)] for part in self._overlay if id(part) in parts])

    def _with(self, parts: Iterable[_Part], overlay: Iterable[_Part]) -> Lexical:
        made = object.__new__(Lexical)
        made._cache, made._overlay, made._parts = self._cache, tuple(overlay), _by_origin(tuple(parts))
        return made

    @property
    def laid(self) -> list[Rule]:
        """What was laid over the patterns that were compiled first."""
        return [rule for part in self._overlay for rule in part.rules]

    def scan(self, text: str, origin: Origin) -> Scan:
        """Find every pattern in ``text`` that concerns what ``origin`` says."""
        data = text.encode("utf-8", "surrogatepass")
        matches: list[Match] = []
        exhausted = False
        for part in self._parts[origin]:
            ends, too_many = part.block.scan(data)
            if ends:
                found, given_up = _confirmed(part.rules, text, data, ends, origin)
                matches += found
                exhausted |= too_many or given_up
        if not matches and not exhausted:
            return _CLEAN
        return Scan(widest(matches), exhausted)


def _living(part: _Part) -> int:
    return sum(not isinstance(rule, _Hidden) for rule in part.rules)


def _reused(wanted: dict[str, Rule], overlay: Sequence[_Part]) -> list[_Part]:
    """The parts of an earlier overlay of which half or more is wanted still, the newest first; takes that out of ``wanted``."""
    found = []
    for part in reversed(overlay):
        standing = {
            rule.pattern.id: fresh for rule in part.rules
            if (fresh := wanted.get(rule.pattern.id)) is not None and fresh.same(rule)
        }  # fmt: skip
        if 2 * len(standing) >= len(part.rules):
            rules = [standing.get(rule.pattern.id) or _Hidden(rule.pattern) for rule in part.rules]
            found.append(_Part(rules, part.block.twin()))
            for id in standing:
                del wanted[id]
    return found[::-1]


def _by_origin(parts: Sequence[_Part]) -> dict[Origin, tuple[_Part, ...]]:
    return {
        origin: tuple(part for part in parts if any(rule.concerns(origin) for rule in part.rules)) for origin in Origin
    }


def _confirmed(
    rules: Sequence[Rule], text: str, data: bytes, ends: list[tuple[int, int]], origin: Origin
) -> tuple[list[Match], bool]:
    """The matches behind the ends that the automata reported, and whether a pattern was given up: see `LOOKING_SECONDS`."""
    ends.sort(key=_BY_END)
    if len(data) != len(text):
        ends = code_points(data, ends)
    matches: list[Match] = []
    spent: dict[int, float] = {}
    given_up: set[int] = set()
    longer = max(1.0, len(text) / LONG)
    rest = ALL_SECONDS * longer
    for number, run in runs(ends):
        rule = rules[number]
        if number in given_up or not rule.concerns(origin):
            continue
        left = min(LOOKING_SECONDS * longer - spent.get(number, 0.0), rest / 2)
        began = time.thread_time()
        places = _places(rule, text, run, began + left)
        took = time.thread_time() - began
        spent[number] = spent.get(number, 0.0) + took
        rest -= took
        if took >= left:
            given_up.add(number)
        if not places:
            continue
        starts, values, seen = zip(*places, strict=True)
        if (match := rule.confirm(text, min(starts), seen[-1], min(values))) is not None:
            matches.append(match)
    return matches, bool(given_up)


def _places(rule: Rule, text: str, run: Sequence[int], until: float) -> list[tuple[int, int, int]]:
    """Where the matches start that end at ``run``, and their values, and where they end; no more of them after ``until``."""
    found: list[tuple[int, int, int]] = []
    for at, end in enumerate(run, 1):
        if (at % LOOKS == 0 or at in _EARLY) and time.thread_time() > until:
            break
        if (place := rule.place(text, end)) is not None:
            found.append((*place, end))
    return found


def code_points(data: bytes, ends: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Turn byte offsets, in ascending order, into code points. One inside a character is no end of anything."""
    converted: list[tuple[int, int]] = []
    at = points = 0
    for rule, end in ends:
        if end < len(data) and data[end] & 0xC0 == 0x80:
            continue
        points += len(data[at:end].decode("utf-8", "surrogatepass"))
        at = end
        converted.append((rule, points))
    return converted


def runs(ends: list[tuple[int, int]]) -> list[tuple[int, list[int]]]:
    """Ends of one pattern that follow each other without a gap are one match: the earlier ones are its beginnings.

    So is a stretch in which a match of fixed length could begin anywhere (a long run of hexadecimal digits).
    """
    found: list[tuple[int, list[int]]] = []
    last: dict[int, list[int]] = {}
    for rule, end in ends:
        run = last.get(rule)
        if run is not None and run[-1] >= end - 1:
            if run[-1] != end:
                run.append(end)
        else:
            run = last[rule] = [end]
            found.append((rule, run))
    return found


def widest(matches: list[Match]) -> list[Match]:
    """Drop every match that lies inside another of the same pattern (an expression may begin and end in several places)."""
    if len(matches) < 2:
        return matches
    kept: list[Match] = []
    reached: dict[str, int] = {}
    for match in sorted(matches, key=lambda match: (match.start, -match.end)):
        if match.end > reached.get(match.pattern.id, -1):
            reached[match.pattern.id] = match.end
            kept.append(match)
    return sorted(kept, key=lambda match: (match.end, match.start))
