"""What belongs to one person and has no checksum: names that are announced, codes, cookies, templates of a body, places."""

from __future__ import annotations

import re
from typing import Final

from detectors.checks.base import BASE64, DASHED, WORD, Check, Span, ending, given, whole
from detectors.checks.credentials import looks_random
from detectors.checks.tokens import PLACEHOLDER, VARIETY

_CODE: Final = r"[A-Za-z0-9]{4,6}(?:-[A-Za-z0-9]{4,6}){1,3}"
_CODES: Final = re.compile(rf"{_CODE}(?:[\s,;]{{1,4}}{_CODE}){{0,15}}\Z", re.ASCII)
_ANOTHER_CODE: Final = re.compile(r"[\s,;]{1,4}[A-Za-z0-9]{4}", re.ASCII)
_COOKIE: Final = re.compile(r"[=]([A-Za-z0-9%._~+/-]{16,}={0,2})\Z", re.ASCII)
_COORDINATES: Final = re.compile(r"(-?\d{1,2}\.\d{4,9})[^\d\n-]{1,24}(-?\d{1,3}\.\d{4,9})\Z", re.ASCII)
_NUMBERS: Final = re.compile(r"(?:-?\d\.\d{3,8}[,\s]{1,3}){15,}-?\d\.\d{3,8}\Z", re.ASCII)
_GENOTYPE: Final = re.compile(r"rs\d{3,10}[\t ,]+(?:\d{1,2}|X|Y|MT)[\t ,]+\d{3,10}[\t ,]+[ACGTDI-]{1,2}\Z", re.ASCII)

_NO_NAME: Final = frozenset("Not The This That Just Very Here So Also Good Great Sure Fine Sorry".split())
"""What begins a word with a capital behind "my name is", and is none."""


def recovery_codes(text: str, start: int, end: int) -> Span | None:
    """Codes in groups of four to six, one or a list of them, most with a digit; the last code of the list ends the match."""
    found = _CODES.search(text, start, end)
    if found is None or not whole(text, found.start(), end, DASHED) or _ANOTHER_CODE.match(text, end):
        return None
    codes = re.split(r"[\s,;]+", found.group())
    with_digit = sum(any(map(str.isdigit, code)) for code in codes)
    real = 2 * with_digit >= len(codes) and len(set(found.group()) - set("-, ;\n")) >= VARIETY
    return found.span() if real and not PLACEHOLDER.search(found.group()) else None


def session_cookie(text: str, start: int, end: int) -> Span | None:
    """The value of a cookie that carries a login."""
    found = _COOKIE.search(text, start, end)
    if found is None or not whole(text, found.start(1), end, BASE64 | {"%", "."}) or not looks_random(found[1]):
        return None
    return found.span(1)


def hexadecimal_key(text: str, start: int, end: int) -> Span | None:
    """A key in lines of hexadecimal digits between a first and a last line, from the first dash to the last."""
    begin = text.rindex("-----BEGIN", start, end)
    inside = text[text.index("-----", begin + 10) + 5 : text.rindex("-----END", begin, end)]
    return (begin, end) if len(set(inside.lower()) & set("0123456789abcdef")) > VARIETY else None


def person_name(text: str, start: int, end: int) -> Span | None:
    """Two or three words with capitals, or a name of two or three Chinese characters, that somebody gives as a name."""
    found = _NAME.search(text, start, end)
    if found is None or (end < len(text) and (text[end].isalnum() or text[end] == "'")):
        return None
    return None if found.group().split()[0] in _NO_NAME else found.span()


_CAPITAL: Final = r"[A-ZÀ-ÖØ-ÞĀ-Ž][a-zß-öø-ÿā-ž'’-]{1,20}"
_NAME: Final = re.compile(rf"{_CAPITAL}(?: {_CAPITAL}){{1,2}}\Z")


def coordinates(text: str, start: int, end: int) -> Span | None:
    """Latitude and longitude in degrees, to ten metres or better."""
    found = _COORDINATES.search(text, start, end)
    if found is None or not whole(text, found.start(), end):
        return None
    return found.span() if abs(float(found[1])) <= 90 and abs(float(found[2])) <= 180 else None


def template_bytes(text: str, start: int, end: int) -> Span | None:
    """A biometric template in base 64."""
    found = _TEMPLATE.search(text, start, end)
    if found is None or not whole(text, found.start(), end, BASE64):
        return None
    return found.span() if len(set(found.group())) > 2 * VARIETY else None


_TEMPLATE: Final = re.compile(r"[A-Za-z0-9+/]{64,}={0,2}\Z", re.ASCII)


def template_numbers(text: str, start: int, end: int) -> Span | None:
    """A biometric template as a vector of numbers, up to its last one."""
    found = _NUMBERS.search(text, start, end)
    return found.span() if found is not None and whole(text, found.start(), end) and text[end : end + 1] == "]" else None


def genotype(text: str, start: int, end: int) -> Span | None:
    """A line of a genotype as laboratories send it: marker, chromosome, position, alleles."""
    found = _GENOTYPE.search(text, start, end)
    return found.span() if found is not None and whole(text, found.start(), end, WORD) else None


def is_account_name(value: str) -> bool:
    """Whether a name on a service is somebody's: not a word for one, and no placeholder."""
    return any(char.isdigit() or char in "._-" for char in value) and not PLACEHOLDER.search(value) and len(set(value)) > 3


CHECKS: Final[dict[str, Check]] = {
    "recovery_codes": recovery_codes,
    "session_cookie": session_cookie,
    "hexadecimal_key": hexadecimal_key,
    "person_name": person_name,
    "coordinates": coordinates,
    "template_bytes": template_bytes,
    "template_numbers": template_numbers,
    "genotype": genotype,
    "account_name": given(ending(r"[A-Za-z0-9][\w.-]{2,30}[A-Za-z0-9]", is_account_name, DASHED)),
}
