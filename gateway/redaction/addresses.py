"""Addresses in a text: where one is open, and whose it is.

Whoever makes a model write an image's address is sent what stands in it as soon as the reply is shown. So a text is followed
from address to address, as those who show it read it: an address in quotes or angle brackets may hold spaces, slashes may lean
the other way, and the scheme may be left out.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final

from gateway.redaction.links import LEAD, MARK, OPEN_END, SCHEME, SLASH_TO_COME, SLASHES, begun, naked, plain

MAX_ADDRESS: Final = 2_048
"""Characters of an address that are remembered while it goes on; browsers and servers take few longer ones."""

_REACH: Final = 300
"""Characters in which an address begins, with what it stands in, so that a text can be cut anywhere."""

_CLOSED: Final = {
    '"': re.compile(r'"|\n\s*\n'),
    "'": re.compile(r"'|\n\s*\n"),
    "<": re.compile(r"[>\n]"),
    "(": re.compile(r"\n|\)(?=[.,;:!?]*\s)"),  # a link's; that it may hold spaces is what some readers think, not all
}
"""What ends an address, by the mark before it."""

_STRING: Final = "\udfff"
"""Stands where a string of JSON begins or ends, and nowhere else: half a character, which is shown to nobody."""

_ATTRIBUTE: Final = {'"': re.compile(f'["{_STRING}]'), "'": re.compile(f"['{_STRING}]")}
"""The same of an attribute's: a blank line ends Markdown's HTML, but who shows HTML alone reads over it."""

_BARE: Final = re.compile(r"[\s<>]")
_FAR: Final = re.compile(r"""["'>]""")
"""What ends one behind so much white space that nobody knows what it stands in."""

_NONE: Final = re.compile(r"[\t\r\n]*[^\S\t\r\n]")
"""What makes slashes none of an address's: no host has a space."""

_MAY_BEGIN: Final = re.compile(r"[/\\&:]")
_ESCAPE: Final = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(?:u[0-9a-fA-F]{0,3})?()\Z|(.))|"', re.DOTALL)
_SPACES: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b"}


class Addresses:
    """Tells whether places of a text, asked for in ascending order, lie in an address; all of it takes one walk."""

    __slots__ = ("_at", "_begin", "_closed", "_floor", "_pending", "_text")

    def __init__(self, text: str) -> None:
        self._text = plain(text)
        self._at = 0
        self._floor = 0  # nothing before it tells of an address that is still to come
        self._begin: int | None = None
        self._pending: int | None = None  # where what tells of slashes begins that may go on
        self._closed = _BARE

    def open_at(self, where: int) -> int | None:
        """Where the address begins that is open at ``where``; None where none is."""
        text, found, first = self._text, None, -1
        while True:
            if self._begin is not None:
                end = self._closed.search(text, self._at, where)
                if end is None:
                    self._at = where
                    return self._begin
                self._at = self._floor = end.start()
                self._begin = None
            self._pending = None
            if first < self._at:  # else what was found before is still the next
                found = SLASHES.search(text, self._at, where)
                first = len(text) if found is None else found.start()
            slashless = naked(text, self._floor, self._at, found.end() if found else where)
            if slashless is not None:
                named, _, behind = slashless
                if SLASH_TO_COME.match(text, behind, where):
                    self._pending = max(self._floor, named - LEAD)
                    return None if self._closed_by(named).search(text, behind, where) else named
                self._begin, self._at = named, behind
                self._closed = self._closed_by(self._begin)
                continue
            if found is None:
                self._at = max(self._at, where - _REACH)
                return None
            start, slashes_end = found.span()
            before = text[max(self._floor, start - SCHEME) : start]
            within = begun(before, found)
            begin = None if within is None else start - len(before) + within
            if OPEN_END.match(text, slashes_end, where):  # what follows may belong to them
                self._pending = max(self._floor, start - len(before) if begin is None else begin - LEAD)
                closed = begin is None or self._closed_by(begin).search(text, slashes_end, where)
                return None if closed else begin
            if begin is None or _NONE.match(text, slashes_end, where):
                self._at = self._floor = slashes_end
            else:
                self._begin, self._at, self._closed = begin, slashes_end, self._closed_by(begin)

    def needed(self, where: int) -> tuple[int, int]:
        """Which part of the text must be known to go on with it behind ``where``: of a long address, its beginning."""
        begin = self.open_at(where)
        if begin is not None:
            return max(self._floor, begin - LEAD), min(where, begin + MAX_ADDRESS)
        if self._pending is not None:
            return self._pending, min(where, self._pending + MAX_ADDRESS)
        return _needed(self._text, max(self._floor, where - _REACH), where), where

    def _closed_by(self, begin: int) -> re.Pattern[str]:
        first = max(self._floor, begin - LEAD)
        mark = MARK.search(self._text, first, begin)
        if mark is not None:
            return _ATTRIBUTE[mark[1]] if mark[1] else _CLOSED[mark[2] or mark[3]]
        return _FAR if begin - first == LEAD and self._text[first:begin].isspace() else _BARE


def _needed(text: str, first: int, last: int) -> int:
    """From where on a text tells whether an address begins at its end; such a place is not before ``first``. Of all that an
    address begins with, a space may stand in no more than what is before it, and these other characters nowhere."""
    space = text.rfind(" ", first, last)
    if space >= 0:
        lead = text[first:space].rstrip()
        first += max(0, len(lead[:-1].rstrip() if lead[-1:] in ("'", '"') else lead) - 1)
    return max(first, text.rfind(",", first, last), text.rfind(")", first, last), text.rfind("}", first, last))


class Shown:
    """What a text says to who reads it, and where in it that stands."""

    __slots__ = ("_half", "_raw", "_starts", "text")

    def __init__(self, text: str, in_json: bool) -> None:
        """``in_json``: the text is JSON: its escapes are undone, and where a string begins or ends stands a blank line behind
        `_STRING`."""
        self._raw = self.text = text
        self._half = ""  # of an escape that is not there yet, and so shows nothing
        self._starts: list[int] | None = None
        if in_json:
            starts: list[int] = []
            parts: list[str] = []
            at = 0
            for found in _ESCAPE.finditer(text):
                if found[2] is not None:
                    said, self._half = "", found[0]
                elif found[1] is not None:
                    said = chr(int(found[1], 16)).replace(_STRING, "\ufffd")
                else:
                    said = _SPACES.get(found[3], found[3] or f"{_STRING}\n\n")
                starts += (*range(at, found.start()), *([found.start()] * len(said)))
                parts += (text[at : found.start()].replace(_STRING, "\ufffd"), said)
                at = found.end()
            starts.extend(range(at, len(text)))
            self.text, self._starts = "".join((*parts, text[at:].replace(_STRING, "\ufffd"))), starts

    def place(self, raw: int) -> int:
        """Where what stands at ``raw`` in the text is shown."""
        return raw if self._starts is None else bisect_left(self._starts, raw)

    def remembered(self) -> str:
        """As `remembered`."""
        first, last = Addresses(self.text).needed(len(self.text))
        return self._raw[self._at(first) : self._at(last)] + self._half

    def _at(self, place: int) -> int:
        if self._starts is None:
            return place
        return self._starts[place] if place < len(self._starts) else len(self._raw) - len(self._half)


def remembered(raw: str, in_json: bool) -> str:
    """What must be remembered of a text (`Shown`) to follow its sequel: the address that is open at its end, with what
    it stands in, or the characters in which one may begin. Of an address longer than `MAX_ADDRESS`, its beginning."""
    if _MAY_BEGIN.search(raw) is None:
        return raw[_needed(raw, max(0, len(raw) - _REACH), len(raw)) :]
    return Shown(raw, in_json).remembered()
