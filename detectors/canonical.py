"""The canonical form of a text: what it says once disguise is taken off, with a map back to the text as it came.

What shows nothing is removed, letters of other styles and widths become plain, accents are dropped, words that only look
like ASCII become ASCII, letters set apart are joined, wide gaps between words are closed. Case stays. White space at the
start of a line stays, too: it is layout, and nearly all code has it. Work grows linearly with the text.

For ordinary text the form is the text itself, or nearly so, and is found in about a microsecond for a kilobyte.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

from detectors import lookalikes, spacing
from detectors.characters import ACCENTS, COMPOSING, FOLD, HIDDEN, Ranges
from detectors.disguise import TELLING, TERMINAL_SEQUENCE, Evidence, evidence
from detectors.offsets import Map, Rewriter
from detectors.probe import Probe


class Canonical(NamedTuple):
    """A canonical text. ``identical`` where it is the original itself; ``evidence`` is empty for ordinary texts."""

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

_REMOVED: Final = HIDDEN | ACCENTS
_OTHERWISE: Final = Ranges.of("".join(FOLD)) | _REMOVED

_REWRITTEN = re.compile(f"{TERMINAL_SEQUENCE}|[{_OTHERWISE.roughly()}]+")
_CLUSTER = re.compile(f"[^{COMPOSING.exactly()}]?[{COMPOSING.exactly()}]+")
_WIDE_GAP = re.compile(r"(?<=[^\W_])[ \t]{2,}(?=[^\W_])")

# Each class has an automaton of its own: together they would be read at a third of the speed.
_has_controls = Probe([r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"])
_has_gaps = Probe([spacing.GAPS])
_has_foreign_gaps = Probe([spacing.FOREIGN_GAPS])
_has_others = Probe([_OTHERWISE.automaton()], utf8=True)
_has_telling = Probe([TELLING.automaton()], utf8=True)
_has_composing = Probe([COMPOSING.automaton()], utf8=True)


class _Work(NamedTuple):
    """What there is to do for a text."""

    rewrite: bool
    explain: bool
    compose: bool
    space: bool


_INVALID: Final = _Work(True, True, False, False)


def canonicalise(text: str) -> Canonical:
    """Take disguise off ``text``."""
    if text.isascii():
        data = text.encode()
        if not _has_controls(data) and not _has_gaps(data):
            return Canonical(text, True, (), ())
    return _canonicalise(text)


def _look(text: str) -> _Work:
    try:
        data = text.encode()
    except UnicodeEncodeError:  # lone surrogates, which are no characters: they are removed like all that is hidden
        return _INVALID
    controls, gaps = bool(_has_controls(data)), bool(_has_gaps(data))
    if len(data) == len(text):
        return _Work(controls, controls, False, gaps)
    return _Work(
        controls or bool(_has_others(data)),
        controls or bool(_has_telling(data)),
        bool(_has_composing(data)),
        gaps or bool(_has_foreign_gaps(data)),
    )


def _canonicalise(original: str) -> Canonical:
    text = original
    maps: list[Map] = []
    notes: list[Evidence] = []
    work = _look(text)
    if work.explain:
        notes += evidence(text)
    if work.rewrite:
        text = _apply(_rewrite(text), maps)
        work = _look(text)
    if work.compose and not unicodedata.is_normalized("NFC", text):
        text = _apply(_compose(text), maps)
    if work.space:
        text = _join(text, maps, notes)
        text = _apply(_close_gaps(text), maps)
        text = _join(text, maps, notes)  # gaps of several widths between letters are of one width now
    if not text.isascii() and (folded := lookalikes.fold(text)) is not None:
        text = folded.text
        notes += (
            Evidence(kind, len(words), _origin(words[0], maps)) for kind, words in sorted(folded.words.items())
        )
    return Canonical(text, text == original, tuple(notes), tuple(maps))


def _apply(rewritten: Rewriter, maps: list[Map]) -> str:
    text, edits = rewritten.done()
    if edits is not None:
        maps.append(edits)
    return text


def _rewrite(text: str) -> Rewriter:
    """Remove and replace single characters."""
    rewriter = Rewriter(text)
    for match in _REWRITTEN.finditer(text):
        run, start = match[0], match.start()
        if run.startswith("\x1b["):
            rewriter.replace(start, match.end(), "")
            continue
        for at, char in enumerate(run, start):
            new = FOLD.get(char)
            if new is not None:
                rewriter.replace(at, at + 1, new)
            elif char in _REMOVED:
                rewriter.replace(at, at + 1, "")
    return rewriter


def _compose(text: str) -> Rewriter:
    """Bring marks into their order and join what has a character of its own: NFC, with a bound on the marks of one."""
    rewriter = Rewriter(text)
    for match in _CLUSTER.finditer(text):
        # The standard library orders n marks in up to n * n steps.
        composed = unicodedata.normalize("NFC", match[0][: MAX_MARKS + 1])
        if composed != match[0]:
            rewriter.replace(*match.span(), composed)
    return rewriter


def _close_gaps(text: str) -> Rewriter:
    rewriter = Rewriter(text)
    for match in _WIDE_GAP.finditer(text):
        rewriter.replace(*match.span(), " ")
    return rewriter


def _join(text: str, maps: list[Map], notes: list[Evidence]) -> str:
    joined = spacing.join(text)
    if joined is None:
        return text
    if joined.runs:
        notes.append(Evidence("spaced", len(joined.runs), _origin(joined.runs[0], maps)))
    maps.append(joined.edits)
    return joined.text


def _origin(at: int, maps: list[Map]) -> int:
    for step in reversed(maps):
        at = step.span(at, at + 1)[0]
    return at
