"""Characters that a program puts together: sums of calls that each give one, lists of letters and of short strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from detectors.decode import languages
from detectors.decode.ciphers import is_sentence
from detectors.decode.english import is_language, known
from detectors.decode.gate import NOTHING, suspects
from detectors.decode.piece import MIN_DECODED, Allowance, Piece, printable, readable
from detectors.decode.wrapped import is_said
from detectors.offsets import Blob

MIN_KINDS: Final = 6
"""Different characters among them: fewer are a line that is drawn, or a name in capitals."""

MIN_SPACES: Final = 2
"""Spaces of a sum of calls that make a sentence of it."""

MIN_STRINGS: Final = 5
"""Short strings in a row that may be one that was cut."""

MIN_OF_STRINGS: Final = 0.3
"""The least share of letters in common words in what they make together."""

MAX_GLUE: Final = 48
"""Characters of a program between two such strings."""

MIN_OF_WORDS: Final = 0.4
"""The same as `MIN_OF_STRINGS` where each is a word, between which the program puts the spaces."""

MAX_CODE: Final = 0x10FFFF

_CALL = re.compile(
    r"(?:String\.)?(?:chr[bw$]?|n?char|unichr|fromcharcode|fromcodepoint)"
    r"\( ?(?:(?:0|&|\\)?[xh]([0-9a-f]{1,6})|([0-9]{1,7})) ?\)",
    re.IGNORECASE,
)
_PLUS = re.compile(r"[\s+.,&|()]{1,8}")
_LETTER = re.compile(r"\"([^\"\\\n])\"|'([^'\\\n])'")
_COMMA = re.compile(r"\s{0,4},\s{0,12}")
_STRING = re.compile(r"(?<!\w)(?:\"([^\"\\\n]{0,24})\"|'([^'\\\n]{0,24})')")
_VARIES = re.compile(r"[0-9]+|(?<![A-Za-z])[A-Za-z](?![A-Za-z])|\s+")
"""What differs where one statement follows the other: its number, the letter that a string is called, its indentation."""

_LISTED = re.compile(",?|:.*")  # the strings of a list, or the keys of a record
_MAYBE_COMMA = re.compile(r"\s{0,4},?\s{0,12}")


def calls(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Sums of calls: ``chr(105) + chr(103)``, ``CHAR(0x69)||CHAR(0x67)``, ``String.fromCharCode(105)``."""
    for row in _rows(_CALL, _PLUS, text):
        codes = [int(call[1], 16) if call[1] else int(call[2]) for call in row]
        if max(codes) <= MAX_CODE:
            plain = "".join([chr(code) for code in codes if not 0xD800 <= code < 0xE000])
            spaced = plain.count(" ") >= MIN_SPACES and readable(plain)  # nobody writes so by chance, in any language
            if printable(plain) and len(set(plain)) >= MIN_KINDS and (spaced or is_language(plain) or _is_said(plain)):
                yield _piece("calls", plain, row)


def letters(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Lists of letters: ``["i", "g", "n"]``."""
    for row in _rows(_LETTER, _COMMA, text):
        plain = "".join([letter[1] or letter[2] for letter in row])
        if printable(plain) and len(set(plain)) >= MIN_KINDS and _is_said(plain):
            yield _piece("letters", plain, row)


def strings(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Strings that hold a sentence's words with their spaces, or parts of them: ``["tel", "l m", "e"]``, ``s += "tel"``.

    Also single words, where it is the same between each two of them, and no mere list.
    """
    for row in _rows(_STRING, _MAYBE_COMMA, text, MIN_STRINGS):
        if _is_one(parts := _parts(row)):
            yield _piece("strings", "".join(parts), row)
    for row in _alike(text):
        parts = _parts(row)
        if _is_one(parts):
            yield _piece("strings", "".join(parts), row)
        elif all(map(str.isalpha, parts)) and printable(plain := " ".join(parts)) and is_said(plain, MIN_OF_WORDS, 2):
            yield _piece("strings", plain, row)


def _parts(row: list[re.Match[str]]) -> list[str]:
    return [part[1] or part[2] or "" for part in row]


def _is_one(parts: list[str]) -> bool:
    """Whether strings make a sentence with nothing between them, and none that they are not with spaces between."""
    plain = "".join(parts)
    share = max(known(plain), languages.known(plain))
    spaced = plain.count(" ") >= MIN_SPACES and printable(plain)
    return spaced and share >= MIN_OF_STRINGS and share >= max(known(said := " ".join(parts)), languages.known(said))


def _alike(text: str) -> Iterator[list[re.Match[str]]]:
    """Strings in a row of statements, calls or signs that are the same between each two, but for what `_VARIES`."""
    row: list[re.Match[str]] = []
    glue = ""
    for match in (*_STRING.finditer(text), None):
        near = match is not None and bool(row) and match.start() - row[-1].end() <= MAX_GLUE
        between = _VARIES.sub("", text[row[-1].end() : match.start()]) if match and near else ""
        if match and near and (len(row) == 1 or between == glue):
            row.append(match)
            glue = between
            continue
        if len(row) >= MIN_STRINGS and not _LISTED.fullmatch(glue):
            yield row
        if match:
            row, glue = [row[-1], match] if near else [match], between


def _is_said(plain: str) -> bool:
    return is_sentence(plain) or suspects(plain) != NOTHING


def _piece(scheme: str, plain: str, row: list[re.Match[str]]) -> Piece:
    start, end = row[0].start(), row[-1].end()
    return Piece(scheme, plain, start, end, (Blob(start, end),))


def _rows(
    one: re.Pattern[str], between: re.Pattern[str], text: str, least: int = MIN_DECODED
) -> Iterator[list[re.Match[str]]]:
    """Matches of ``one`` that follow each other with no more than ``between`` apart, as many as are worth decoding."""
    row: list[re.Match[str]] = []
    for match in one.finditer(text):
        if row and not between.fullmatch(text, row[-1].end(), match.start()):
            if len(row) >= least:
                yield row
            row = []
        row.append(match)
    if len(row) >= least:
        yield row
