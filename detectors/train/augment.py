"""Small changes that keep a text's meaning: so that case, spelling, length and position give nothing away."""

from __future__ import annotations

import random
import string
from typing import Final

_LEET: Final = str.maketrans("aeiostAEIOST", "431057431057")
_LOOKALIKES: Final = str.maketrans("aeopcxyi", "аеорсхуі")


def vary(text: str, rng: random.Random) -> str:
    """Casing, spelling slips, lost words and punctuation, each now and then; most texts stay as they are."""
    roll = rng.random()
    if roll < 0.55:
        return text
    if roll < 0.65:
        return text.lower()
    if roll < 0.70:
        return text.upper()
    if roll < 0.74:
        return text.title()
    if roll < 0.84:
        return _slips(text, rng)
    if roll < 0.92:
        return _lose_words(text, rng)
    return text.translate(str.maketrans("", "", ",.!?")) if roll < 0.97 else text.replace(" ", "  ")


def disguise(text: str, rng: random.Random) -> str:
    """What is left of a text whose letters were disguised: digits, look-alikes, spaces or dots between letters."""
    roll = rng.random()
    if roll < 0.35:
        return text.translate(_LEET)
    if roll < 0.60:
        return text.translate(_LOOKALIKES)
    if roll < 0.80:
        return " ".join(" ".join(word) for word in text.split(" "))
    return "".join(c + rng.choice("..-_*") if c.isalpha() and rng.random() < 0.4 else c for c in text)


def _slips(text: str, rng: random.Random) -> str:
    letters = list(text)
    for _ in range(max(1, len(text) // 40)):
        at = rng.randrange(len(letters))
        if not letters[at].isalpha():
            continue
        roll = rng.random()
        if roll < 0.4 and at + 1 < len(letters):
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif roll < 0.7:
            letters[at] = ""
        else:
            letters[at] = rng.choice(string.ascii_lowercase)
    return "".join(letters)


def _lose_words(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    kept = [word for word in words if rng.random() > 0.08]
    return " ".join(kept) if kept else text


def crop(text: str, longest: int, rng: random.Random, keep: tuple[int, int] | None = None) -> str:
    """A random stretch of at most ``longest`` characters, cut at spaces, that holds the span ``keep`` whole."""
    if len(text) <= longest:
        return text
    low, high = keep if keep else (0, 0)
    if keep and high - low >= longest:
        return text[low:high][:longest]
    first = max(0, high - longest) if keep else 0
    last = min(low, len(text) - longest) if keep else len(text) - longest
    start = rng.randint(min(first, last), max(first, last))
    end = start + longest
    if start > 0 and (space := text.find(" ", start, low if keep else start + 40)) >= 0:
        start = space + 1
    if end < len(text) and (space := text.rfind(" ", high if keep else end - 40, end)) > start:
        end = space
    return text[start:end]
