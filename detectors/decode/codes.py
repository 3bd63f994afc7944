"""Letters written as codes: Morse, the spelling alphabet of radio, Braille."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from detectors.decode.english import LIKELY, english
from detectors.decode.piece import Allowance, Piece, readable
from detectors.offsets import Blob

MIN_KINDS: Final = 6
"""Different characters in something spelt: a rule of dashes reads as the letter t all along."""

_MORSE_SIGNS: Final = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- ..--.. -.-.-- -..-. .----. -....- ---..."
)
_MORSE: Final = dict(zip(_MORSE_SIGNS.split(), "abcdefghijklmnopqrstuvwxyz0123456789.,?!/'-:", strict=True))
"""International Morse code (ITU-R M.1677)."""

_DOTS: Final = str.maketrans("·•∙*–—−_", "....----")
_SIGN: Final = r"[.·•∙*\-–—−_]"
_MORSE_RUN = re.compile(rf"(?<![^\s\"'(:/|]){_SIGN}{{1,6}}(?:(?: {{0,3}}[/|] {{0,3}}| {{1,7}}|\r?\n){_SIGN}{{1,6}}){{7,}}")
_MORSE_GAP = re.compile(r"(\s*[/|]\s*|\s{2,}|\n)|\s")

RADIO_WORDS: Final = (
    "alfa alpha bravo charlie delta echo foxtrot golf hotel india juliett juliet kilo lima mike november oscar papa quebec "
    "romeo sierra tango uniform victor whiskey whisky xray yankee zulu"
)
_RADIO: Final = dict(zip(RADIO_WORDS.split(), "aabcdefghijjklmnopqrstuvwwxyz", strict=True))
"""The radiotelephony spelling alphabet (ICAO Annex 10), with its usual misspellings."""

_RADIO_WORD: Final = "(?:" + "|".join(_RADIO).replace("xray", "x-?ray") + ")"
_RADIO_RUN = re.compile(rf"\b{_RADIO_WORD}(?:[\s,.;:/-]{{1,4}}{_RADIO_WORD}){{7,}}\b", re.IGNORECASE)
_RADIO_PART = re.compile(r"(x-?ray|[A-Za-z]+)([^A-Za-z]*)", re.IGNORECASE)

_BRAILLE: Final = dict(zip("⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵⠀⠲⠂⠦⠖⠄⠤", "abcdefghijklmnopqrstuvwxyz .,?!'-", strict=True))
_BRAILLE_RUN = re.compile("[⠀-⣿](?:[ ⠀-⣿]*[⠀-⣿])?")


def morse(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Morse code with dots and dashes of any kind, words apart by a slash, a bar, wide spaces or lines."""
    for match in _MORSE_RUN.finditer(text):
        letters: list[str] = []
        at = 0
        code = match[0].translate(_DOTS)
        for gap in _MORSE_GAP.finditer(code):
            letters += (_MORSE.get(code[at : gap.start()], "\ufffd"), " " if gap[1] else "")
            at = gap.end()
        letters.append(_MORSE.get(code[at:], "\ufffd"))
        yield from _if_english("morse", "".join(letters), match)


def radio(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Words spelt with the names of letters that radio uses."""
    for match in _RADIO_RUN.finditer(text):
        parts = _RADIO_PART.findall(match[0])
        usual = min((gap for _, gap in parts[:-1]), key=len)
        letters = [_RADIO[word.lower().replace("-", "")] + (" " if len(gap) > len(usual) else "") for word, gap in parts]
        yield from _if_english("radio", "".join(letters).strip(), match)


def braille(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Uncontracted English Braille in Unicode's patterns."""
    for match in _BRAILLE_RUN.finditer(text):
        yield from _if_english("braille", "".join([_BRAILLE.get(sign, sign) for sign in match[0]]), match)


def _if_english(scheme: str, plain: str, match: re.Match[str]) -> Iterator[Piece]:
    if readable(plain) and len(set(plain)) >= MIN_KINDS and english(plain) >= LIKELY / 2:
        start, end = match.span()
        yield Piece(scheme, plain, start, end, (Blob(start, end),))
