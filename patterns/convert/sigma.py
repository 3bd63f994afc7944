"""Sigma-like keyword rules: the lists under ``detection`` become literals.

Of a Sigma rule only keyword lists and ``field|contains`` values speak of text; the logic of ``condition`` is taken where it is
a plain or of them. After the Sigma specification, "Detection".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from patterns import yamls
from patterns.convert.base import ATTACK, Converted, Fault, Unreadable, literal, text

LEAST: Final = 6
_SEVERITY: Final = {"informational": "low", "low": "low", "medium": "medium", "high": "high", "critical": "high"}
_OR: Final = re.compile(r"\s*(?:1 of \w+\*?|[\w*]+(?:\s+or\s+[\w*]+)*)\s*", re.I)


def read(data: bytes) -> Iterator[Converted | Fault]:
    """One rule a document."""
    try:
        documents = yamls.load_all(text(data))
    except yaml.YAMLError as error:
        raise Unreadable(f"not YAML: {str(error)[:300]}") from None
    for number, rule in enumerate(documents):
        where = f"rule {number + 1}"
        if not isinstance(rule, dict) or not isinstance(rule.get("detection"), dict):
            yield Fault(where, "wanted a mapping with `detection`")
            continue
        yield from _rule(where, rule)


def _rule(where: str, rule: dict[str, Any]) -> Iterator[Converted | Fault]:
    detection = dict(rule["detection"])
    condition = str(detection.pop("condition", ""))
    if condition and not _OR.fullmatch(condition):
        yield Fault(where, f"condition {condition[:60]!r} is more than a plain or; each keyword alone would match too much")
        return
    severity = _SEVERITY.get(str(rule.get("level")), "medium")
    title = str(rule.get("title") or where)
    at = 0
    for name, value in detection.items():
        for word in _words(value):
            at += 1
            plain = word.strip("*").strip()
            if len(plain) < LEAST or "*" in plain:
                yield Fault(f"{where}: {name}", f"{word[:60]!r}: wanted {LEAST} characters or more without * within")
            else:
                yield Converted(f"{where}: {name}", f"{title}-{at}", literal(plain, ATTACK, severity))


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _words(one)
    elif isinstance(value, dict):
        for field, inner in value.items():
            if "|" not in str(field) or str(field).rpartition("|")[2] in ("contains", "startswith", "endswith"):
                yield from _words(inner)
