"""STIX 2.1 bundles: indicators that compare a text become literals.

Of a STIX pattern only single comparisons of a string by ``=`` or ``LIKE`` with ``%`` at the ends, joined by OR, say something
about a prompt; others are told as faults. After "STIX Version 2.1", section 9 (OASIS, 2021).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from patterns.convert.base import ATTACK, Converted, Fault, Unreadable, literal

LEAST: Final = 6
_COMPARISON: Final = re.compile(r"\s*[\w-]+:[\w.'\[\]-]+\s*(=|LIKE)\s*'((?:[^'\\]|\\.)*)'\s*")


def read(data: bytes) -> Iterator[Converted | Fault]:
    """The indicators of a bundle; revoked ones are left out."""
    try:
        bundle: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"not valid JSON: {error.msg}") from None
    objects = bundle.get("objects") if isinstance(bundle, dict) and bundle.get("type") == "bundle" else None
    if not isinstance(objects, list):
        raise Unreadable("wanted a STIX bundle with `objects`")
    for number, one in enumerate(objects):
        if not isinstance(one, dict) or one.get("type") != "indicator" or one.get("revoked") is True:
            continue
        yield from _indicator(f"objects[{number}]", one)


def _indicator(where: str, one: dict[str, Any]) -> Iterator[Converted | Fault]:
    pattern = one.get("pattern")
    if one.get("pattern_type", "stix") != "stix" or not isinstance(pattern, str):
        yield Fault(where, f"pattern_type {str(one.get('pattern_type'))[:40]!r}; wanted stix")
        return
    inner = pattern.strip()
    if not (inner.startswith("[") and inner.endswith("]")) or "][" in inner.replace(" ", ""):
        yield Fault(where, "wanted one observation expression in brackets")
        return
    for at, part in enumerate(re.split(r"\sOR\s", inner[1:-1])):
        match = _COMPARISON.fullmatch(part)
        if match is None:
            yield Fault(where, f"{part.strip()[:80]!r}: wanted a comparison of a text by = or LIKE")
            continue
        words = re.sub(r"\\(.)", r"\1", match[2])
        if match[1] == "LIKE":
            words = words.strip("%")
        if len(words) < LEAST or (match[1] == "LIKE" and "%" in words):
            yield Fault(where, f"{words[:60]!r}: wanted {LEAST} characters or more, % at the ends alone")
            continue
        yield Converted(where, f"{one.get('name') or one.get('id') or ''}-{at}", literal(words, ATTACK))
