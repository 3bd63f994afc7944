"""Folding character by character: what one character stands for, whatever stands beside it.

A stream can be folded as it comes only if no character's meaning waits for the next one. That leaves out what `canonicalise`
does to whole words; it takes away what is used to disguise *values*: full-width and other digits, invisible characters
inside a number or a key, spaces and hyphens that only look like themselves.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

_HYPHENS: Final = frozenset("\u2010\u2011\u2012\u2013\u2212\ufe58\ufe63\uff0d")
_HIGH, _LOW, _UNIT = r"u[dD][89abAB][0-9a-fA-F]{2}", r"u[dD][c-fC-F][0-9a-fA-F]{2}", "u[0-9a-fA-F]{4}"
_ESCAPE: Final = re.compile(
    rf"""\\{{1,7}}(?:{_HIGH}\\{{1,7}}{_LOW}|{_UNIT}|[bfnrt"'/])|\\[^u\\]|\\{{1,7}}|[^\\]""", re.DOTALL
)
"""JSON in a JSON string has its backslashes doubled, and again at every level: what a run of them stands before is read as one
escape, down to three levels."""

_NEAR: Final = re.compile(rf"""\\(?:{_HIGH}\\{_LOW}|{_UNIT}|[^u])|\\|[^\\]""", re.DOTALL)
_HALF_NEAR: Final = re.compile(rf"(?<!\\)(?:\\\\)*+(\\(?:u[0-9a-fA-F]{{0,3}}|{_HIGH}(?:\\(?:u[0-9a-fA-F]{{0,3}})?)?)?)\Z")

_HALF_ESCAPE: Final = re.compile(rf"(?<!\\)\\++(?:u[0-9a-fA-F]{{0,3}}|{_HIGH}(?:\\{{1,7}}(?:u[0-9a-fA-F]{{0,3}})?)?)?\Z")
_LONGEST_HALF: Final = 24  # characters of the longest part of an escape, but for backslashes before its run
_SIMPLE: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Token(NamedTuple):
    """A stretch of the original and what it stands for (perhaps nothing)."""

    raw: str
    text: str


@lru_cache(4096)
def fold(char: str) -> str:
    """What one character stands for."""
    if char.isascii():
        return char
    if char in _HYPHENS:
        return "-"
    if "\U000e0020" <= char <= "\U000e007e":  # a tag, the invisible double of an ASCII character
        return chr(ord(char) - 0xE0000)
    kind = unicodedata.category(char)
    if kind in ("Cf", "Cs", "Co", "Cn") or "\ufe00" <= char <= "\ufe0f":
        return ""
    if kind == "Zs":
        return " "
    if kind == "Nd":
        return str(unicodedata.decimal(char))
    return unicodedata.normalize("NFKC", char)


def folds(text: str) -> bool:
    """Whether folding changes anything."""
    if text.isascii() or _same.issuperset(text):
        return False
    changes = False
    for char in set(text):
        if fold(char) != char:
            changes = True
        elif len(_same) < 4096:
            _same.add(char)
    return changes


_same: Final[set[str]] = set(map(chr, range(128)))
"""Characters that are known to stand for themselves: asking each of a text anew would take longer than scanning it."""


def tokens(text: str) -> list[Token]:
    """Fold plain text."""
    return [Token(char, fold(char)) for char in text]


def json_tokens(text: str) -> list[Token]:
    """Fold JSON text, with the escapes in its strings decoded. ``text`` does not end inside an escape."""
    return [Token(raw, fold(unescape(raw))) for raw in _ESCAPE.findall(text)]


def near_tokens(text: str) -> list[Token]:
    """JSON text as who reads it has it: escapes are undone once, and nothing else is folded.

    ``text`` does not end inside an escape.
    """
    return [Token(raw, "\\" if raw == "\\\\" else unescape(raw)) for raw in _NEAR.findall(text)]


def deep_tokens(text: str) -> list[Token]:
    """JSON text as who undoes the escapes of every level has it: nothing else is folded.

    ``text`` does not end inside an escape.
    """
    return [Token(raw, unescape(raw)) for raw in _ESCAPE.findall(text)]


def half_near(text: str) -> int:
    """As `half_escape`, of one level."""
    cut = _HALF_NEAR.search(text)
    return len(text) if cut is None else cut.start(1)


def half_escape(text: str) -> int:
    """Where an escape begins that the end of ``text`` cuts in two; its length if there is none.

    ``text`` does not begin in one.
    """
    near = max(0, len(text) - _LONGEST_HALF)
    while near and text[near - 1] == "\\":
        near -= 1
    cut = _HALF_ESCAPE.search(text, near)
    if cut is None:
        return len(text)
    run = cut.end() - cut.start() - len(cut.group().lstrip("\\"))
    return cut.start() + (run - 1) // 7 * 7  # of a longer run, the last escape that it begins


def unescape(raw: str) -> str:
    """What an escape stands for; of a character, itself."""
    if raw[0] != "\\":
        return raw
    said = raw.lstrip("\\")
    if len(said) < 2:
        return _SIMPLE.get(said, said or "\\")
    if "\\" in said:
        high, low = int(said[1:5], 16), int(said[-4:], 16)
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    return chr(int(said[1:], 16))


class Reading(NamedTuple):
    """One way to read JSON text: where an escape begins that the end of a text cuts in two, and what the text stands for."""

    half: Callable[[str], int]
    tokens: Callable[[str], list[Token]]


FOLDED: Final = Reading(half_escape, json_tokens)
NEAR: Final = Reading(half_near, near_tokens)
DEEP: Final = Reading(half_escape, deep_tokens)
