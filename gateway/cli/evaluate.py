"""``portcullis eval``: how good and how fast is detection on labelled texts."""

from __future__ import annotations

import argparse
import functools
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from detectors.values import Origin
from gateway.cli.common import add_config, positive, write_json, write_table
from gateway.cli.faults import Misused
from gateway.cli.scan import BadLine, Scanner, segments_of
from gateway.cli.streaming import available, stream
from gateway.screening import evaluation
from gateway.screening.evaluation import COLUMNS, Result

EXAMPLE = "portcullis eval labelled.jsonl more.jsonl.gz"


BEGINNING: Final = 60
"""Bytes shown of a line without an id that cannot be used."""


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help='JSON lines (.jsonl, .jsonl.gz): as for scan --jsonl, with "label": 0 | 1, perhaps "kind", "source" and "lang"',
    )  # fmt: skip
    parser.add_argument("--origin", choices=[origin.value for origin in Origin], default=Origin.USER.value,
                        help="who speaks where neither the line nor its kind says (default: user)")  # fmt: skip
    parser.add_argument("--without", action="append", default=[], metavar="KIND", help="leave lines of this kind out")
    parser.add_argument("--jobs", type=positive, default=available(), metavar="N",
                        help="processes (default: one for each core)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    scanner = Scanner.load(arguments)
    results: list[Result] = []
    bad: list[str] = []
    began = time.perf_counter()
    for path in arguments.files:
        work = functools.partial(_judge, scanner, Origin(arguments.origin), _stem(path), frozenset(arguments.without))
        try:
            with evaluation.open_lines(path) as source:
                for judged, faults in stream(source, work, arguments.jobs):
                    results += judged
                    bad += faults
        except (OSError, EOFError, zlib.error) as error:
            raise Misused(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    seconds = time.perf_counter() - began
    for fault in bad[:20]:
        print(fault, file=sys.stderr)
    if len(bad) > 20:
        print(f"and {len(bad) - 20} more lines that cannot be used", file=sys.stderr)
    if not results:
        raise Misused("no labelled line could be read")
    if arguments.json:
        write_json(report(results, len(bad), seconds))
    else:
        show(results, seconds)
    return 1 if bad else 0


def report(results: Sequence[Result], bad: int, seconds: float) -> dict[str, Any]:
    """All figures as JSON values."""
    return {
        "texts": len(results), "bad_lines": bad, "incomplete": sum(not one.complete for one in results),
        "texts_per_second": round(len(results) / seconds, 1), "last_stage": dict(evaluation.shares(results)),
        "all": evaluation.plain(evaluation.merit(results)),
        "kinds": _by(results, "kind"), "sources": _by(results, "source"), "languages": _by(results, "lang"),
    }  # fmt: skip


def show(results: Sequence[Result], seconds: float) -> None:
    """All figures for people."""
    write_table(("", *COLUMNS), [["all", *evaluation.row(evaluation.merit(results))]])
    for name, key in (("kind", "kind"), ("source", "source"), ("language", "lang")):
        print()
        found = evaluation.groups(results, lambda one, key=key: getattr(one, key))  # type: ignore[misc]
        write_table((name, *COLUMNS), [[key, *evaluation.row(evaluation.merit(group, False))] for key, group in found.items()])
    settled = ", ".join(f"{stage} {share:.1%}" for stage, share in evaluation.shares(results))
    print(f"\nlast stage needed: {settled}; incomplete: {sum(not one.complete for one in results)}")
    print(f"{len(results):,} texts in {seconds:.1f} s: {len(results) / seconds:,.0f} a second")
    print("right, found (attacks) and passed (harmless) are at the policy's own threshold; intervals are 95 % bootstrap")


def _by(results: Sequence[Result], name: str) -> dict[str, Any]:
    found = evaluation.groups(results, lambda one: str(getattr(one, name)))
    return {key: evaluation.plain(evaluation.merit(group, False)) for key, group in found.items()}


def _judge(
    scanner: Scanner, origin: Origin, source: str, without: frozenset[str], lines: Sequence[bytes]
) -> tuple[list[Result], list[str]]:
    """The results of some lines, and what is wrong with those that cannot be used."""
    results, bad = [], []
    for line in lines:
        try:
            if (result := _result(scanner, origin, source, without, line)) is not None:
                results.append(result)
        except ValueError as error:
            identity = getattr(error, "identity", None)
            bad.append(f"{source}: {ascii(line[:BEGINNING]) if identity is None else repr(identity)}: {error}")
    return results, bad


def _result(scanner: Scanner, origin: Origin, source: str, without: frozenset[str], line: bytes) -> Result | None:
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadLine(None, f"not valid JSON: {error.msg}") from None
    if not isinstance(raw, dict):
        raise BadLine(None, "wanted a JSON object")
    kind = str(raw.get("kind") or "")
    if kind in without:
        return None
    if raw.get("label") not in (0, 1):
        raise BadLine(raw.get("id"), "label: wanted 0 (harmless) or 1 (attack)")
    segments = segments_of(raw, evaluation.PLACES.get(kind, origin))
    verdict = scanner.judge(segments)
    last = next((stage for stage, state in reversed(verdict["stages"].items()) if state == "ran"), "none")
    return Result(
        raw["label"], kind or "unnamed", str(raw.get("source") or source), str(raw.get("lang") or "unnamed"), verdict["score"],
        verdict["action"], last, verdict["complete"], verdict["us"],
    )  # fmt: skip


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")
