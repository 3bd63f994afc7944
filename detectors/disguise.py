"""What a text hides: characters that show nothing, stacked marks, letters of other styles; without what is ordinary.

A zero-width joiner belongs into a family emoji and into Hindi, a direction mark into Hebrew, a soft hyphen into a long
word. Only what has no such reason is evidence.
"""

from __future__ import annotations

import functools
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

class _Expressions(NamedTuple):
    unexplained: re.Pattern[str]
    in_word: re.Pattern[str]
    hidden: dict[str, re.Pattern[str]]
    flag: re.Pattern[str]
    accented: re.Pattern[str]
    stack: re.Pattern[str]
    tall_stack: re.Pattern[str]
    marked: re.Pattern[str]
    spaces: re.Pattern[str]
    styled: re.Pattern[str]
    full_width: re.Pattern[str]
    east_asian: re.Pattern[str]


@functools.cache
def _expressions() -> _Expressions:
    """Compiled for the first text that has anything to give: it takes Python's engine thirty milliseconds, so large are the
    classes, and most texts are ASCII."""
    invisible = HIDDEN - _TAGS - VARIATION - BIDI - _CONTROLS - _WRONGLY_DECODED - _PRIVATE - _ON_THEIR_OWN
    unseen = (invisible | _ON_THEIR_OWN).roughly()
    direction, variant, ideographic = (s.exactly() for s in (BIDI, VARIATION, _IDEOGRAPHIC_VARIANTS))
    joins, han, base, picture = (s.exactly() for s in (JOINING, IDEOGRAPHS, VARIED, PICTORIAL))
    breakable, rtl = UNSPACED.exactly(), RIGHT_TO_LEFT.exactly()
    mark, accent, wide, style = MARKS.plane(), ACCENTS.plane(), _WIDE_LETTERS.plane(), _STYLED_LETTERS.exactly()
    # Each begins with one class of characters, which the engine finds fast, and looks around itself only there. A class
    # written three times is found faster than one counted: the engine looks for the first alone.
    return _Expressions(
        unexplained=re.compile(
            f"[{unseen}](?:(?<=[{invisible.exactly()}])"
            f"|(?<=\u200c)(?<![{joins}]\u200c)"
            f"|(?<=\u200d)(?<![{joins}]\u200d)(?:(?<![{picture}]\u200d)(?<![{picture}]\ufe0f\u200d)|(?![{picture}]))"
            f"|(?<=\u200b)(?<![{breakable}]\u200b)(?![{breakable}])"
            r"|(?<=\u00ad)(?:(?<![^\W\d_]\u00ad)|(?![^\W\d_]))"
            r"|(?<=\ufeff)(?<!\A\ufeff))"
        ),
        in_word=re.compile(
            rf"[{unseen}](?:(?<=[^\W_][{unseen}])[{unseen}]*(?=[^\W_])|[{unseen}]{{{MIN_RUN - 1},}})"
        ),
        hidden={
            "variation": re.compile(
                f"[{variant}](?:(?<![{base}{han}][{variant}])|(?<=[{ideographic}])(?<![{han}][{variant}]))"
            ),
            "bidi": re.compile(
                f"[{direction}](?:(?<=[\u202d\u202e])|(?<![{rtl}][{direction}])(?![{rtl}])"
                rf"(?:(?<![\u200e\u200f\u061c])|(?<=\w[{direction}])(?=\w)))"
            ),
            "tags": re.compile(f"[{_TAGS.exactly()}]"),
            "control": re.compile(f"[{_CONTROLS.exactly()}](?:(?<!\x1b)|(?<!(?={TERMINAL_SEQUENCE}).))"),
            "private": re.compile(f"[{_PRIVATE.exactly()}]"),
        },
        flag=re.compile("(?<=\U0001f3f4)[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"),
        accented=re.compile(f"[{accent}]"),
        stack=re.compile(f"[{accent}][{accent}][{accent}]+"),
        tall_stack=re.compile(f"[{mark}][{mark}][{mark}]{{{MAX_MARKS - 1},}}"),
        marked=re.compile(f"(?:[A-Za-z][{accent}]{{1,2}}){{4,}}"),
        spaces=re.compile(f"[{_ODD_SPACES.plane()}]"),
        styled=re.compile(f"[{style}][{style}][{style}]+"),
        full_width=re.compile(f"[{wide}][{wide}][{wide}]+"),
        east_asian=re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"),
    )


def evidence(text: str) -> Iterator[Evidence]:
    """What in ``text`` is hidden or dressed up without an ordinary reason."""
    seen = _expressions()
    if unseen := list(_unseen(text, seen)):
        yield Evidence("invisible", sum(end - start for start, end in unseen), unseen[0][0])
    plain = seen.flag.sub(_blank, text) if "\U000e007f" in text else text
    for kind, expression in seen.hidden.items():
        if first := expression.search(plain):
            yield Evidence(kind, len(expression.findall(plain)), first.start())
    stacks = [seen.tall_stack, seen.stack, seen.marked] if seen.accented.search(text) else [seen.tall_stack]
    if marked := [match.span() for expression in stacks for match in expression.finditer(text)]:
        yield Evidence("combining", sum(end - start for start, end in marked), min(marked)[0])
    styled = [m.start() for m in seen.styled.finditer(text)]
    if not seen.east_asian.search(text):
        styled += [m.start() for m in seen.full_width.finditer(text)]
    if styled:
        yield Evidence("styled", len(styled), min(styled))
    if spaces := [m.start() for m in seen.spaces.finditer(text)]:
        yield Evidence("whitespace", len(spaces), spaces[0])


def _unseen(text: str, seen: _Expressions) -> Iterator[tuple[int, int]]:
    """Characters that show nothing, without a reason: inside of words, in long rows, or at very many places.

    One or two at the edge of a word come from editors, translators and word processors every day.
    """
    first = seen.unexplained.search(text)
    if first is None:
        return
    if len(everywhere := seen.unexplained.findall(text)) >= MANY:
        yield first.start(), first.start() + len(everywhere)
        return
    for run in seen.in_word.finditer(text):
        # It looks at one character behind; looking on from each run to the end would take a time that grows with the square.
        found = seen.unexplained.search(text, run.start(), run.end() + 1)
        if found is not None and found.start() < run.end():
            yield run.span()


def _blank(flag: re.Match[str]) -> str:
    return " " * len(flag[0])
