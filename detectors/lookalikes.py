"""Words that only look like what they say: ``раypal`` with Cyrillic letters, ``ɪɢɴᴏʀᴇ`` in small capitals.

A word of letters that all look like ASCII ones is folded to those where its letters come from several scripts. A word
wholly of one other script may be an ordinary word of that script (Russian ``нос``), so it is folded only where no
word beside it is certainly one.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from detectors.characters import FAUX, GENUINE, LOOKALIKES, SCRIPTS, Ranges
from detectors.probe import Probe

MIN_TELLING: Final = 3
"""Letters of a word that tells of a disguise. Shorter ones are units and symbols: ``μm``, ``kΩ``, ``Δt``."""

_LIKE: Final = Ranges.of("".join(LOOKALIKES))
_SYMBOLS: Final = Ranges.of("".join(char for char, script in SCRIPTS.items() if script == "Zyyy"))
_OWN_SCRIPTS: Final = ("Latn", "Zyyy")  # a word that mixes these with ASCII is of one script still

_LATIN = re.compile("[A-Za-z]")
_WORD = re.compile(
    f"(?<![^\\W_])[A-Za-z0-9]*+(?:[^\\W_\\x00-\\x7f]|[{_SYMBOLS.plane()}])(?:[^\\W_]|[{_SYMBOLS.plane()}])*+"
)
_OTHERS: Final = {
    script: Ranges.of("".join(char for char, own in SCRIPTS.items() if own == script)).automaton()
    for script in set(SCRIPTS.values())
}

_IS_LATIN, _IS_GENUINE, _FIRST_SCRIPT = 0, 1, 2
_probe = Probe(["[A-Za-z]", GENUINE.automaton(), *_OTHERS.values()], utf8=True)


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
    latin = _LATIN.search(text) is not None
    chosen: list[_Word] = []
    telling: dict[str, list[int]] = {}
    waiting: list[_Word] = []  # words of one other script that have no certain word of it before them
    open_, at = True, 0
    for match in _WORD.finditer(text):
        word = _Word(match.start(), match[0], "")
        kind, folded = _judge(word.text)
        if waiting or not open_:
            if _LATIN.search(text, at, word.start):
                _settle(waiting, latin, chosen, telling)
                open_ = True
        at = match.end()
        if kind == "":
            waiting.clear()
            open_ = False
        elif kind == "script":
            if open_:
                waiting.append(word._replace(folded=folded))
        else:
            _settle(waiting, latin, chosen, telling)
            open_ = True
            chosen.append(word._replace(folded=folded))
            if kind != "plain":
                telling.setdefault(kind, []).append(word.start)
    _settle(waiting, latin, chosen, telling)
    return Folded(_replace(text, chosen), telling) if chosen else None


def _may_fold(text: str) -> bool:
    found = _probe(text.encode())
    scripts = sum(number >= _FIRST_SCRIPT for number in found)
    # A text in one script that has letters of its own and no Latin beside it: ordinary Russian, Greek, Armenian.
    return scripts > 1 or (scripts == 1 and (_IS_LATIN in found or _IS_GENUINE not in found))


def _settle(
    waiting: list[_Word], latin: bool, chosen: list[_Word], telling: dict[str, list[int]]
) -> None:
    chosen += waiting
    for word in waiting:
        if latin and len(word.text) >= MIN_TELLING:
            telling.setdefault("confusable", []).append(word.start)
    waiting.clear()


def _judge(word: str) -> tuple[str, str]:
    """What a word is, and its folded form.

    ``""``: not to be folded, a genuine word; ``script``: of one other script, with the shape of an ASCII word;
    ``mixed_script`` or ``confusable``: to be folded, and telling; ``plain``: to be folded.
    """
    scripts = {SCRIPTS[char] for char in word if char in SCRIPTS}
    latin = _LATIN.search(word) is not None
    table = LOOKALIKES | FAUX if latin or len(scripts) > 1 else LOOKALIKES
    folded = "".join(char if char.isascii() else table.get(char, char) for char in word)
    if not folded.isascii():
        return "", word
    foreign = scripts.difference(_OWN_SCRIPTS)
    if not foreign and all(char.isascii() or char in SCRIPTS for char in word):
        odd = sum(not char.isascii() for char in word)
        return ("confusable" if odd >= MIN_TELLING and odd * 2 > len(word) else "plain"), folded
    if latin or len(foreign) > 1 or "Latn" in scripts:
        return ("mixed_script" if len(word) >= MIN_TELLING else "plain"), folded
    return "script", folded


def _replace(text: str, words: list[_Word]) -> str:
    pieces: list[str] = []
    at = 0
    for word in sorted(words):
        pieces += (text[at : word.start], word.folded)
        at = word.start + len(word.text)
    pieces.append(text[at:])
    return "".join(pieces)
