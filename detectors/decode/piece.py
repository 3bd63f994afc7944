"""What a decoder finds in a text, and when what it decoded is text at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from detectors.characters import MARKS
from detectors.offsets import Map

MIN_DECODED: Final = 8
"""Code points from which something decoded is worth judging; shorter strings decode to something by chance."""

GROUPS: Final = {size: max(3 if size < 16 else 2, 28 // size) for size in (4, 5, 6, 8, 10, 12, 16, 20, 24)}
"""Characters of groups that base64 is written in, so that no run of it is long, and how many of one size are looked at: words
of one length follow each other, too."""

MIN_LETTERS: Final = 0.6
"""The least share of letters and spaces in text. Sentences have 0.95, JSON and shell commands 0.65 and more."""

MIN_ODD: Final = 32
"""Code points from which on a few may be controls or wrong bytes. Of so many that came by chance most are."""

MAX_ODD: Final = 10
"""One in so many at most: as many accents as French has in Latin-1."""

_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ufffe\uffff]")
_MARKS = re.compile(f"[{MARKS.plane()}]+")
_LETTERS = re.compile(r"[^\W\d_]+| +")


class Piece(NamedTuple):
    """Code points ``start``..``end`` of a text are ``text`` in the encoding ``scheme``; ``maps``, the last first, lead back."""

    scheme: str
    text: str
    start: int
    end: int
    maps: tuple[Map, ...]


class Allowance:
    """How much may still be decoded, in code points. ``exhausted`` once something was left undecoded for want of it."""

    __slots__ = ("exhausted", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.exhausted = False

    def take(self, amount: int) -> bool:
        """Use up ``amount``; False, and exhausted, where there is less."""
        if amount > self.left:
            self.exhausted = True
            return False
        self.left -= amount
        return True


def solid(pattern: re.Pattern[str], text: str, least: int) -> Iterator[re.Match[str]]:
    """The matches of ``pattern``, which has no white space and ``least`` characters or more.

    Splitting a text at white space and looking into its few long parts takes a third of the time.
    """
    at = 0
    for part in text.split():
        if len(part) >= least:
            at = text.index(part, at)
            yield from pattern.finditer(text, at, at + len(part))
            at += len(part)


def printable(text: str) -> bool:
    """Whether ``text`` may be text: long enough, and without controls."""
    return len(text) >= MIN_DECODED and not _NOT_TEXT.search(text)


def cleaned(text: str) -> str:
    """``text`` without its controls."""
    return _NOT_TEXT.sub("", text)


def readable(text: str) -> bool:
    """Whether ``text`` is text: `printable`, and mostly letters and spaces; marks are part of their letters, however many."""
    if not printable(text):
        return False
    marks = 0 if text.isascii() else sum(map(len, _MARKS.findall(text)))
    return sum(map(len, _LETTERS.findall(text))) >= MIN_LETTERS * (len(text) - marks)


def decoded(data: bytes) -> str | None:
    """``data`` as text without the little in it that is none; else None.

    It is UTF-8, or UTF-16 or UTF-32 where every other byte or three of four are zero.
    Whoever reads it passes over a stray byte, so one makes no blob of a message.
    """
    encoding = "utf-8"
    if (zeros := data.count(0)) * 3 > len(data):
        encoding = f"utf-{32 if zeros * 3 > 2 * len(data) else 16}-{'be' if data[0] == 0 else 'le'}"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode(encoding, "replace")
    if printable(text):
        return text
    kept, odd = _NOT_TEXT.subn("", text)
    return kept if len(text) >= MIN_ODD and odd * MAX_ODD <= len(text) else None
