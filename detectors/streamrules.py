"""The patterns that act on a stream, compiled: what a match is, and what may still become one.

Two kinds of beginnings are told apart. Of an expression without a capturing group every beginning is held: nothing of what it
matches may go out. Where a group marks the value, the words before it may ("my password is"), and holding starts with
the value: the automaton that carries its state over the stream says where one may begin, for the price of nothing.

Beginnings take milliseconds a pattern to derive, so they are kept beside the compiled databases, by what they are derived
from.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from detectors import automata, prefix
from detectors.aside import kept
from detectors.automata import Block, Expression, Expressions, Flow, FlowAutomata, compile_ahead, fits
from detectors.expressions import Make, anchor, anchored, compiled
from detectors.lexical import Rule, rules
from detectors.lexical import prepare as prepare_rules
from detectors.prefix import (
    MAX_FINE,
    MAX_FINE_REACH,
    SURE_TO_FIT,
    Part,
    backwards,
    beginnings,
    coarse_beginnings,
    led,
    parts,
    unbounded,
)
from detectors.values import Origin
from patterns import cache as caching
from patterns.schema import Kind, Pattern

WORDS: Final = tuple(
    "the and for with that this from have your about which when there their would could should people time year work made "
    "first also after because think other well Hello Yes Sure Here What How Please information example question answer "
    "system data model request response number value order account health policy member name code file report".split()
)  # fmt: skip
"""Ordinary words, to tell which patterns would hold ordinary text."""

WIDE_SHARE: Final = 0.04
"""The share of ordinary words that a pattern may hold: some begin with a word of the language, as `password` does."""


LEAD: Final = 4
"""Characters of what is cut that may have gone out: "curl", "send" and "rm -" do nothing without what follows them, and if they
were held, so would be every "a", "in" and "s" that ends a piece of ordinary text."""


class Act(Enum):
    """What is to be done about a match in a stream."""

    REPLACE = "replace"
    CUT = "cut"


class Value:
    """What a rule's match is from the value on, where words announce it."""

    def __init__(self, rule: int, head: Expression, rest: str, reach: int, kind: Kind) -> None:
        self.rule = rule
        self.head = head
        self._rest = rest
        self._reach = reach
        self._kind = kind
        self._makes: tuple[Make, Make] | None = None

    @property
    def sought(self) -> tuple[str, int, str, str]:
        """What its expressions are made of."""
        return self._rest, self._reach, self._kind.value, self.head.owner

    @property
    def lead(self) -> int:
        """How long the words before it are at most."""
        return min(prefix.widest(self.head.body), self._reach)

    @cached_property
    def longest(self) -> int:
        """How long it is at most."""
        return min(prefix.widest(self._rest), self._reach)

    @cached_property
    def begun(self) -> re.Pattern[str]:
        """Matches all beginnings of the value, itself included, up to the end of a text."""
        return self._makes[0]() if self._makes else anchored(_begun(*self.sought), self._kind)

    @cached_property
    def whole(self) -> re.Pattern[str]:
        """Matches the whole of it, up to the end of a text."""
        return self._makes[1]() if self._makes else anchored(self._rest, self._kind)

    @property
    def ready(self) -> bool:
        """Whether nothing is left to be compiled at its first use."""
        return self._makes is not None

    def take(self, begun: Make, whole: Make) -> None:
        """Take what was compiled elsewhere."""
        self._makes = begun, whole


class StreamRules:
    """The patterns that act on a stream under one policy, compiled; shared by all streams of a worker.

    Attributes:
        values: what is held behind words that announce it.
        lead: how long the longest of those words are.
        late: the patterns that a stream is not held for.
        labels: of what streams name things by, whether it goes out as it is; kept by who looks at it.
        loaded: whether the automata are in memory; `load` brings them there, and so does the first stream.
    """

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
        acting = {one.id: what for one in spoken if (what := act(one)) is not None}
        ready = rules([one for one in spoken if one.id in acting])
        derived = _known(ready, [acting[rule.pattern.id] for rule in ready], waits, cache)
        kept = [(rule, one) for rule, one in zip(ready, derived, strict=True) if not one.wide]
        self.late = [rule.pattern.id for rule, one in zip(ready, derived, strict=True) if one.wide]
        self.labels: dict[str, bool] = {}
        self.rules = [rule for rule, _ in kept]
        self.acts = [acting[rule.pattern.id] for rule in self.rules]
        self.values, begun = _held(kept)
        heads = list(dict.fromkeys(value.head._replace(owner="") for value in self.values))
        place = {head: len(self.rules) + at for at, head in enumerate(heads)}
        self._announced: dict[int, list[int]] = {}
        for at, value in enumerate(self.values):
            self._announced.setdefault(place[value.head._replace(owner="")], []).append(at)
        self._headless = {number for number, (_, one) in enumerate(kept) if not all(head for head, _ in one.parts)}
        self._expressions = [*(rule.expression for rule in self.rules), *heads]
        self._begun = begun
        self._cache = cache
        self._automata: tuple[FlowAutomata, Block | None] | None = None
        self._loading = threading.Lock()

    @cached_property
    def lead(self) -> int:
        return max((value.lead for value in self.values), default=0)

    @cached_property
    def heads(self) -> dict[int, int]:
        """The rules whose every value is announced, each with how long the words are at most that do so."""
        found: dict[int, int] = {}
        for value in self.values:
            if value.rule not in self._headless:
                found[value.rule] = max(found.get(value.rule, 0), value.lead)
        return found

    def reckon(self) -> None:
        """Reckon what else is at its first use."""
        self.lead, self.heads, [value.longest for value in self.values]

    @property
    def loaded(self) -> bool:
        return self._automata is not None

    @property
    def sets(self) -> tuple[Expressions, Expressions]:
        """What follows a stream, and what beginnings are found by; the second may be empty."""
        return Expressions(self._expressions), Expressions(one.expression for one in self._begun)

    def load(self) -> tuple[FlowAutomata, Block | None]:
        """The automata that follow a stream, and those of beginnings, if there are any: in memory from now on. Compiling them,
        where the cache does not have them, takes many seconds.

        Raises:
            PatternError: Hyperscan cannot take one of them.
        """
        with self._loading:
            if self._automata is None:
                flow, begun = self.sets
                self._automata = FlowAutomata(flow, self._cache), Block(begun, self._cache) if begun else None
            return self._automata

    def open(self) -> Flow:
        """Follow a new stream."""
        return (self._automata or self.load())[0].open()

    def silent(self, text: str) -> bool:
        """Whether nothing is found in a text that is said whole. For what is short, and stands for nothing but itself."""
        flow, count = self.open(), len(self.rules)
        ends = [*flow.scan(text.encode()), *flow.close()]
        return all(expression >= count for expression, _ in ends)  # others are heads: what they announce has an end of its own

    def announced(self, expression: int) -> Sequence[int]:
        """The values of which an expression of the flow is the head; none for a rule's own."""
        return self._announced.get(expression, ())

    def beginning(self, text: str, at: int) -> int:
        """Where, from ``at`` on, the beginning of a match starts that reaches to the end of ``text``; its length if nowhere."""
        length = len(text)
        block = (self._automata or self.load())[1]
        if at >= length or block is None:
            return length
        # One character before ``at`` goes along: whether a word begins at ``at`` depends on it.
        turned = text[: at - 2 if at > 1 else None : -1]
        data = turned.encode() if turned.isascii() else turned.encode("utf-8", "surrogatepass")
        found = block.scan(data).found
        if not found:
            return length
        longest = 0
        if len(data) != len(turned):
            found = _whole_characters(data, found)
        for number, size in found:
            # The character before ``at`` is out already. What is longer than any match is beyond a coarse expression's bound.
            if longest < size <= length - at and size <= self._begun[number].reach:
                longest = size
        return length - longest


def load(some: Iterable[StreamRules], cache: Path | None) -> None:
    """Load rules that are not loaded, and have what the cache lacks compiled at once. Raises: as `StreamRules.load`."""
    waiting = [one for one in some if not one.loaded]
    sets = [one.sets for one in waiting]
    compile_ahead([begun for _, begun in sets], [flow for flow, _ in sets], cache)
    for one in waiting:
        one.load()


def prepare(some: Iterable[StreamRules], cache: Path | None) -> None:
    """Make what streams would else make at its first use, while all other streams wait: a thousand expressions of some
    milliseconds each. With a folder ``cache`` they are made in a process of their own, or taken from there.

    What several policies share is made once.
    """
    every = list(some)
    for one in every:
        one.reckon()
    waiting: defaultdict[tuple[str, int, str, str], list[Value]] = defaultdict(list)
    for value in (value for one in every for value in one.values if not value.ready):
        waiting[value.sought].append(value)
    if waiting:
        begun = [anchor(body, Kind(sought[2])) for sought, body in zip(waiting, _all_begun(list(waiting), cache), strict=True)]
        whole = [anchor(rest, Kind(kind)) for rest, _, kind, _ in waiting]
        made = compiled([*begun, *whole], cache)
        for values, *pair in zip(waiting.values(), made[: len(begun)], made[len(begun) :], strict=True):
            for value in values:
                value.take(*pair)
    prepare_rules([rule for one in every for rule in one.rules if not rule.ready], cache)


def _all_begun(sought: Sequence[tuple[str, int, str, str]], cache: Path | None) -> list[str]:
    if cache is not None:
        identity = hashlib.sha256(repr(sought).encode() + _CODE).hexdigest()[:32]
        found: list[str] | None = kept(cache / f"beginnings-{identity}.json", written, sought, _read)
        if found is not None and len(found) == len(sought):
            return found
    return [_begun(*one) for one in sought]


def written(sought: Sequence[tuple[str, int, str, str]]) -> bytes:
    """The beginnings of values as the cache keeps them; for `detectors.aside`."""
    return orjson.dumps([_begun(*one) for one in sought])


def _read(data: bytes) -> list[str] | None:
    try:
        found: list[str] = orjson.loads(data)
    except ValueError:
        return None  # damaged
    return found


def _begun(rest: str, reach: int, _kind: str, owner: str) -> str:
    """An expression of all beginnings of a value."""
    fine = beginnings(rest, owner)
    return fine if len(fine) <= MAX_FINE else coarse_beginnings(rest, reach, owner)


class _Beginnings(NamedTuple):
    """Beginnings of a rule's matches, for a text written backwards, and how long the longest match is."""

    expression: Expression
    reach: int


def _whole_characters(data: bytes, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ends in bytes as ends in code points; one inside a character takes all of it."""
    return [(number, sum(byte & 0xC0 != 0x80 for byte in data[:end])) for number, end in found]


def _parts(rule: Rule, act: Act) -> list[Part]:
    """A rule taken apart at its groups; what is cut off may begin with some harmless characters anyway."""
    found = parts(rule.body, rule.pattern.id)
    if act is Act.CUT:
        found = [one for part in found for one in led(part, LEAD, rule.pattern.id)]
    return list(dict.fromkeys(found))


class _Derived(NamedTuple):
    """What is derived from one rule: its parts, the beginnings of those without a head, and whether many an ordinary word is
    one. Beginnings of what is too wide are not derived."""

    parts: list[Part]
    begun: list[str]
    wide: bool


def _known(ready: Sequence[Rule], acts: Sequence[Act], waits: bool, cache: Path | None) -> list[_Derived]:
    """What is derived from rules, from the folder ``cache`` where that was done before."""
    file = None
    if cache is not None:
        sources = [(rule.body, rule.pattern.kind.value, rule.reach, act.value) for rule, act in zip(ready, acts, strict=True)]
        identity = hashlib.sha256(repr((automata.platform(), waits, sources)).encode() + _CODE).hexdigest()[:32]
        file = cache / f"beginnings-{identity}.json"
        with contextlib.suppress(ValueError, TypeError):  # absent or damaged: deriving them again mends both
            rows = orjson.loads(caching.read(file) or b"")
            if len(rows) == len(ready):
                return [_Derived([Part(*part) for part in parts], begun, wide) for parts, begun, wide in rows]
    derived = [_derived(rule, act, waits, cache) for rule, act in zip(ready, acts, strict=True)]
    if file is not None:
        caching.write(file, orjson.dumps(derived, default=list))
    return derived


def _derived(rule: Rule, act: Act, waits: bool, cache: Path | None) -> _Derived:
    taken = _parts(rule, act)
    wide = not waits and _is_wide(rule, taken)
    begun = [] if wide else [_beginnings(rule, rest, cache) for head, rest in taken if not head]
    return _Derived(taken, begun, wide)


def _held(kept: Sequence[tuple[Rule, _Derived]]) -> tuple[list[Value], list[_Beginnings]]:
    """What is held of each rule: values behind a head, and beginnings of what has none."""
    values: list[Value] = []
    begun: list[_Beginnings] = []
    for number, (rule, derived) in enumerate(kept):
        for head, rest in derived.parts:
            if head:
                values.append(Value(number, rule.expression._replace(body=head), rest, rule.reach, rule.pattern.kind))
        begun += [_Beginnings(rule.expression._replace(body=body), rule.reach) for body in derived.begun]
    return values, begun


def _beginnings(rule: Rule, body: str, cache: Path | None) -> str:
    """The finest expression of the beginnings of ``body``, a part of the rule, that Hyperscan takes, for text turned round."""
    where = rule.pattern.id
    fine = beginnings(body, where)
    small = rule.reach <= MAX_FINE_REACH
    if small and len(fine) <= SURE_TO_FIT:
        return backwards(fine)
    choices = [backwards(fine)] if small and len(fine) <= MAX_FINE else []
    choices += [backwards(unbounded(coarse_beginnings(body, rule.reach, where, most))) for most in (64, 3, 1)]
    return next((one for one in choices[:-1] if fits(rule.expression._replace(body=one), cache)), choices[-1])


_CODE: Final = Path(__file__).read_bytes() + Path(prefix.__file__).read_bytes()
"""The code that derives beginnings is part of what they are known by."""


def _is_wide(rule: Rule, taken: Sequence[Part]) -> bool:
    """Whether many an ordinary word is a beginning of what a rule matches."""
    for head, rest in taken:
        if head:
            continue
        search = anchored(beginnings(rest, rule.pattern.id), rule.pattern.kind)
        if sum(search.search(f"so {word}", 3) is not None for word in WORDS) > len(WORDS) * WIDE_SHARE:
            return True
    return False
