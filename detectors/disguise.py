"""What a text hides: characters that show nothing, stacked marks, letters of other styles; without what is ordinary.

A zero-width joiner belongs into a family emoji and into Hindi, a direction mark into Hebrew, a soft hyphen into a long
word. Only what has no such reason is evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from detectors.characters import (
    ACCENTS,
    BIDI,
    FOLD,
    HIDDEN,
    IDEOGRAPHS,
    JOINING,
    MARKS,
    PICTORIAL,
    RIGHT_TO_LEFT,
    UNSPACED,
    VARIATION,
    VARIED,
    Ranges,
)


class Evidence(NamedTuple):
    """One way in which a text was disguised: how often, and where first (code points of the text as it came).

    ``kind`` is one of ``invisible``, ``variation``, ``tags``, ``bidi``, ``control``, ``private`` (characters removed),
    ``combining`` (marks beyond normal use), ``styled`` (words in the letters of mathematics and the like),
    ``whitespace`` (unusual spaces), ``spaced`` (runs of letters set apart), ``confusable`` and ``mixed_script`` (words
    that only look like what they say).
    """

    kind: str
    times: int
    first: int


MAX_MARKS: Final = 8
"""Combining marks on one character of a script that needs them; no word of any language has as many."""

MIN_RUN: Final = 4
"""Characters that show nothing in a row, wherever it stands, that are no accident."""

MANY: Final = 24
"""The same, counted over a whole text: three letters in bits are as many."""

_TAGS: Final = Ranges([(0xE0000, 0xE007F)])
_IDEOGRAPHIC_VARIANTS: Final = Ranges([(0xE0100, 0xE01EF)])
_PRIVATE: Final = Ranges([(0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)])
_COMMON_SPACES: Final = "\u00a0\u202f\u3000\u2009"  # French and typeset text, numbers, Chinese and Japanese
_STYLED_LETTERS: Final = Ranges([(0x1D400, 0x1D7CB), (0x24B6, 0x24E9), (0x1F110, 0x1F189), (0x1D2C, 0x1D6A)])
_WIDE_LETTERS: Final = Ranges([(0xFF21, 0xFF3A), (0xFF41, 0xFF5A)])
_SPACES_ALL: Final = Ranges.of("\u2800" + "".join(c for c, to in FOLD.items() if to == " " and c.isspace()))
_ODD_SPACES: Final = _SPACES_ALL - Ranges.of(_COMMON_SPACES)

TELLING: Final = HIDDEN | ACCENTS | _STYLED_LETTERS | _WIDE_LETTERS | _ODD_SPACES
"""The characters that `evidence` looks at: a text without them has none to give."""

TERMINAL_SEQUENCE: Final = r"\x1b\[[0-9;?]{0,16}[A-Za-z]"
"""An expression for the colours and cursor movements that programs write for a terminal (ECMA-48, control sequences)."""

_CONTROLS: Final = Ranges([(0x00, 0x08), (0x0E, 0x1F), (0x7F, 0x7F)])
_WRONGLY_DECODED: Final = Ranges([(0x80, 0x9F)])  # controls that nobody writes: what is left of Windows' quotes and dashes
_ON_THEIR_OWN: Final = Ranges.of("\u200b\u200c\u200d\u00ad\ufeff")  # each has reasons of its own
_INVISIBLE: Final = HIDDEN - _TAGS - VARIATION - BIDI - _CONTROLS - _WRONGLY_DECODED - _PRIVATE - _ON_THEIR_OWN

_UNSEEN: Final = (_INVISIBLE | _ON_THEIR_OWN).roughly()
_DIRECTION, _VARIANT, _IDEOGRAPHIC = (s.exactly() for s in (BIDI, VARIATION, _IDEOGRAPHIC_VARIANTS))
_JOINS, _HAN, _BASE, _PICTURE = (s.exactly() for s in (JOINING, IDEOGRAPHS, VARIED, PICTORIAL))
_BREAKABLE, _RTL = UNSPACED.exactly(), RIGHT_TO_LEFT.exactly()

# Each begins with one class of characters, which the engine finds fast, and looks around itself only there.
_UNEXPLAINED: Final = re.compile(
    f"[{_UNSEEN}](?:(?<=[{_INVISIBLE.exactly()}])"
    f"|(?<=\u200c)(?<![{_JOINS}]\u200c)"
    f"|(?<=\u200d)(?<![{_JOINS}]\u200d)(?:(?<![{_PICTURE}]\u200d)(?<![{_PICTURE}]\ufe0f\u200d)|(?![{_PICTURE}]))"
    f"|(?<=\u200b)(?<![{_BREAKABLE}]\u200b)(?![{_BREAKABLE}])"
    r"|(?<=\u00ad)(?:(?<![^\W\d_]\u00ad)|(?![^\W\d_]))"
    r"|(?<=\ufeff)(?<!\A\ufeff))"
)
_IN_WORD: Final = re.compile(rf"[{_UNSEEN}](?:(?<=[^\W_][{_UNSEEN}])[{_UNSEEN}]*(?=[^\W_])|[{_UNSEEN}]{{{MIN_RUN - 1},}})")
_HIDDEN: Final = {
    "variation": re.compile(f"[{_VARIANT}](?:(?<![{_BASE}{_HAN}][{_VARIANT}])|(?<=[{_IDEOGRAPHIC}])(?<![{_HAN}][{_VARIANT}]))"),
    "bidi": re.compile(
        f"[{_DIRECTION}](?:(?<=[\u202d\u202e])|(?<![{_RTL}][{_DIRECTION}])(?![{_RTL}])"
        rf"(?:(?<![\u200e\u200f\u061c])|(?<=\w[{_DIRECTION}])(?=\w)))"
    ),
    "tags": re.compile(f"[{_TAGS.exactly()}]"),
    "control": re.compile(f"[{_CONTROLS.exactly()}](?:(?<!\x1b)|(?<!(?={TERMINAL_SEQUENCE}).))"),
    "private": re.compile(f"[{_PRIVATE.exactly()}]"),
}
_FLAG = re.compile("(?<=\U0001f3f4)[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
# A class written three times is found faster than one counted: the engine looks for the first alone.
_MARK, _ACCENT, _WIDE, _STYLE = MARKS.plane(), ACCENTS.plane(), _WIDE_LETTERS.plane(), _STYLED_LETTERS.exactly()
_ACCENTED = re.compile(f"[{_ACCENT}]")
_STACK = re.compile(f"[{_ACCENT}][{_ACCENT}][{_ACCENT}]+")
_TALL_STACK = re.compile(f"[{_MARK}][{_MARK}][{_MARK}]{{{MAX_MARKS - 1},}}")
_MARKED = re.compile(f"(?:[A-Za-z][{_ACCENT}]{{1,2}}){{4,}}")
_SPACES = re.compile(f"[{_ODD_SPACES.plane()}]")
_STYLED = re.compile(f"[{_STYLE}][{_STYLE}][{_STYLE}]+")
_FULL_WIDTH = re.compile(f"[{_WIDE}][{_WIDE}][{_WIDE}]+")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def evidence(text: str) -> Iterator[Evidence]:
    """What in ``text`` is hidden or dressed up without an ordinary reason."""
    if unseen := list(_unseen(text)):
        yield Evidence("invisible", sum(end - start for start, end in unseen), unseen[0][0])
    plain = _FLAG.sub(_blank, text) if "\U000e007f" in text else text
    for kind, expression in _HIDDEN.items():
        if first := expression.search(plain):
            yield Evidence(kind, len(expression.findall(plain)), first.start())
    stacks = [_TALL_STACK, _STACK, _MARKED] if _ACCENTED.search(text) else [_TALL_STACK]
    if marked := [match.span() for expression in stacks for match in expression.finditer(text)]:
        yield Evidence("combining", sum(end - start for start, end in marked), min(marked)[0])
    styled = [m.start() for m in _STYLED.finditer(text)]
    if not _EAST_ASIAN.search(text):
        styled += [m.start() for m in _FULL_WIDTH.finditer(text)]
    if styled:
        yield Evidence("styled", len(styled), min(styled))
    if spaces := [m.start() for m in _SPACES.finditer(text)]:
        yield Evidence("whitespace", len(spaces), spaces[0])


def _unseen(text: str) -> Iterator[tuple[int, int]]:
    """Characters that show nothing, without a reason: inside of words, in long rows, or at very many places.

    One or two at the edge of a word come from editors, translators and word processors every day.
    """
    first = _UNEXPLAINED.search(text)
    if first is None:
        return
    if len(everywhere := _UNEXPLAINED.findall(text)) >= MANY:
        yield first.start(), first.start() + len(everywhere)
        return
    for run in _IN_WORD.finditer(text):
        found = _UNEXPLAINED.search(text, run.start())
        if found is not None and found.start() < run.end():
            yield run.span()


def _blank(flag: re.Match[str]) -> str:
    return " " * len(flag[0])
