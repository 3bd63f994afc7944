"""Letters written with other signs: digits for letters (leetspeak), letters turned upside down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Final

from detectors.decode.english import COMMON, LIKELY, english, likeness
from detectors.decode.piece import Allowance, Piece, readable
from detectors.offsets import Mirror, Shift

MIN_WORDS: Final = 3
"""Words in leetspeak near each other, two of them common ones, that are no names of products and keys."""

MAX_GAP: Final = 60
"""Code points between two of them."""

MIN_TURNED: Final = 4
"""Letters turned upside down near each other; fewer are phonetic script."""

MAX_READINGS: Final = 16
"""Readings tried of one word: four signs that may each stand for two letters."""

# Signs that stand for one letter, and those that stand for one of two: the first is the usual one.
_SIGNS: Final = {
    "0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s", "!": "i",
    "|": "li", "+": "t",
}  # fmt: skip
_TOKEN = re.compile(r"[A-Za-z0-9@$!|+]*[A-Za-z][A-Za-z0-9@$!|+]*")
_ANY_TOKEN = re.compile(r"[A-Za-z0-9@$!|+]+")
_SIGN = re.compile(r"[013456789@$!|+]")

_TURNED: Final = "ɐqɔpǝɟƃɓɥᴉıɾʞʅꞁɯuodbɹsʇnʌʍxʎz∀ᗺƆᗡƎℲ⅁HIſ⋊˥WNOԀΌᴚS⊥∩ΛMX⅄Z¿¡˙'"
_UPRIGHT: Final = "abcdefgghiijkllmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?!.,"
_UPSIDE_DOWN: Final = str.maketrans(_TURNED, _UPRIGHT)
_TURNED_LETTERS: Final = "ɐɔǝɟƃɓɥᴉɾʞʅꞁɯɹʇʌʍʎ∀ᗺƆᗡƎℲ⅁⋊˥Ԁᴚ⊥∩⅄"
_TURNED_RUN = re.compile(f"[{_TURNED_LETTERS}](?:[^\\n{_TURNED_LETTERS}]{{0,12}}[{_TURNED_LETTERS}]){{{MIN_TURNED - 1},}}")


def leet(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Stretches in which digits and signs stand for letters."""
    near: list[tuple[int, int, str]] = []
    for match in _TOKEN.finditer(text):
        written = match[0].strip("!|+")
        if not _SIGN.search(written):
            continue
        start = match.start() + match[0].index(written)
        plain = _plain(written)
        if plain is None:
            continue
        if near and start - near[-1][1] > MAX_GAP:
            yield from _stretch(text, near)
            near = []
        near.append((start, start + len(written), plain))
    yield from _stretch(text, near)


def _plain(written: str) -> str | None:
    """The likeliest reading of a word, if it is like an English one."""
    signs = _SIGN.findall(written)
    if len(signs) == len(written) or len(signs) > 8:
        return None
    choices = [_SIGNS.get(char, char) for char in written]
    if not all(map(str.isalpha, choices)):
        return None
    ambiguous = sum(len(choice) > 1 for choice in choices)
    if 2**ambiguous > MAX_READINGS:
        choices = [choice[0] for choice in choices]
    readings = ["".join(letters) for letters in product(*choices)]
    common = [reading for reading in readings if reading.lower() in COMMON]
    best = common[0] if common else max(readings, key=lambda reading: likeness(reading.lower()))
    return best if common or likeness(best.lower()) >= LIKELY * (len(best) + 1) else None


def _stretch(text: str, words: list[tuple[int, int, str]]) -> Iterator[Piece]:
    if len(words) < MIN_WORDS or sum(len(plain) > 2 and plain.lower() in COMMON for _, _, plain in words) < 2:
        return
    start, end = words[0][0], words[-1][1]
    known = {at: plain for at, _, plain in words}
    decoded = list(text[start:end])
    for match in _ANY_TOKEN.finditer(text, start, end):
        plain = known.get(match.start()) or _number(match[0])
        if plain is not None:
            decoded[match.start() - start : match.start() - start + len(plain)] = plain
    plain = "".join(decoded)
    if readable(plain):
        yield Piece("leet", plain, start, end, (Shift(start),))


def _number(written: str) -> str | None:
    """The common word that a number among words in leetspeak stands for."""
    readings = ["".join(letters) for letters in product(*(_SIGNS.get(char, char) for char in written[:4]))]
    return next((reading for reading in readings if len(written) <= 4 and reading in COMMON), None)


def upside_down(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Text turned by half a circle: letters upside down, and mostly from the end to the start."""
    end = 0
    for match in _TURNED_RUN.finditer(text):
        if match.start() < end:
            continue  # of a word that was read already
        start = _word_start(text, match.start())
        end = _word_end(text, match.end())
        upright = text[start:end].translate(_UPSIDE_DOWN)
        if not readable(upright):
            continue
        if english(upright[::-1]) >= english(upright):
            yield Piece("upside_down", upright[::-1], start, end, (Mirror(start, end),))
        else:
            yield Piece("upside_down", upright, start, end, (Shift(start),))


def _word_start(text: str, at: int) -> int:
    while at > 0 and not text[at - 1].isspace():
        at -= 1
    return at


def _word_end(text: str, at: int) -> int:
    while at < len(text) and not text[at].isspace():
        at += 1
    return at
