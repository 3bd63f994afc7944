"""``portcullis patterns taxonomy``: the names of threats, what they mean, and how many patterns and exemplars ship of each."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from gateway.cli.common import add_command, add_json, write_json, write_table
from patterns import packs, taxonomy

_ABOUT: Final = """# Threats

Ten categories, twenty subcategories each. A threat is written `category.subcategory`; packs, findings, policies, metrics and
the console use these names. Severity is how bad it is where it is real; a pattern has its own, for how sure it is. Of each
ship patterns, exemplars or both, and harmless texts with an attack's words; the encoder tells texts by their category alone.
`portcullis patterns taxonomy` shows how many patterns and exemplars there are of each, and writes this page with `--markdown`.
"""


def configure(actions: Any) -> None:
    """Add the parser."""
    listing = add_command(
        actions, "taxonomy", "the names of threats: severity, meaning, and how much of each ships",
        "portcullis patterns taxonomy",
    )
    listing.add_argument("--markdown", action="store_true", help="as docs/taxonomy.md has it")
    add_json(listing)


def _taxonomy(arguments: argparse.Namespace) -> int:
    if arguments.json:
        write_json({"threats": [
            {"threat": threat, "severity": severity, "meaning": meaning, "patterns": patterns, "exemplars": exemplars}
            for threat, severity, meaning, patterns, exemplars in _rows()
        ]})  # fmt: skip
    elif arguments.markdown:
        print(markdown(), end="")
    else:
        write_table(("threat", "severity", "patterns", "exemplars", "meaning"),
                    [(row[0], row[1], row[3], row[4], row[2]) for row in _rows()])  # fmt: skip
    return 0


def markdown() -> str:
    """What docs/taxonomy.md holds."""
    rows = list(_rows())
    lines = [_ABOUT]
    for name, category in taxonomy.CATEGORIES.items():
        catalogues = f"OWASP {', '.join(category.owasp)}; ATLAS {', '.join(category.atlas)}"
        kind = "" if category.attack else " Values to protect, no attacks."
        lines.append(f"## {category.title} (`{name}`)\n\n{catalogues}.{kind}\n")
        lines.append("| subcategory | severity | what it is | what ships |\n|---|---|---|---|")
        lines += [f"| `{threat.partition('.')[2]}` | {severity} | {meaning} | {_ships(patterns, exemplars)} |"
                  for threat, severity, meaning, patterns, exemplars in rows if threat.startswith(name + ".")]  # fmt: skip
        lines.append("")
    return "\n".join(lines)


def _ships(patterns: int, exemplars: int) -> str:
    return ", ".join(what for what, count in (("patterns", patterns), ("exemplars", exemplars)) if count) or "nothing"


def _rows() -> Iterator[tuple[str, str, str, int, int]]:
    patterns = Counter(pattern.category for pattern in packs.load_all([packs.SHIPPED]))
    with (packs.SHIPPED.parent / "exemplars" / "attacks.jsonl").open("rb") as lines:
        exemplars = Counter(orjson.loads(line)["category"] for line in lines)
    for name, category in taxonomy.CATEGORIES.items():
        for one in category.threats:
            threat = f"{name}.{one.name}"
            yield threat, one.severity, one.meaning, patterns[threat], exemplars[threat]


ACTIONS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {"taxonomy": _taxonomy}
