"""Words that each stand between marks of their own: emphasis, tags, quotation marks, brackets, the cells of a table.

Pages, mails and converters write so, and it says nothing. But what is one sentence to whoever reads the page is no sentence
as it is written. Nor is what has a number before, or behind, each word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from detectors.decode import languages
from detectors.decode.english import known
from detectors.decode.escapes import around
from detectors.decode.piece import Allowance, Piece, printable
from detectors.decode.words import LITTLE
from detectors.offsets import Change, Shift, rewrite

MIN_GAPS: Final = 4
"""Places with marks between five words, or groups of up to three, in a row."""

MIN_HALVES: Final = 7
"""What such places come to: two each where one's marks end and the next one's begin, one where marks only begin, or end, as in
prose that stresses many words."""

MIN_OF_WRAPPED: Final = 0.3
"""The least share of letters in common words among them; names of columns and in programs have less."""

MIN_NUMBERED: Final = 8
"""Words in a row with a number between each two; the rows of a small table have fewer."""

MIN_OF_NUMBERED: Final = 0.4
"""The least share of letters in common words among them."""

MAX_APART: Final = 160
"""Code points between two such rows that are read as one text."""

# Each expression can be read in one way only, and goes no further than a constant from where it began.
_WORD: Final = r"[^\W\d_][^\W_]{0,39}+(?:['\u2019-][^\W_]{1,40}+){0,3}+"
_TAG: Final = r"<!--(?:[^-]|-(?!->)){0,80}+-->|</?[A-Za-z][^<>]{0,120}+>"
_INLINE: Final = (
    r"<!--(?:[^-]|-(?!->)){0,80}+-->"
    r"|</?(?:a|abbr|b|bdi|bdo|big|cite|code|del|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var|wbr)"
    r"(?![\w:-])[^<>]{0,120}+>"
)
_EMPHASIS: Final = (
    rf"{_TAG}|\*{{2,3}}+|\*(?!\s)|(?<=\S)\*|~~|(?<![^\W_])_{{1,3}}+|_{{1,3}}+(?![^\W_])|\\[A-Za-z]{{1,12}}+\{{"
    r"|\]\([^()\s]{0,200}+\)"
)
_SIGNS: Final = "\"'`()[]{}\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u201a\u300c\u300d\u300e\u300f"
_SIGN: Final = f"[{re.escape(_SIGNS)}]"
_BLANK: Final = r"(?:\s{1,40}+|[,.;:!?/-])"
_MARKUP: Final = rf"[\"']\d{{1,6}}+[\"']|{_EMPHASIS}|\||{_SIGN}"  # a number in quotation marks is a key, and no word
_GAP_BETWEEN: Final = (
    rf"{_BLANK}{{0,4}}+(?:{_EMPHASIS}|\||{_SIGN}{_BLANK}{{0,3}}+(?:{_MARKUP}))(?:{_BLANK}|{_MARKUP}){{0,40}}+"
)
_FEW: Final = rf"(?:(?:{_SIGN}{_BLANK}{{1,3}}+|{_BLANK}{{1,3}}+{_SIGN}?+){_WORD}){{0,2}}+"
_ROW = re.compile(rf"(?<![^\W_]){_WORD}(?:{_FEW}{_GAP_BETWEEN}{_WORD}){{{MIN_GAPS},}}+{_FEW}")
_GAP = re.compile(_GAP_BETWEEN)
_GLUE = re.compile(rf"(?:{_INLINE}|\*{{1,3}}+|~~)+")
_MARK = re.compile(_EMPHASIS)
_ONE = re.compile(rf"{_EMPHASIS}|\||{_SIGN}")
_WITHIN = re.compile(rf"{_INLINE}|[*_~\\]")
_NUMBER: Final = r"(?:[^\w\x80-\U0010ffff]{1,6}+[0-9]{1,6}+){1,3}+[^\w\x80-\U0010ffff]{1,6}+"
_NUMBERED = re.compile(rf"(?<![^\W_])[^\W\d_]{{1,20}}+(?:{_NUMBER}[^\W\d_]{{1,20}}+){{{MIN_NUMBERED - 1},}}(?![^\W_])")
_NUMBERS = re.compile(_NUMBER)
_VARIES = re.compile(r"[0-9]+|\s+")
_END = re.compile("[.!?]")
_KEY = re.compile(r"[\"']\s?:")
_ASCII_LETTERS = re.compile("[A-Za-z]")


def wrapped(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Sentences of which every word, or every other one, has marks around it: ``**tell** **me**``, ``<p>tell</p><p>me</p>``.

    Also the values of an object, the words of a list and the cells of a table.
    """
    near: list[re.Match[str]] = []
    for row in _ROW.finditer(text):
        if not _counts(text, row):
            continue
        if near and row.start() - near[-1].end() > MAX_APART:
            yield from _without_marks(text, near)
            near = []
        near.append(row)
    if near:
        yield from _without_marks(text, near)


def numbered(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Sentences of which each word has its number: those of a list, of lines, of footnotes, of rows in a file."""
    for row in _NUMBERED.finditer(text):
        start, end = row.span()
        gaps = list(_NUMBERS.finditer(row[0]))
        plain, edits = rewrite(row[0], [(*gap.span(), " ") for gap in gaps])
        kinds = [_VARIES.sub("", gap[0]) for gap in gaps]
        alike = kinds.count(kinds[len(kinds) // 2]) >= len(kinds) - 2  # what stands before and behind a list may be words, too
        if alike and edits is not None and is_said(plain, MIN_OF_NUMBERED, 2):
            yield Piece("numbered", plain, start, end, (Shift(start), edits))


def _counts(text: str, row: re.Match[str]) -> bool:
    """Whether marks part the words of a row often enough, and the words may be a sentence."""
    begin, end = row.span()
    changes = list(_between(text, begin, end))
    halves, at = 0, begin
    fields: set[str] = set()
    for gap in _GAP.finditer(text, begin, end):
        if _KEY.match(gap[0]) and text[at : gap.start()].isalpha():
            fields.add(text[at : gap.start()])
            if len(fields) > 1:
                return False  # a record: what its fields are called and what they hold is no sentence
        at = gap.end()
        marks = [mark[0] for mark in _ONE.finditer(text, *gap.span())]
        halves += 1 if len(marks) == 1 and _WITHIN.match(marks[0]) else 2
    if halves < MIN_HALVES:
        return False
    return is_said(rewrite(text[begin:end], [(start - begin, stop - begin, new) for start, stop, new in changes])[0])


def _without_marks(text: str, rows: list[re.Match[str]]) -> Iterator[Piece]:
    low, high = around(text, rows[0].start(), rows[-1].end())
    changes: list[Change] = []
    at = low
    for row in rows:
        begin, end = row.span()
        changes += _before(text, at, begin)
        changes += _between(text, begin, end)
        at = end + len(text[end:high]) - len(text[end:high].lstrip(_SIGNS))
        changes += [(end, at, "")] if at > end else []
    changes += [(*mark.span(), "") for mark in _MARK.finditer(text, at, high)]
    plain, edits = rewrite(text[low:high], [(start - low, stop - low, new) for start, stop, new in changes])
    if edits is not None and printable(plain):
        yield Piece("wrapped", plain, low, high, (Shift(low), edits))


def _before(text: str, at: int, begin: int) -> Iterator[Change]:
    """The marks before a row, and signs that its first word begins with."""
    opening = at + len(text[at:begin].rstrip(_SIGNS))
    for mark in _MARK.finditer(text, at, begin):
        if mark.end() > opening:
            opening = mark.start()
            break
        yield *mark.span(), ""
    if opening < begin:
        yield opening, begin, ""


def _between(text: str, begin: int, end: int) -> Iterator[Change]:
    """What takes the place of the marks within a row. Of the keys of objects those go that number or repeat themselves."""
    keys: set[str] = set()
    last: Change | None = None
    for gap in _GAP.finditer(text, begin, end):
        start, stop = gap.span()
        change = (start, stop, _gap(gap[0]))
        if _KEY.match(gap[0]):
            key = text[begin:start]
            if key in keys or not key.isalpha():
                change = (begin if last is None else last[0], stop, " ")
                last = None
            keys.add(key)
        if last is not None:
            yield last
        last, begin = change, stop
    if last is not None:
        yield last


def _gap(gap: str) -> str:
    """Nothing within a word, else a space, behind what ends a sentence."""
    if _GLUE.fullmatch(gap):
        return ""
    ends = _END.search(_MARK.sub("", gap))
    return f"{ends[0]} " if ends else " "


def is_said(plain: str, share: float = MIN_OF_WRAPPED, little: int = 1) -> bool:
    """Whether words may be a sentence: lists have none of the little words that hold one together."""
    if 2 * len(_ASCII_LETTERS.findall(plain)) < sum(map(str.isalpha, plain)):
        return True  # of words in other scripts none are known here
    english, other = known(plain), languages.known(plain)
    return max(english, other) >= share and (other > english or len(LITTLE.intersection(plain.lower().split())) >= little)
