"""Characters written as escapes: in URLs, HTML, JSON, programs, style sheets and mail.

Escapes are everywhere, and mostly of characters that have to be escaped. What is decoded is where they stand for letters:
inside of words, or many in a row. Letters with accents are escaped by programs that keep to ASCII, which is no sign of
anything, but makes other words of them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from detectors.characters import ACCENTS, HIDDEN
from detectors.decode.piece import Allowance, Piece, cleaned, printable
from detectors.offsets import Change, Shift, rewrite

MAX_GAP: Final = 80
"""Code points between two escapes of one stretch: about a line."""

CONTEXT: Final = 80
"""Code points of the same line that are read along on either side: a sentence escaped in parts is judged as one."""

MIN_ESCAPED: Final = 6
"""Letters in a row, each written as an escape, that are no accident. A range in an expression has two or three."""

MIN_EDGES: Final = 2
"""Places where an escaped letter stands beside one that is not: one letter within a word has two."""

MIN_GAPS: Final = 3
"""Escaped spaces between words that make a sentence of them; a search in a link has one or two."""

MIN_STACK: Final = 3
"""Escaped accents on one letter; of Vietnamese letters some have two."""

MIN_BESIDE: Final = 3
"""Letters beside escaped ones that have accents, where none of those stands between two: a name or two have one each."""

MIN_LINE: Final = 50
"""Characters of a line behind which a soft line break may cut a word: mail programs break at 76."""

APOSTROPHES: Final = ("'", "\u2019")

_UNSEEN: Final = HIDDEN | ACCENTS
"""What nobody writes into words, as an escape, where it is no letter's own accent: it shows nothing, or hardly anything."""


class _Grammar(NamedTuple):
    scheme: str
    pattern: re.Pattern[str]
    decode: Callable[[re.Match[str]], str]


def percent(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Percent-encoding (RFC 3986) of UTF-8, applied any number of times."""
    return _stretches(text, _PERCENT)


def entities(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Character references of HTML and XML, by number and by name, escaped any number of times."""
    return _stretches(text, _ENTITY)


def backslashes(text: str, allowance: Allowance) -> Iterator[Piece]:
    r"""Escapes of JSON and programs: ``\u0069``, ``\u{69}``, ``\U00000069``, ``\x69``, ``\151``; of style sheets: ``\69 ``."""
    found = False
    for piece in _stretches(text, _BACKSLASH):
        found = True
        yield piece
    if not found:
        yield from _stretches(text, _STYLE)


def literals(text: str, allowance: Allowance) -> Iterator[Piece]:
    r"""Strings as JSON and programs write them: line breaks, tabs and quotes behind backslashes, escaped any number of times.

    That they are there says nothing. But a word behind ``\n`` is not seen as the word that it is, and the quotes around a text
    that is one string go, since what is quoted is read as if somebody told of it.
    """
    start, end = _within_quotes(text)
    changes: list[Change] = [(*match.span(), _LITERALS[match[1]]) for match in _LITERAL.finditer(text, start, end)]
    if start:
        changes = [(0, start, ""), *changes, (end, len(text), "")]
    decoded, edits = rewrite(text, changes)
    if edits is not None and printable(decoded):
        yield Piece("literals", decoded, 0, len(text), (edits,))


def _within_quotes(text: str) -> tuple[int, int]:
    """What stands between the quotes that a text begins and ends with, however often they are escaped; else all of it."""
    start = text.rfind('"', 0, len(text) - len(text.lstrip(_AROUND))) + 1
    end = text.find('"', len(text.rstrip(_AROUND)))
    end = len(text[:end].rstrip("\\")) if end >= 0 else 0
    return (start, end) if 0 < start < end else (0, len(text))


def code_points(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Characters as Unicode names their code points: ``U+0069 U+0067``."""
    return _stretches(text, _CODE_POINT)


def quoted_printable(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Quoted-printable (RFC 2045); words that its line breaks cut are no sign of anything, but words."""
    yield from _stretches(text, _QUOTED)
    cuts = [cut.span(1) for cut in _CUT.finditer(text) if cut.start() - text.rfind("\n", 0, cut.start()) > MIN_LINE]
    decoded, edits = rewrite(text, ((start, end, "") for start, end in cuts))
    if edits is not None and printable(decoded):
        yield Piece("soft_breaks", decoded, 0, len(text), (edits,))


def form(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Fields as addresses and forms have them (``a=x+y&b=%40``); most addresses have some, so that they are no sign."""
    for fields in _FIELDS.finditer(text):
        start, end = fields.span()
        if fields[0].count("+") + fields[0].count("%20") < MIN_GAPS and not _VALUE.search(fields[0]):
            continue
        changes = [(*match.span(), " " if match[0] == "+" else cleaned(_percent(match))) for match in _FORM.finditer(fields[0])]
        decoded, edits = rewrite(fields[0], [change for change in changes if change[2] != fields[0][change[0] : change[1]]])
        if decoded != fields[0] and printable(decoded):
            yield Piece("form", decoded, start, end, (Shift(start),) if edits is None else (Shift(start), edits))


def emphasis(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Figures and addresses between the underscores of Markdown (``_4111 1111..._``), which make another word of them."""
    for marked in _EMPHASIS.finditer(text):
        if not _FIGURES.search(marked[2]):
            continue
        (start, opened), (closed, end) = marked.span(1), (marked.end(2), marked.end())
        low, high = around(text, start, end)
        changes: list[Change] = [(start - low, opened - low, ""), (closed - low, end - low, "")]
        plain, edits = rewrite(text[low:high], changes)
        assert edits is not None  # underscores go
        if printable(plain):
            yield Piece("emphasis", plain, low, high, (Shift(low), edits))


def _percent(match: re.Match[str]) -> str:
    return _utf8(bytes.fromhex(_PERCENTS.sub("", match[0])), match[0])


def _quoted(match: re.Match[str]) -> str:
    return _utf8(bytes.fromhex(_SOFT_BREAK.sub("", match[0]).replace("=", "")), match[0])


def _utf8(data: bytes, otherwise: str) -> str:
    """UTF-8 without what is none of it; ``otherwise`` where that is most of it, as in Latin-1."""
    text = data.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    return otherwise if 2 * wrong > len(data) else text.replace("\ufffd", "")


def _entity(match: re.Match[str]) -> str:
    return html.unescape(f"&{match[1] or match[2]};")


def _backslash(match: re.Match[str]) -> str:
    bytes_, octals, pair, code = match[1], match[2], match[3], match[4] or match[5] or match[6] or match[7]
    if bytes_:
        return _bytes(bytes.fromhex(_NOT_HEX.sub("", bytes_)))
    if octals:
        return _bytes(bytes(int(part, 8) for part in _OCTAL.findall(octals)))
    if pair:
        return bytes.fromhex(_NOT_HEX.sub("", pair)).decode("utf-16-be", "replace")
    return _character(int(code, 16), match[0])


def _bytes(data: bytes) -> str:
    """What a row of bytes stands for: UTF-8 where it is that, else a character for each byte."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _code_point(match: re.Match[str]) -> str:
    return _character(int(match[1], 16), match[0])


def _character(code: int, otherwise: str) -> str:
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else otherwise


# A row of backslashes is read once, from its first one: from each of them it would take time that grows with its square.
_OCTAL = re.compile(r"[0-7]{3}")
_NOT_HEX = re.compile(r"[^0-9A-Fa-f]+")
_PERCENTS = re.compile(r"%(?:25)*(?=[0-9A-Fa-f]{2})")
_SOFT_BREAK = re.compile(r"=\r?\n")
_PERCENT = _Grammar("percent", re.compile(r"(?:%(?:25)*[0-9A-Fa-f]{2})+"), _percent)
_ENTITY = _Grammar(
    "entities", re.compile(r"&(?:amp;)*(?:(#0*+[0-9]{1,7}|#[xX]0*+[0-9A-Fa-f]{1,6});?|([A-Za-z][A-Za-z0-9]{1,30});)"), _entity
)
_BACKSLASH = _Grammar(
    "escapes",
    re.compile(
        r"(?<!\\)(?:((?:\\++x[0-9A-Fa-f]{2})+)|((?:\\++[0-3][0-7]{2})+)"
        r"|\\++(u[Dd][89ABab][0-9A-Fa-f]{2}\\++u[Dd][C-Fc-f][0-9A-Fa-f]{2})"
        r"|%(?:25)*u([0-9A-Fa-f]{4})"
        r"|\\++(?:u([0-9A-Fa-f]{4})|[ux]\{([0-9A-Fa-f]{1,6})\}|U([0-9A-Fa-f]{8})))"
    ),
    _backslash,
)
_AROUND: Final = '"\\ \t\r\n'
_LITERALS: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "/": "/"}
_LITERAL = re.compile(r"(?<!\\)\\++([nrt\"'/])")
_STYLE = _Grammar("css", re.compile(r"\\([0-9A-Fa-f]{2,6}) ?"), _code_point)
_CODE_POINT = _Grammar("code_points", re.compile(r"[Uu]\+([0-9A-Fa-f]{4,6})(?:(?:[,;] ?| )(?=[Uu]\+| [Uu]\+))?"), _code_point)
_FIGURES = re.compile(r"[0-9@]")
_EMPHASIS = re.compile(
    r"(?<![^\s(\[{>*\"'|~:,;])(_{1,3})(?=[0-9A-Za-z+])([^\n]{6,120}?[0-9A-Za-z=])\1(?![^\s.,;:!?)\]}<*\"'|~])"
)
_CUT = re.compile(r"(?<=[A-Za-z0-9])(=\r?\n)(?=[A-Za-z0-9])")
_NAMED: Final = r"[A-Za-z_][\w.\[\]-]{0,40}="
_FIELDS = re.compile(rf"(?:(?<=\?)(?={_NAMED})|\b(?={_NAMED}[^\s&\"'<>]{{0,200}}&{_NAMED}))[^\s\"'<>#\\]{{8,4000}}")
_VALUE = re.compile(r"%40|[0-9](?:\+|%20)[0-9]")
_FORM = re.compile(r"\+|(?:%[0-9A-Fa-f]{2})+")
_QUOTED = _Grammar("quoted_printable", re.compile(r"(?:=[0-9A-F]{2}|=\r?\n)+"), _quoted)


def _stretches(text: str, grammar: _Grammar) -> Iterator[Piece]:
    """Decode the escapes that stand near each other, with what stands around them."""
    near: list[re.Match[str]] = []
    for match in grammar.pattern.finditer(text):
        if near and match.start() - near[-1].end() > MAX_GAP:
            yield from _stretch(text, near, grammar)
            near = []
        near.append(match)
    if near:
        yield from _stretch(text, near, grammar)


def _stretch(text: str, escapes: list[re.Match[str]], grammar: _Grammar) -> Iterator[Piece]:
    changes = [(*match.span(), cleaned(new)) for match in escapes if (new := grammar.decode(match)) != match[0]]
    scheme = grammar.scheme if _matters(text, changes) else "accents" if _accented(text, changes) else None
    if scheme is None:
        return
    start, end = around(text, escapes[0].start(), escapes[-1].end())
    decoded, edits = rewrite(text[start:end], [(a - start, b - start, new) for a, b, new in changes])
    if edits is not None and printable(decoded):
        yield Piece(scheme, decoded, start, end, (Shift(start), edits))


def _matters(text: str, changes: list[Change]) -> bool:
    """Whether escapes stand for letters where nobody has to escape them, or hold words apart."""
    row = gaps = edges = stack = 0
    last = -1
    for start, end, new in changes:
        row, stack = (row, stack) if start == last else (0, 0)
        row += sum(char.isalnum() or char in "-._" or not char.isascii() for char in new)
        stack = stack + 1 if len(new) == 1 and new in ACCENTS else 0
        last = end
        beside = _is_letter(text[start - 1 : start]) + _is_letter(text[end : end + 1])
        if new.isascii() and new.isalnum():
            edges += beside
        elif beside == 2:
            gaps += new.isspace() or (len(new) == 1 and new in _UNSEEN)
        if row >= MIN_ESCAPED or edges >= MIN_EDGES or gaps >= MIN_GAPS or stack >= MIN_STACK:
            return True
    return False


def _accented(text: str, changes: list[Change]) -> bool:
    """Whether letters beyond ASCII, or apostrophes, are escaped within words: ``r\\u00e8gles``, ``don&#39;t``."""
    beside = last = 0
    before = False
    for start, end, new in changes:
        if not (new in APOSTROPHES or (not new.isascii() and new.isalpha())):
            continue
        after = _is_letter(text[end : end + 1])
        if start != last:
            before = _is_letter(text[start - 1 : start])
            beside += before and new.isalpha()
        beside += after and new.isalpha()
        if (before and after) or beside >= MIN_BESIDE:
            return True
        last = end
    return False


def _is_letter(char: str) -> bool:
    return char.isascii() and char.isalpha()


def around(text: str, start: int, end: int) -> tuple[int, int]:
    """A stretch with what stands on its lines before and after it, from word to word."""
    low = max(text.rfind("\n", 0, start) + 1, start - CONTEXT, 0)
    line_end = text.find("\n", end)
    high = min(line_end if line_end >= 0 else len(text), end + CONTEXT)
    if low and text[low - 1] != "\n":
        low = max(text.find(" ", low, start), low)
    if high < len(text) and text[high] != "\n":
        space = text.rfind(" ", end, high)
        high = space if space >= 0 else high
    return low, high
