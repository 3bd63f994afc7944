"""Overlapping windows over a long text, cut at sentences where they can be.

Every character lies in a window, and each lies with at least ``OVERLAP`` characters of what stands before it, or is in
the first window: an order of up to ``OVERLAP`` characters is never seen only in halves.
"""

from __future__ import annotations

from typing import Final

from detectors.semantic import _windows

WINDOW: Final = 400
"""Characters in a window: about 90 tokens of English, which the encoder judges in 4 ms; a short prompt is one window."""

OVERLAP: Final = 120
"""Characters that consecutive windows share: longer than most single orders, and 30 % of the cost."""


def spans(text: str) -> list[tuple[int, int]]:
    """The windows of a text as (start, end) in code points, in order; one window for a text up to ``WINDOW`` long.

    A window ends behind a sentence, and the white space after it, where one ends in its last third, else at white space
    there, else where it must; the next begins at least ``OVERLAP`` code points before that end, moved back by up to a third
    of that to the start of a sentence or word.
    """
    return _windows.spans(text, WINDOW, OVERLAP)
