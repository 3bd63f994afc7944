"""Numbers on documents: passports and their machine-readable zones, licences, health cards, records and prescribers."""

from __future__ import annotations

import re
from typing import Final

from detectors.checks.base import DASHED, Check, Span, ending, given, left, number, right, whole
from detectors.checks.checksums import icao, luhn, weighted

_DATE_LIKE: Final = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])", re.ASCII)
_MBI_LETTER: Final = "AC-HJKMNP-RT-Y"


def document(shape: str, figures: int) -> Check:
    """The check for a number without a checksum that words announce: at least ``figures`` digits, and no date."""

    def accept(value: str) -> bool:
        digits = [char for char in value if char.isdigit()]
        return len(digits) >= figures and len(set(digits)) > 1 and not _DATE_LIKE.fullmatch(value)

    return given(ending(shape, accept, DASHED))


_RECORD: Final = document(r"(?i:[A-Z0-9](?:[A-Z0-9-]{2,18}[A-Z0-9]))", 4)


def member_number(text: str, start: int, end: int) -> Span | None:
    """A member, policy or subscriber number, where health or insurance is spoken of nearby."""
    near = left(text, start) + " " + text[start:end] + " " + right(text, end)
    return _RECORD(text, start, end) if _INSURED.search(near) else None


_INSURED: Final = re.compile(
    r"health|medic|insur|dental|patient|hospital|coverage|copay|deductible|claim|clinic|payer|aetna|cigna|blue cross|humana"
    r"|kaiser|kranken|versicher|assur|mutuelle|seguro|sanitari",
    re.IGNORECASE,
)


def mrz(text: str, start: int, end: int) -> Span | None:
    """The machine-readable zone of a passport or card (ICAO 9303 parts 4 to 6): all its check digits must fit."""
    if not whole(text, start, end, _MRZ_GLUE):
        return None
    zone = text[start:end]
    if (card := _CARD.fullmatch(zone)) is not None:
        return (start, end) if _card_zone(*card.groups()) else None
    booklet = _BOOKLET.fullmatch(zone)
    return (start, end) if booklet is not None and _booklet_zone(booklet[1]) else None


_MRZ_GLUE: Final = DASHED | {"<"}
_DATES: Final = r"\d{6}[\d<][MFX<]\d{6}[\d<]"
_BOOKLET: Final = re.compile(
    rf"(?:[A-Z<]{{36,44}}\s+)?([A-Z0-9<]{{9}}[\d<][A-Z<]{{3}}{_DATES}[A-Z0-9<]{{7}}(?:[A-Z0-9<]{{7}}[\d<])?\d)", re.ASCII
)
_CARD: Final = re.compile(rf"([A-Z0-9<]{{30}})\s+({_DATES}[A-Z<]{{3}}[A-Z0-9<]{{11}}\d)\s+[A-Z<]{{30}}", re.ASCII)


def _fits(field: str, digit: str) -> bool:
    return icao(field) == (0 if digit == "<" else int(digit))


def _dates_fit(line: str, at: int) -> bool:
    return _fits(line[at : at + 6], line[at + 6]) and _fits(line[at + 8 : at + 14], line[at + 14])


def _booklet_zone(line: str) -> bool:
    """The second line of a zone of two: passports (44 characters), visas and older cards (36)."""
    composite = line[:10] + line[13:20] + line[21:-1]
    return _fits(line[:9], line[9]) and _dates_fit(line, 13) and _fits(composite, line[-1])


def _card_zone(first: str, second: str) -> bool:
    """The three lines on the back of an identity card."""
    composite = first[5:] + second[:7] + second[8:15] + second[18:29]
    return _fits(first[5:14], first[14]) and _dates_fit(second, 0) and _fits(composite, second[29])


def fhir_value(text: str, start: int, end: int) -> Span | None:
    """The value of an identifier in an HL7 FHIR resource, up to the quotation mark that ends the match."""
    begin = text.rindex('"', start, end - 1) + 1
    return (begin, end - 1) if any(map(str.isdigit, text[begin : end - 1])) else None


def is_npi(digits: str) -> bool:
    """United States, National Provider Identifier: Luhn behind the issuer prefix 80840."""
    return digits[0] in "12" and luhn("80840" + digits)


def is_dea(text: str) -> bool:
    """United States, DEA registration of a prescriber: the sum of odd places and twice the even ones."""
    digits = text[2:]
    return weighted(digits, (1, 2, 1, 2, 1, 2)) % 10 == int(digits[6])


def is_kvnr(text: str) -> bool:
    """Germany, health insurance number: Luhn's method from the left with the letter as two digits."""
    digits = f"{ord(text[0]) - 64:02d}" + text[1:9]
    total = sum(sum(divmod(int(digit) * (1 + at % 2), 10)) for at, digit in enumerate(digits))
    return total % 10 == int(text[9])


def is_nhi(text: str) -> bool:
    """New Zealand, National Health Index (HISO 10046): modulus 11 with a figure last, modulus 24 with a letter last."""
    values = ["ABCDEFGHJKLMNPQRSTUVWXYZ".index(char) + 1 if char.isalpha() else int(char) for char in text]
    total = sum(value * weight for value, weight in zip(values[:6], range(7, 1, -1), strict=True))
    if text[6].isdigit():
        return total % 11 != 0 and -total % 11 % 10 == values[6]
    return 24 - total % 24 == values[6]


CHECKS: Final[dict[str, Check]] = {
    "passport": document(r"(?i:[A-Z]{0,3}\d[A-Z0-9]{4,9}|[A-Z]{1,2}[A-Z0-9]{5,8})", 4),
    "mrz": mrz,
    "driver_licence": document(r"(?i:[A-Z]{0,2}\d{2,6}(?:[ -]\d{2,6}){1,4}|[A-Z0-9](?:-?[A-Z0-9]){4,19})", 5),
    "uk_driving_licence": ending(r"[A-Z9]{5}\d[0156]\d[0-3]\d{2}[A-Z9]{2}\d[A-Z]{2}", lambda _: True),
    "record_number": _RECORD,
    "member_number": member_number,
    "fhir_value": fhir_value,
    "us_mbi": number(
        rf"[1-9][{_MBI_LETTER}][0-9{_MBI_LETTER}]\d-?[{_MBI_LETTER}][0-9{_MBI_LETTER}]\d-?[{_MBI_LETTER}]{{2}}\d{{2}}",
        lambda _: True,
    ),
    "us_npi": number(r"\d{10}", is_npi),
    "us_dea": ending(r"[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}", is_dea),
    "ca_ohip": number(r"\d{4}[ -]?\d{3}[ -]?\d{3}", luhn),
    "de_kvnr": ending(r"[A-Z]\d{9}", is_kvnr),
    "nz_nhi": ending(r"[A-HJ-NP-Z]{3}\d{2}(?:\d{2}|[A-HJ-NP-Z]{2})", is_nhi),
    "icd10": ending(r"[A-TV-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?", lambda _: True),
}
