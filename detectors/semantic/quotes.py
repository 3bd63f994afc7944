"""Whether a text quotes: what is said about an attack mentions it, and what attacks uses it."""

from __future__ import annotations

import re
from typing import Final

LEAST: Final = 8
"""Characters between two marks, and around all that stands in some: fewer are a title or a word, and say nothing."""

MOST: Final = 1_000
"""Further on a closing mark is no longer looked for, so that many opening ones cost little."""

_PAIRS: Final = ("“”", "„“", "„”", "«»", "‹›", "「」", "『』", "《》")
_EITHER: Final = ("\"\"", "””", "»«")
"""Marks of which one alone does not say whether it opens or closes. What they hold begins and ends with no space, begins with
a word where one goes before, and ends with no bracket that opens: a mark that closed something else, or stands for inches,
opens nothing, and one that opens something else closes nothing."""

_APOSTROPHES: Final = ("''", "‘’")
"""Marks that stand in words as well: before and after such a passage no word goes on, and it is of one line."""

_QUOTED: Final = re.compile(
    "|".join(
        [rf"{first}[^{first}{last}]{{1,{MOST}}}{last}" for first, last in _PAIRS]
        + [rf"{first}(?:(?<!\w.)(?=\S)|(?=\w))[^{first}{last}]{{1,{MOST}}}(?<![\s(\[{{]){last}" for first, last in _EITHER]
        + [rf"(?<!\w){first}(?=\w)[^{first}{last}\n]{{1,{MOST}}}{last}(?!\w)" for first, last in _APOSTROPHES]
    )
)
"""Whatever stands between two marks, short or long: else the mark that closes a word would open what comes after it, and what
stands between two quotations would be taken for one."""


def quotes(text: str) -> bool:
    """Whether a passage of ``text`` stands in quotation marks, of any language's, and something is said around it: what is
    nothing but a quotation mentions nothing."""
    passages = quoted(text)
    return bool(passages) and len(text.strip()) - sum(end - start for start, end in passages) >= LEAST


def quoted(text: str) -> list[tuple[int, int]]:
    """The passages in quotation marks, marks included: (start, end) in code points, in order, none within another."""
    return [found.span() for found in _QUOTED.finditer(text) if found.end() - found.start() >= LEAST + 2]


def around(text: str) -> str:
    """What is said around the passages in quotation marks, each taken out whole."""
    parts, at = [], 0
    for start, end in quoted(text):
        parts.append(text[at:start])
        at = end
    return " ".join(" ".join((*parts, text[at:])).split())
