"""Checksums of standards: each takes what is written and says whether its check characters fit."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Final

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_BASE58_VALUE: Final = {char: value for value, char in enumerate(BASE58)}
_BECH32_VALUE: Final = {char: value for value, char in enumerate(BECH32)}
_BECH32_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)

# The dihedral group D5 and the permutation of Verhoeff's "Error Detecting Decimal Codes" (1969).
_D5: Final = tuple(
    tuple(map(int, row))
    for row in ("0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
                "5987604321", "6598710432", "7659821043", "8765932104", "9876543210")
)  # fmt: skip
_FIRST: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _permutations() -> tuple[tuple[int, ...], ...]:
    rows = [tuple(range(10))]
    for _ in range(7):
        rows.append(tuple(_FIRST[value] for value in rows[-1]))
    return tuple(rows)


_PERMUTATION: Final = _permutations()


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B, the check digit last. It finds every single wrong digit."""
    total = 0
    for at, digit in enumerate(map(int, reversed(digits))):
        total += _DOUBLED[digit] if at % 2 else digit
    return total % 10 == 0


def verhoeff(digits: str) -> bool:
    """Verhoeff's check digit, last. It finds every wrong digit and every swap of neighbours."""
    state = 0
    for at, digit in enumerate(map(int, reversed(digits))):
        state = _D5[state][_PERMUTATION[at % 8][digit]]
    return state == 0


def weighted(digits: str, weights: Sequence[int]) -> int:
    """The sum of digits times weights, as far as both go."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def mod_11_10(digits: str) -> bool:
    """ISO/IEC 7064 MOD 11,10, the check digit last."""
    product = 10
    for digit in digits[:-1]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (product + int(digits[-1])) % 10 == 1


def mod_11_2(text: str) -> bool:
    """ISO/IEC 7064 MOD 11-2: digits, and last a check character 0 to 9 or X."""
    total = 0
    for digit in text[:-1]:
        total = (total + int(digit)) * 2 % 11
    return (total + (10 if text[-1] == "X" else int(text[-1]))) % 11 == 1


def mod_97_10(text: str) -> bool:
    """ISO/IEC 7064 MOD 97-10 over digits and capitals (A = 10), the check digits last."""
    return int("".join(str(int(char, 36)) for char in text)) % 97 == 1


def icao(text: str) -> int:
    """The check digit of ICAO 9303 part 3, 4.9: weights 7, 3, 1; A is 10, the filler ``<`` is 0."""
    return sum((0 if char == "<" else int(char, 36)) * (7, 3, 1)[at % 3] for at, char in enumerate(text)) % 10


def crc32_base62(data: str) -> str:
    """CRC-32 of ASCII text in six digits of base 62, as several registries end their tokens with."""
    value = zlib.crc32(data.encode("ascii"))
    digits = ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = BASE62[digit] + digits
    return digits


def base58check(text: str) -> bytes | None:
    """The payload of a Base58Check text (version byte first), or None where its four check bytes do not fit."""
    value = 0
    for char in text:
        value = value * 58 + _BASE58_VALUE[char]
    zeros = len(text) - len(text.lstrip("1"))
    data = bytes(zeros) + value.to_bytes((value.bit_length() + 7) // 8, "big")
    payload, check = data[:-4], data[-4:]
    return payload if hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4] == check else None


def bech32(text: str) -> bool:
    """BIP 173: a human-readable part, ``1``, data and six check characters, all in one case."""
    if text != text.lower() and text != text.upper():
        return False
    prefix, _, data = text.lower().rpartition("1")
    if not prefix or any(char not in _BECH32_VALUE for char in data):
        return False
    state = 1
    for value in (*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *map(_BECH32_VALUE.__getitem__, data)):
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_BECH32_GENERATOR):
            if top >> bit & 1:
                state ^= generator
    return state == 1
