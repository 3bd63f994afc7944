"""The canonical form of a text: what it says once disguise is taken off, with a map back to the text as it came.

What shows nothing is removed, letters of other styles and widths become plain, accents are dropped, words that only look
like ASCII become ASCII, letters set apart are joined, wide gaps between words are closed. Case stays. White space at the
start of a line stays, too: it is layout, and nearly all code has it. Work grows linearly with the text.

For ordinary text the form is the text itself, or nearly so, and is found in about a microsecond for a kilobyte.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from detectors import lookalikes, spacing
from detectors._signs import CONTROLS, GAPS, signs
from detectors.characters import ACCENTS, COMPOSING, FOLD, HIDDEN, Ranges
from detectors.disguise import MAX_MARKS, TELLING, TERMINAL_SEQUENCE, Evidence, evidence
from detectors.offsets import Change, Map, rewrite
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


_REMOVED: Final = HIDDEN | ACCENTS
_SWAPPED: Final = Ranges.of("".join(char for char, new in FOLD.items() if len(new) == 1 and ord(char) <= 0xFFFF))
_RESIZED: Final = (Ranges.of("".join(FOLD)) - _SWAPPED) | _REMOVED

_NEW: Final = FOLD | dict.fromkeys(_REMOVED.few(), "")

_SWAP = re.compile(f"[{_SWAPPED.plane()}]")
_RESIZE = re.compile(f"[{_RESIZED.roughly()}]+")
_TERMINAL = re.compile(TERMINAL_SEQUENCE)
_CLUSTER = re.compile(f"[^{COMPOSING.exactly()}]?[{COMPOSING.exactly()}]+")
_WIDE_GAP = re.compile(r"(?<=[^\W_])[ \t]{2,}(?=[^\W_])")

# Each class has an automaton of its own: together they would be read at a third of the speed.
_has_controls = Probe([r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"])
_has_gaps = Probe([spacing.GAPS])
_has_foreign_gaps = Probe([spacing.FOREIGN_GAPS])
_has_swapped = Probe([_SWAPPED.automaton()], utf8=True)
_has_resized = Probe([_RESIZED.automaton()], utf8=True)
_has_telling = Probe([TELLING.automaton()], utf8=True)
_has_composing = Probe([COMPOSING.automaton()], utf8=True)


class _Work(NamedTuple):
    """What there is to do for a text."""

    explain: bool
    swap: bool
    resize: bool
    compose: bool
    space: bool


_WORK: Final = CONTROLS | GAPS
_INVALID: Final = _Work(explain=True, swap=True, resize=True, compose=False, space=False)


def canonicalise(text: str) -> Canonical:
    """Take disguise off ``text``."""
    if not signs(text) & _WORK:
        return Canonical(text, True, (), ())
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
        return _Work(controls, controls, controls, False, gaps)
    swap, resize = bool(_has_swapped(data)), controls or bool(_has_resized(data))
    return _Work(
        explain=resize or (swap and bool(_has_telling(data))),
        swap=controls or swap,  # some controls are line breaks
        resize=resize,
        compose=bool(_has_composing(data)),
        space=gaps or bool(_has_foreign_gaps(data)),
    )


def _canonicalise(original: str) -> Canonical:
    text = original
    maps: list[Map] = []
    notes: list[Evidence] = []
    work = _look(text)
    if work.explain:
        notes += evidence(text)
    if work.swap:
        text = _SWAP.sub(_swapped, text)
    if work.resize:
        text = _apply(text, _resized(text), maps)
    if work.swap or work.resize:
        work = _look(text)
    if work.compose and not unicodedata.is_normalized("NFC", text):
        text = _apply(text, _composed(text), maps)
    for _ in range(2):  # a letter set apart is known as one at the latest when it has become ASCII
        if work.space:
            text = _join(text, maps, notes)
            text = _apply(text, _closed(text), maps)
            text = _join(text, maps, notes)  # gaps of several widths between letters are of one width now
        if text.isascii() or (folded := lookalikes.fold(text)) is None:
            break
        text = folded.text
        notes += (Evidence(kind, len(words), _origin(words[0], maps)) for kind, words in sorted(folded.words.items()))
        work = _look(text)
    return Canonical(text, text == original, tuple(notes), tuple(maps))


def _apply(text: str, changes: Iterable[Change], maps: list[Map]) -> str:
    text, edits = rewrite(text, changes)
    if edits is not None:
        maps.append(edits)
    return text


def _swapped(match: re.Match[str]) -> str:
    return FOLD[match[0]]


def _resized(text: str) -> Iterator[Change]:
    """Remove characters, and write those out that stand for several."""
    for match in _RESIZE.finditer(text):
        start, end = match.span()
        gone = start  # where what is to be removed begins
        for at, char in enumerate(match[0], start):
            new = _NEW.get(char)
            if new == "" or (new is None and char in _REMOVED):
                continue
            if gone < at:
                yield gone, at, ""
            gone = at + 1
            if new is not None:
                yield at, at + 1, new
        if text[end - 1] == "\x1b" and (sequence := _TERMINAL.match(text, end - 1)):
            end = sequence.end()
        if gone < end:
            yield gone, end, ""


def _composed(text: str) -> Iterator[Change]:
    """Bring marks into their order and join what has a character of its own: NFC, with a bound on the marks of one."""
    for match in _CLUSTER.finditer(text):
        # The standard library orders n marks in up to n * n steps.
        composed = unicodedata.normalize("NFC", match[0][: MAX_MARKS + 1])
        if composed != match[0]:
            yield *match.span(), composed


def _closed(text: str) -> Iterator[Change]:
    return ((*match.span(), " ") for match in _WIDE_GAP.finditer(text))


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
