"""What may be encoded in a text: a few automata that read it in microseconds and mostly find nothing.

One pass in C (``_signs.c``) tells of most texts that they hold nothing of the kind, and most automata are not even asked. The
first looks for anything odd (long runs, rows of numbers, digits inside of words); only then others tell what. One knows common
words in all ciphers and backwards, one what escapes look like. What the gate lets through, a decoder still has to find and to
believe.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from detectors._signs import ESCAPES, MARKS, ODD, signs
from detectors.decode import languages, scripts
from detectors.decode.ciphers import CIPHERS
from detectors.decode.codes import RADIO_WORDS
from detectors.decode.english import COMMON
from detectors.decode.piece import GROUPS, MIN_DECODED
from detectors.probe import Probe

_WORDS: Final = (
    "above access admin after again against always anything answer anyone around assistant because become before being believe "
    "between bypass change check children command company could country create delete developer different disregard email "
    "every everyone everything example execute explain family filter first follow following forget friend friends from "
    "give government great hidden house however human ignore important information inside instead instruction internal "
    "language later letter little message might money morning mother never nothing number order other output over override "
    "password people person place please pretend previous print prior problem program prompt question really repeat reply "
    "request respond restriction reveal right rule rules safety school secret should small someone something story summary "
    "system tell thank their there these thing think those thought through today together token tomorrow translate under "
    "unrestricted until usual water weather where which while without woman word words world would write years your "
    "yesterday the and you for are not but all can was his has have this that with what when from they will just know like "
    "into then them some now how who its our out any one may"
)
TELLING: Final = tuple(word if len(word) > 4 else f" {word} " for word in _WORDS.split())
"""Common words: hardly a sentence has none, and in another alphabet they are no words. Short ones count between spaces only,
for as parts of others they come by chance."""

MIN_WORDS: Final = 2
"""Different words that must be seen in one cipher; a single one counts from `LONG` letters."""

LONG: Final = 6

_RUN = r"[A-Za-z0-9+/_\-]{16}"
_SOLID = r"[!-~]{25}"
_ROW = r"[0-9][\s,:;|\-./_\"']{1,4}[0-9]"
_SIGNS = r"(?:[.*_\-]{1,6}[ /|\n]{1,5}){7}[.*_\-]"
_WITHIN = r"[A-Za-z][013457$]+[A-Za-z]"

_GROUPS = "|".join(  # the last of them may be padded
    rf"(?:^|\s)(?:[A-Za-z0-9+/]{{{size}}}[\s\-]){{{least - 1}}}[A-Za-z0-9+/]{{{size - 2}}}" for size, least in GROUPS.items()
)

# One automaton for all, since several would be read one after the other.
_odd = Probe(["|".join((_RUN, _SOLID, _ROW, _SIGNS, _WITHIN, _GROUPS))])
_which_odd = tuple(Probe([expression]) for expression in (_RUN, _SOLID, _ROW, _SIGNS, _WITHIN, _GROUPS))

_start = r"(?:^|[^A-Za-z0-9])"
_base64 = Probe(
    [
        rf"{_start}(?:[CI-Za-f][A-Za-z0-9+/_\-]{{3}}){{4}}"
        r"|[A-Za-z0-9+/]{10}[0-9][A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{4}[0-9][A-Za-z0-9+/]{10}"
        r"|(?:[a-z][A-Z][A-Za-z]{0,8}){4}",
        r"A[A-Za-z0-9+/]{2}A[A-Za-z0-9+/]{4}A[A-Za-z0-9+/]{2}A",
    ]
)
_HEX_WORDS: Final = r"(?:[67][0-9A-Fa-f]){3}[\s,;|](?:(?:[2-7][0-9A-Fa-f]){1,12}[\s,;|]{1,2}){0,4}(?:[67][0-9A-Fa-f]){3}"
_SOLID_NAMES: Final = ("hexadecimal", "numbers", "base32", "base32", "base32", "unspaced", "hexadecimal", "base58", "wordwise")
_solid_letters = Probe(
    [
        r"[0-9A-Fa-f]{16}",
        r"[01]{56}",
        r"[A-Z2-7]{16}",
        r"[a-z2-7]{8}[2-7][a-z2-7]{3}",
        r"[0-9A-V]{32}|[0-9a-v]{32}",
        r"[a-z]{20}|[A-Z]{20}|[A-Za-z]{4}(?:The|And|All|Your|You|This|That|Not|With|From|For)[A-Z][A-Za-z]{6}",
        r"[0-9N-Sn-s]{16}",
        r"[1-9A-HJ-NP-Za-km-z]{20}",
        _HEX_WORDS,
    ]
)
_WRITTEN_NAMES: Final = ("base85", "base85", "backslashes", "joined", "marked")
_solid = Probe(
    [
        r"<~[!-uz\s]{10}"
        r"|(?:^|\s)(?:[$+,\-./0-9:;<=>?@A-H][!-u]{4}){5}",
        r"(?:^|[\s\"'`(:=])(?:[3A-Za-d][0-9A-Za-z!#$%&()*+\-;<=>?@^_`{|}~]{4}){5}",
        r"%(?:25)*u[0-9A-Fa-f]{4}",
        r"(?:[A-Za-z]{1,20}[!#-&*-.:;=?\[\]-`{-~]{1,3}){7}[A-Za-z]|(?:[A-Za-z]{1,20}->){7}[A-Za-z]",
        r"[A-Za-z](?:<[^<>]{1,80}>){1,4}[A-Za-z]<",
    ]
)
_NUMBER_NAMES: Final = ("hexadecimal", "numbers", "dumps", "wordwise")
_numbers = Probe(
    [
        r"(?:(?:0x)?[0-9A-Fa-f]{2}[\s,:;|./\-_\"']{1,4}){7}|(?:(?:0x)?(?:[0-9A-Fa-f]{2}){2,8}[\s,:;|./\-_\"']{1,4}){3}",
        r"(?:[0-9]{2,3}[\s,;|/\-]{1,3}){7}|(?:[01]{7,8}[\s,;|./\-]{1,2}){7}|(?:[0-9]{1,2}[\-,. /]{1,3}){9}",
        r"(?:^|\n)[ \t>]{0,8}[0-9A-Fa-f]{6,16}:?[ \t]{1,2}(?:[0-9A-Fa-f]{4} |[0-9A-Fa-f]{2} [0-9A-Fa-f]{2} ){3}",
        _HEX_WORDS,
    ]
)

_ESCAPES: Final = {
    "percent": r"%[0-9A-Fa-f]{2}",
    "entities": r"&(?:amp;)*(?:#[0-9xX]|[A-Za-z]{2,31};)",
    "backslashes": r"\\(?:[uUx][0-9A-Fa-f{]|[0-9A-Fa-f]{2})",
    "literals": r'"[^"\n]*\\+[nrt][^\s\\"]|\\+"\w[^"\n]*\\+"',
    "code_points": r"[Uu]\+[0-9A-Fa-f]{4}.{1,3}[Uu]\+[0-9A-Fa-f]{4}",
    "quoted_printable": r"=[0-9A-F]{2}=[0-9A-F]{2}|[^\n]{50}[A-Za-z0-9]=\r?\n[A-Za-z0-9]",
    "form": r"[?&][A-Za-z_][0-9A-Za-z_.\[\]\-]{0,40}=[^\s\"'<>]{0,200}(?:\+[0-9A-Za-z]|%[0-9A-Fa-f]{2})"
    r"|[A-Za-z_]=[^\s\"'<>]{0,200}(?:\+[0-9A-Za-z]|%[0-9A-Fa-f]{2})[^\s\"'<>]{0,200}&[A-Za-z_]",
    "emphasis": r"(?:^|[\s(\[{>*\"'|~:,;])_{1,3}[0-9A-Za-z+][^\n]{6,120}[0-9A-Za-z=]_{1,3}(?:[\s.,;:!?)\]}<*\"'|~]|$)",
    "pieces": r"[A-Za-z][\"']\s{0,4}(?:\+|\.|&|\|\||\.\.)\s{0,4}[\"'][A-Za-z]",
    "calls": r"(?i)(?:chr|char|point|code)[bw$]?\( ?[0-9&\\][0-9a-fhx]{1,7} ?\)"
    r"[\s+.,&|()]{1,8}(?:string\.)?n?(?:uni)?(?:ch|from)",
    "letters": r"(?:\"[^\"\\\n]\"\s{0,4},\s{0,12}\"[^\"\\\n]\"|'[^'\\\n]'\s{0,4},\s{0,12}'[^'\\\n]')\s{0,4},",
    "wordwise": r"(?:^|[\s,;|\"'(\[])(?:[I-WYZa-e][A-Za-z0-9+/]{3}){0,12}[I-WYZa-e][A-Za-z0-9+/](?:==|[A-Za-z0-9+/]=)"
    r"[\s,;|\"'][A-Za-z0-9+/]{2}",
    "uuencoded": r"\bbegin [0-7]{3}",
    "radio": rf"(?i)(?:(?:{'|'.join(RADIO_WORDS.split())})[\s,.;:/\-]{{1,4}}){{3}}",
    "pig_latin": r"(?i)ay[^a-z]{1,3}(?:[a-z]{1,3}[^a-z]{1,3})?[a-z]{1,20}ay[^a-z]{1,3}(?:[a-z]{1,3}[^a-z]{1,3})?[a-z]{1,20}ay",
}
_escapes = Probe(list(_ESCAPES.values()))

_LETTER = r"[A-Za-z\x80-\xff]"
_TAG = r"<[^<>]+>"
_COMMENT = r"<!--(?:[^\-]|-[^\-]|--[^>])*-->"
_QUOTE = r"(?:[\"'`()\[\]{}]|\xe2\x80[\x98-\x9f]|\xc2[\xab\xbb]|\xe3\x80[\x8c-\x8f])"
_NEITHER = r"[^A-Za-z\x80-\xff\"'`()\[\]{}*_~|<\\]"
_MARK = rf"(?:[*_~|]|{_TAG}|{_COMMENT}|\\[A-Za-z]+\{{|\]\([^()\s]*\))"
_GAP = rf"{_NEITHER}*(?:{_QUOTE}{_NEITHER}*(?:{_QUOTE}|{_MARK})|{_MARK})(?:{_NEITHER}|{_QUOTE}|{_MARK})*"
_PLAIN = rf"{_LETTER}[A-Za-z0-9'\-\x80-\xff]*"

# Words between marks of their own, letters between tags, strings in a row: what `words` and `listed` then look at.
_MARKS: Final = {
    "wrapped": rf"{_PLAIN}(?:(?:[\s,.;:!?/\-]+{_PLAIN}){{0,2}}{_GAP}{_PLAIN}){{4}}",
    "marked": rf"[A-Za-z](?:(?:{_TAG}|{_COMMENT})+[ .,;:!?'\-]{{0,2}}[A-Za-z]){{4}}",
    "strings": r"(?:[\"'] ?[A-Za-z][^\"'\\\s]*(?: [^\"'\\\s]*){0,2}[\"'][^\"':A-Za-z]*(?:[A-Za-z]+[^\"':A-Za-z]+){0,2}){4}"
    r"[\"'] ?[A-Za-z]",
    "numbered": r"[A-Za-z\x80-\xff](?:[^A-Za-z0-9_\x80-\xff]+[0-9][^A-Za-z_\x80-\xff]*[A-Za-z\x80-\xff]+){7}",
}
_marks = Probe(list(_MARKS.values()))
_MARK_NAMES: Final = tuple(_MARKS)
_ESCAPE_NAMES: Final = tuple(_ESCAPES)

# In UTF-8: tags, two variation selectors or one beyond the first plane, a zero-width character, Braille, turned letters.
_FOREIGN: Final = {
    "tags": r"\xf3\xa0[\x80\x81][\x80-\xbf]",
    "selectors": r"\xef\xb8[\x80-\x8d]|\xf3\xa0[\x84-\x87][\x80-\xbf]",
    "zero_width": r"\xe2\x80[\x8b-\x8f]|\xe2\x81[\xa0-\xa4]|\xef\xbb\xbf|\xe1\xa0\x8e",
    "braille": r"(?:\xe2[\xa0-\xa3][\x80-\xbf]){2}",
    "upside_down": r"\xc7\x9d|\xc9[\x90\x94\x9f\xa5\xaf\xb9]|\xca[\x87\x8c\x8d\x8e\x9e]|\xe2\x88\x80",
    "morse": r"(?:(?:[.*_\-]|\xc2\xb7|\xe2\x80[\x93\x94\xa2]|\xe2\x88[\x92\x99]){1,6}[ /|\n]{1,5}){7}",
}
_foreign = Probe(list(_FOREIGN.values()))
_FOREIGN_NAMES: Final = tuple(_FOREIGN)

BACKWARDS: Final = len(CIPHERS)
"""Stands for text written backwards, where ciphers are counted."""

ROT13: Final = next(number for number, cipher in enumerate(CIPHERS) if cipher.name == "rot13")

_ENGLISH: Final = f" {' '.join(COMMON)} "
_BEGUN: Final = frozenset(_ENGLISH[at : at + 4] for at in range(len(_ENGLISH)))  # what begins otherwise needs no search
_CIPHERED: Final = tuple(
    (number, written)
    for number, written in (
        *((number, word.translate(cipher.making)) for number, cipher in enumerate(CIPHERS) for word in TELLING),
        *((BACKWARDS, word[::-1]) for word in TELLING),
        *((ROT13, word.translate(CIPHERS[ROT13].making)) for word in languages.TELLING),
        *((BACKWARDS, word[::-1]) for word in languages.TELLING),
    )
    if (written[:4] not in _BEGUN or written not in _ENGLISH)  # "now" backwards is "won"
    and languages.folded(written.strip()) not in languages.WORDS
)
_EDGES: Final = frozenset(
    edge for word in COMMON | languages.WORDS for edge in (f" {word[: languages.STEM]}", f"{word[-languages.STEM :]} ")
)
_STEMMED: Final = tuple(
    (number, written)
    for number, written in (
        *((ROT13, stem.translate(CIPHERS[ROT13].making)) for stem in languages.STEMS),
        *((BACKWARDS, stem[::-1]) for stem in languages.STEMS),
    )
    if languages.folded(written) not in _EDGES  # common words end and begin so
)
_STEMS: Final = frozenset(written for _, written in _STEMMED)
"""Of these one says nothing, however long it is, for they stand for all words that begin alike."""


def _literal(text: str) -> str:
    data = text.encode().decode("latin-1")
    return re.sub(r"[^A-Za-z0-9 ]", lambda match: f"\\x{ord(match[0]):02x}", data)


_ciphered = Probe([f"(?i){_literal(written)}" for _, written in (*_CIPHERED, *_STEMMED)])

_telling = Probe([f"(?i){word}" for word in TELLING])
_FROM_LEET: Final = bytes.maketrans(b"0134579$@", b"oieastgsa")


class Suspects(NamedTuple):
    """Families of encodings that may occur (names of `DECODERS`), and the words seen of each cipher, by its number."""

    families: tuple[str, ...]
    ciphers: dict[int, list[str]]


NOTHING: Final = Suspects((), {})


def suspects(text: str) -> Suspects:
    """What may be encoded in ``text``."""
    if len(text) < MIN_DECODED:
        return NOTHING
    data = text.encode("utf-8", "surrogatepass")
    seen = signs(text)
    families = _odd_families(data) if seen & ODD and _odd(data) else []
    if seen & ESCAPES:
        families += [_ESCAPE_NAMES[number] for number in _escapes(data)]
    if seen & MARKS:
        families += [_MARK_NAMES[number] for number in _marks(data)]
    if len(data) != len(text):
        families += [_FOREIGN_NAMES[number] for number in _foreign(data)]
        if scripts.suspect(data):
            families.append("mirrored")
    ciphered = _ciphered(data)
    if not families and not ciphered:
        return NOTHING
    return Suspects(tuple(dict.fromkeys(families)), _ciphers(ciphered))


def _odd_families(data: bytes) -> list[str]:
    run, solid, row, signs, within, groups = (bool(probe(data)) for probe in _which_odd)
    found = []
    if run and _base64(data):
        found.append("base64")
    if groups:
        found.append("base64_groups")
    if run and (kinds := _solid_letters(data)):
        found += [_SOLID_NAMES[kind] for kind in kinds]
    if solid and (kinds := _solid(data)):
        found += [_WRITTEN_NAMES[kind] for kind in kinds]
    if row and (kinds := _numbers(data)):
        found += [_NUMBER_NAMES[kind] for kind in kinds]
    if signs:
        found.append("morse")
    if within and len(set(_telling(data.translate(_FROM_LEET))) - set(_telling(data))) >= MIN_WORDS:
        found.append("leet")
    return list(dict.fromkeys(found))


def _tells(word: str) -> bool:
    """Whether a word says enough by itself."""
    return len(word) >= LONG and word not in _STEMS


def _ciphers(seen: list[int]) -> dict[int, list[str]]:
    words: dict[int, list[str]] = {}
    for number in seen:
        cipher, word = _CIPHERED[number] if number < len(_CIPHERED) else _STEMMED[number - len(_CIPHERED)]
        words.setdefault(cipher, []).append(word)
    return {cipher: found for cipher, found in words.items() if len(found) >= MIN_WORDS or _tells(found[0])}
