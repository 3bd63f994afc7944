"""YARA rules: their text strings become literals, their plain regular expressions become regexes.

Conditions are not evaluated: each string stands for itself, and a rule that needs several of them together is told as a
fault. Hexadecimal strings match bytes of files, which prompts are not. Rule syntax after the YARA documentation, "Writing
YARA rules".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from patterns.convert.base import ATTACK, Converted, Fault, literal, text

LEAST: Final = 6
"""Characters of a text string below which it is too common to stand alone."""

_COMMENT: Final = re.compile(r'("(?:[^"\\\n]|\\.)*")|/\*.*?(?:\*/|\Z)|//[^\n]*', re.S)
# Each expression fails soon after where it began, or is looked for once: a source may be written to be slow to read.
_RULE: Final = re.compile(r"\brule\s+(\w+)\s*(?::[\w\s]*)?\{")
_STRINGS: Final = re.compile(r"\bstrings\s*:")
_CONDITION: Final = re.compile(r"\bcondition\s*:")
_STRING: Final = re.compile(r'\$(\w*)\s*=\s*(?:"((?:[^"\\\n]|\\.)*)"|(/(?:[^/\\\n]|\\.)+/[is]*)|(\{[^}$]*\}))([^\n$]*)')
_ESCAPE: Final = re.compile(r'\\(?:x([0-9a-fA-F]{2})|(.))')
_NAMED: Final = {"n": "\n", "t": "\t", "r": "\r"}
_ALL: Final = re.compile(r"\b(?:all\s+of|and)\b")


def read(data: bytes) -> Iterator[Converted | Fault]:
    """The strings of all rules."""
    source = _COMMENT.sub(lambda match: match[1] or " ", text(data))
    starts = list(_RULE.finditer(source))
    for at, rule in enumerate(starts):
        body = source[rule.end() : starts[at + 1].start() if at + 1 < len(starts) else len(source)]
        strings = _STRINGS.search(body)
        condition = _CONDITION.search(body, strings.end()) if strings else None
        if strings is None or condition is None:
            yield Fault(f"rule {rule[1]}", "it has no strings")
            continue
        if _ALL.search(body[condition.end() :].partition("}")[0]):
            yield Fault(f"rule {rule[1]}", "its condition needs several strings together; each alone would match too much")
            continue
        for string in _STRING.finditer(body, strings.end(), condition.start()):
            yield _string(rule[1], string)


def _string(rule: str, string: re.Match[str]) -> Converted | Fault:
    where = f"rule {rule}: ${string[1]}"
    if string[4] is not None:
        return Fault(where, "a hexadecimal string matches bytes of files, not text")
    if string[3] is not None:
        return Fault(where, "a regular expression needs hits and misses of its own: write it as a pattern")
    words = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _NAMED.get(match[2], match[2]), string[2])
    if len(words.strip()) < LEAST:
        return Fault(where, f"the text {words!r} is too short to stand alone; wanted {LEAST} characters")
    return Converted(where, f"{rule}-{string[1]}", literal(words, ATTACK))
