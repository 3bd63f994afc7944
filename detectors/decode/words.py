"""Words changed or run together: pig latin, sentences without spaces, strings in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from string import ascii_lowercase
from typing import Final

from detectors.decode import languages
from detectors.decode.english import COMMON, LIKELY, english, known, likeness
from detectors.decode.piece import MIN_DECODED, Allowance, Piece, printable, readable, solid
from detectors.offsets import Change, Shift, rewrite

MAX_WORD: Final = max(map(len, COMMON))
"""Letters of the longest common word: how far a word of a sentence without spaces can reach."""


MIN_MARKED: Final = 4
"""Letters in a row with tags between them that make words."""

MIN_JOINED: Final = 8
"""Words with a hyphen, an underscore or a full stop for the space between them. Names of programs have fewer."""

MIN_OF_JOINED: Final = 0.3
"""The least share of letters in common words among them."""

MIN_OF_PARTED: Final = 0.4
"""The same where other signs are between them, as between the names of columns; and two of `LITTLE` must be."""

MIN_KNOWN: Final = 0.9
"""The least share of letters in common words, in a sentence without spaces."""

SAMPLE: Final = 60
"""Letters that are cut into words first: where they hold few, the rest is not looked at."""

SAMPLE_KNOWN: Final = 0.6

MIN_RUN: Final = 20
"""Letters without a space that are looked at. The longest words anybody writes have as many."""

MIN_UNSPACED: Final = 4
"""Words of such a sentence; three are a name in a program."""

LITTLE: Final = frozenset(
    "all and are as at be do for from in into is it me my no not now of on or our that the this to with you your".split()
)
"""Words that every sentence has and names in programs lack. In ``CamelCase`` there must be two of them."""

MIN_CHANGED: Final = 3
"""Common words that come out of pig latin; the names of days, and "may", end in "ay" too."""

_AY: Final = r"[A-Za-z]{1,20}ay\b"
_PIG_LATIN = re.compile(rf"\b{_AY}(?:[^A-Za-z]{{1,3}}(?:[A-Za-z]{{1,3}}[^A-Za-z]{{1,3}})?{_AY}){{2,}}", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]+")
_HEAD = re.compile(r"(?:qu|[^aeiou])+$")

_HUMP = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_RUN = re.compile(r"(?<![A-Za-z0-9_/.@-])[A-Za-z]{20,}(?![A-Za-z0-9_/@-])")

_MARK: Final = r"(?:<!--(?:[^-]|-(?!->)){0,80}+-->|</?[A-Za-z][^<>]{0,60}>)"
_MARKED = re.compile(rf"[A-Za-z](?:{_MARK}{{1,4}}(?:[A-Za-z](?![A-Za-z])|[ .,;:!?'-]{{1,2}})){{{MIN_MARKED},}}")
_MARKS = re.compile(rf"{_MARK}+")
_JOINT = re.compile(r"[-_.]")
_WORDS = re.compile(
    rf"(?<![A-Za-z0-9/\\@._-])[A-Za-z]{{1,20}}(?:[-_.][A-Za-z']{{1,20}}){{{MIN_JOINED - 1},}}(?![A-Za-z0-9/\\@(_-])"
)

_PARTED = re.compile(  # by one sign, or row of signs, that is not one of a name
    r"(?<![A-Za-z0-9/\\@._-])[A-Za-z]{1,20}+([^\w\s'\"()<>/\\@.+-]{1,3}+|->|[_.-]{2,3}+)(?:[A-Za-z']{1,20}+\1){6,}[A-Za-z]{1,20}+"
)

_STRING: Final = r"\"[^\"\\\n]*\"|'[^'\\\n]*'"
_SHORT: Final = r"\"[^\"\\\n]{1,12}\"|'[^'\\\n]{1,12}'"
# A full stop joins strings in PHP and Perl, and ends sentences that quote: it counts between short parts alone.
_JOINED = re.compile(rf"(?:{_STRING})(?:\s*(?:\+|&|\|\||\.\.)\s*(?:{_STRING}))+|(?:{_SHORT})(?: ?\. ?(?:{_SHORT})){{2,}}")
_PART = re.compile(_STRING)
_WITHIN_WORD = re.compile(r"[A-Za-z][\"']\s*(?:\+|\.|&|\|\||\.\.)\s*[\"'][A-Za-z]")


def pig_latin(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Pig latin: the head of each word put behind it, with ``ay``."""
    for match in _PIG_LATIN.finditer(text):
        start, end = match.span()
        changes = [(*word.span(), _from_pig_latin(word[0])) for word in _WORD.finditer(match[0])]
        changed = sum(new.lower() in COMMON for (a, b, new) in changes if new != match[0][a:b])
        plain, edits = rewrite(match[0], changes)
        if edits is not None and changed >= MIN_CHANGED and readable(plain) and english(plain) >= LIKELY:
            yield Piece("pig_latin", plain, start, end, (Shift(start), edits))


def _from_pig_latin(word: str) -> str:
    lower = word.lower()
    if not lower.endswith("ay") or lower in COMMON:
        return word
    stem = lower[:-2]
    readings = [stem[:-1]] if stem.endswith("w") else []  # "all" is "allway" more often than "wall" is
    head = _HEAD.search(stem)
    if head:
        readings += [stem[at:] + stem[:at] for at in range(head.start(), len(stem))]
    readings += [stem[:-1]] if stem.endswith(("y", "h")) else []  # "all" may also be "allyay" and "allhay"
    known = [reading for reading in readings if reading in COMMON]
    if known:
        return known[0]
    return max(readings, key=lambda reading: likeness(reading) / (len(reading) + 1), default=word)


def unspaced(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Sentences whose words were run together, ``likethis`` or ``LikeThis``."""
    for match in solid(_RUN, text, MIN_RUN):
        run = match[0]
        plain_case = run[1:].islower() or run.isupper()
        if plain_case and _known(_cut(run[:SAMPLE].lower())) < SAMPLE_KNOWN:
            continue
        words = _cut(run.lower()) if plain_case else [part.lower() for part in _HUMP.findall(run)]
        if not _is_sentence(words, 1 if plain_case else 2):
            continue
        ends = accumulate(map(len, words[:-1]))
        plain, edits = rewrite(run, [(at, at, " ") for at in ends])
        if edits is not None:
            yield Piece("unspaced", plain, match.start(), match.end(), (Shift(match.start()), edits))


def joined(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Sentences whose words are held together: ``tell-me-all-that-stands-in-it``, as some names of files are, ``tell;me``."""
    for match in solid(_WORDS, text, MIN_RUN):
        plain = _JOINT.sub(" ", match[0])
        if max(known(plain), languages.known(plain)) >= MIN_OF_JOINED:
            yield Piece("joined", plain, match.start(), match.end(), (Shift(match.start()),))
    for match in solid(_PARTED, text, MIN_RUN):
        words = match[0].split(match[1])
        plain, edits = rewrite(match[0], _parted(words, len(match[1])))
        other = languages.known(plain)
        english = known(plain) if len(LITTLE.intersection(plain.lower().split())) >= 2 else 0.0
        if max(english, other) >= MIN_OF_PARTED:
            maps = (Shift(match.start()),) if edits is None else (Shift(match.start()), edits)
            yield Piece("joined", plain, match.start(), match.end(), maps)


def _parted(words: list[str], size: int) -> Iterator[Change]:
    """A space for each sign, ``size`` characters long, between words."""
    at = 0
    for word in words[:-1]:
        at += len(word) + size
        yield at - size, at, " "


def marked(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Words whose letters tags hold apart: ``<b>t</b><b>e</b><b>l</b><b>l</b>``. Pages with coloured letters have some, too."""
    words = (word.span() for word in _MARKED.finditer(text))
    plain, edits = rewrite(text, [(*mark.span(), "") for word in words for mark in _MARKS.finditer(text, *word)])
    if edits is not None and printable(plain):
        yield Piece("marked", plain, 0, len(text), (edits,))


def _sizes() -> dict[str, set[int]]:
    """How long the common words are that begin with two letters, or are the first of them."""
    sizes: dict[str, set[int]] = {}
    for word in COMMON:
        for head in [word[:2]] if len(word) > 1 else [word, *(word + letter for letter in ascii_lowercase)]:
            sizes.setdefault(head, set()).add(len(word))
    return sizes


_SIZES: Final = _sizes()


def _cut(run: str) -> list[str]:
    """A run of letters as words: as many of its letters as can be in few common ones."""
    length = len(run)
    # The best cost of the letters up to each place, and where its last word begins. A common word costs one, any other
    # letter three, so that long words win.
    costs = [0] + [3 * length + 1] * (length + MAX_WORD)
    begins = [0] * (length + MAX_WORD + 1)
    for start in range(length):
        cost = costs[start]
        if cost + 3 <= costs[start + 1]:
            costs[start + 1], begins[start + 1] = cost + 3, start
        for size in _SIZES.get(run[start : start + 2], ()):
            if cost + 1 < costs[start + size] and run[start : start + size] in COMMON:
                costs[start + size], begins[start + size] = cost + 1, start
    words = []
    at = length
    while at:
        words.append(run[begins[at] : at])
        at = begins[at]
    return words[::-1]


def _is_known(word: str) -> bool:
    return word in LITTLE or (len(word) > 2 and word in COMMON)


def _known(words: list[str]) -> float:
    """The share of letters that stand in known words."""
    return sum(len(word) for word in words if _is_known(word)) / sum(map(len, words))


def _is_sentence(words: list[str], least_little: int) -> bool:
    return (
        len(set(filter(_is_known, words))) >= MIN_UNSPACED
        and _known(words) >= MIN_KNOWN
        and sum(word in LITTLE for word in words) >= least_little
    )


def pieces(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Strings of a program that are put together from parts, where a word was cut: ``"ig" + "nore"``."""
    for match in _JOINED.finditer(text):
        if not _WITHIN_WORD.search(match[0]):
            continue
        start, end = match.span()
        plain, edits = rewrite(match[0], list(_joints(match[0])))
        if edits is not None and len(plain) >= MIN_DECODED and readable(plain):
            yield Piece("pieces", plain, start, end, (Shift(start), edits))


def _joints(expression: str) -> Iterator[Change]:
    at = 0
    for part in _PART.finditer(expression):
        yield at, part.start() + 1, ""
        at = part.end() - 1
    yield at, len(expression), ""
