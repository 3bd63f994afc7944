"""Addresses in a text: where one is open, and whose it is.

Whoever makes a model write an image's address is sent what stands in it as soon as the reply is shown. So a text is followed
from address to address, as those who show it read it: an address in quotes or angle brackets may hold spaces, slashes may lean
the other way, and the scheme may be left out.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final

MAX_ADDRESS: Final = 2_048
"""Characters of an address that are remembered while it goes on; browsers and servers take few longer ones."""

REACH: Final = 8
"""Characters in which an address begins, so that a text can be cut anywhere: a mark, ``https:`` and a slash."""

_BEGIN: Final = re.compile(r"(?:(?:https?|wss?|ftp):|(?<![\w:/\\]))[/\\]{2}(?=[^\s/\\]|\Z)", re.IGNORECASE)
_CLOSED: Final = {
    '"': re.compile(r'"|\n\s*\n'),
    "'": re.compile(r"'|\n\s*\n"),
    "<": re.compile(r"[>\n]"),
    "(": re.compile(r"\n|\)(?=[.,;:!?]*\s)"),  # a link's; that it may hold spaces is what some readers think, not all
}
"""What ends an address, by the mark before it."""

_BARE: Final = re.compile(r"""[\s"'<>`]""")
_ESCAPE: Final = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(.))|"', re.DOTALL)
_SPACES: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b"}
_HOST: Final = re.compile(r"(?:[a-z]+:)?[/\\]*(?:[^/\\?#\s]*@)?(\[[0-9a-f:.]*\]|[^/\\?#\s:@]*)", re.IGNORECASE)


class Addresses:
    """Tells whether places of a text, asked for in ascending order, lie in an address; all of it takes one walk."""

    __slots__ = ("_at", "_begin", "_closed", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._begin: int | None = None
        self._closed = _BARE

    def open_at(self, where: int) -> int | None:
        """Where the address begins that is open at ``where``; None where none is."""
        text = self._text
        while True:
            if self._begin is not None:
                end = self._closed.search(text, self._at, where)
                if end is None:
                    self._at = where
                    return self._begin
                self._at, self._begin = end.end(), None
            found = _BEGIN.search(text, self._at, where)
            if found is None:
                self._at = max(self._at, where - REACH)
                return None
            self._begin, self._at = found.start(), found.end()
            self._closed = _CLOSED.get(text[self._begin - 1 : self._begin], _BARE)


class Shown:
    """What a text says to who reads it, and where in it that stands."""

    __slots__ = ("_raw", "_starts", "text")

    def __init__(self, text: str, in_json: bool) -> None:
        """``in_json``: the text is JSON: its escapes are undone, and where a string begins or ends stands a blank line."""
        self._raw = self.text = text
        self._starts: list[int] | None = None
        if in_json:
            starts: list[int] = []
            parts: list[str] = []
            at = 0
            for found in _ESCAPE.finditer(text):
                said = _SPACES.get(found[2], found[2] or "\n\n") if found[1] is None else chr(int(found[1], 16))
                starts += (*range(at, found.start()), *([found.start()] * len(said)))
                parts += (text[at : found.start()], said)
                at = found.end()
            starts.extend(range(at, len(text)))
            self.text, self._starts = "".join((*parts, text[at:])), starts

    def place(self, raw: int) -> int:
        """Where what stands at ``raw`` in the text is shown."""
        return raw if self._starts is None else bisect_left(self._starts, raw)

    def remembered(self) -> str:
        """What must be remembered of the text to follow its sequel: the address that is open at its end, with the mark before
        it, or the characters in which one may begin. Of an address longer than `MAX_ADDRESS`, its beginning."""
        length = len(self.text)
        begin = Addresses(self.text).open_at(length)
        if begin is None:
            return self._raw[self._at(max(0, length - REACH - 1)) :]
        return self._raw[self._at(max(0, begin - 1)) : self._at(min(length, begin + MAX_ADDRESS + 1))]

    def _at(self, place: int) -> int:
        if self._starts is None:
            return place
        return self._starts[place] if place < len(self._starts) else len(self._raw)


def host(address: str) -> str:
    """The host of an address, in lower case, without user and port; empty where there is none."""
    found = _HOST.match(address)
    return found[1].lower().rstrip(".") if found else ""
