"""``python -m bench tails``: of which expressions the automata look for the tail alone, and what that saves.

Each expression of the shipped packs is looked for by itself in ordinary texts. Of one that takes long, all tails are tried: the
longest is taken that takes little more than the cheapest, is found in hardly any of those texts, and does not cost the
engine that then looks for the start much in a text of nothing but itself. ``--write`` keeps the choice in
``detectors/data/tails.json``, from where it is served: to be done when packs change. Last, all patterns together are looked
for with tails and without, in turn.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from bench import prompts, report
from bench.machine import machine, versions
from bench.stream import ordinary
from detectors import cost, tails
from detectors.automata import Block, Expression
from detectors.lexical import Rule, rules
from detectors.syntax import parser, write_all
from detectors.values import Origin
from patterns import packs
from patterns.schema import Kind, PatternError

NAME: Final = "tails"
HELP: Final = "what it saves that the automata look for the rare tails of expressions"

SIZE: Final = 4_096
"""Characters of an ordinary text."""

DEAR_US: Final = 2.0
"""From so many microseconds a text on an expression's tails are tried; most take less than one."""

SAVED_US: Final = 1.0
"""What a tail has to save of that."""

FOUND_MOST: Final = 0.1
"""How often a tail may be found in an ordinary text, on the mean: each time, Python's engine looks for a match."""

FLOOD: Final = 4_000
"""Characters of a text that is nothing but what a tail matches, over and over."""

FLOOD_MS: Final = 5.0
"""What such a text may take, unless the whole expression takes half of that already."""

LOOKS_APART: Final = 8
"""Of such a text there may be a look back for one in so many characters: not from each sign of a row of them."""

FLOODS: Final = 12
ROUNDS: Final = 5


class Cut(NamedTuple):
    """A tail that is to be looked for: of what, and microseconds of an ordinary text for the whole and for the tail."""

    name: str
    of: str
    tail: str
    whole_us: float
    tail_us: float


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", action="store_true", help=f"keep the choice in {tails.FILE.name}")
    parser.add_argument("--cache", type=Path, default=Path("var/bench/cache"), help="a folder for compiled patterns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    arguments.cache.mkdir(parents=True, exist_ok=True)
    every = rules(packs.load_all([packs.SHIPPED]))
    texts = [text.encode() for text in _texts(10)]
    cuts = [found for rule in every if _may(rule) and (found := _cut(rule, texts)) is not None]
    cuts.sort(key=lambda one: one.tail_us - one.whole_us)
    columns = ("pattern", "whole, us", "tail, us")
    print(report.table(f"Expressions of which the tail is looked for, {SIZE:,} characters", columns,
                       [(one.name, round(one.whole_us, 1), round(one.tail_us, 1)) for one in cuts]))  # fmt: skip
    if arguments.write:
        kept = {one.name: [one.of, one.tail] for one in sorted(cuts)}
        tails.FILE.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    figures = _together(every, {one.name: one.tail for one in cuts}, arguments.cache)
    print(report.table(f"All patterns that concern an origin, us for {SIZE:,} characters", ("origin", "whole", "tails"),
                       [(name, *(round(one, 0) for one in both.values())) for name, both in figures.items()]))  # fmt: skip
    report.finish(NAME, machine(), versions(), {"cut": len(cuts), **figures}, [], arguments.json)
    return 0


def _may(rule: Rule) -> bool:
    """Whether a tail is looked for at all. Python's engine takes letters and spaces for such that Hyperscan does not. So with a
    tail a match may begin where a stream, which holds what Hyperscan says may become one, has let it go. Expressions for values
    are read alike by both."""
    return rule.pattern.kind is Kind.PII or (rule.pattern.kind is Kind.REGEX and not rule.concerns(Origin.ASSISTANT))


def cut(body: str, count: int) -> str:
    """``body`` without the first ``count`` of the parts that follow each other in it; an inline flag before them stays.

    Raises:
        KeyError: the name of a construct that cannot be written again.
    """
    flags = re.match(r"(?:\(\?[a-z]+\))?", body)
    assert flags is not None  # it may be empty
    return flags.group() + write_all(list(parser.parse(body[flags.end() :]))[count:])


def cuts_of(body: str) -> Iterator[str]:
    """All tails of an expression, the longest first, that can be written."""
    for count in range(1, len(parser.parse(body))):
        try:
            yield cut(body, count)
        except KeyError:
            continue


def _texts(count: int) -> list[str]:
    """Ordinary texts: prompts, and what programmers write about their modules."""
    told = ordinary()["docstrings"]
    return [*prompts.texts(count, SIZE), *(told[at : at + SIZE] for at in islice(range(0, len(told), SIZE), count))]


def _cut(rule: Rule, texts: Sequence[bytes]) -> Cut | None:
    """The best tail of a rule, if there is one."""
    whole = Expression(rule.pattern.id, rule.body, caseless=rule.expression.caseless, exact=rule.expression.exact)
    entire = Block([whole])
    us, _ = _timed(entire, texts)
    if us < DEAR_US:
        return None
    tried = []
    for body in cuts_of(rule.body):
        try:
            block = Block([whole._replace(body=body)])
        except PatternError:
            continue  # it can match nothing, which is everywhere
        tail_us, found = _timed(block, texts)
        if found <= FOUND_MOST and us - tail_us >= SAVED_US:
            tried.append((body, tail_us, block))
    least = min((tail_us for _, tail_us, _ in tried), default=us)
    for body, tail_us, block in tried:
        if tail_us <= least * 1.35 + 0.3 and _endures(rule, entire, block, body):
            return Cut(rule.pattern.id, tails.digest(rule.body), body, us, tail_us)
    return None


def _timed(block: Block, texts: Sequence[bytes]) -> tuple[float, float]:
    """Microseconds and matches of a text, on the mean; of some rounds the best."""
    best, found = float("inf"), 0
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        found = sum(len(block.scan(text).found) for text in texts)
        best = min(best, (time.thread_time_ns() - began) / len(texts) / 1e3)
    return best, found / len(texts)


def _endures(rule: Rule, whole: Block, tail: Block, body: str) -> bool:
    """Whether texts of nothing but what the tail matches are looked through soon."""
    draw = random.Random(0)
    for number in range(FLOODS):
        unit = cost.written(body, draw)[: FLOOD // 4]
        unit = (unit, f"{unit} ", unit.replace(" ", ""))[number % 3] or " "
        flood = (unit * (FLOOD // len(unit) + 1))[:FLOOD]
        ms, looks = _looking(rule, tail, flood)
        whole_ms, whole_looks = _looking(rule, whole, flood)
        if ms > max(FLOOD_MS, 2 * whole_ms) or looks > max(FLOOD // LOOKS_APART, whole_looks):
            return False
    return True


def _looking(rule: Rule, block: Block, text: str) -> tuple[float, int]:
    """Milliseconds until all matches of a text are found, and their starts, and how often one was looked for."""
    data = text.encode()
    began = time.thread_time_ns()
    found = block.scan(data).found
    for _, end in found:
        rule.place(text, len(data[:end].decode(errors="ignore")))
    return (time.thread_time_ns() - began) / 1e6, len(found)


def _together(every: Sequence[Rule], chosen: dict[str, str], cache: Path) -> dict[str, dict[str, float]]:
    """Microseconds of an ordinary text against all patterns that concern an origin."""
    texts = [text.encode() for text in _texts(20)]
    figures = {}
    for origin in (Origin.USER, Origin.ASSISTANT):
        concern = [rule for rule in every if rule.concerns(origin)]
        whole = [rule.expression._replace(body=rule.body) for rule in concern]
        both = [Block(some, cache) for some in (whole, [one._replace(body=chosen.get(one.owner, one.body)) for one in whole])]
        best = [float("inf")] * 2
        for _ in range(ROUNDS):
            for at, block in enumerate(both):
                best[at] = min(best[at], _timed(block, texts)[0])
        figures[str(origin)] = dict(zip(("whole_us", "tails_us"), best, strict=True))
    return figures
