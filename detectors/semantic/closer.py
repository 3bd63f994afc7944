"""A closer look at a window: the part of it that an order stands in, where what is around it drowns the order.

A window is judged as a whole, and a sentence that orders something is little of it: of orders that are stopped alone, most pass
among harmless sentences. The front stage looks at a window's parts in microseconds, and where one is clearly more suspicious
than the whole, the encoder reads that part by itself, too.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from detectors.semantic import _windows
from detectors.semantic.judge import SemanticModel
from detectors.semantic.quotes import quoted
from detectors.semantic.windows import spans
from detectors.values import Origin

PART: Final = 100
"""Characters of a part: a sentence or two. A window that is hardly longer is one."""

OVERLAP: Final = 33
"""Characters that a part shares with the one before it."""

RISE: Final = 1.0
"""By how much, in log-odds, the front stage must suspect a part more than the window: else nothing is drowned."""

SETTLED: Final = 1.0
"""By how much more than it takes for the encoder to be asked, where the front stage had settled the window."""

ORIGINS: Final = frozenset({Origin.USER, Origin.DOCUMENT, Origin.TOOL_RESULT})
"""Whose words are looked at so. A system prompt is full of orders, and of replies the encoder reads nearly all windows."""

ALONE: Final = {Origin.DOCUMENT: -1.0, Origin.TOOL_RESULT: -1.0}
"""What it adds to a part's log-odds that it is read without what stands around it. In licences, manuals and hints of programs a
hundred characters are half a sentence, of which the encoder has seen nothing: most false alarms there were parts."""

LEAST: Final = PART * 5 // 4
"""Characters from which on a window has parts."""


class Part(NamedTuple):
    """A part of a window: where it stands in the text, in code points, the front stage's logit for it, and itself."""

    start: int
    end: int
    suspicion: float
    text: str


class Looked(NamedTuple):
    """A window, the front stage's logit for it, and the part of it that is to be read by itself, if there is one."""

    start: int
    end: int
    suspicion: float
    part: Part | None


def looked(model: SemanticModel, text: str, origin: Origin, parts: bool = True) -> list[Looked]:
    """What the front stage says of a text's windows and, if ``parts``, of their parts, all in one go.

    What stands in quotation marks is part of what says it: an order that is only mentioned is not to be read without that.
    """
    windows = spans(text)
    if not parts or origin not in ORIGINS or len(text) < LEAST:
        return [Looked(*window, None) for window in model.front(text, origin, windows)]
    groups = [[window, *_parts(text, *window)] for window in windows]
    told = iter(model.front(text, origin, [piece for group in groups for piece in group]))
    sure = model.calibration.sure[origin]
    found = []
    for group in groups:
        window, *pieces = (next(told) for _ in group)
        least = max(sure if window[2] >= sure else sure + SETTLED, window[2] + RISE)
        found.append(Looked(*window, _chosen(text, window, [piece for piece in pieces if piece[2] >= least])))
    return found


def _parts(text: str, start: int, end: int) -> list[tuple[int, int]]:
    if end - start < LEAST:
        return []
    return [(start + low, start + high) for low, high in _windows.spans(text[start:end], PART, OVERLAP)]


def _chosen(text: str, window: tuple[int, int, float], pieces: list[tuple[int, int, float]]) -> Part | None:
    """The most suspicious of these pieces of a window that is no quotation."""
    if not pieces:
        return None
    first, last, _ = window
    marked = [(first + low, first + high) for low, high in quoted(text[first:last])]
    found = [(logit, start, end) for start, end, logit in pieces if not _mostly(marked, start, end)]
    if not found:
        return None
    logit, start, end = max(found)
    return Part(start, end, logit, text[start:end])


def _mostly(marked: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether quotations make up half of a piece, or more."""
    within = sum(max(0, min(high, end) - max(low, start)) for low, high in marked)
    return 2 * within >= end - start
