"""Bank accounts: IBAN, BIC, routing numbers, and account numbers that only words announce."""

from __future__ import annotations

import re
from typing import Final

from detectors.checks.base import JOINT, Check, Span, ending, groups, number, whole, words
from detectors.checks.checksums import mod_97_10, weighted

IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
    "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
    "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
    "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26,
    "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""Length of an IBAN by country: the registry that SWIFT keeps for ISO 13616."""

_COUNTRIES: Final = frozenset(IBAN_LENGTHS) | words(
    "AG AI AM AO AR AU AW BB BD BM BN BO BS BW BZ CA CL CM CN CO CV DM DZ EC ET FJ GD GG GH GM GN GY HK HT ID IM IN IR JE JM"
    " JP KE KG KH KN KR KY LA LK LR LS MA MG MM MO MV MW MX MY MZ NA NG NP NZ PA PE PG PH PY RW SG SL SN SR SY SZ TD TG TH"
    " TJ TM TT TW TZ UG US UY UZ VE VN ZA ZM ZW"
)
_IBAN_START: Final = re.compile(r"[A-Za-z]{2}\d{2}", re.ASCII)
_IBAN_GROUPS: Final = re.compile(
    rf"[A-Za-z0-9]{{4}}(?:(?P<joint>{JOINT})[A-Za-z0-9]{{4}}(?:(?P=joint)[A-Za-z0-9]{{4}})*(?:(?P=joint)[A-Za-z0-9]{{1,4}})?)?\Z",
    re.ASCII,
)


def iban(text: str, start: int, end: int) -> Span | None:
    """ISO 13616: the country's length and ISO 7064 MOD 97-10, in one run or in groups of four."""
    for begin in _IBAN_START.finditer(text, start, end):
        value = text[begin.start() : end]
        if not (value.isalnum() or _IBAN_GROUPS.match(value)):
            continue
        account = "".join(groups(value)).upper()
        if len(account) == IBAN_LENGTHS.get(account[:2]) and mod_97_10(account[4:] + account[:4]):
            return (begin.start(), end) if whole(text, begin.start(), end) else None
    return None


def is_routing_number(digits: str) -> bool:
    """United States, ABA routing number: Federal Reserve prefix, weights 3, 7, 1."""
    prefix = int(digits[:2])
    in_use = prefix <= 12 or 21 <= prefix <= 32 or 61 <= prefix <= 72 or prefix == 80
    return in_use and weighted(digits, (3, 7, 1) * 3) % 10 == 0 and digits.strip("0") != ""


def is_bic(text: str) -> bool:
    """ISO 9362: bank, country, place, perhaps a branch."""
    return text[4:6] in _COUNTRIES


def is_account_number(digits: str) -> bool:
    return len(digits) >= 6 and len(set(digits)) > 2


CHECKS: Final[dict[str, Check]] = {
    "iban": iban,
    "bic": ending(r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?", is_bic),
    "us_routing": number(r"\d{9}", is_routing_number),
    "bank_account": number(r"\d(?:[ -]?\d){5,16}", is_account_number),
    "uk_sort_code": number(r"\d{2}[- ]?\d{2}[- ]?\d{2}", lambda digits: len(set(digits)) > 1),
    "in_ifsc": ending(r"[A-Z]{4}0[A-Z0-9]{6}", lambda _: True),
    "au_bsb": number(r"\d{3}[- ]?\d{3}", lambda digits: len(set(digits)) > 1),
}
