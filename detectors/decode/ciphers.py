"""Letters exchanged for others: ROT-n and Caesar shifts, Atbash, ROT47; and text written backwards.

The gate in front has seen some common words in their exchanged form. Near them lies the stretch that reads more like
English after the exchange than before: word by word, the stretch over which the differences add up to most.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from detectors.decode import languages
from detectors.decode.english import COMMON, LIKELY, english, known, likeness
from detectors.decode.piece import Allowance, Piece, readable
from detectors.offsets import Mirror, Shift, rewrite

REACH: Final = 400
"""Code points looked at on either side of a word that the gate has seen: some sixty words, likely with another such one."""

MIN_GAIN: Final = 16.0
"""Bits by which a stretch must be likelier as English after the exchange: two or three words."""

MAX_LOSS: Final = 24.0
"""Bits that may be lost inside of a stretch before it has ended: two names, or one plain word."""

MIN_KNOWN: Final = 0.25
"""The least share of letters in common words, in what came out. Sentences have 0.4 to 1."""

MIN_OTHER: Final = 0.4
"""The same in common words of other languages: they are fewer, and accents are dropped."""

MIN_LENGTH: Final = 12
"""Characters of such a text: "do not set" is two French words backwards."""

MAX_EDGE: Final = 8.0
"""Bits that a word at the edge of a stretch may lose: ``or`` is ``be`` in ROT13, and a word either way."""

EDGE: Final = 2
"""Words taken in on either side that are common ones when exchanged, or no common ones as written: names, made-up words."""

_LOWER: Final = string.ascii_lowercase
_PRINTABLE: Final = "".join(map(chr, range(33, 127)))
_FOREIGN: Final = 4.0  # bits that a character costs which is no letter, in a word

_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ž]+(?:'[A-Za-z]+)?")
_TOKEN = re.compile(r"\S+")


class Cipher(NamedTuple):
    """An exchange of letters: its name, the table that makes it, the one that undoes it, what its words are made of."""

    name: str
    making: dict[int, int]
    undoing: dict[int, int]
    words: re.Pattern[str]


def _letters(name: str, cipher: str) -> Cipher:
    """The cipher that writes the letters of ``cipher`` for those of the alphabet."""
    plain, written = _LOWER + _LOWER.upper(), cipher + cipher.upper()
    return Cipher(name, str.maketrans(plain, written), str.maketrans(written, plain), _WORD)


CIPHERS: Final = (
    *(_letters(f"rot{n}", _LOWER[n:] + _LOWER[:n]) for n in range(1, 26)),
    _letters("atbash", _LOWER[::-1]),
    Cipher(
        "rot47",
        str.maketrans(_PRINTABLE, _PRINTABLE[47:] + _PRINTABLE[:47]),
        str.maketrans(_PRINTABLE[47:] + _PRINTABLE[:47], _PRINTABLE),
        _TOKEN,
    ),
)


def exchanged(text: str, cipher: Cipher, seen: Iterable[str], allowance: Allowance) -> Iterator[Piece]:
    """The stretches of ``text`` that are English in ``cipher``; ``seen`` are words of it, as written, that occur."""
    for start, end in _stretches(text, seen, cipher.words, lambda word: word.translate(cipher.undoing), allowance):
        plain = text[start:end].translate(cipher.undoing)
        if is_sentence(plain):
            yield Piece(cipher.name, plain, start, end, (Shift(start),))


def backwards(text: str, seen: Iterable[str], allowance: Allowance) -> Iterator[Piece]:
    """Stretches written backwards: read as a whole, and word by word."""
    for start, end in _stretches(text, seen, _WORD, lambda word: word[::-1], allowance):
        written = text[start:end]
        if is_sentence(written[::-1]):
            yield Piece("reversed", written[::-1], start, end, (Mirror(start, end),))
            words, edits = rewrite(written, [(*word.span(), word[0][::-1]) for word in _WORD.finditer(written)])
            if edits is not None:
                yield Piece("reversed_words", words, start, end, (Shift(start), edits))


def is_sentence(text: str) -> bool:
    """Whether ``text`` looks like sentences of a language in Latin letters."""
    if not readable(text):
        return False
    if english(text) >= LIKELY and known(text) >= MIN_KNOWN:
        return True
    return (len(text) >= MIN_LENGTH and languages.known(text) >= MIN_OTHER) or languages.is_sentence(text)


class _Word(NamedTuple):
    start: int
    end: int
    gain: float
    may_belong: bool


def _stretches(
    text: str, seen: Iterable[str], words: re.Pattern[str], undo: Callable[[str], str], allowance: Allowance
) -> Iterator[tuple[int, int]]:
    """Where the gains of words in a row add up, near words that were seen. What is looked at counts as decoded."""
    pattern = re.compile("|".join(map(re.escape, seen)), re.IGNORECASE)
    windows: list[tuple[int, int]] = []
    for match in pattern.finditer(text):
        low, high = max(0, match.start() - REACH), match.end() + REACH
        if windows and low <= windows[-1][1]:
            windows[-1] = (windows[-1][0], high)
        else:
            windows.append((low, high))
    for low, high in windows:
        if not allowance.take(min(high, len(text)) - low):
            return
        found = []
        for word in words.finditer(text, low, high):
            written, plain = word[0], undo(word[0])
            gain = _bits(plain) - _bits(written)
            may_belong = gain > -MAX_EDGE and (plain.lower() in COMMON or written.lower() not in COMMON)
            found.append(_Word(*word.span(), gain, may_belong))
        yield from _sums(found)


def _bits(word: str) -> float:
    plain = languages.folded(word)
    letters = "".join([char for char in plain if "a" <= char <= "z"])
    if not letters:
        return -_FOREIGN * len(word)
    return likeness(letters) - _FOREIGN * (len(plain) - len(letters)) + len(letters) * languages.is_known(letters)


def _sums(words: list[_Word]) -> Iterator[tuple[int, int]]:
    """The runs of words whose gains add up to `MIN_GAIN` and more, none of which loses `MAX_LOSS` on its way."""
    first = last = 0
    total = best = 0.0
    for at, word in enumerate([*words, _Word(0, 0, float("-inf"), False)]):
        total += word.gain
        if total > best:
            best, last = total, at
        elif total <= 0 or total < best - MAX_LOSS:
            if best >= MIN_GAIN:
                first, last = _edges(words, first, last)
                yield words[first].start, words[last].end
            first = last = max(at + 1, last + 1)
            total = best = 0.0


def _edges(words: list[_Word], first: int, last: int) -> tuple[int, int]:
    """Take in words before and after that may belong to the stretch."""
    for _ in range(EDGE):
        first -= first > 0 and words[first - 1].may_belong
        last += last + 1 < len(words) and words[last + 1].may_belong
    return first, last
