"""What a window says once. Filler and floods ("hello hello hello...") are like nothing that the model was taught, so that
its word on them is chance; what they repeat is judged instead, of which an attack is not made harmless."""

from __future__ import annotations

import re
from typing import Final

OFTEN: Final = 3
"""Words for each different one from which on a window is looked at more closely; ordinary prose has fewer than two."""

_RUN = re.compile(r"(\S)\1{15,}")
_UNIT = re.compile(r"(?<!\w)(\S.{0,79}?)\1{3,}", re.DOTALL)


def once(window: str) -> str:
    """The window with runs of one character cut to three, and what stands four times or more in a row, up to 80 characters
    long, written once; the window itself where there is no such thing. A fifth of a millisecond at most for 400 characters."""
    words = window.split()
    if _RUN.search(window) is None and len(words) < OFTEN * len(set(words)):
        return window
    return _UNIT.sub(r"\1", _RUN.sub(r"\1\1\1", window))
