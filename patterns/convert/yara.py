"""YARA rules: their text strings become literals.

Conditions are not evaluated: each string that a plain ``or`` names stands for itself, and a rule that asks for more is told as
a fault. Hexadecimal strings match bytes of files, which prompts are not, and a regular expression needs examples of its own.
Rule syntax after the YARA documentation, "Writing YARA rules".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Final

from patterns.convert.base import ATTACK, Converted, Fault, literal, text

LEAST: Final = 6
"""Characters of a text string below which it is too common to stand alone."""

_COMMENT: Final = re.compile(r'("(?:[^"\\\n]|\\.)*")|/\*.*?(?:\*/|\Z)|//[^\n]*', re.S)
# Each expression fails soon after where it began, or is looked for once: a source may be written to be slow to read.
_RULE: Final = re.compile(r"\brule\s+(\w+)\s*(?::[\w\s]*)?\{")
_STRINGS: Final = re.compile(r"\bstrings\s*:")
_CONDITION: Final = re.compile(r"\bcondition\s*:")
_STRING: Final = re.compile(r'\$(\w*)\s*=\s*(?:"((?:[^"\\\n]|\\.)*)"|(/(?:[^/\\\n]|\\.)+/[is]*)|(\{[^}$]*\})|)([^\n$]*)')
_ESCAPE: Final = re.compile(r'\\(?:x([0-9a-fA-F]{2})|(.))')
_NAMED: Final = {"n": "\n", "t": "\t", "r": "\r"}
_OR: Final = re.compile(r"\bor\b")
_AROUND: Final = re.compile(r"\(((?:[^()]|\([^()]*\))*)\)")
_ANY: Final = re.compile(r"(any|1|all)\s+of\s+(?:them|\(?\s*(\$[\w$*,\s]*?)\s*\)?)")


def read(data: bytes) -> Iterator[Converted | Fault]:
    """The strings of all rules."""
    source = _COMMENT.sub(lambda match: match[1] or " ", text(data))
    starts = list(_RULE.finditer(source))
    if not starts and source.strip():
        yield Fault("the whole file", "there is no rule in it")
    for at, rule in enumerate(starts):
        body = source[rule.end() : starts[at + 1].start() if at + 1 < len(starts) else len(source)]
        strings = _STRINGS.search(body)
        if strings is None:
            yield Fault(f"rule {rule[1]}", "strings: it has none")
            continue
        condition = _CONDITION.search(body, strings.end())
        if condition is None:
            yield Fault(f"rule {rule[1]}", "condition: it has none")
            continue
        found = list(_STRING.finditer(body, strings.end(), condition.start()))
        said = " ".join(body[condition.end() :].partition("}")[0].split())
        named = _named(said, len(found))
        if named is None:
            yield Fault(f"rule {rule[1]}", f"condition: {said[:60]!r} is more than a plain or of its strings; each alone would"
                                           " match too much")  # fmt: skip
            continue
        strings_named = [string for string in found if named("$" + string[1])]
        if not strings_named:
            yield Fault(f"rule {rule[1]}", f"condition: {said[:60]!r} names none of its strings")
        for string in strings_named:
            yield _string(rule[1], string)


def _named(condition: str, strings: int) -> Callable[[str], bool] | None:
    """Which of a rule's strings a condition is a plain or of; None where it asks for more than one of them, or for more."""
    wanted: list[str] = []
    for part in _OR.split(_bare(condition)):
        term = _bare(part)
        if re.fullmatch(r"\$\w+", term):
            wanted.append(term)
            continue
        some = _ANY.fullmatch(term)
        if some is None or (some[1] == "all" and strings > 1):
            return None
        wanted += [one.strip() for one in some[2].split(",")] if some[2] else ["$*"]
    return lambda name: any(fnmatchcase(name, one) for one in wanted)


def _bare(condition: str) -> str:
    """What stands in parentheses around all of it."""
    inner = _AROUND.fullmatch(condition.strip())
    return inner[1] if inner else condition.strip()


def _string(rule: str, string: re.Match[str]) -> Converted | Fault:
    where = f"rule {rule}: ${string[1]}"
    if string[4] is not None:
        return Fault(where, "a hexadecimal string matches bytes of files, not text")
    if string[3] is not None:
        return Fault(where, "a regular expression needs hits and misses of its own: write it as a pattern")
    if string[2] is None:
        return Fault(where, "wanted a text in quotation marks that ends on its line")
    words = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _NAMED.get(match[2], match[2]), string[2])
    if len(words.strip()) < LEAST:
        return Fault(where, f"the text {words!r} is too short to stand alone; wanted {LEAST} characters")
    return Converted(where, f"{rule}-{string[1]}", literal(words, ATTACK))
