"""Whether a text quotes: what is said about an attack mentions it, and what attacks uses it."""

from __future__ import annotations

import re
from typing import Final

LEAST: Final = 8
"""Characters between two marks, and around all that stands in some: fewer are a title or a word, and say nothing."""

MOST: Final = 1_000
"""Further on a closing mark is no longer looked for, so that many opening ones cost little."""

_PAIRS: Final = ("\"\"", "“”", "„“", "„”", "””", "«»", "»«", "‹›", "「」", "『』", "《》")
_APOSTROPHES: Final = ("''", "‘’")
"""Marks that stand in words as well: before and after such a passage no word goes on, and it is of one line."""

_QUOTED: Final = re.compile(
    "|".join(
        [rf"{first}[^{first}{last}]{{{LEAST},{MOST}}}{last}" for first, last in _PAIRS]
        + [rf"(?<!\w){first}(?=\w)[^{first}{last}\n]{{{LEAST},{MOST}}}{last}(?!\w)" for first, last in _APOSTROPHES]
    )
)


def quotes(text: str) -> bool:
    """Whether a passage of ``text`` stands in quotation marks, of any language's, and something is said around it: what is
    nothing but a quotation mentions nothing."""
    passages = quoted(text)
    return bool(passages) and len(text.strip()) - sum(end - start for start, end in passages) >= LEAST


def quoted(text: str) -> list[tuple[int, int]]:
    """The passages in quotation marks, marks included: (start, end) in code points, in order, none within another."""
    return [found.span() for found in _QUOTED.finditer(text)]


def around(text: str) -> str:
    """What is said around the passages in quotation marks, each taken out whole."""
    parts, at = [], 0
    for start, end in quoted(text):
        parts.append(text[at:start])
        at = end
    return " ".join(" ".join((*parts, text[at:])).split())
