"""STIX 2.1 bundles: indicators that compare a text become literals.

Of a STIX pattern only single comparisons of a string by ``=`` or ``LIKE`` with ``%`` at the ends, joined by OR within brackets
or between them, say something about a prompt; others are told as faults. What is revoked, not valid yet or no longer valid is
left out.
After "STIX Version 2.1", section 9 (OASIS, 2021).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from patterns.convert.base import ATTACK, Converted, Fault, Unreadable, literal
from patterns.schema import shown

LEAST: Final = 6
_TEXT: Final = re.compile(r"'((?:[^'\\]|\\.)*)'")
_COMPARISON: Final = re.compile(r"\s*[\w-]+:[\w.'\[\]*-]+\s*(=|LIKE)\s*'(\d+)'\s*")


def read(data: bytes) -> Iterator[Converted | Fault]:
    """The indicators of a bundle that hold now."""
    try:
        bundle: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"not valid JSON: {error.msg}") from None
    objects = bundle.get("objects") if isinstance(bundle, dict) and bundle.get("type") == "bundle" else None
    if not isinstance(objects, list):
        raise Unreadable("wanted a STIX bundle with `objects`")
    now = datetime.now(UTC).isoformat()
    for number, one in enumerate(objects):
        if not isinstance(one, dict) or one.get("type") != "indicator" or one.get("revoked") is True:
            continue
        where, times = f"objects[{number}]", {field: one.get(field) or now for field in ("valid_from", "valid_until")}
        odd = next((field for field, time in times.items() if not isinstance(time, str)), None)
        if odd is not None:
            yield Fault(where, f"{odd}: got {shown(times[odd])}; wanted a time")
        elif times["valid_from"] <= now <= times["valid_until"]:  # all begin with the year and end with fractions of a second
            yield from _indicator(where, one)


def _indicator(where: str, one: dict[str, Any]) -> Iterator[Converted | Fault]:
    pattern, kind = one.get("pattern"), one.get("pattern_type", "stix")
    if kind != "stix":
        yield Fault(where, f"pattern_type {shown(kind)}; wanted stix")
        return
    if not isinstance(pattern, str):
        yield Fault(where, "pattern: wanted a text")
        return
    name = next((given for given in (one.get("name"), one.get("id")) if given and isinstance(given, str)), "")
    said = [match[1] for match in _TEXT.finditer(pattern)]
    numbers = iter(range(len(said)))
    outline = _TEXT.sub(lambda _: f"'{next(numbers)}'", pattern).strip()  # what is said holds no word of the language
    if not (outline.startswith("[") and outline.endswith("]")) or "FOLLOWEDBY" in outline:  # which binds less than OR
        yield Fault(where, "pattern: wanted observation expressions in brackets, joined by OR")
        return
    for at, part in enumerate(re.split(r"\]\s*OR\s*\[|\sOR\s", outline[1:-1])):
        match = _COMPARISON.fullmatch(part)
        if match is None:
            told = re.sub(r"'(\d+)'", lambda text: f"'{said[int(text[1])]}'", part)
            yield Fault(where, f"pattern: {told.strip()[:80]!r}: wanted a comparison of a text by = or LIKE")
            continue
        words = re.sub(r"\\(.)", r"\1", said[int(match[2])])
        if match[1] == "LIKE":
            words = words.strip("%")
        if len(words) < LEAST or (match[1] == "LIKE" and "%" in words):
            yield Fault(where, f"pattern: {words[:60]!r}: wanted {LEAST} characters or more, % at the ends alone")
            continue
        yield Converted(where, f"{name}-{at}", literal(words, ATTACK))
