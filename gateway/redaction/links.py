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

_GAP: Final = r"(?:[\t\r\n]|\\[tnr]){0,8}"
"""What browsers leave out wherever it stands in an address, as it is or as JSON writes it. Where there is more of it, what it
stands in is taken for the worst that it may be: `_LONG`."""

_LONG: Final = re.compile(r"(?:[\t\r\n]|\\[tnr]){9}[^ ,)\]}]*\Z")
_ONE: Final = r"(?:(?<=\\)u00(?:2[fF]|5[cC])|(?<=[/\\])|(?<=&)(?:#(?:0{0,6}(?:47|92)|[xX]0{0,6}(?:2[fF]|5[cC]));|b?sol;))"
_MORE: Final = rf"(?:[\t\r\n]{{0,8}}[/\\&]{_ONE})+"
_BEHIND: Final = r"(?:(?<=[:;\t\r\n].)|(?<=003[aA].)|(?<=\\[tnr][/&])|(?<=\\[tnr]\\)(?=u))"
SLASHES: Final = re.compile(rf"[/\\&](?:{_ONE}{_MORE}|{_BEHIND}{_ONE}())")
"""Several slashes, or one that may stand behind a scheme: its group 1 has matched then. It begins with a set of characters,
for which a text is searched fastest."""

_PART: Final = r"[/\\&](?:(?<=/)|(?<=\\)(?:u[0-9a-fA-F]{0,4}+)?+|(?<=&)#?+\w{0,12}+;?+)[\t\r\n]{0,8}+"
_BEGUN: Final = re.compile(rf"{_PART}(?:{_PART})*+\Z")
OPEN_END: Final = re.compile(rf"(?<=\\)u[0-9a-fA-F]{{0,3}}+\Z|[\t\r\n]{{0,8}}+(?:{_BEGUN.pattern}|\Z)")
"""What may become one more slash behind others, or of the last one."""

_UNIT: Final = 32
"""Characters that no such unit is longer than, so that a run longer than `MAX_HOST` is known for one by its end alone."""


def _letters(name: str) -> str:
    """An expression for letters of a scheme, each as it is or escaped."""
    codes = [(format(ord(one), "x"), format(ord(one.upper()), "x"), ord(one), ord(one.upper())) for one in name]
    return "".join(
        rf"(?:{one}|\\{{1,4}}u00(?:{a}|{b})|&#(?:0{{0,6}}(?:{c}|{d})|x0{{0,6}}(?:{a}|{b}));?){_GAP}"
        for one, (a, b, c, d) in zip(name, codes, strict=True)
    )


_COLON: Final = rf"(?::|\\+u003a|&(?:colon|#(?:0{{0,6}}58|x0{{0,6}}3a));){_GAP}\Z"
_NAKED: Final = re.compile(
    rf"[:&\\](?:(?<=[tpwsnr;0235\t\r\n][ps]:)|(?<=[;0235\t\r\n]:)|(?<=\\[tnr]:)|(?<=&)(?:colon|#(?:0{{0,6}}58|x0{{0,6}}3a));|(?<=\\)u003a)(?=(?:[\t\r\n]|\\[tnr])*+(?:[^\s/\\&]|&(?!{_ONE})|\Z))",
    re.IGNORECASE,
)
"""The colon of a scheme behind which no slash stands."""
_MAY_BE_WEB: Final = re.compile(rf"(?:[PS03;]{_GAP}{_COLON}|(?:[\t\r\n]|\\[tnr]){{9}}\Z)", re.IGNORECASE)
_S: Final = _letters("s")
_WEB: Final = re.compile(
    rf"(?:{_letters('http')}(?:{_S})?|{_letters('ws')}(?:{_S})?|{_letters('ftp')}){_COLON}", re.IGNORECASE
)
_OTHER: Final = re.compile(r"(?<![\w;])[a-z][a-z0-9+.-]*:\Z", re.IGNORECASE)
_AUTHORITY_END: Final = re.compile(r"""[/\\?#\s"'<>`]|&#|&b?sol;""")
_END: Final = re.compile(r"""[\s"'<>`)]""")
_NAME: Final = re.compile(r"\[[0-9a-f:.]*\]|[^\s:()\[\],;!?*{}|]*", re.IGNORECASE)

SCHEME: Final = 160
"""Characters that no scheme is longer than, however it is written."""

MARK: Final = re.compile(r"""(?:=\s{0,32}(["'])|([<(]))\s{0,32}\Z|(["'])\Z""")
"""What an address stands in, before it: white space behind that is none of the address's."""

LEAD: Final = 66
"""Characters that no such mark is longer than."""

_CONTEXT: Final = SCHEME + LEAD
"""Characters before an address that tell its scheme and what it stands in."""


def begun(before: str, found: re.Match[str]) -> int | None:
    """Where in the text before slashes (`SLASHES`) an address begins that goes on with them; None where none does."""
    last = len(before)
    if _MAY_BE_WEB.search(before, max(0, last - 64)):
        web = _WEB.search(before, max(0, last - SCHEME))
        if web is not None:
            return web.start()
        if _LONG.search(before, max(0, last - SCHEME)):
            return last
    if found[1] is not None or before[-1:].isalnum():
        return None  # a path, a comment in a program
    if _OTHER.search(before, max(0, last - SCHEME)):
        return None  # of a database, a file: nothing that is fetched when it is shown
    return last


def naked(text: str, floor: int, first: int, last: int) -> tuple[int, int] | None:
    """Where, between ``first`` and ``last``, the first address with no slash begins, and what stands behind its scheme; nothing
    before ``floor`` tells of it. Browsers read ``http:host`` as if it had two, unless the page has that very scheme."""
    for found in _NAKED.finditer(text, first, last):
        web = _WEB.search(text, max(floor, found.end() - SCHEME), found.end())
        if web is not None:
            return web.start(), found.end()
    return None


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

    __slots__ = ("_before", "_dropping", "_held", "_hosts", "_open", "removed")

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._before = ""
        self._held = ""
        self._dropping = False
        self._open: tuple[str, int, str] | None = None  # what `_allowed` takes, of a host at which a text was over
        self.removed = 0

    @property
    def held(self) -> int:
        """Code points that may be the beginning of an address."""
        return len(self._held)

    def feed(self, piece: str) -> str:
        """Take a piece of the text; return what can go out."""
        return self._take(self._held + piece, False)

    def finish(self) -> str:
        """The text is over; what is fed after that is shown behind it."""
        return self._take(self._held, True)

    def whole(self, text: str) -> str:
        """A whole text without them."""
        return self.feed(text) + self.finish()

    def _take(self, fresh: str, final: bool) -> str:
        text = self._before + fresh
        at = len(self._before)
        out: list[str] = []
        if self._open is not None:
            lead, start, authority = self._open
            end = _AUTHORITY_END.search(text, at)
            if end is None and not final and len(fresh) <= MAX_HOST:
                self._held = fresh
                return ""
            upto = end.start() if end else len(text)
            authority += text[at:upto]
            self._open = (lead, start, authority) if end is None and len(authority) <= MAX_HOST else None
            if not self._allowed(lead, start, authority, text[upto : upto + 1]):
                out.append(REMOVED)
                self.removed += 1
                self._dropping, self._open = True, None
                at = upto
        while True:
            if self._dropping:
                end = _END.search(text, at)
                at = end.start() if end else len(text)
                self._dropping = end is None
            found = SLASHES.search(text, at)
            if found is None:
                begins = None if final else _BEGUN.search(text, max(at, len(text) - MAX_HOST - _UNIT))
                stop = begins.start() if begins and len(text) - begins.start() <= MAX_HOST else len(text)
                break
            open_end = OPEN_END.match(text, found.end())
            before = text[max(0, found.start() - _CONTEXT) : found.start()]
            begin = begun(before, found)
            if begin is None and not open_end:
                out.append(text[at : found.end()])
                at = found.end()
                continue
            end = _AUTHORITY_END.search(text, found.end())
            if (open_end or end is None) and not final and len(text) - found.end() <= MAX_HOST:
                stop = found.start()
                break
            upto = end.start() if end else len(text)
            if begin is None or self._allowed(before, begin, text[found.end() : upto], text[upto : upto + 1]):
                out.append(text[at:upto])
                self._open = (before, begin, text[found.end() :]) if final and end is None and begin is not None else None
            else:
                out += (text[at : found.start()], REMOVED)
                self.removed += 1
                self._dropping = True
            at = upto
        out.append(text[at:stop])
        self._held = text[stop:]
        self._before = text[max(0, stop - _CONTEXT) : stop]
        return "".join(out)

    def _allowed(self, before: str, begin: int, authority: str, after: str) -> bool:
        """Whether an address that begins in the text before slashes, or with them, is that of an allowed host."""
        mark = MARK.search(before, 0, begin) or before[:begin].endswith("=")
        if mark and after in ("\t", "\n", "\r") and after:
            return False  # a browser reads on
        if begin == len(before) and not any(one in authority for one in ".[@"):
            return True  # a comment in a program
        name = _NAME.match(authority.rpartition("@")[2])
        return name is not None and name[0].lower().rstrip("._") in self._hosts
