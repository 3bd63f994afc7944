"""Decoding layers: what a text holds that was encoded, encoded again, or written with other signs.

`decode` gives every layer as a text of its own, with the way back into the text that it came from. Which layers say
something bad is for others to judge; that there are any is itself a sign.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from detectors.decode import bases, ciphers, codes, escapes, hidden, letters, listed, rarer, scripts, words, wordwise, wrapped
from detectors.decode.gate import BACKWARDS, NOTHING, Suspects
from detectors.decode.gate import suspects as _suspects
from detectors.decode.piece import Allowance, Piece, readable
from detectors.offsets import Map

MAX_DEPTH: Final = 4
"""Encodings inside each other. Attacks use two, rarely three."""

MAX_DECODED: Final = 1_000_000
"""Code points decoded out of one text in all: as much as a large request has, and a second or so of work."""

GROWTH: Final = 8
"""Code points decoded for each one of the text: every depth may hold it once, and look twice to find it."""

ALWAYS: Final = 65_536
"""Code points that any text may decode to, however short it is, for the sake of compressed data."""

_WRITTEN: Final = frozenset(
    {"percent", "entities", "escapes", "quoted_printable", "soft_breaks", "form", "emphasis", "accents", "marked"}
)
"""What holds text by the way it is written, if hardly a letter is in it: the number of a card."""

DECODERS: Final[dict[str, Callable[[str, Allowance], Iterator[Piece]]]] = {
    "base64": bases.base64_,
    "base64_groups": bases.base64_groups,
    "base32": bases.base32_,
    "base85": bases.base85_,
    "base58": rarer.base58,
    "uuencoded": rarer.uuencoded,
    "hexadecimal": bases.hexadecimal,
    "numbers": bases.numbers,
    "dumps": bases.dumps,
    "percent": escapes.percent,
    "entities": escapes.entities,
    "backslashes": escapes.backslashes,
    "literals": escapes.literals,
    "code_points": escapes.code_points,
    "quoted_printable": escapes.quoted_printable,
    "form": escapes.form,
    "emphasis": escapes.emphasis,
    "calls": listed.calls,
    "letters": listed.letters,
    "strings": listed.strings,
    "wordwise": wordwise.wordwise,
    "leet": letters.leet,
    "upside_down": letters.upside_down,
    "morse": codes.morse,
    "radio": codes.radio,
    "braille": codes.braille,
    "pig_latin": words.pig_latin,
    "unspaced": words.unspaced,
    "pieces": words.pieces,
    "joined": words.joined,
    "marked": words.marked,
    "wrapped": wrapped.wrapped,
    "numbered": wrapped.numbered,
    "mirrored": scripts.mirrored,
    "tags": hidden.tags,
    "selectors": hidden.selectors,
    "zero_width": hidden.zero_width,
}


class Layer(NamedTuple):
    """``text`` is what code points ``start``..``end`` of the original hold in ``scheme``.

    Encodings inside each other are named from the outer to the inner one: ``base64>rot13`` is base64 of a text in ROT13.
    """

    text: str
    scheme: str
    start: int
    end: int
    maps: tuple[Map, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the original that code points ``start``..``end`` of the layer came from.

        Exact where the encoding goes character by character or word by word; else all that was encoded.
        """
        for step in reversed(self.maps):
            start, end = step.span(start, end)
        return start, end


class Decoded(NamedTuple):
    """All layers of a text, outer ones first. ``exhausted`` where there was more than depth or budget allow."""

    layers: tuple[Layer, ...]
    exhausted: bool


_NOTHING: Final = Decoded((), False)


def suspects(text: str) -> frozenset[str]:
    """The families of encodings that ``text`` may hold; empty for nearly every ordinary text, within microseconds."""
    families, seen = _suspects(text)
    return frozenset(families) | {"backwards" if number == BACKWARDS else ciphers.CIPHERS[number].name for number in seen}


def decode(text: str, *, depth: int = MAX_DEPTH, budget: int = MAX_DECODED) -> Decoded:
    """Decode what is encoded in ``text``, and in that again, down to ``depth``, to ``budget`` code points in all."""
    found = _suspects(text)
    if found == NOTHING:
        return _NOTHING
    allowance = Allowance(min(budget, GROWTH * len(text) + ALWAYS))
    whole = Layer(text, "", 0, len(text), ())
    layers: list[Layer] = []
    known = {text}
    waiting = deque([(whole, found, 0)])
    while waiting:
        outer, found, level = waiting.popleft()
        for piece in _pieces(outer.text, found, allowance):
            if piece.text in known:
                continue
            further = _suspects(piece.text)
            if further == NOTHING and not (readable(piece.text) or piece.scheme in _WRITTEN):
                continue  # neither a text nor another encoding of one
            if level == depth or not allowance.take(len(piece.text)):
                allowance.exhausted = True
                break
            known.add(piece.text)
            layer = _inside(outer, piece)
            layers.append(layer)
            waiting.append((layer, further, level + 1))
    return Decoded(tuple(layers), allowance.exhausted)


def _pieces(text: str, found: Suspects, allowance: Allowance) -> Iterator[Piece]:
    for family in found.families:
        yield from DECODERS[family](text, allowance)
    for number, seen in found.ciphers.items():
        if number == BACKWARDS:
            yield from ciphers.backwards(text, seen, allowance)
        else:
            yield from ciphers.exchanged(text, ciphers.CIPHERS[number], seen, allowance)


def _inside(outer: Layer, piece: Piece) -> Layer:
    scheme = f"{outer.scheme}>{piece.scheme}" if outer.scheme else piece.scheme
    start, end = outer.span(piece.start, piece.end)
    return Layer(piece.text, scheme, start, end, outer.maps + piece.maps)
