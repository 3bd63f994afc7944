"""What a window says once. Filler and floods ("hello hello hello...") are like nothing that the model was taught, so that
its word on them is chance; what they repeat is judged instead, of which an attack is not made harmless."""

from __future__ import annotations

import re
from operator import eq
from typing import Final

OFTEN: Final = 3
"""Words for each different one from which on a window is looked at more closely; ordinary prose has fewer than two."""

LONGEST: Final = 16
"""Words of what is repeated at most: four times as many fill a window."""

_RUN = re.compile(r"(\S)\1{15,}")
_WORD = re.compile(r"\s*\S+")


def once(window: str) -> str:
    """The window with runs of one character cut to three, and words that stand four times or more in a row, up to `LONGEST` at
    a time, written once; the window itself where there is no such thing. Its cost is linear in the window's words."""
    words = window.split()
    if _RUN.search(window) is None and len(words) < OFTEN * len(set(words)):
        return window
    cut = _RUN.sub(r"\1\1\1", window)
    words = cut.split()
    pieces = _WORD.findall(cut.rstrip())  # of white space with no word behind it, each character would be looked on from
    for unit in range(1, LONGEST + 1):
        begin = 0
        while (begin := (same := bytes(map(eq, words, words[unit:]))).find(b"\1" * (3 * unit), begin)) >= 0:
            end = same.find(b"\0", begin)
            copies = ((len(same) if end < 0 else end) - begin) // unit
            del words[begin + unit : begin + unit + copies * unit], pieces[begin + unit : begin + unit + copies * unit]
    return "".join(pieces) + cut[len(cut.rstrip()) :]
