"""Words that are encoded each by itself, so that no run of characters is long: ``aWdub3Jl YWxs cnVsZXM=``."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Final

from detectors.decode.ciphers import is_sentence
from detectors.decode.piece import Allowance, Piece
from detectors.offsets import Change, Shift, rewrite

MIN_WORDS: Final = 4
"""Words in a row. Of plain words hardly one is another word in base64 or in hexadecimal, and never four."""

_TOKEN64 = re.compile(r"(?<![^\s,;|\"'(\[])[A-Za-z0-9+/]{2,64}={0,2}(?![^\s,;|.\"')\]])")
_TOKEN16 = re.compile(r"(?<![^\s,;|\"'(\[])(?:[0-9A-Fa-f]{2}){1,48}(?![^\s,;|.\"')\]])")
_GAP = re.compile(r"[\s,;|\"']{1,4}")
_WORD = re.compile(r"[^\w\s]{0,2}[^\W_]+(?:['\u2019.-][^\W_]+)*[^\w\s]{0,3}")


def wordwise(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Sentences of which each word is base64, or hexadecimal."""
    for scheme, token, decode in (("base64", _TOKEN64, _from64), ("hex", _TOKEN16, bytes.fromhex)):
        row: list[Change] = []
        for match in token.finditer(text):
            word = _word(match[0], decode)
            if row and (word is None or not _GAP.fullmatch(text, row[-1][1], match.start())):
                yield from _sentence(text, row, scheme)
                row = []
            if word is not None:
                row.append((*match.span(), word))
        yield from _sentence(text, row, scheme)


def _from64(token: str) -> bytes:
    return base64.b64decode(token + "=" * (-len(token) % 4))


def _word(token: str, decode: Callable[[str], bytes]) -> str | None:
    try:
        word = decode(token).decode()
    except ValueError:
        return None
    return word if _WORD.fullmatch(word) else None


def _sentence(text: str, row: list[Change], scheme: str) -> Iterator[Piece]:
    if len(row) < MIN_WORDS:
        return
    start, end = row[0][0], row[-1][1]
    plain, edits = rewrite(text[start:end], [(at - start, until - start, word) for at, until, word in row])
    if edits is not None and is_sentence(plain):
        yield Piece(scheme, plain, start, end, (Shift(start), edits))
