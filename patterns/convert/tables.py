"""Labelled texts as data sets keep them: CSV or JSON lines with a text and a label."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from patterns.convert.base import Converted, Fault, Unreadable, exemplar, text
from patterns.schema import MAX_BODY, shown

TEXTS: Final = ("text", "prompt", "content", "input", "sentence")
LABELS: Final = ("label", "type", "class", "is_attack", "target")
ATTACKS: Final = frozenset({"1", "true", "attack", "injection", "jailbreak", "malicious", "unsafe", "harmful"})
MAX_COLUMNS: Final = 1_000
"""Columns of a table. Each costs every row, however short that is."""

HARMLESS: Final = frozenset({"0", "false", "benign", "legit", "safe", "harmless", "normal", "clean"})


def read_csv(data: bytes) -> Iterator[Converted | Fault]:
    """A header, then one text a row.

    Raises:
        Unreadable: the header lacks a column, or a quotation mark has no other or stands within a value: what follows it might
            be one text up to the next one, and that an attack.
    """
    csv.field_size_limit(8 * MAX_BODY)
    rows = csv.DictReader(io.StringIO(text(data), newline=""), strict=True)
    number = 0
    try:
        names, number = rows.fieldnames or (), 1
        if len(names) > MAX_COLUMNS:
            raise Unreadable(f"more than {MAX_COLUMNS} columns")
        for what, known in (("text", TEXTS), ("label", LABELS)):
            if not set(known).intersection(names):
                raise Unreadable(f"row 1: a header with a {what} is wanted, under one of {', '.join(known)}")
        for number, row in enumerate(rows, 2):
            yield _row(f"row {number}", row)
    except csv.Error as error:
        raise Unreadable(f"not CSV: row {number + 1}: {error}") from None


def read_jsonl(data: bytes) -> Iterator[Converted | Fault]:
    """One object a line."""
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Fault(f"line {number}", f"not valid JSON: {error.msg}")
            continue
        yield _row(f"line {number}", row) if isinstance(row, dict) else Fault(f"line {number}", "wanted an object")


def _row(where: str, row: Mapping[Any, Any]) -> Converted | Fault:
    words = next((row[name] for name in TEXTS if row.get(name)), None)
    label = next((row[name] for name in LABELS if row.get(name) is not None), None)
    if not isinstance(words, str) or not 0 < len(words) <= MAX_BODY:
        return Fault(where, f"wanted a text of 1 to {MAX_BODY} code points under one of {', '.join(TEXTS)}")
    said = str(label).strip().lower().removesuffix(".0") if isinstance(label, str | int | float) else ""
    if said not in ATTACKS | HARMLESS:
        return Fault(where, f"label: got {shown(label)}; wanted one of {', '.join(sorted(ATTACKS | HARMLESS))}")
    category = row.get("category")
    named = category if isinstance(category, str) and "." in category else ""
    return Converted(where, "", exemplar(words, said in ATTACKS, named))
