"""``python -m bench packages --wheels DIR``: what published packages hold, as harmless texts that nobody chose or labelled.

Of each wheel in a folder (``pip download --no-deps --dest DIR NAME ...``) it takes what programs of agents hand to a model:
the definitions of its tools (docstrings of functions that are declared as tools, descriptions given to one), the texts that it
calls prompts, as system prompts, its description, as a document, and some of its source files, as tools' results. The guards'
and attackers' own packages hold attacks and should be left out. Nothing of it is read but as text.
"""

from __future__ import annotations

import argparse
import ast
import random
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import report
from bench.machine import machine, versions
from bench.processes import BenchError
from bench.quality.runs import Case, Judge, Remembering, engines, judged
from bench.report import Goal
from detectors.semantic.judge import SemanticModel
from detectors.train.sources import Row
from detectors.values import Origin

NAME: Final = "packages"
HELP: Final = "tools' definitions, prompts, descriptions and source of published packages"

WANTED: Final = 0.97
"""Share of each sort that should be below the bar of ``balanced``."""

EACH: Final = 40
"""Texts of a sort that one package gives at most, drawn at random."""

FILES: Final = 8
"""Source files of a package."""

SHORTEST: Final = {Origin.TOOL_DEFINITION: 40, Origin.SYSTEM: 120, Origin.DOCUMENT: 300, Origin.TOOL_RESULT: 400}
"""Characters of the shortest text that is taken, by who says it."""

LONGEST: Final = 6_000
"""Characters of a text that are judged."""

SEED: Final = 7

SORTS: Final = {
    Origin.TOOL_DEFINITION: "definitions of tools", Origin.SYSTEM: "prompts, as system prompts",
    Origin.DOCUMENT: "descriptions, as documents", Origin.TOOL_RESULT: "source files, as tools' results",
}  # fmt: skip
COLUMNS: Final = ("texts", "number", "packages", "reach balanced's bar", "strict's", "blocked by balanced", "settled cheaply")


class Text(NamedTuple):
    """A text of a package, as it is handed to a model."""

    package: str
    origin: Origin
    text: str


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wheels", type=Path, required=True, metavar="DIR", help="folder of wheels")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the N highest of each sort, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Run it; 1 when a goal is missed."""
    rows = [_row(text) for text in texts(sorted(arguments.wheels.glob("*.whl")))]
    if not rows:
        raise BenchError(f"{arguments.wheels}: no wheel there, or none that holds a text to judge")
    model = Remembering(SemanticModel.load())
    cases = list(judged(rows, Judge(engines(model, Path("var/cache"))["all stages"], model), lambda _: None))
    bars = model.calibration.thresholds
    figures, table = {}, []
    for origin, sort in SORTS.items():
        chosen = [case for case in cases if case.row.origin is origin]
        if chosen:
            figures[sort] = _figures(chosen, *(bars[name][origin] for name in ("balanced", "strict")))
            table.append([sort, *figures[sort].values()])
    print(report.table("What packages hold", COLUMNS, table))
    for origin in SORTS if arguments.show else ():
        highest = sorted((case for case in cases if case.row.origin is origin), key=lambda case: -case.result.score)
        for case in highest[: arguments.show]:
            at = case.finding
            print(f"{case.result.score:.3f} {case.row.source}: {case.row.text[at.start : at.end] if at else ''!r:.200}")
    goals = [Goal(f"{sort.split()[0]}_below_the_bar_at_least", 1 - one["balanced"], WANTED) for sort, one in figures.items()]
    report.finish(NAME, machine(), versions(), figures, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


def texts(wheels: Sequence[Path]) -> list[Text]:
    """What is judged of some wheels, each text once, the same at each call."""
    rng = random.Random(SEED)
    found: dict[tuple[Origin, str], Text] = {}
    for wheel in wheels:
        held = list(_held(wheel, rng))
        rng.shuffle(held)
        taken: Counter[Origin] = Counter()
        for origin, text in held:
            text = text.strip()[:LONGEST]
            if len(text) >= SHORTEST[origin] and (origin, text) not in found and taken[origin] < EACH:
                taken[origin] += 1
                found[origin, text] = Text(wheel.name.partition("-")[0], origin, text)
    return list(found.values())


def _held(wheel: Path, rng: random.Random) -> Iterator[tuple[Origin, str]]:
    """All texts of a wheel; a file that is no Python of today is passed over."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        sources = [name for name in names if name.endswith(".py")]
        read = {name: archive.read(name).decode("utf-8", "replace") for name in sources}
        for name in rng.sample(sources, min(FILES, len(sources))):
            yield Origin.TOOL_RESULT, read[name]
        for name in names:
            if name.endswith(".dist-info/METADATA"):
                yield Origin.DOCUMENT, archive.read(name).decode("utf-8", "replace").partition("\n\n")[2]
            elif name.endswith((".md", ".txt", ".jinja", ".j2")) and "prompt" in name.lower():
                yield Origin.SYSTEM, archive.read(name).decode("utf-8", "replace")
        for text in read.values():
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError, RecursionError):
                continue
            for node in ast.walk(tree):
                yield from _said(node)


def _said(node: ast.AST) -> Iterator[tuple[Origin, str]]:
    """What a piece of source hands to a model."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        if any("tool" in ast.unparse(one).lower() for one in node.decorator_list):
            yield Origin.TOOL_DEFINITION, ast.get_docstring(node) or ""
    elif isinstance(node, ast.Call) and "tool" in ast.unparse(node.func).lower():
        yield from ((Origin.TOOL_DEFINITION, _string(one.value)) for one in node.keywords if one.arg == "description")
    elif isinstance(node, ast.ClassDef) and "tool" in " ".join([node.name, *map(ast.unparse, node.bases)]).lower():
        for target, value in filter(None, map(_assigned, node.body)):
            if target == "description":
                yield Origin.TOOL_DEFINITION, _string(value)
    elif (assigned := _assigned(node)) and "prompt" in assigned[0].lower():
        yield Origin.SYSTEM, _string(assigned[1])


def _assigned(node: ast.AST) -> tuple[str, ast.expr] | None:
    """The name and the value of an assignment."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]), node.value
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return ast.unparse(node.target), node.value
    return None


def _string(node: ast.expr) -> str:
    """What a literal says, with the names of what is put into it; empty for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_string(part) or ast.unparse(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _row(one: Text) -> Row:
    return Row(one.text, 0, SORTS[one.origin], "en", one.package, one.origin, False)


def _figures(cases: Sequence[Case], balanced: float, strict: float) -> dict[str, Any]:
    results = [case.result for case in cases]
    return {
        "number": len(results), "packages": len({one.source for one in results}),
        "balanced": sum(one.score >= balanced for one in results) / len(results),
        "strict": sum(one.score >= strict for one in results) / len(results),
        "blocked": sum(one.action == "block" for one in results) / len(results),
        "settled": sum(one.stage not in ("encoder", "index") for one in results) / len(results),
    }  # fmt: skip
