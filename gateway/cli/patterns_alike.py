"""``portcullis patterns duplicates`` and ``clusters``: what packs and exemplars say twice, and what they are about."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from detectors.semantic.clusters import of_exemplars
from detectors.semantic.judge import MODELS, ModelMissing, SemanticModel
from gateway.cli.common import add_command, add_json, positive, write_json, write_table
from gateway.cli.faults import Failed
from gateway.live import load_patterns
from patterns import packs
from patterns.schema import PatternError
from patterns.similar import ALIKE, Similar


def configure(actions: Any) -> None:
    """Add the parsers."""
    duplicates = add_command(
        actions, "duplicates", "patterns, or exemplars, that say nearly the same",
        "portcullis patterns duplicates my-pack.yaml",
    )
    duplicates.add_argument("packs", nargs="*", type=Path, metavar="PACK", help="packs beside the shipped ones")
    duplicates.add_argument("--exemplars", action="store_true", help="of the shipped exemplars instead")
    duplicates.add_argument("--alike", type=_share, default=ALIKE, help="from which share on (default: %(default)s)")
    grouped = add_command(
        actions, "clusters", "what the shipped exemplars are about: clusters by meaning, with names",
        "portcullis patterns clusters --count 20",
    )
    grouped.add_argument("--count", type=_count, default=40, help="how many (default: %(default)s)")
    grouped.add_argument("--harmless", action="store_true", help="of harmless exemplars instead of attacks")
    for one in (duplicates, grouped):
        add_json(one)


MOST_CLUSTERS: Final = 1_000
"""More than one for five exemplars are no clusters, and take hours."""


def _count(text: str) -> int:
    if (count := positive(text)) > MOST_CLUSTERS:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a number from 1 to {MOST_CLUSTERS}")
    return count


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a number above 0 and up to 1")
    return share


def _duplicates(arguments: argparse.Namespace) -> int:
    if arguments.exemplars:
        texts = packs.exemplars("attacks") | packs.exemplars("benign")
    else:
        try:
            texts = {one.id: one.body for one in load_patterns(tuple(arguments.packs))}
        except PatternError as error:
            raise Failed(str(error)) from None
    groups = Similar(texts).groups(arguments.alike)
    if arguments.json:
        write_json({"texts": len(texts), "groups": groups})
    else:
        for group in groups:
            print(", ".join(group))
        print(f"{len(texts)} texts, {len(groups)} groups of near-duplicates")
    return 0


def _clusters(arguments: argparse.Namespace) -> int:
    try:
        index = SemanticModel.load(MODELS).index
    except ModelMissing as error:
        raise Failed(str(error)) from None
    found = of_exemplars(index, arguments.harmless, arguments.count)
    if arguments.json:
        write_json({"clusters": [
            {"name": one.name, "size": len(ids), "closeness": round(one.closeness, 3), "exemplars": ids} for one, ids in found
        ]})  # fmt: skip
    else:
        rows = [(one.name, len(ids), f"{one.closeness:.2f}", ids[0]) for one, ids in found]
        write_table(("about", "exemplars", "closeness", "most central"), rows)
    return 0


ACTIONS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {"duplicates": _duplicates, "clusters": _clusters}
"""By the name on the command line."""
