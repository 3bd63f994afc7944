"""Bytes written as characters in ways that are seldom seen now: uuencode, base58."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final

from detectors.decode.ciphers import is_sentence
from detectors.decode.piece import Allowance, Piece, decoded, solid
from detectors.offsets import Blob

MIN_RUN: Final = 20
"""Characters of base58 that are looked at: a short sentence."""

MAX_RUN: Final = 2_048
"""Characters of base58 that are read as one number, for the work grows with their square."""

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {character: value for value, character in enumerate(_ALPHABET)}
_RUN58 = re.compile(rf"(?<![A-Za-z0-9])[{_ALPHABET}]{{{MIN_RUN},{MAX_RUN}}}(?![A-Za-z0-9])")

_UUENCODED = re.compile(r"\bbegin [0-7]{3,4} [^\n]{0,80}\n((?:[!-M][ -`]{0,84}(?:\r?\n|\Z))+)(?:[ `]\r?\n)?(?:end\b)?")


def uuencoded(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Uuencode (POSIX), from its first line to its last."""
    for match in _UUENCODED.finditer(text):
        data = bytearray()
        for line in match[1].splitlines():
            try:
                data += binascii.a2b_uu(line)
            except binascii.Error:
                break
        plain = decoded(bytes(data))
        if plain is not None:
            yield Piece("uuencode", plain, *match.span(), (Blob(*match.span()),))


def base58(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Base58 with the alphabet of Bitcoin; addresses and keys are in it, too, and hold no text."""
    for match in solid(_RUN58, text, MIN_RUN):
        run = match[0]
        if run.isalpha() or run.islower() or run.isupper() or not allowance.take(len(run)):
            continue
        number = 0
        for character in run:
            number = number * len(_ALPHABET) + _DIGITS[character]
        plain = decoded(number.to_bytes((number.bit_length() + 7) // 8))
        if plain is not None and (is_sentence(plain) or not plain.isascii()):
            yield Piece("base58", plain, *match.span(), (Blob(*match.span()),))
