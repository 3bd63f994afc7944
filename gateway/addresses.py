"""Addresses in a text: where one is open, and whose it is.

Whoever makes a model write an image's address is sent what stands in it as soon as the reply is shown. So a text is followed
from address to address, as those who show it read it: an address in quotes or angle brackets may hold spaces, slashes may lean
the other way, and the scheme may be left out.
"""

from __future__ import annotations

import re
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
_ESCAPED_SPACE: Final = re.compile(r"(?<!\\)((?:\\\\)*+)\\([nrtf]|u00(?:0[9a-dA-D]|20))")
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


def spaced(text: str) -> str:
    """JSON text in which the escapes of white space are that, every other character where it was."""
    return _ESCAPED_SPACE.sub(lambda found: found[1] + ("\n" if found[2] == "n" else " ").rjust(len(found[2]) + 1), text)


def known_end(text: str, in_json: bool) -> str:
    """What must be remembered of a text to follow its sequel: the address that is open at its end, with the mark before it,
    or the characters in which one may begin. Of an address longer than `MAX_ADDRESS`, its beginning."""
    begin = Addresses(spaced(text) if in_json else text).open_at(len(text))
    if begin is None:
        return text[-REACH - 1 :]
    return text[max(0, begin - 1) : begin + MAX_ADDRESS + 1]


def host(address: str) -> str:
    """The host of an address, in lower case, without user and port; empty where there is none."""
    found = _HOST.match(address)
    return found[1].lower().rstrip(".") if found else ""
