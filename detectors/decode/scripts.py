"""Text written backwards in other scripts than Latin, told by common words of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from detectors.decode import languages
from detectors.decode.piece import Allowance, Piece, readable
from detectors.offsets import Mirror, Shift, rewrite
from detectors.probe import Probe

MIN_WORDS: Final = 2
"""Different words that a line must show backwards."""

MIN_SHOWN: Final = 4
"""What they must show together: each as many as it has characters, less one; and twice as much as words forwards. Two
characters follow each other by chance, too."""

_COMMON: Final = (
    "что как это для все или если только меня тебя свой твой мне тебе без при перед после теперь пожалуйста "
    "من على هذا هذه التي الذي كل إلى عن بدون قبل بعد الآن فقط "
    "और के को में से है हैं यह सभी लिए मुझे अपने अपना अब केवल बिना पहले बाद "
    "所有 现在 我的 你的 这个 什么 可以 请你 告诉 之前 没有 必须 "
    "すべて ください です ます これ それ あなた いま から まで なし という して "
    "모든 지금 당신 이것 그것 하세요 입니다 합니다 해줘 없이 이전 모두"
)
_LATIN: Final = "\u0370"
_SPACED: Final = "\u2e80"
_LEAST: Final = 3
"""Characters of a word, in scripts that write few sounds with one; two where a character is a syllable, or a word."""

MAX_WORD: Final = 10
"""Characters of the longest of them."""


def _words() -> frozenset[str]:
    forms = (form for listed in languages.LISTED.values() for form in listed if form[:1] >= _LATIN)
    words = (*forms, *_COMMON.split())
    return frozenset({word for word in words if (2 if word >= _SPACED else _LEAST) <= len(word) <= MAX_WORD})


WORDS: Final = _words()
"""Common words in other scripts than Latin, and those of requests and attacks."""

BACKWARDS: Final = frozenset(word[::-1] for word in WORDS) - WORDS
"""The same from their ends, without those that are words either way."""

_BACKWARDS: Final = tuple(sorted(BACKWARDS))
_probe = Probe(["".join([f"\\x{byte:02x}" for byte in word.encode()]) for word in _BACKWARDS])
_SIZES: Final = tuple(sorted({len(word) for word in WORDS}))
_LINE = re.compile(rf"[.!?。！？।؟]{{0,3}}[{_LATIN}-\U0001ffff](?:[^\n]*[{_LATIN}-\U0001ffff])?[.!?]{{0,3}}")
_WORD = re.compile(r"[^\s.,;:!?。！？।؟،]+")


def suspect(data: bytes) -> bool:
    """Whether ``data``, in UTF-8, shows enough words backwards; whether in one line, and more than forwards, is not asked."""
    seen = _probe(data)
    return len(seen) >= MIN_WORDS and _shown(_BACKWARDS[number] for number in seen) >= MIN_SHOWN


def mirrored(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Lines in other scripts that were written backwards: read as a whole, and word by word."""
    for match in _LINE.finditer(text):
        written = match[0]
        if not allowance.take(len(written)):
            return
        if not suspect(written.encode("utf-8", "surrogatepass")):
            continue
        stretches = {written[at : at + size] for size in _SIZES for at in range(len(written) - size + 1)}
        if _shown(stretches & BACKWARDS) < 2 * _shown(stretches & WORDS):
            continue
        start, end = match.span()
        if readable(written[::-1]):
            yield Piece("reversed", written[::-1], start, end, (Mirror(start, end),))
            words, edits = rewrite(written, [(*word.span(), word[0][::-1]) for word in _WORD.finditer(written)])
            if edits is not None:
                yield Piece("reversed_words", words, start, end, (Shift(start), edits))


def _shown(words: Iterable[str]) -> int:
    """What words show together of the direction that they are written in."""
    return sum([len(word) - 1 for word in words])
