"""Our own formats: a pack in YAML, or one pattern a line in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import yaml

from patterns import yamls
from patterns.convert.base import Converted, Fault, Unreadable, text


def read_yaml(data: bytes) -> Iterator[Converted | Fault]:
    """A pack, or a plain list of patterns."""
    try:
        raw: Any = yamls.load(text(data))
    except yaml.YAMLError as error:
        raise Unreadable(f"not YAML: {str(error)[:300]}") from None
    rows = raw.get("patterns") if isinstance(raw, dict) else raw
    if not isinstance(rows, list):
        raise Unreadable("wanted a list of patterns, or a mapping with one under `patterns`")
    for number, row in enumerate(rows):
        yield _one(f"patterns[{number}]", row)


def read_jsonl(data: bytes) -> Iterator[Converted | Fault]:
    """One pattern a line."""
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                yield _one(f"line {number}", orjson.loads(line))
            except orjson.JSONDecodeError as error:
                yield Fault(f"line {number}", f"not valid JSON: {error.msg}")


def _one(where: str, row: Any) -> Converted | Fault:
    return Converted(where, "", row) if isinstance(row, dict) else Fault(where, "wanted a mapping")
