"""The readings of one text: as it came, with its disguise taken off, decoded, and without what nobody can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from detectors.canonical import Canonical, canonicalise
from detectors.decode import Layer, decode

Span = Callable[[int, int], tuple[int, int]]


class View(NamedTuple):
    """One reading of a text, and the way back: from a span of the reading to one of the original."""

    text: str
    span: Span


class Inner(NamedTuple):
    """A decoded layer, its canonical form, and the way back from it to the text as it came."""

    layer: Layer
    canonical: Canonical
    span: Span


def layers(text: str, canonical: Canonical) -> tuple[list[Inner], bool]:
    """The layers of the text and of what its disguise hid, and whether there were more than may be decoded."""
    raw = decode(text)
    found = [Inner(layer, canonicalise(layer.text), layer.span) for layer in raw.layers]
    if not canonical.evidence:
        return found, raw.exhausted
    known = {text, canonical.text, *(layer.text for layer in raw.layers)}
    inner = decode(canonical.text)
    found += [
        Inner(layer, canonicalise(layer.text), through(layer.span, canonical.span))
        for layer in inner.layers if layer.text not in known
    ]  # fmt: skip
    return found, raw.exhausted or inner.exhausted


def views(text: str, canonical: Canonical, inner: Sequence[Inner], legible: Sequence[View]) -> list[View]:
    """The readings to be judged by meaning. Without evidence of disguise, the canonical form means what the text means."""
    found = [View(text, same)]
    if canonical.evidence and not canonical.identical:
        found.append(View(canonical.text, canonical.span))
    for layer, plain, span in inner:
        found.append(View(layer.text, span))
        if plain.evidence and not plain.identical:
            found.append(View(plain.text, through(plain.span, span)))
    return [*found, *legible]


def same(start: int, end: int) -> tuple[int, int]:
    """The way back of a reading that is the text itself."""
    return start, end


def through(inner: Span, outer: Span) -> Span:
    """The way back of a reading of a reading."""
    return lambda start, end: outer(*inner(start, end))
