"""How deep a place of a JSON text lies in strings of JSON within JSON, where the text comes in pieces.

Tools take JSON as a text: ``{"body": "{\\"key\\": \\"...\\"}"}``. What is put into the inner string is read twice, and must be
escaped twice. Whether a string holds JSON is told by how it begins, since its end is not there yet.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

_TOKEN: Final = re.compile(r'(\\*+)"|\\++[nrt]|[^\s"\\]++|\\++[^"\\]')


class _Says(Enum):
    """What an open string holds, as far as it is known."""

    NOTHING = auto()
    BRACE = auto()
    BRACKET = auto()
    JSON = auto()
    TEXT = auto()


class Nesting:
    """Follows one text. ``depth`` is how many strings are open where it has come to."""

    __slots__ = ("_half", "_open")

    def __init__(self) -> None:
        self._open: list[_Says] = []
        self._half = ""  # backslashes, of which what follows tells what they stand before

    @property
    def depth(self) -> int:
        return len(self._open)

    def feed(self, piece: str) -> None:
        """Take the next piece of the text."""
        text = self._half + piece
        whole = len(text.rstrip("\\"))
        self._half = text[whole:]
        for found in _TOKEN.finditer(text, 0, whole):
            if found[1] is not None:
                self._quote(len(found[1]))
            elif self._open and not (found[0][0] == "\\" and found[0][-1] in "nrt"):
                self._content(found[0])

    def _quote(self, backslashes: int) -> None:
        """A quotation mark: it begins or ends the string whose level its backslashes tell."""
        level = 0
        while backslashes % 2:
            backslashes, level = backslashes // 2, level + 1
        if level < len(self._open):
            del self._open[level:]
        elif level > len(self._open) or (level and self._open[-1] in (_Says.NOTHING, _Says.TEXT)):
            self._content('"')
        else:
            if level:
                self._open[-1] = _Says.JSON
            self._open.append(_Says.NOTHING)

    def _content(self, text: str) -> None:
        top = self._open[-1] if self._open else _Says.TEXT
        if top is _Says.NOTHING:
            top = {"{": _Says.BRACE, "[": _Says.BRACKET}.get(text[0], _Says.TEXT)
            text = text[1:]
        if text and top in (_Says.BRACE, _Says.BRACKET):
            top = _Says.JSON if text[0] in ("}" if top is _Says.BRACE else "{[]") else _Says.TEXT
        if self._open:
            self._open[-1] = top
