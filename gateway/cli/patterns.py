"""``portcullis patterns``: look at patterns, and test them against their own examples."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from detectors.engine import Engine
from detectors.values import Origin, Segment
from gateway.cli import patterns_actions, patterns_alike, patterns_taxonomy
from gateway.cli.common import add_command, add_config, add_json, compiling, settings, write_json, write_table
from gateway.cli.faults import Failed, Misused
from gateway.live import load_patterns
from patterns import taxonomy
from patterns.schema import Pattern, PatternError

EXAMPLE = "portcullis patterns test my-pack.yaml"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = add_command(
        actions, "list", "the patterns that ship, and those of the packs named",
        "portcullis patterns list my-packs/ --category prompt_injection",
    )
    testing = add_command(
        actions, "test", "every pattern must find its hits and none of its misses",
        "portcullis patterns test my-pack.yaml",
    )
    for one in (listing, testing):
        one.add_argument("packs", nargs="*", type=Path, metavar="PACK", help="a pack, or a folder of packs")
        one.add_argument("--category", help="only this category, or category.subcategory")
    add_json(listing)
    add_config(testing)  # what is compiled is kept in its `data_dir`, beside what the gateway keeps there
    patterns_actions.configure(actions)
    patterns_alike.configure(actions)
    patterns_taxonomy.configure(actions)


def run(arguments: argparse.Namespace) -> int:
    actions = patterns_actions.ACTIONS | patterns_alike.ACTIONS | patterns_taxonomy.ACTIONS
    if arguments.action in actions:
        return actions[arguments.action](arguments)
    if arguments.category and arguments.category not in taxonomy.CATEGORIES:
        try:
            taxonomy.split(arguments.category)
        except ValueError as error:
            raise Misused(f"--category: {error}") from None
    try:
        if arguments.action == "list":
            return _list(_chosen(load_patterns(tuple(arguments.packs)), arguments.category), arguments.json)
        return _test(arguments, settings(arguments).data_dir / "cache")
    except PatternError as error:
        raise Failed(str(error)) from None


def _chosen(patterns: Sequence[Pattern], category: str | None) -> list[Pattern]:
    """Those of a category, or of one of its subcategories."""
    return [one for one in patterns if not category or category in (one.category, one.category.partition(".")[0])]


class Fault(NamedTuple):
    """An example that did not do as it should: ``expected`` is ``hit`` or ``miss``."""

    pattern: str
    expected: str
    example: str


def loaded(shipped: Sequence[Pattern], own: Sequence[Pattern], cache: Path | None = None) -> Engine:
    """All patterns, as the gateway would judge by them; ``cache`` is a folder for what is compiled of the shipped ones.
    Somebody's own lie over them, so that to change one has nothing else compiled.

    Raises:
        PatternError: they cannot be compiled.
    """
    with compiling("what data_dir/cache does not have yet"):
        engine = Engine.load(shipped, 0, 0.0, cache)
        return engine.renewed({one.id: one for one in own}, 0, 0.0) if own else engine


def faults(engine: Engine, patterns: Iterable[Pattern]) -> Iterator[Fault]:
    """Judge the examples of ``patterns``."""
    for pattern in patterns:
        if not pattern.kind.lexical:
            continue
        origin = Origin(sorted(pattern.origins)[0]) if pattern.origins else Origin.USER
        for expected, examples in (("hit", pattern.hits), ("miss", pattern.misses)):
            for example in examples:
                found = engine.judge([Segment(example, "example", origin, 0, ())], "").verdict.findings
                if any(finding.pattern == pattern.id for finding in found) != (expected == "hit"):
                    yield Fault(pattern.id, expected, example)


def _list(patterns: Sequence[Pattern], as_json: bool) -> int:
    if as_json:
        write_json({"patterns": [pattern.shown() for pattern in patterns]})
    else:
        write_table(
            ("id", "kind", "category", "severity", "reach", "check"),
            [(p.id, p.kind.value, p.category, p.severity.value, p.reach or "-", p.check or "-") for p in patterns],
        )
        print(f"\n{len(patterns)} patterns")
    return 0


def _test(arguments: argparse.Namespace, cache: Path) -> int:
    shipped = load_patterns((), cache)
    every = load_patterns(tuple(arguments.packs), cache, tries=True)
    patterns = _chosen(every, arguments.category)
    wrong = list(faults(loaded(shipped, every[len(shipped) :], cache), patterns))
    examples = sum(len(pattern.hits) + len(pattern.misses) for pattern in patterns)
    if arguments.json:
        write_json({"patterns": len(patterns), "examples": examples, "faults": [fault._asdict() for fault in wrong]})
    else:
        for fault in wrong:
            print(f"{fault.pattern}: should be a {fault.expected}: {fault.example[:200]!r}")
        print(f"{len(patterns)} patterns, {examples} examples, {len(wrong)} faults")
    return 1 if wrong else 0
