"""Letters set apart: ``i g n o r e``, ``i.g.n.o.r.e``, ``i_g_n_o_r_e`` read as the word that they spell.

Letters that stand alone, three characters or less from the next, form a group. Where the same gap comes again and again it
is the gap between letters, and is dropped; any other gap of the group is one between words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Final, NamedTuple

from detectors.characters import MARKS
from detectors.offsets import Change, Edits, rewrite

MIN_LETTERS: Final = 4
"""Letters in a row that are taken for a spelt word; three are an abbreviation (``e.g.``, ``U.S.A``) too often."""

MIN_LETTERS_APART: Final = 7
"""The same where gaps are longer than one character, or end a line: ``A, B, C, D`` is a list, not a word."""

MAX_GAP: Final = 3
"""Characters in a gap (`` - ``); blanks may be more."""

MAX_BLANKS: Final = 16
"""Blanks in a gap between words; what is wider is layout."""

Span = tuple[int, int]

_ALONE = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9](?![A-Za-z0-9])")
_ALONE_ANY = re.compile(f"(?<![^\\W_])(?<![{MARKS.plane()}])[^\\W_][{MARKS.plane()}]*+(?![^\\W_])")
GAPS: Final = r"[A-Za-z0-9][ \t]{2,}[A-Za-z0-9]|(?:[A-Za-z0-9][^A-Za-z0-9]{1,3}){4}"
"""For a `Probe` over bytes: true of texts with wide gaps between words, or with letters that stand alone in a row."""

_FOREIGN = r"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|\xf0[\x80-\xbf]{3})"
FOREIGN_GAPS: Final = (
    r"[A-Za-z0-9\x80-\xff][ \t]{2,}[A-Za-z0-9\x80-\xff]"
    rf"|(?:(?:[A-Za-z0-9]|{_FOREIGN})[ ._*/|,~+-]){{3}}(?:[A-Za-z0-9]|{_FOREIGN})"
    rf"|(?:[A-Za-z0-9]{_FOREIGN}{{1,2}}){{4}}"
)
"""The same where letters, or what stands between them, are not ASCII."""


class Joined(NamedTuple):
    """The text with its words joined, the map to the one before, and where the runs began in that one."""

    text: str
    edits: Edits
    runs: tuple[int, ...]


def join(text: str) -> Joined | None:
    """Join letters set apart; None where there are none."""
    alone = _ALONE if text.isascii() else _ALONE_ANY
    changes: list[Change] = []
    runs: list[int] = []
    for group in _groups(text, [match.span() for match in alone.finditer(text)]):
        gaps = [text[a[1] : b[0]] for a, b in pairwise(group)]
        inner = _inner_gaps(text, group, gaps)
        if inner:
            changes += _join_group(group, gaps, inner)
            if not _is_abbreviation(text, group, inner):
                runs.append(group[0][0])
    joined, edits = rewrite(text, changes)
    return Joined(joined, edits, tuple(runs)) if edits is not None else None


def _groups(text: str, letters: Sequence[Span]) -> Iterator[Sequence[Span]]:
    """Letters that follow each other closely, with no word between them."""
    start = 0
    for at in range(1, len(letters) + 1):
        if at == len(letters) or not _is_gap(text, letters[at - 1][1], letters[at][0]):
            if at - start >= MIN_LETTERS:
                yield letters[start:at]
            start = at


def _is_gap(text: str, start: int, end: int) -> bool:
    gap = text[start:end]
    if len(gap) <= MAX_GAP:
        return not any(map(str.isalnum, gap))
    return len(gap) <= MAX_BLANKS and not gap.strip(" \t")


def _inner_gaps(text: str, group: Sequence[Span], gaps: Sequence[str]) -> set[str]:
    """The gaps between letters of one word: those that come often enough in a row.

    A backslash is never one: ``\\t\\t\\t\\t`` is layout, written out.
    """
    inner: set[str] = set()
    at = 0
    for gap, same in groupby(gaps):
        count = len(list(same))
        least = MIN_LETTERS if len(gap) == 1 and gap != "\n" else MIN_LETTERS_APART
        if gap.strip(" \t") == "" and "\n" not in gap:
            least = MIN_LETTERS
        if gap != "\\" and count >= least - 1 and _spells(text, group[at : at + count + 1]):
            inner.add(gap)
        at += count
    return inner


def _spells(text: str, letters: Sequence[Span]) -> bool:
    """Whether the letters may spell words: not numbers, not the alphabet."""
    first = [text[start] for start, _ in letters]
    if sum(map(str.isalpha, first)) * 2 <= len(first):
        return False
    return any(ord(b) - ord(a) != 1 for a, b in pairwise(first))


def _join_group(group: Sequence[Span], gaps: Sequence[str], inner: set[str]) -> Iterator[Change]:
    dropped = [gap in inner for gap in gaps]
    beside = [before or after for before, after in zip([False, *dropped], [*dropped[1:], False], strict=False)]
    for at, gap in enumerate(gaps):
        start, end = group[at][1], group[at + 1][0]
        if dropped[at]:
            yield start, end, ""
        elif beside[at] and gap != " ":
            # Beside a joined word only: two letters that stay alone must stay as they stood, or they might be
            # joined when the text is read again.
            yield start, end, " "


def _is_abbreviation(text: str, group: Sequence[Span], inner: set[str]) -> bool:
    """``U.S.S.R.`` and the like: joined, but no sign of anything."""
    letters = "".join(text[start] for start, _ in group)
    return inner == {"."} and letters.isupper() and len(letters) < 2 * MIN_LETTERS
