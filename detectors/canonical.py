"""The canonical form of a text: what it says once disguise is taken off, with a map back to the text as it came.

What shows nothing is removed, letters of other styles and widths become plain, accents are dropped, words that only look
like ASCII become ASCII, letters set apart are joined, wide gaps between words are closed. Case stays. White space at the
start of a line stays, too: it is layout, and nearly all code has it. Work grows linearly with the text.

For ordinary text the form is the text itself, or nearly so, and is found in about a microsecond for a kilobyte.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

from detectors import lookalikes, spacing
from detectors.characters import ACCENTS, COMPOSING, FOLD, HIDDEN, Ranges
from detectors.disguise import Evidence, evidence
from detectors.offsets import Edits, Map, Rewriter
from detectors.probe import Probe


class Canonical(NamedTuple):
    """A canonical text. ``identical`` where it is the original itself; ``disguises`` is empty for ordinary texts."""

    text: str
    identical: bool
    evidence: tuple[Evidence, ...]
    maps: tuple[Map, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The smallest stretch of the original that code points ``start``..``end`` were made from, end exclusive.

        Characters that were removed inside of it belong to it.
        """
        for step in reversed(self.maps):
            start, end = step.span(start, end)
        return start, end


MAX_MARKS: Final = 8
"""Combining marks kept on one character of a script that needs them; no word of any language has as many."""

_ESCAPE: Final = r"\x1b\[[0-9;?]{0,16}[A-Za-z]"  # colours and cursor movements of a terminal
_ASCII_FOLD: Final = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_WRITTEN_OTHERWISE: Final = Ranges.of("".join(FOLD)) | HIDDEN | ACCENTS

_REWRITTEN = re.compile(f"{_ESCAPE}|[{_WRITTEN_OTHERWISE.roughly()}]+")
_BLANKS = re.compile(r"(?<=[^\W_])[ \t]{2,}(?=[^\W_])")
_CLUSTER = re.compile(f"[^{COMPOSING.roughly()}]?[{COMPOSING.roughly()}]+")

_CONTROLS, _WIDE, _APART, _OTHERWISE, _COMPOSING = range(5)
_bytes = Probe(
    [f"[{_ASCII_FOLD}]", r"[A-Za-z0-9\x80-\xff][ \t]{2,}[A-Za-z0-9\x80-\xff]", spacing.SPACED]
)
_characters = Probe([_WRITTEN_OTHERWISE.automaton(), COMPOSING.automaton()], utf8=True)


def canonicalise(text: str) -> Canonical:
    """Take disguise off ``text``."""
    found = _look(text)
    if not found:
        return Canonical(text, True, (), ())
    return _canonicalise(text, found)


def _look(text: str) -> list[int]:
    """What there is to do for a text."""
    if text.isascii():
        return _bytes(text.encode())
    try:
        data = text.encode()
    except UnicodeEncodeError:  # lone surrogates, which are no characters: they are removed like what is hidden
        return [_OTHERWISE]
    return [*_bytes(data), *(number + _OTHERWISE for number in _characters(data)), _COMPOSING + 1]


def _canonicalise(text: str, found: Sequence[int]) -> Canonical:
    ...
