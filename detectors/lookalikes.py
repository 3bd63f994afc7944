"""Words that only look like what they say: ``раypal`` with Cyrillic letters, ``ɪɢɴᴏʀᴇ`` in small capitals.

A word of letters that all look like ASCII ones is folded to those where its letters come from several scripts. A word
wholly of one other script may be an ordinary word of that script (Russian ``нос``), so it is folded only where no
word beside it is certainly one.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final, NamedTuple

from detectors.characters import FAUX, GENUINE, LOOKALIKES, SCRIPTS, Ranges
from detectors.probe import Probe

MIN_TELLING: Final = 3
"""Letters of a word that tells of a disguise. Shorter ones are units and symbols: ``μm``, ``kΩ``, ``Δt``."""

_LATIN = re.compile("[A-Za-z]")
_WORD = re.compile(r"(?<![^\W_])[A-Za-z0-9]*+[^\W_\x00-\x7f][^\W_]*+")
_MAIN_SCRIPTS: Final = ("Latn", "Cyrl", "Grek")
_TABLE: Final = str.maketrans(FAUX | LOOKALIKES)


def _alike(scripts: Container[str]) -> str:
    return Ranges.of("".join(char for char, script in SCRIPTS.items() if script in scripts)).automaton()


_has_latin = Probe(["[A-Za-z]"])
_has_genuine = Probe([GENUINE.automaton()], utf8=True)
_has_alike = Probe(
    [*(_alike((script,)) for script in _MAIN_SCRIPTS), _alike(set(SCRIPTS.values()) - set(_MAIN_SCRIPTS))], utf8=True
)


class Folded(NamedTuple):
    """The text with words folded, character for character, and where the telling ones stand, by kind of evidence."""

    text: str
    words: dict[str, list[int]]


class _Word(NamedTuple):
    start: int
    text: str
    folded: str


def fold(text: str) -> Folded | None:
    """Fold words that only look like ASCII; None where there are none. ``text`` holds no surrogates."""
    if not _may_fold(text):
        return None
    walk = _Walk(_LATIN.search(text) is not None)
    at = 0
    for match in _WORD.finditer(text):
        if walk.undecided and _LATIN.search(text, at, match.start()):
            walk.pass_latin()
        at = match.end()
        walk.pass_word(match.start(), match[0])
    walk.pass_latin()
    if walk.genuine:
        walk.telling.pop("confusable", None)  # the text is in two languages, and says so
    return Folded(_replace(text, walk.chosen), walk.telling) if walk.chosen else None


class _Walk:
    """Goes over the words of a text that are not ASCII, and chooses those to be folded."""

    __slots__ = ("_after_genuine", "_latin", "_waiting", "chosen", "genuine", "telling")

    def __init__(self, latin: bool) -> None:
        self.chosen: list[_Word] = []
        self.telling: dict[str, list[int]] = {}
        self._latin = latin
        self._waiting: list[_Word] = []  # words of one other script that may be genuine: the next word decides
        self._after_genuine = False
        self.genuine = False

    @property
    def undecided(self) -> bool:
        return bool(self._waiting) or self._after_genuine

    def pass_latin(self) -> None:
        """A Latin word, or the end of the text."""
        self.chosen += self._waiting
        for word in self._waiting:
            if self._latin and len(word.text) >= MIN_TELLING:
                self._tell("confusable", word)
        self._waiting.clear()
        self._after_genuine = False

    def pass_word(self, start: int, text: str) -> None:
        kind, folded = _judge(text)
        word = _Word(start, text, folded)
        if kind == "genuine":
            self._waiting.clear()
            self._after_genuine = self.genuine = True
        elif kind == "alike":
            if not self._after_genuine:
                self._waiting.append(word)
        else:
            self.pass_latin()
            self.chosen.append(word)
            if kind != "plain":
                self._tell(kind, word)

    def _tell(self, kind: str, word: _Word) -> None:
        self.telling.setdefault(kind, []).append(word.start)


def _may_fold(text: str) -> bool:
    data = text.encode()
    scripts = len(_has_alike(data))
    # A text in one script, with letters of its own and nothing Latin beside it, is ordinary Russian, Greek or Armenian.
    return scripts > 1 or (scripts == 1 and (bool(_has_latin(data)) or not _has_genuine(data)))


def _judge(word: str) -> tuple[str, str]:
    """What a word is, and its folded form.

    ``genuine``: a word of another script; ``alike``: of one other script, with the shape of an ASCII word;
    ``mixed_script`` or ``confusable``: to be folded, and telling; ``plain``: to be folded.
    """
    folded = word.translate(_TABLE)
    playful = not FAUX.keys().isdisjoint(word)
    if not folded.isascii() or (playful and len(word) < MIN_TELLING):
        return "genuine", word
    scripts = set(map(SCRIPTS.get, word)) - {None}
    if len(scripts) > 1 or (scripts != {"Latn"} and _LATIN.search(word)):
        return ("mixed_script" if sum(map(str.isalpha, word)) >= MIN_TELLING else "plain"), folded
    if scripts == {"Latn"}:
        odd = sum(not char.isascii() for char in word)
        return ("confusable" if odd >= MIN_TELLING and odd * 2 > len(word) else "plain"), folded
    return ("genuine" if playful else "alike"), folded


def _replace(text: str, words: list[_Word]) -> str:
    pieces: list[str] = []
    at = 0
    for word in words:
        pieces += (text[at : word.start], word.folded)
        at = word.start + len(word.text)
    pieces.append(text[at:])
    return "".join(pieces)
