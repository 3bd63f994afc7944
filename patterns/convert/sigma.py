"""Sigma-like keyword rules: the texts that a rule's ``condition`` names under ``detection`` become literals.

Of a Sigma rule only keyword lists and fields' plain values, or those that they contain, start or end with, speak of text. A
``condition`` is taken where it is a plain or: each keyword stands for itself then. What asks for several things at once is
told as a fault. After the Sigma specification, "Detection".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Final

import yaml

from patterns import yamls
from patterns.convert.base import ATTACK, Converted, Fault, Unreadable, literal, text

LEAST: Final = 6
_SEVERITY: Final = {"informational": "low", "low": "low", "medium": "medium", "high": "high", "critical": "high"}
_OR: Final = re.compile(r"\s*((?:1 of )?[\w*]+)(?:\s+or\s+(?:1 of )?[\w*]+)*\s*", re.I)
_TERM: Final = re.compile(r"(?:1 of )?([\w*]+)", re.I)
_CONTAINS: Final = ("contains", "startswith", "endswith")


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
    detection = {str(name): value for name, value in rule["detection"].items()}
    condition = str(detection.pop("condition", "1 of them"))
    if not _OR.fullmatch(condition):
        yield Fault(where, f"condition {condition[:60]!r} is more than a plain or; each keyword alone would match too much")
        return
    named = [_TERM.fullmatch(term.strip()) for term in re.split(r"\sor\s", condition, flags=re.I)]
    wanted = ["*" if term[1].lower() == "them" else term[1] for term in named if term]
    severity = _SEVERITY.get(str(rule.get("level")), "medium")
    title = str(rule.get("title") or where)
    at = 0
    for name, value in detection.items():
        if not any(fnmatchcase(name, one) for one in wanted):
            continue  # what the condition leaves out is no match
        for field, word in _words(name, value):
            at += 1
            plain = word.strip("*").strip() if isinstance(word, str) else ""
            if isinstance(word, Fault):
                yield Fault(f"{where}: {field}", word.what)
            elif len(plain) < LEAST or "*" in plain:
                yield Fault(f"{where}: {field}", f"{word[:60]!r}: wanted {LEAST} characters or more without * within")
            else:
                yield Converted(f"{where}: {field}", f"{title}-{at}", literal(plain, ATTACK, severity))


def _words(field: str, value: Any) -> Iterator[tuple[str, str | Fault]]:
    """The texts any of which suffices, and what is none, each with the field that it is of."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, list):
        for one in value:
            yield from _words(field, one)
    elif isinstance(value, dict) and len(value) == 1:
        ((inner, said),) = value.items()
        inside, (_, *modifiers) = f"{field}.{inner}", str(inner).split("|")
        together = modifiers[-1:] == ["all"]
        others = [one for one in modifiers[: -1 if together else None] if one not in _CONTAINS]
        if others:
            yield inside, Fault(inside, f"modifier {others[0][:40]!r}; known: {', '.join(_CONTAINS)}")
        elif together and isinstance(said, list) and len(said) > 1:
            yield inside, Fault(inside, "it asks for several texts together; each alone would match too much")
        else:
            yield from _words(inside, said)
    elif isinstance(value, dict):
        yield field, Fault(field, "it asks for several fields together; each alone would match too much")
    else:
        yield field, Fault(field, f"wanted a text, not {str(value)[:40]!r}")
