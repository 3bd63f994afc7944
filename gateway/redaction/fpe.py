"""Format-preserving encryption: FF1 of NIST SP 800-38G, over the AES of ``cryptography``.

A number becomes another number of the same length, a word another word: what comes after it may check the format, and does.
None of the packages on PyPI that offer FF1 is maintained, so this is our own, held to NIST's sample vectors.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

LEAST_DOMAIN: Final = 1_000_000
"""SP 800-38G, revision 1: with fewer possible values an attacker could try them all."""

MAX_LENGTH: Final = 256
"""Characters of one alphabet in one value; beyond that, numbers become slow, and no format is that long."""

JOINTS: Final = frozenset(" \t\r\n-./")
"""What joins the parts of a value. It may stay where all else is hidden: no value is made of it alone."""

_ROUNDS: Final = 10
_DIGITS: Final = string.digits
_LOWER: Final = string.ascii_lowercase
_UPPER: Final = string.ascii_uppercase


class Ff1:
    """FF1 with one key over one alphabet."""

    def __init__(self, key: bytes, alphabet: str) -> None:
        """
        Args:
            key: 16, 24 or 32 bytes.
            alphabet: its characters in order; their number is the radix.

        Raises:
            ValueError: the key has another length, or the alphabet fewer than two characters or some twice.
        """
        if not 2 <= len(set(alphabet)) == len(alphabet) <= 2**16:
            raise ValueError("alphabet: wanted 2 to 65536 different characters")
        self._aes = algorithms.AES(key)
        self._alphabet = alphabet
        self._value = {char: at for at, char in enumerate(alphabet)}

    def encrypt(self, text: str, tweak: bytes = b"") -> str:
        """Encrypt ``text``, which is made of the alphabet.

        Raises:
            ValueError: a character is not of the alphabet, or the text is too short to be safe or too long.
        """
        return self._walk(text, tweak, range(_ROUNDS), 1)

    def decrypt(self, text: str, tweak: bytes = b"") -> str:
        """The text that `encrypt` made ``text`` of.

        Raises:
            ValueError: as `encrypt`.
        """
        return self._walk(text, tweak, reversed(range(_ROUNDS)), -1)

    def _walk(self, text: str, tweak: bytes, rounds: Iterable[int], sign: int) -> str:
        radix, size = len(self._alphabet), len(text)
        if size < 2 or size > MAX_LENGTH or radix**size < LEAST_DOMAIN:
            raise ValueError(f"wanted a text of 2 to {MAX_LENGTH} characters with at least {LEAST_DOMAIN} possible values")
        if not self._value.keys() >= set(text):
            raise ValueError("a character is not of the alphabet")
        left, right = size // 2, size - size // 2
        a, b = self._number(text[:left]), self._number(text[left:])
        wide = (math.ceil(right * math.log2(radix)) + 7) // 8
        made = 4 * ((wide + 3) // 4) + 4
        start = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([_ROUNDS, left % 256])
        start += size.to_bytes(4, "big") + len(tweak).to_bytes(4, "big")
        padding = bytes(-(len(tweak) + wide + 1) % 16)
        for number in rounds:
            length = left if number % 2 == 0 else right
            source, target = (b, a) if sign > 0 else (a, b)
            seed = start + tweak + padding + bytes([number]) + source.to_bytes(wide, "big")
            stream = self._stream(self._mac(seed), made)
            mixed = (target + sign * int.from_bytes(stream, "big")) % radix**length
            a, b = (b, mixed) if sign > 0 else (mixed, a)
        return self._text(a, left) + self._text(b, right)

    def _mac(self, data: bytes) -> bytes:
        encryptor = Cipher(self._aes, modes.CBC(bytes(16))).encryptor()
        return encryptor.update(data)[-16:]

    def _stream(self, first: bytes, size: int) -> bytes:
        encryptor = Cipher(self._aes, modes.ECB()).encryptor()
        out, number = first, 1
        while len(out) < size:
            block = int.from_bytes(first, "big") ^ number
            out += encryptor.update(block.to_bytes(16, "big"))
            number += 1
        return out[:size]

    def _number(self, text: str) -> int:
        number = 0
        for char in text:
            number = number * len(self._alphabet) + self._value[char]
        return number

    def _text(self, number: int, size: int) -> str:
        chars = []
        for _ in range(size):
            number, rest = divmod(number, len(self._alphabet))
            chars.append(self._alphabet[rest])
        return "".join(reversed(chars))


class Formats:
    """Encrypts the digits and letters of a value, each kind among itself; what joins them stays where it is."""

    def __init__(self, key: bytes) -> None:
        """``key``: 32 bytes."""
        self._ciphers = tuple(Ff1(key, alphabet) for alphabet in (_DIGITS, _LOWER, _UPPER))
        self._alphabets = tuple(map(frozenset, (_DIGITS, _LOWER, _UPPER)))

    def encrypt(self, value: str, tweak: bytes) -> str | None:
        """Another value of the same shape; None where the value is too short for that to hide anything.

        Characters of a kind of which there are too few stay as they are, as long as most of the value is hidden.
        """
        chars = list(value)
        hidden = 0
        for cipher, alphabet in zip(self._ciphers, self._alphabets, strict=True):
            places = [at for at, char in enumerate(value) if char in alphabet]
            try:
                made = cipher.encrypt("".join(value[at] for at in places), tweak)
            except ValueError:
                continue
            hidden += len(places)
            for at, char in zip(places, made, strict=True):
                chars[at] = char
        return "".join(chars) if 2 * hidden > sum(char not in JOINTS for char in value) else None
