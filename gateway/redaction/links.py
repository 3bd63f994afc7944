"""Addresses of hosts that a policy does not name, taken out of what a model says: links, images, attributes and bare ones.

An image's address is fetched as soon as it is shown, and a host's name alone may carry data, so nothing of such an address goes
out but its scheme. A text may come in pieces; what is held is a host until it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final, NamedTuple

from gateway.redaction.hosts import Place, hosts, normalised

REMOVED: Final = "[link removed]"

MAX_HOST: Final = 320
"""Characters of a host, with user and port, that are waited for: names have at most 253."""

FILL: Final = "\udffe"
"""Stands in `plain` for the rest of what a character is written as: half a character, which is shown to nobody."""

_STARTS: Final = dict.fromkeys(map(ord, "hHtTpPsSwWfF:/\\")) | dict.fromkeys(map(ord, "\t\r\n"), FILL)
_NAMES: Final = {"sol": "/", "bsol": "\\", "colon": ":", "Tab": FILL, "NewLine": FILL}
_ENTITY: Final = re.compile(
    r"&#(?:0{0,8}+(?P<decimal>[0-9]{1,3}+)(?![0-9])|[xX]0{0,8}+(?P<hex>[0-9a-fA-F]{1,2}+)(?![0-9a-fA-F]));?|&#[xX]?0{9}"
    r"|&(?P<name>b?sol|colon|Tab|NewLine);"
)
_WORST: Final = re.compile("&#[xX]?0{9}")
"""What nobody writes of an entity; it is taken for the worst that it may be."""

_ESCAPED_LETTER: Final = re.compile(r"\\{1,4}(?:u(?P<json>[0-9a-fA-F]{4})|(?=:))")
_CSS_LETTER: Final = re.compile(rf"\\{{1,4}}(?:{FILL}*+(?P<css>[0-9a-fA-F]{{1,6}}+)(?:\r\n|\s)?|[\r\n]+)")
_CSS: Final = re.compile(
    r"(?<![\w-])(?:(?:u|\\0{0,4}[57]5\s?)(?:r|\\0{0,4}[57]2\s?)(?:l|\\0{0,4}[46]c\s?)\(|image-set\(|@import)", re.IGNORECASE
)
"""What stands before an address in CSS; elsewhere a backslash and a digit are what they are."""
_IN_CSS: Final = re.compile(rf"{_CSS.pattern}[^)<>{{}}]{{0,160}}\Z", re.IGNORECASE)
_CSS_REACH: Final = 190
"""Characters that no such text is longer than."""


def plain(text: str) -> str:
    """A text with what addresses begin with (letters of schemes, colons, slashes) as it is, where it is written in escapes of
    HTML, JSON, CSS or Markdown; it is as long as before."""
    text = _plain_html(text)
    if "\\" not in text:
        return text
    if _CSS.search(text):
        text = _CSS_LETTER.sub(_undone_in_css, text)
    return _ESCAPED_LETTER.sub(_undone, text)


def _plain_html(text: str) -> str:
    """`plain` for a program that knows no escape but HTML's, to which a backslash is a slash."""
    return _ENTITY.sub(_undone, text) if "&" in text else text


def _undone(found: re.Match[str]) -> str:
    written = found[0]
    group = found.lastgroup
    if group == "name":
        made: str | None = _NAMES[found["name"]]
    elif group is None:
        made = "/" if written[0] == "&" else FILL
    else:
        code = int(found[group], 10 if group == "decimal" else 16)
        made = (_STARTS[code] or chr(code)) if code in _STARTS else None
    return written if made is None else made.ljust(len(written), FILL)


def _undone_in_css(found: re.Match[str]) -> str:
    start = found.start()
    return _undone(found) if _IN_CSS.search(found.string, max(0, start - _CSS_REACH), start) else found[0]


_LEFT_OUT: Final = rf"(?:[\t\r\n{FILL}]|\\[tnr])"
"""What browsers leave out wherever it stands in an address, as it is or as JSON writes it. Where there is more of it, what it
stands in is taken for the worst that it may be: `_LONG`."""

_LONG: Final = re.compile(rf"{_LEFT_OUT}{{9}}[^ ,)\]}}]*\Z")
_LINES: Final = rf"(?:(?:[\t\r\n]|\\[tnr]){FILL}*+){{0,8}}"
SLASHES: Final = re.compile(
    rf"[/\\](?:{FILL}*+(?:{_LINES}[/\\]{FILL}*+){{1,{MAX_HOST}}}|(?:(?<=[:\t\r\n{FILL}/\\].)|(?<=\\[tnr].)){FILL}*+())"
)
"""Several slashes, or one that may stand behind a scheme, or behind those at which a text was over: its group 1 has matched
then. Of more than anybody waits for, it matches a part. It begins with a set of characters, for which a text is searched
fastest. These expressions are for what `plain` says."""

_ESCAPE: Final = r"(?:u[0-9a-fA-F]{0,4}+|[0-9a-fA-F]{1,6}+\s?+|[tnr]|[\r\n]++)"
_PART: Final = rf"[/\\&](?:(?<=/)|(?<=\\)(?:{_ESCAPE})?+|(?<=&)#?+\w{{0,12}}+;?+){FILL}*+(?:[\t\r\n]{FILL}*+){{0,8}}+"
_BEGUN: Final = re.compile(rf"{_PART}(?:{_PART})*+\Z")
OPEN_END: Final = re.compile(rf"(?:(?<=\\){_ESCAPE}{FILL}*+)?+{_LINES}(?:{_BEGUN.pattern}|\Z)")
"""What may become one more slash behind others, or of the last one."""

_UNIT: Final = 32
"""Characters that no such unit is longer than, so that a run longer than `MAX_HOST` is known for one by its end alone."""

_NAKED: Final = re.compile(
    rf":(?:(?<=[psPS\t\r\n{FILL}]:)|(?<=\\[tnr]:)){FILL}*+(?={_LEFT_OUT}{{0,40}}+(?:[^\s/\\]|[\t\r\n]|\Z))"
)
"""The colon of a scheme behind which no slash stands."""
SLASH_TO_COME: Final = re.compile(rf"{_LEFT_OUT}{{0,40}}+(?:{_BEGUN.pattern}|\Z)")
"""What may become a slash behind it."""
_MAY_BE_WEB: Final = re.compile(rf"(?:[PSps]{_LEFT_OUT}*+:{_LEFT_OUT}*+|{_LEFT_OUT}{{9}})\Z")
_WEB: Final = re.compile(
    rf"(?:{{}}(?:s{_LEFT_OUT}*+)?|{{}}(?:s{_LEFT_OUT}*+)?|{{}}):{_LEFT_OUT}*+\Z".format(
        *("".join(f"{letter}{_LEFT_OUT}*+" for letter in scheme) for scheme in ("http", "ws", "ftp"))
    ),
    re.IGNORECASE,
)
_OTHER: Final = re.compile(rf"(?<![\w;{FILL}])[a-z][a-z0-9+.-]*:\Z", re.IGNORECASE)
_ESCAPED: Final = re.compile(
    r"(?:\\u[0-9a-fA-F]{4}|\\0{0,4}(?:20|2[278]|3[dDaA]|[9aAdD])|\\[tnrfb]|&#[0-9]+|&#[xX][0-9a-fA-F]+|&(?:quot|lt|gt|amp|nbsp))\Z"
)
"""A character that is written in letters and digits and is none itself."""

SCHEME: Final = 160
"""Characters that no scheme is longer than, however it is written."""

MARK: Final = re.compile(r"""(?:=\s{0,32}\\{0,4}(["'])|([<(]))\s{0,32}\Z|(["'])\Z""")
"""What an address stands in, before it: white space behind that is none of the address's."""

LEAD: Final = 70
"""Characters that no such mark is longer than."""

_CONTEXT: Final = max(SCHEME + _CSS_REACH, MAX_HOST)
"""Characters before an address that tell its scheme and what it stands in, or that it is none."""

_END: Final = re.compile(r"""["'\s<>`)]""")
_REFRESH: Final = re.compile(r"""content\s{0,9}=\s{0,9}(["'])[^"'<>]*\Z""", re.IGNORECASE)
_FETCHED: Final = re.compile(
    r"""(?:\]\(\s*<?|url\(\s*["']?"""
    r"""|(?<![\w-])(?:src|srcset|href|action|formaction|data|poster|background|cite|ping)\s*=\s*(?:\\*["'])?)\s*\Z""",
    re.IGNORECASE,
)
"""Behind it stands an address and nothing else."""
_BLANKS: Final = re.compile(
    r"(?:[\0-\x20]|&#(?:[0-9]{1,4}|[xX][0-9a-fA-F]{1,4});?|&(?:Tab|NewLine);|\\{1,4}(?:[tnr]|u00[01][0-9a-fA-F]|u0020))*\Z"
)
"""What browsers leave out before an address, between it and its quotation mark."""
_BLANK: Final = 10
"""Characters that none of these is longer than."""
_MARKDOWN: Final = re.compile(r"\][(:](?:\s|\\[tnr])*<?\Z")


def begun(before: str, found: re.Match[str]) -> int | None:
    """Where in the text before slashes (`SLASHES`) an address begins that goes on with them; None where none does. Both are of
    what `plain` says."""
    last = len(before)
    if last >= MAX_HOST and not before[-MAX_HOST:].strip(f"/\\\t\r\n{FILL}"):
        return None  # more slashes of a path; all others are gone
    if _MAY_BE_WEB.search(before, max(0, last - 64)):
        web = _WEB.search(before, max(0, last - SCHEME))
        if web is not None:
            return web.start()
        if _LONG.search(before, max(0, last - SCHEME)):
            return last
    if found[1] is not None and before.rstrip(FILL)[-1:] not in ("/", "\\"):
        return None  # a path
    if before[-1:].isalnum() and not _written_out(before, found):
        return None  # a path, a comment in a program
    if _OTHER.search(before, max(0, last - SCHEME)):
        return None  # of a database, a file: nothing that is fetched when it is shown
    return last


def _written_out(before: str, found: re.Match[str]) -> bool:
    """Whether the character before slashes is an escape. Two backslashes behind one are the next one's, in JSON within JSON."""
    return _ESCAPED.search(before, max(0, len(before) - _UNIT)) is not None and ("/" in found[0] or found[0].count("\\") > 3)


def naked(text: str, floor: int, first: int, last: int) -> tuple[int, int, int] | None:
    """Where, between ``first`` and ``last``, the first address with no slash begins, its colon, and what stands behind that;
    nothing before ``floor`` tells of it. Browsers read ``http:host`` as if it had two, unless the page has that very scheme."""
    for found in _NAKED.finditer(text, first, last):
        web = _WEB.search(text, max(floor, found.end() - SCHEME), found.end())
        if web is not None:
            return web.start(), found.start(), found.end()
    return None


class _Address(NamedTuple):
    """Where in a text an address may be.

    Attributes:
        held: where that begins without which nothing is decided on. opening: where its slashes begin.
        first: where its host begins. begin: where it begins itself; None where there is none after all.
        grows: whether what follows may be more of its slashes, for all that is there of the text.
        single: it has not two slashes; so it is one for what stands before it.
    """

    held: int
    opening: int
    first: int
    begin: int | None
    grows: bool
    single: bool


class _View:
    """One way to read a text, and the address in it that comes next."""

    __slots__ = ("_found", "_next", "_start", "_text", "_upto")

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: re.Match[str] | None = None
        self._start = -1
        self._next: _Address | None = None
        self._upto = -1

    def next(self, at: int) -> _Address | None:
        """The first one from ``at`` on, which must not descend."""
        if self._upto < at:  # else what was found before is still the next
            self._next = self._search(at)
            self._upto = len(self._text) if self._next is None else self._next.held
        return self._next

    def _search(self, at: int) -> _Address | None:
        text = self._text
        if self._start < at:
            self._found = SLASHES.search(text, at)
            self._start = self._found.start() if self._found else len(text)
        slashless = naked(text, 0, at, self._start)
        if slashless is not None:
            named, held, first = slashless
            other = text[named - 1 : named].isalnum() and not _ESCAPED.search(text, max(0, named - _UNIT), named)
            return _Address(held, first, first, None if other else named, self._grows(SLASH_TO_COME, first), True)
        found = self._found
        if found is None:
            return None
        held, first = found.span()
        before = text[max(0, held - _CONTEXT) : held]
        within = begun(before, found)
        begin = None if within is None else held - len(before) + within
        if first - held >= MAX_HOST:
            return _Address(held, held, held + MAX_HOST, begin, False, False)
        return _Address(held, held, first, begin, self._grows(OPEN_END, first), found[1] is not None)

    def _grows(self, sequel: re.Pattern[str], first: int) -> bool:
        return len(self._text) - first <= MAX_HOST and sequel.match(self._text, first) is not None

    def pending(self, at: int) -> int:
        """Where from ``at`` on that begins which may be the beginning of an address at the end of the text."""
        begins = _BEGUN.search(self._text, max(at, len(self._text) - MAX_HOST - _UNIT))
        return begins.start() if begins and len(self._text) - begins.start() <= MAX_HOST else len(self._text)


class _Stand(NamedTuple):
    """What an address stands in, and so how its host is read.

    Attributes:
        closing: the quotation mark that ends it, if one does.
        host: what matches the host. over: what ends one that is too long to be waited for.
        lines: whether a browser may read on behind a tab or a line end at which ``host`` ends.
        fetched: whether nothing but an address can stand here. markdown: whether it is the place of a link of Markdown.
    """

    place: Place
    closing: str
    host: re.Pattern[str]
    over: re.Pattern[str]
    lines: bool
    fetched: bool
    markdown: bool

    def host_end(self, text: str, first: int, last: int) -> int:
        """Where the host ends that begins at ``first``; nothing is read from ``last`` on."""
        found = self.host.match(text, first, last)
        return found.end() if found else first


@cache
def _ends(closing: str, escaped: bool, spaces: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The expressions for a host, and for what ends a long one. ``escaped``: what closes it has a backslash before it."""
    white = "" if spaces else r"\s"
    after = closing if escaped else ""
    unit = rf"\\(?:[0-9a-fA-F]{{1,6}}+(?:\r\n|\s)?|[\r\n]+|[^/?<>\s{after}]?)|&#?"
    over = rf"[{white}<>/?#]"
    if closing == ")":  # parentheses in an address are balanced, so it ends with the first one if none was opened
        host = rf"(?:[^\s<>/?#\\&()]|{unit})*+(?:\((?:[^\s<>/?#\\&]|{unit})*+)?+"
        return re.compile(host), re.compile(over)
    return re.compile(rf"(?:[^{white}<>/?#\\&{closing}]|{unit})*+"), re.compile(f"{over}|{closing}" if closing else over)


def _stand(lead: str) -> _Stand:
    """``lead``: what stands before an address."""
    marked = _BLANKS.sub("", lead, count=1)
    blanks = lead[len(marked) :]
    far = len(lead) == LEAD and (not marked or (len(marked) < _BLANK and not blanks.isspace()))
    mark = MARK.search(marked)
    if mark is not None and not mark[3]:
        lead = marked
    fetched = _FETCHED.search(lead) is not None
    markdown = _MARKDOWN.search(lead) is not None
    mark = MARK.search(lead)
    if mark is not None and mark[2] == "(":
        return _Stand(Place.BARE, "", *_ends(")", False, False), True, fetched, markdown)
    if mark is not None and mark[3]:
        return _Stand(Place.QUOTED, mark[3], *_ends(mark[3], lead[-2:-1] == "\\", False), True, fetched, markdown)
    quoted = mark or _REFRESH.search(lead)
    if quoted or far:
        quote = (quoted and quoted[1]) or ""
        escaped = quoted is not None and quote != "" and lead[quoted.start(1) - 1] == "\\"
        return _Stand(Place.ATTRIBUTE, quote, *_ends(quote, escaped, True), False, fetched, markdown)
    bare = not lead or lead[-1] <= " " or lead[-1] in "=,:;" or _ESCAPED.search(lead, max(0, len(lead) - _UNIT))
    return _Stand(Place.BARE if bare else Place.PROSE, "", *_ends("", False, False), lead.endswith("="), fetched, markdown)


class Hosts:
    """Names of hosts: ``example.com`` is that one, ``*.example.com`` all below it."""

    __slots__ = ("_below", "_exact")

    def __init__(self, names: Iterable[str]) -> None:
        exact: list[str] = []
        below: list[str] = []
        for name in names:
            domain = name.removeprefix("*.")
            (exact if domain == name else below).append(normalised(domain))
        self._exact = frozenset(exact)
        self._below = tuple(f".{domain}" for domain in below)

    def __contains__(self, name: str) -> bool:
        return name in self._exact or (bool(self._below) and name.endswith(self._below))


class Links:
    """Takes the addresses of other hosts out of one text. ``removed`` counts them."""

    __slots__ = ("_before", "_dropping", "_held", "_hosts", "_open", "_quoted", "removed")

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._before = ""
        self._held = ""
        self._dropping: re.Pattern[str] | None = None  # what ends that which is left out of a text
        self._quoted = False  # whether that stands where a browser reads on behind spaces
        self._open: tuple[_Stand, str, int, tuple[bool, bool]] | None = None
        """Of a host at which a text was over: what it stands in, it and its slashes, how long these are, and ``kind`` as of
        `_allowed`."""

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
            stand, known, slashes, kind = self._open
            written, done = known + text[at:], at - len(known)
            last = slashes + MAX_HOST
            end = max(stand.host_end(written, slashes, last + 1), len(known))
            if end == len(written) <= last and not final:
                self._held = fresh
                return ""
            self._open = None
            if not self._allowed(stand, written[: min(end, last)], kind, written[end : end + 1], end > last):
                out.append(REMOVED)
                at = max(self._remove(stand, text, done + end, done + last), at)
            elif final and end == len(written):
                self._open = stand, written, slashes, kind
        views: list[_View] = []
        while True:
            at = self._left(text, at, final, out)
            if self._dropping is not None:
                stop = at
                break
            views = views or [_View(one) for one in {plain(text), _plain_html(text)}]
            following = [one for one in (view.next(at) for view in views) if one is not None]
            if not following:
                stop = len(text) if final else min(view.pending(at) for view in views)
                break
            held, opening, first, begin, grows, single = min(following, key=_order)
            last = first + MAX_HOST
            endless = first - opening == MAX_HOST
            waits = not final and not endless and len(text) <= last
            if begin is None:
                if grows and waits:
                    stop = held
                    break
                out.append(text[at:first])
                at = first
                continue
            stand = _stand(text[max(0, begin - LEAD) : begin])
            end = last + 1 if endless else stand.host_end(text, first, last + 1)
            if (grows or end == len(text)) and waits:
                stop = held
                break
            leads = final and first == len(text) and begin < opening < first  # to what the next text says, whatever that is
            kind = begin < held, single
            if not leads and self._allowed(stand, text[opening : min(end, last)], kind, text[end : end + 1], end > last):
                out.append(text[at:first])
                at = first
                if final and end == len(text):
                    self._open = stand, text[opening:end], first - opening, kind
            else:
                out += (text[at:opening], REMOVED)
                at = self._remove(stand, text, end, first if endless else last)
        out.append(text[at:stop])
        self._held = text[stop:]
        self._before = text[max(0, stop - _CONTEXT) : stop]
        return "".join(out)

    def _remove(self, stand: _Stand, text: str, end: int, last: int) -> int:
        """Leave out what follows, behind a host that ends at ``end`` or is too long from ``last`` on; where that begins."""
        self.removed += 1
        self._dropping = stand.over if end > last or end == len(text) else _END
        self._quoted = stand.place in (Place.ATTRIBUTE, Place.QUOTED)
        return _with_its_backslashes(text, 0, min(end, last))

    def _left(self, text: str, at: int, final: bool, out: list[str]) -> int:
        """Where that ends which is left out; what may end it is not decided on before it is complete."""
        while self._dropping is not None:
            dropped = self._dropping.search(text, at)
            if dropped is None:
                return len(text) if final else _backslashes(text, at, len(text))
            at = _with_its_backslashes(text, at, dropped.start())
            if self._dropping is not _END:
                self._dropping = _END
                continue
            self._dropping = None
            if self._quoted and dropped[0][-1] not in "\"'<>":
                out.append("#")  # else a browser would take what is left for a user, up to the next @, and then read a host
        return at

    def _allowed(self, stand: _Stand, written: str, kind: tuple[bool, bool], after: str, long: bool) -> bool:
        """Whether an address leads to an allowed host or to none.

        Args:
            written: from its slashes on to the end of its host.
            kind: whether it has a scheme, and whether it has not two slashes.
            after: the character behind the host. long: it is not all of the host.
        """
        place = stand.place
        if stand.lines and after in ("\t", "\n", "\r"):
            return False  # a browser reads on
        if long or _WORST.search(written):
            return False
        if place is Place.QUOTED and after.isspace():
            place = Place.BARE
        scheme, single = kind
        exempt = not stand.fetched and (single or not scheme)
        bare = not scheme and not single
        names = hosts(written, place, stand.closing, 2 if bare else 0, not bare or stand.markdown)
        return all(not name or name in self._hosts or (exempt and _is_word(name)) for name in names)


def _backslashes(text: str, floor: int, end: int) -> int:
    """Where the backslashes begin, at ``floor`` or behind it, that a quotation mark at ``end`` has before it in JSON."""
    first = max(floor, end - _UNIT)
    return first + len(text[first:end].rstrip("\\"))


def _with_its_backslashes(text: str, floor: int, at: int) -> int:
    return _backslashes(text, floor, at) if text[at : at + 1] in ("'", '"') else at


def _order(one: _Address) -> tuple[int, bool, int]:
    """Which of two addresses is the next: that which is one, and that with more slashes, if they begin together."""
    return one.held, one.begin is None, -one.first


def _is_word(name: str) -> bool:
    """Whether a host is a word or a small number, as in a comment of a program: no machine of a stranger's has such a name."""
    return name.startswith("0.") or not any(one in name for one in ".[")
