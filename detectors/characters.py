"""Character classes and tables, as `data/characters.json` (written by `detectors.tables`) holds them."""

from __future__ import annotations

import json
from bisect import bisect_right
from pathlib import Path
from typing import Any, Final

_STORED: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "characters.json").read_text("utf-8"))

_LAST_OF_BMP: Final = 0xFFFF
_SHORT: Final = 256
_BEYOND_ASCII: Final = 128
_SURROGATES: Final = range(0xD800, 0xE000)


class Ranges:
    """A set of characters, held as ranges of code points."""

    __slots__ = ("_bounds", "_firsts")

    def __init__(self, pairs: list[tuple[int, int]]) -> None:
        self._bounds: list[tuple[int, int]] = []
        """Ascending, without two that overlap or touch."""
        for first, last in sorted(pairs):
            if self._bounds and first <= self._bounds[-1][1] + 1:
                self._bounds[-1] = (self._bounds[-1][0], max(last, self._bounds[-1][1]))
            else:
                self._bounds.append((first, last))
        self._firsts = [first for first, _ in self._bounds]

    @classmethod
    def stored(cls, name: str) -> Ranges:
        """A set of the data file; one range is written ``600-605``, in hexadecimal."""
        bounds = (item.partition("-") for item in _STORED["ranges"][name].split())
        return cls([(int(first, 16), int(last or first, 16)) for first, _, last in bounds])

    @classmethod
    def of(cls, chars: str) -> Ranges:
        return cls([(ord(char), ord(char)) for char in chars])

    def __or__(self, other: Ranges) -> Ranges:
        return Ranges(self._bounds + other._bounds)

    def __sub__(self, other: Ranges) -> Ranges:
        left = []
        taken = other._bounds
        at = 0
        for first, last in self._bounds:
            while at < len(taken) and taken[at][1] < first:
                at += 1
            ahead = at
            while ahead < len(taken) and taken[ahead][0] <= last:
                low, high = taken[ahead]
                if first < low:
                    left.append((first, low - 1))
                first = high + 1
                ahead += 1
            if first <= last:
                left.append((first, last))
        return Ranges(left)

    def __contains__(self, char: str) -> bool:
        at = bisect_right(self._firsts, ord(char)) - 1
        return at >= 0 and ord(char) <= self._bounds[at][1]

    def few(self) -> str:
        """The characters of the set's short ranges: those that are met, of a set with large areas of others."""
        short = (bounds for bounds in self._bounds if bounds[1] - bounds[0] < _SHORT)
        return "".join(chr(code) for first, last in short for code in range(first, last + 1))

    def exactly(self) -> str:
        """The inside of a character class for Python's engine.

        That engine looks up a character of the Basic Multilingual Plane in a table, and compares any other with one
        range after the other: a class of many ranges beyond that plane is slow. See `roughly` and `plane`.
        """
        return "".join(_written(first, last) for first, last in self._bounds)

    def plane(self) -> str:
        """As `exactly`, with the characters of the Basic Multilingual Plane alone."""
        inside = [(first, min(last, _LAST_OF_BMP)) for first, last in self._bounds if first <= _LAST_OF_BMP]
        return "".join(_written(first, last) for first, last in inside)

    def roughly(self) -> str:
        """As `plane`, with all characters beyond that plane."""
        return self.plane() + r"\U00010000-\U0010ffff"

    def automaton(self) -> str:
        """A character class for Hyperscan in its UTF-8 mode, without surrogates, which UTF-8 cannot hold."""
        items = []
        for first, last in self._bounds:
            for low, high in ((first, min(last, _SURROGATES[0] - 1)), (max(first, _SURROGATES[-1] + 1), last)):
                if low <= high:
                    items.append(rf"\x{{{low:x}}}-\x{{{high:x}}}")
        return f"[{''.join(dict.fromkeys(items))}]"


def _written(first: int, last: int) -> str:
    """A range in a class of Python's engine, which reads characters in a third of the time that their escapes take."""
    if first < _BEYOND_ASCII:
        return rf"\x{first:02x}-\U{last:08x}"
    return f"{chr(first)}-{chr(last)}" if first < last else chr(first)


HIDDEN: Final = Ranges.stored("hidden")
"""Characters that show nothing: default-ignorable, format and control characters, private use, surrogates."""

ACCENTS: Final = Ranges.stored("accents")
"""Combining marks of the Latin, Greek and Cyrillic scripts and those of all scripts."""

MARKS: Final = Ranges.stored("marks")
"""All combining marks. Python's ``\\w`` leaves them out, though in many scripts words are full of them."""

COMPOSING: Final = Ranges.stored("composing")
"""Characters that may join or change places with those before them when a text is normalised; without `ACCENTS`."""

GENUINE: Final = Ranges.stored("genuine")
"""Letters that no Latin letter looks like, of scripts that have other letters which one does look like."""

BIDI: Final = Ranges.stored("bidi")
VARIATION: Final = Ranges.stored("variation")
VARIED: Final = Ranges.stored("varied")
PICTORIAL: Final = Ranges.stored("pictorial")
IDEOGRAPHS: Final = Ranges.stored("ideographs")
JOINING: Final = Ranges.stored("joining")
UNSPACED: Final = Ranges.stored("unspaced")
RIGHT_TO_LEFT: Final = Ranges.stored("right_to_left")

FOLD: Final[dict[str, str]] = dict(zip(*_STORED["fold"], strict=True)) | _STORED["expand"]
"""What a character is replaced by wherever it stands: NFKC without accents, digits, spaces, quotes, dashes, ligatures."""


def _pairs(table: str) -> dict[str, str]:
    return {char: letter for pair in _STORED[table].values() for char, letter in zip(*pair, strict=True)}


LOOKALIKES: Final = _pairs("lookalikes")
"""The ASCII letter or digit that a character is taken for."""

FAUX: Final = _pairs("faux")
"""Letters that stand for Latin ones in play only: believed in words that hold others as well."""

SCRIPTS: Final[dict[str, str]] = {
    char: script for table in ("lookalikes", "faux") for script, (chars, _) in _STORED[table].items() for char in chars
}
"""The script of each of `LOOKALIKES` and `FAUX`, as four letters (ISO 15924)."""
