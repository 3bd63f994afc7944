"""Addresses of hosts that a policy does not name, taken out of what a model says: links, images, attributes and bare ones.

An image's address is fetched as soon as it is shown, and a host's name alone may carry data, so nothing of such an address goes
out but its scheme. A text may come in pieces; what is held is a host until it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

REMOVED: Final = "[link removed]"

MAX_HOST: Final = 320
"""Characters of a host, with user and port, that are waited for: names have at most 253."""

_SLASH: Final = r"(?:\\u00(?:2[fF]|5[cC])|[/\\]|&#(?:0{0,6}(?:47|92)|[xX]0{0,6}(?:2[fF]|5[cC]));|&b?sol;)"
_SLASHES: Final = re.compile(_SLASH + "{2,}")
_BEGUN: Final = re.compile(r"(?:/|\\(?:u[0-9a-fA-F]{0,4}+)?+|&#?+\w{0,12}+;?+)++\Z")
_UNIT: Final = 16
"""Characters that no such unit is longer than, so that a run longer than `MAX_HOST` is known for one by its end alone."""

_WEB: Final = re.compile(r"(?:https?|wss?|ftp)(?::|\\+u003[aA])\Z", re.IGNORECASE)
_OTHER: Final = re.compile(r"(?<![\w;])[a-z][a-z0-9+.-]*:\Z", re.IGNORECASE)
_AUTHORITY_END: Final = re.compile(r"""[/\\?#\s"'<>`]|&#|&b?sol;""")
_END: Final = re.compile(r"""[\s"'<>`)]""")
_NAME: Final = re.compile(r"\[[0-9a-f:.]*\]|[^\s:()\[\],;!?*{}|]*", re.IGNORECASE)
_CONTEXT: Final = 40
"""Characters before an address that tell its scheme and what it stands in."""


class Hosts:
    """Names of hosts: ``example.com`` is that one, ``*.example.com`` all below it."""

    __slots__ = ("_below", "_exact")

    def __init__(self, names: Iterable[str]) -> None:
        names = [name.lower() for name in names]
        self._exact = frozenset(name for name in names if not name.startswith("*."))
        self._below = tuple(name[1:] for name in names if name.startswith("*."))

    def __contains__(self, name: str) -> bool:
        return name in self._exact or (bool(self._below) and name.endswith(self._below))


class Links:
    """Takes the addresses of other hosts out of one text. ``removed`` counts them."""

    __slots__ = ("_before", "_dropping", "_held", "_hosts", "removed")

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._before = ""
        self._held = ""
        self._dropping = False
        self.removed = 0

    @property
    def held(self) -> int:
        """Code points that may be the beginning of an address."""
        return len(self._held)

    def feed(self, piece: str) -> str:
        """Take a piece of the text; return what can go out."""
        return self._take(self._held + piece, False)

    def finish(self) -> str:
        """The text is over."""
        return self._take(self._held, True)

    def whole(self, text: str) -> str:
        """A whole text without them."""
        return self.feed(text) + self.finish()

    def _take(self, fresh: str, final: bool) -> str:
        text = self._before + fresh
        at = len(self._before)
        out: list[str] = []
        while True:
            if self._dropping:
                end = _END.search(text, at)
                at = end.start() if end else len(text)
                self._dropping = end is None
            found = _SLASHES.search(text, at)
            if found is None:
                begun = None if final else _BEGUN.search(text, max(at, len(text) - MAX_HOST - _UNIT))
                stop = begun.start() if begun and len(text) - begun.start() <= MAX_HOST else len(text)
                break
            end = _AUTHORITY_END.search(text, found.end())
            open_end = end is None or _BEGUN.match(text, found.end())  # or what follows may become one more slash
            if open_end and not final and len(text) - found.end() <= MAX_HOST:
                stop = found.start()
                break
            upto = end.start() if end else len(text)
            if self._allowed(text, found.start(), text[found.end() : upto], text[upto : upto + 1]):
                out.append(text[at:upto])
            else:
                out += (text[at : found.start()], REMOVED)
                self.removed += 1
                self._dropping = True
            at = upto
        out.append(text[at:stop])
        self._held = text[stop:]
        self._before = text[max(0, stop - _CONTEXT) : stop]
        return "".join(out)

    def _allowed(self, text: str, slashes: int, authority: str, after: str) -> bool:
        """Whether what follows two slashes is no address, or that of an allowed host."""
        before = text[max(0, slashes - _CONTEXT) : slashes]
        web = _WEB.search(before)
        if web is None and _OTHER.search(before):
            return True  # of a database, a file: nothing that is fetched when it is shown
        if web is None and (before[-1:].isalnum() or not any(mark in authority for mark in ".[@")):
            return True  # a comment in a program, a path
        mark = before[: web.start()][-1:] if web else before[-1:]
        if after in ("\t", "\n", "\r") and after and mark in ("\"", "'", "=", "<", "("):
            return False  # a browser reads on
        name = _NAME.match(authority.rpartition("@")[2])
        return name is not None and name[0].lower().rstrip("._") in self._hosts
