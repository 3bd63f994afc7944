"""What is left of a text without the words that the encoder cannot read.

Among words that it does not know, an order is little of a window and hardly like one: whoever puts twenty words of Thai
around five of English, or one between any two, would be heard half. So where such words are many, the others are judged once
more by themselves. It costs nothing for ASCII, and little where every letter is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from detectors.offsets import Edits, rewrite
from detectors.semantic.fast import tokens
from detectors.semantic.windows import spans

SHARE: Final = 1 / 3
"""Of a window's words and unreadable letters the share of the latter from which its words are read once more without them."""

LEAST: Final = 3
"""Words that must be left: fewer say nothing."""

_GONE: Final = "\0"
_RUN = re.compile("\0[\0\\s\ufe0f\u200d]*")  # the spaces behind, and what joins emoji


class Legible(NamedTuple):
    """The legible words of the stretch of a text that begins at ``start``; ``edits`` lead back to the stretch."""

    text: str
    start: int
    edits: Edits | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        if self.edits is not None:
            start, end = self.edits.span(start, end)
        return start + self.start, end + self.start


def legible(text: str, unreadable: Callable[[str], set[str]]) -> list[Legible]:
    """The stretches of a text in which much cannot be read, without that; ``unreadable`` says which of its characters."""
    if text.isascii() or not (unknown := unreadable(text)):
        return []
    marked = text.translate(dict.fromkeys(map(ord, unknown), _GONE))
    found = []
    for start, end in _stretches(marked):
        stretch = marked[start:end]
        words = stretch.translate({0: " "})
        if sum(word.isalnum() for word in tokens(words)) < LEAST:
            continue
        runs = [run.span() for run in _RUN.finditer(stretch)]
        # A word that stood right before a run must not become one with that behind it.
        left, edits = rewrite(stretch, [(*run, " " if stretch[max(0, run[0] - 1) : run[0]].strip() else "") for run in runs])
        found.append(Legible(left, start, edits))
    return found


def _stretches(marked: str) -> Iterator[tuple[int, int]]:
    """Windows in a row in which much cannot be read, joined."""
    begun: tuple[int, int] | None = None
    for start, end in spans(marked):
        window = marked[start:end]
        gone = window.count(_GONE)
        if gone < SHARE * len(window) and (gone == 0 or gone < SHARE * len(tokens(window))):
            continue
        if begun is not None and start <= begun[1]:
            begun = begun[0], end
            continue
        if begun is not None:
            yield begun
        begun = start, end
    if begun is not None:
        yield begun
