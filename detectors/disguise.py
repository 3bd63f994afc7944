"""What a text hides: characters that show nothing, stacked marks, letters of other styles; without what is ordinary.

A zero-width joiner belongs into a family emoji and into Hindi, a direction mark into Hebrew, a soft hyphen into a long
word. Only what has no such reason is evidence.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
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


MAX_ORDINARY: Final = 8
"""Hidden characters that an ordinary sequence has in a row: the six tags and the end of the flag of Scotland, and one."""

_JOINER: Final = "\u200d"
_NON_JOINER: Final = "\u200c"
_BREAK: Final = "\u200b"
_SOFT_HYPHEN: Final = "\u00ad"
_BYTE_ORDER: Final = "\ufeff"
_OVERRIDES: Final = frozenset("\u202d\u202e")
_TAGS: Final = range(0xE0000, 0xE0080)
_IDEOGRAPHIC_VARIANTS: Final = range(0xE0100, 0xE01F0)
_COMMON_SPACES: Final = "\u00a0\u202f\u3000\u2009"  # French and typeset text, numbers, Chinese and Japanese

_STYLED_LETTERS: Final = Ranges([(0x1D400, 0x1D7CB), (0x24B6, 0x24E9), (0x1F110, 0x1F189), (0x1D2C, 0x1D6A)])
_WIDE_LETTERS: Final = Ranges([(0xFF21, 0xFF3A), (0xFF41, 0xFF5A)])
_ODD_SPACES: Final = Ranges.of("".join(c for c, to in FOLD.items() if to == " " and c not in _COMMON_SPACES))

TELLING: Final = HIDDEN | ACCENTS | _STYLED_LETTERS | _WIDE_LETTERS | _ODD_SPACES
"""The characters that `evidence` looks at: a text without them has none to give."""

TERMINAL_SEQUENCE: Final = r"\x1b\[[0-9;?]{0,16}[A-Za-z]"
"""An expression for the colours and cursor movements that programs write for a terminal (ECMA-48, control sequences)."""

_ROUGH_RUN = re.compile(f"[{HIDDEN.roughly()}]+")
_RUN = re.compile(f"[{HIDDEN.exactly()}]+")
_TERMINAL = re.compile(TERMINAL_SEQUENCE)
_FLAG = re.compile("[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
_STACK = re.compile(f"[{ACCENTS.plane()}]{{3,}}|[{MARKS.plane()}]{{8,}}")
_MARKED = re.compile(f"(?:[A-Za-z][{ACCENTS.plane()}]{{1,2}}){{4,}}")
_SPACES = re.compile(f"[{_ODD_SPACES.plane()}]")
_STYLED = re.compile(f"[{_STYLED_LETTERS.exactly()}]{{3,}}")
_FULL_WIDTH = re.compile(f"[{_WIDE_LETTERS.plane()}]{{3,}}")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def evidence(text: str) -> Iterator[Evidence]:
    """What in ``text`` is hidden or dressed up without an ordinary reason."""
    yield from _hidden(text)
    stacked = [(m.start(), m.end() - m.start() - 2) for m in _STACK.finditer(text)]
    marked = [(m.start(), m.end() - m.start()) for m in _MARKED.finditer(text)]
    if stacked or marked:
        found = stacked + marked
        yield Evidence("combining", sum(count for _, count in found), min(found)[0])
    styled = [m.start() for m in _STYLED.finditer(text)]
    if not _EAST_ASIAN.search(text):
        styled += [m.start() for m in _FULL_WIDTH.finditer(text)]
    if styled:
        yield Evidence("styled", len(styled), min(styled))
    spaces = [m.start() for m in _SPACES.finditer(text)]
    if spaces:
        yield Evidence("whitespace", len(spaces), spaces[0])


def _hidden(text: str) -> Iterator[Evidence]:
    count: dict[str, int] = {}
    first: dict[str, int] = {}
    for start, end in hidden_runs(text):
        if end - start <= MAX_ORDINARY and _is_ordinary(text, start, end):
            continue
        run = text[start:end]
        for char, number in Counter(run).items():
            kind = _kind(char)
            count[kind] = count.get(kind, 0) + number
            first[kind] = min(first.get(kind, len(text)), start + run.index(char))
    for kind, number in count.items():
        yield Evidence(kind, number, first[kind])


def hidden_runs(text: str) -> Iterator[tuple[int, int]]:
    """Where `HIDDEN` characters stand in a row, as (start, end)."""
    for rough in _ROUGH_RUN.finditer(text):
        for run in _RUN.finditer(text, rough.start(), rough.end()):
            yield run.span()


def _kind(char: str) -> str:
    if ord(char) in _TAGS:
        return "tags"
    if char in VARIATION:
        return "variation"
    if char in BIDI:
        return "bidi"
    return {"Cc": "control", "Co": "private"}.get(unicodedata.category(char), "invisible")


def _is_ordinary(text: str, start: int, end: int) -> bool:
    """Whether the hidden characters ``start``..``end`` have a reason in what stands beside them."""
    before, run, after = text[start - 1 : start], text[start:end], text[end : end + 1]
    if len(run) == 1:
        return _is_ordinary_alone(run, before, after, start) or _TERMINAL.match(text, start) is not None
    if run[0] in VARIATION and run[1:] == _JOINER:
        return before in VARIED and _is_pictorial(after)
    return before == "\U0001f3f4" and _FLAG.fullmatch(run) is not None


def _is_ordinary_alone(char: str, before: str, after: str, start: int) -> bool:
    beside = before + after
    if char == _JOINER and _is_pictorial(before) and _is_pictorial(after):
        return True
    if char in (_JOINER, _NON_JOINER):
        return before != "" and before in JOINING
    if char == _BREAK:
        return any(c in UNSPACED for c in beside)
    if char == _SOFT_HYPHEN:
        return before.isalpha() and after.isalpha()
    if char == _BYTE_ORDER:
        return start == 0
    if char in VARIATION:
        return before != "" and before in _bases(char)
    if char in BIDI and char not in _OVERRIDES:
        return any(c in RIGHT_TO_LEFT for c in beside)
    return False


def _bases(selector: str) -> Ranges:
    return IDEOGRAPHS if ord(selector) in _IDEOGRAPHIC_VARIANTS else VARIED


def _is_pictorial(char: str) -> bool:
    return char != "" and (unicodedata.category(char) in ("So", "Sk") or char in VARIED)
