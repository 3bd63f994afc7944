"""Messages in characters that show nothing: tags, variation selectors, zero-width characters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Final

from detectors.decode.english import is_language
from detectors.decode.gate import NOTHING, suspects
from detectors.decode.piece import Allowance, Piece, decoded, printable
from detectors.offsets import Blob, Change, Shift, rewrite

MIN_KINDS: Final = 5
"""Different characters in what is hidden so; marks that follow each other as regularly as lines of a table spell fewer."""

MIN_BITS: Final = 56
"""Zero-width characters that may be a message of eight letters."""

_TAG = re.compile("[\U000e0020-\U000e007e]")
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
_SELECTOR = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}")
_ZERO_WIDTH = re.compile("[\u180e\u200b-\u200f\u2060-\u2064\ufeff]")


def tags(text: str, allowance: Allowance) -> Iterator[Piece]:
    """ASCII in tag characters (U+E0020 to U+E007E), wherever they stand; the flags of countries are left out."""
    flags = {at for flag in _FLAG.finditer(text) for at in range(*flag.span())}
    places = [match.start() for match in _TAG.finditer(text) if match.start() not in flags]
    if not places:
        return
    start, end = places[0], places[-1] + 1
    plain, edits = rewrite(text[start:end], list(_kept(text, places, start)))
    if printable(plain):
        yield Piece("tags", plain, start, end, (Shift(start),) if edits is None else (Shift(start), edits))


def _kept(text: str, places: Sequence[int], start: int) -> Iterator[Change]:
    """Tags become what they stand for, and what lies between them goes."""
    for at, following in pairwise([*places, places[-1] + 1]):
        yield at - start, at + 1 - start, chr(ord(text[at]) - 0xE0000)
        if following > at + 1:
            yield at + 1 - start, following - start, ""


def selectors(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Bytes in variation selectors, of which there are 256: those that follow one character, or all of a text."""
    for pattern in (_SELECTORS, _SELECTOR):
        found = list(pattern.finditer(text))
        if not found:
            continue
        chars = "".join(match[0] for match in found)
        start, end = found[0].start(), found[-1].end()
        values = [ord(char) - (0xFE00 if char <= "\ufe0f" else 0xE0100 - 16) for char in chars]
        plain = decoded(bytes(values))
        if plain is None and max(values) < 16:
            plain = decoded(bytes(high << 4 | low for high, low in zip(values[::2], values[1::2], strict=False)))
        if plain is not None:
            yield Piece("selectors", plain, start, end, (Blob(start, end),))
            return


def zero_width(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Bits in two zero-width characters, perhaps with a third between letters."""
    found = list(_ZERO_WIDTH.finditer(text))
    if len(found) < MIN_BITS:
        return
    signs = "".join(match[0] for match in found)
    start, end = found[0].start(), found[-1].end()
    readings = [plain for plain in _readings(signs) if plain is not None and len(set(plain)) >= MIN_KINDS]
    # Somebody wrote it: the direction marks of a Hebrew or Arabic text are bits of something, too. A wrong reading may happen
    # to look like some code, so what is a language goes before.
    coded = (plain for plain in readings if suspects(plain) != NOTHING)
    if plain := next(chain(filter(is_language, readings), coded), None):
        yield Piece("zero_width", plain, start, end, (Blob(start, end),))


def _readings(signs: str) -> Iterator[str | None]:
    kinds = sorted(set(signs))
    if len(kinds) == 3:
        for separator in kinds:
            zero, one = (kind for kind in kinds if kind != separator)
            groups = [group for group in signs.split(separator) if group]
            if max(map(len, groups)) <= 8:
                for bits in ({zero: "0", one: "1"}, {zero: "1", one: "0"}):
                    codes = [int("".join(bits[sign] for sign in group), 2) for group in groups]
                    yield decoded(bytes(codes))
    elif len(kinds) == 2:
        zero, one = kinds
        for table in (str.maketrans(zero + one, "01"), str.maketrans(zero + one, "10")):
            written = signs.translate(table)
            for size in (8, 7):
                yield decoded(bytes(int(written[at : at + size], 2) for at in range(0, len(written) - size + 1, size)))
