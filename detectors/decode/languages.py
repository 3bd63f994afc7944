"""Does it look like one of eight other languages in Latin letters? By common words, without their accents."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Final

_COMMON: Final = (
    "der die das und ist nicht ein eine einen mit auf für den dem von wie was ich mich mir dich dein deine alle allen alles "
    "bitte wenn dann nur auch aus bei nach oder aber sind wird werden haben dass "
    "les des une est pas que qui dans pour avec sur tout tous toutes mes tes ses mon ton vous nous moi toi sont être avoir "
    "fait plus sans mais comme cette ces votre vos "
    "los las una con por para del todo todas todos más pero este esta tus mis sus eres soy está son fue muy hasta desde cuando "
    "gli che per della delle dei tutto tutte tutti più senza come questo questa tuo tuoi tua mio sei sono non nel alla ogni "
    "uma com dos das mais sem mas seu sua seus meu minha você não são "
    "het een van met voor niet jouw mijn zijn wat dat deze maar aan naar ook wordt jij "
    "nie jest wszystkie wszystko wszystkich mnie twoje twój moje mój dla tylko oraz przez jak które ale ten tego tym jesteś "
    "się teraz proszę być czy gdy "
    "bir tüm bana sana beni senin benim için değil ama gibi olarak var yok bütün ile kadar sonra sen ben her bunu şimdi artık "
    "sadece"
)
TELLING: Final = tuple(dict.fromkeys(f" {word} " for word in _COMMON.split()))
"""Words of which hardly a sentence has none, between spaces."""

_MARKS: Final = re.compile("[\u0300-\u036f]+")
_APART: Final = str.maketrans({"ß": "ss", "ł": "l", "ı": "i", "ø": "o", "æ": "ae", "œ": "oe"})
_LATIN: Final = "\u0250"
_WORD: Final = re.compile(r"[a-z]{3,}")


def folded(text: str) -> str:
    """Lower case, without accents."""
    if text.isascii():
        return text.lower()
    return _MARKS.sub("", unicodedata.normalize("NFD", text.lower().translate(_APART)))


def _words() -> frozenset[str]:
    _, *lines = (Path(__file__).parents[1] / "data" / "words.txt").read_text("utf-8").splitlines()
    forms = {form for line in lines for form in re.split("[;, ]", line.partition(";")[2]) if form[:1] < _LATIN}
    return frozenset({word for word in map(folded, (*forms, *_COMMON.split())) if _WORD.fullmatch(word)})


WORDS: Final = _words()
"""Common words of these languages, and those of requests and attacks, of three letters and more, folded."""


def known(text: str) -> float:
    """The share of a text's letters that stand in such words."""
    words = re.findall("[a-z]+", folded(text))
    letters = sum(map(len, words))
    return sum(len(word) for word in words if word in WORDS) / letters if letters else 0.0
