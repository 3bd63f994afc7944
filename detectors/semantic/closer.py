"""A closer look at a window: the part of it that an order stands in, where what is around it drowns the order.

A window is judged as a whole, and a sentence that orders something is little of it: of orders that are stopped alone, most pass
among harmless sentences. The front stage looks at a window's parts in microseconds, and where one is clearly more suspicious
than the whole, the encoder reads that part by itself, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from detectors.semantic import _windows
from detectors.semantic.judge import SemanticModel
from detectors.semantic.quotes import quoted
from detectors.semantic.windows import spans
from detectors.values import Origin

PART: Final = 100
"""Characters of a part: a sentence or two."""

OVERLAP: Final = 33
"""Characters that a part shares with the one before it."""

RISE: Final = 1.0
"""By how much, in log-odds, the front stage must suspect a part more than the window: else nothing is drowned."""

NEAR: Final = 0.0
"""The same where a user's window is read anyway: hardly an ordinary text has one, so that these parts cost it nothing. The
front stage knows orders among other sentences, and suspects a window nearly as much as its part."""

SETTLED: Final = 1.3
"""By how much more than it takes for the encoder to be asked, where the front stage had settled the window."""

ORIGINS: Final = frozenset({Origin.USER, Origin.DOCUMENT, Origin.TOOL_RESULT})
"""Whose words are looked at so. A system prompt is full of orders, and of replies the encoder reads nearly all windows."""

AS_USER: Final = 1.0
"""By how much less than it takes for a user's words a part of another's must be suspicious if a user said it. Of documents the
front stage suspects whatever asks for something, and nine such parts in ten would be nothing to it from a user."""

ALONE: Final = {Origin.USER: -0.5, Origin.DOCUMENT: -1.0, Origin.TOOL_RESULT: -1.0}
"""What it adds to a part's log-odds that it is read without what stands around it. A hundred characters are half a sentence,
and of a text that only speaks of an attack they may be the attack: most false alarms of licences, manuals and users' twins were
parts."""

SAME: Final = PART // 2
"""Characters that parts of two windows share from which on they are the same, and the more suspicious is read."""

LEAST: Final = 250
"""Characters from which on a window has parts. In a shorter one a part is so much of it that nothing drowned it."""


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

    What stands in quotation marks is part of what says it: an order that is only mentioned is not to be read without that. A
    part that two windows share is the part of one of them.
    """
    windows = spans(text)
    if not parts or origin not in ORIGINS or len(text) < LEAST:
        return [Looked(*window, None) for window in model.front(text, origin, windows)]
    packed, places = _windows.parted(text, windows, PART, OVERLAP, LEAST)
    pieces = np.frombuffer(packed, np.int32).reshape(-1, 2)
    logits = model.fast.logits(text, pieces, origin)
    sure = model.calibration.sure[origin]
    found: list[Looked] = []
    for (start, end), at, behind in zip(windows, places, places[1:], strict=False):
        suspicion, told = logits[at], logits[at + 1 : behind]
        rise = NEAR if suspicion >= sure and origin is Origin.USER else RISE
        least = max(sure if suspicion >= sure else sure + SETTLED, suspicion + rise)
        part = None
        if told and max(told) >= least:
            part = _chosen(model, text, (start, end), zip(told, pieces[at + 1 : behind].tolist(), strict=True), least, origin)
        if part and found and (before := found[-1].part) and _shared(part, before) >= SAME:
            if part.suspicion <= before.suspicion:
                part = None
            else:
                found[-1] = found[-1]._replace(part=None)
        found.append(Looked(start, end, suspicion, part))
    return found


def _chosen(
    model: SemanticModel, text: str, window: tuple[int, int], pieces: Iterable[tuple[float, list[int]]], least: float,
    origin: Origin,
) -> Part | None:  # fmt: skip
    """The most suspicious piece of a window that is suspicious enough and no quotation, nor what is left of one."""
    first, last = window
    marked = [(first + low, first + high) for low, high in quoted(text[first:last])]
    found = []
    for logit, (low, high) in pieces:
        if logit < least or _mostly(marked, low, high):
            continue
        start, end = _whole(marked, low, high)
        if (start, end) != (low, high):
            logit = model.fast.logit(text[start:end], origin)
        if logit >= least:
            found.append((logit, (start, end)))
    if not found:
        return None
    logit, (start, end) = max(found)
    part = text[start:end]
    if origin is not Origin.USER and model.fast.logit(part, Origin.USER) < model.calibration.sure[Origin.USER] - AS_USER:
        return None
    return Part(start, end, logit, part)


def _shared(one: Part, other: Part) -> int:
    return min(one.end, other.end) - max(one.start, other.start)


def _whole(marked: list[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """A piece without what it has of a quotation that begins before it or goes on behind it: half a one says what it quotes."""
    for low, high in marked:
        if low < start < high:
            start = min(high, end)
        elif low < end < high:
            end = max(low, start)
    return start, end


def _mostly(marked: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether quotations make up half of a piece, or more."""
    within = sum(max(0, min(high, end) - max(low, start)) for low, high in marked)
    return 2 * within >= end - start
