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
    "się teraz proszę być czy gdy jako pod przed przy tak kiedy gdzie jeśli żeby bez swoje swoich moich twoich masz możesz "
    "musisz jej jego ich nam ciebie tobie każde każdy wszystkim tych tej jednak bardzo jeszcze również już będzie "
    "bir tüm bana sana beni senin benim için değil ama gibi olarak var yok bütün ile kadar sonra sen ben her bunu şimdi artık "
    "sadece bunu bana bize daha çok ise ise mi mısın misin nasıl neden olan olduğu şey önce lütfen artık kendi diye göre ne "
    "yalnızca hiçbir herhangi tamamen yeni bundan böyle"
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


def _listed() -> dict[str, frozenset[str]]:
    head, *lines = (Path(__file__).parents[1] / "data" / "words.txt").read_text("utf-8").splitlines()
    columns = zip(*(line.split(";") for line in lines if line), strict=True)
    return {
        language: frozenset({form for cell in column for form in re.split("[, ]", cell)})
        for language, column in zip(head.split(";"), columns, strict=True)
    }


LISTED: Final = _listed()
"""The words of `data/words.txt`, those of requests and attacks, by their language."""


def _words() -> frozenset[str]:
    forms = (form for language, listed in LISTED.items() if language != "en" for form in listed if form[:1] < _LATIN)
    return frozenset({word for word in map(folded, (*forms, *_COMMON.split())) if _WORD.fullmatch(word)})


STEM: Final = 5
"""Letters with which forms of one word begin alike, whatever ending follows: a list cannot have all of them."""

MIN_AKIN: Final = 4
"""Different words of a sentence that are known, or begin as known ones do."""

WORDS: Final = _words()
"""Common words of these languages, and those of requests and attacks, of three letters and more, folded."""

STEMS: Final = tuple(
    sorted({f" {form[:STEM]}" for form in LISTED["pl"] | LISTED["tr"] if len(form) >= STEM and form.isalpha()})
)
"""How words of requests and attacks begin, as they are written, behind a space, in languages that decline most of them."""

_STEMS: Final = frozenset({word[:STEM] for word in WORDS if len(word) >= STEM})


def is_known(word: str) -> bool:
    """Whether a folded word is one of `WORDS`, or begins as one of them does."""
    return word in WORDS or (len(word) > STEM and word[:STEM] in _STEMS)


def known(text: str) -> float:
    """The share of a text's letters that stand in such words."""
    words = _letters(text)
    letters = sum(map(len, words))
    return sum(len(word) for word in words if word in WORDS) / letters if letters else 0.0


def is_sentence(text: str) -> bool:
    """Whether several words of a text, and most of its letters, are known ones or begin alike."""
    words = _letters(text)
    akin = [word for word in words if is_known(word)]
    return len(set(akin)) >= MIN_AKIN and 2 * sum(map(len, akin)) >= sum(map(len, words))


def _letters(text: str) -> list[str]:
    return re.findall("[a-z]+", folded(text))
