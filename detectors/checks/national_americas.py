"""Identity and tax numbers of the Americas. Each validator sees digits and capitals without separators, of the right shape."""

from __future__ import annotations

from typing import Final

from detectors.checks.base import Check, number
from detectors.checks.checksums import luhn, weighted
from detectors.checks.dates import is_short_day

_NEVER_SSN: Final = frozenset({"078051120", "219099999"})
"""Printed in advertisements, and void for that reason."""

_NO_CAMPUS: Final = frozenset(map("{:02d}".format, (0, 7, 8, 9, 17, 18, 19, 28, 29, 49, 69, 70, 78, 79, 89, 96, 97)))
"""Prefixes of employer numbers that the IRS does not list."""

_CURP_CHARS: Final = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
_RFC_CHARS: Final = "0123456789ABCDEFGHIJKLMN&OPQRSTUVWXYZ Ñ"
_RFC_GENERIC: Final = frozenset({"XAXX010101000", "XEXX010101000"})


def us_ssn(digits: str) -> bool:
    """United States, social security number: parts that are never given out."""
    return (
        digits[:3] not in ("000", "666")
        and digits[0] != "9"
        and digits[3:5] != "00"
        and digits[5:] != "0000"
        and digits not in _NEVER_SSN
        and len(set(digits)) > 1
    )


def us_itin(digits: str) -> bool:
    """United States, taxpayer number of people without a social security number: the groups in use."""
    group = int(digits[3:5])
    return digits[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


def us_ein(digits: str) -> bool:
    return digits[:2] not in _NO_CAMPUS and len(set(digits)) > 2


def canadian_sin(digits: str) -> bool:
    return digits[0] not in "08" and luhn(digits)


def brazilian_cpf(digits: str) -> bool:
    """Brazil, CPF: two check digits, modulus 11."""
    return len(set(digits)) > 1 and all(
        weighted(digits, range(length + 1, 1, -1)) * 10 % 11 % 10 == int(digits[length]) for length in (9, 10)
    )


def brazilian_cnpj(text: str) -> bool:
    """Brazil, CNPJ, since 2026 also with letters, which count as their ASCII code less 48."""
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    for length in (12, 13):
        total = sum((ord(char) - 48) * weight for char, weight in zip(text[:length], weights[13 - length :], strict=True))
        rest = total % 11
        if (0 if rest < 2 else 11 - rest) != int(text[length]):
            return False
    return len(set(text)) > 1


def chilean_rut(text: str) -> bool:
    """Chile, RUT: modulus 11 with weights 2 to 7 from the right; K stands for 10."""
    total = sum(int(digit) * (2 + at % 6) for at, digit in enumerate(reversed(text[:-1])))
    return "0123456789K"[-total % 11] == text[-1] and len(set(text[:-1])) > 1


def argentine_cuit(digits: str) -> bool:
    return -weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11 == int(digits[10])


def mexican_curp(text: str) -> bool:
    """Mexico, CURP: name letters, birth date, sex, state, consonants, check digit."""
    total = sum(_CURP_CHARS.index(char) * (18 - at) for at, char in enumerate(text[:17]))
    return -total % 10 == int(text[17]) and is_short_day(text[4:6], text[6:8], text[8:10])


def mexican_rfc(text: str) -> bool:
    """Mexico, RFC of a person (13 characters) or a company (12)."""
    padded = text.rjust(13)
    total = sum(_RFC_CHARS.index(char) * (13 - at) for at, char in enumerate(padded[:12]))
    return (
        "0123456789A"[-total % 11] == padded[12]
        and is_short_day(padded[4:6], padded[6:8], padded[8:10])
        and text not in _RFC_GENERIC
    )


def mexican_clabe(digits: str) -> bool:
    """Mexico, CLABE bank account: weights 3, 7, 1, each product modulo 10."""
    total = sum(int(digit) * weight % 10 for digit, weight in zip(digits[:17], (3, 7, 1) * 6, strict=False))
    return -total % 10 == int(digits[17]) and len(set(digits)) > 1


def uruguayan_ci(digits: str) -> bool:
    return -weighted(digits, (2, 9, 8, 7, 6, 3, 4)) % 10 == int(digits[7]) and len(set(digits)) > 1


def ecuadorian_cedula(digits: str) -> bool:
    return (1 <= int(digits[:2]) <= 24 or digits[:2] == "30") and digits[2] < "6" and luhn(digits)


def dominican_cedula(digits: str) -> bool:
    return luhn(digits) and digits.strip("0") != ""


def peruvian_ruc(digits: str) -> bool:
    check = 11 - weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return digits[:2] in ("10", "15", "16", "17", "20") and check % 10 == int(digits[10])


def colombian_nit(digits: str) -> bool:
    rest = weighted(digits[-2::-1], (3, 7, 13, 17, 19, 23, 29, 37, 41)) % 11
    return (rest if rest < 2 else 11 - rest) == int(digits[-1])


def _is_varied(digits: str) -> bool:
    return len(set(digits)) > 2


CHECKS: Final[dict[str, Check]] = {
    "us_ssn": number(r"\d{3}-\d{2}-\d{4}|\d{3} \d{2} \d{4}|\d{3}\.\d{2}\.\d{4}|\d{9}", us_ssn),
    "us_itin": number(r"9\d{2}-\d{2}-\d{4}|9\d{2} \d{2} \d{4}|9\d{8}", us_itin),
    "us_ein": number(r"\d{2}-?\d{7}", us_ein),
    "ca_sin": number(r"\d{3}-\d{3}-\d{3}|\d{3} \d{3} \d{3}|\d{9}", canadian_sin),
    "br_cpf": number(r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}", brazilian_cpf),
    "br_cnpj": number(r"[0-9A-Z]{2}\.?[0-9A-Z]{3}\.?[0-9A-Z]{3}/?[0-9A-Z]{4}-?\d{2}", brazilian_cnpj),
    "cl_rut": number(r"\d{1,2}\.?\d{3}\.?\d{3}-?[\dkK]", chilean_rut),
    "ar_cuit": number(r"(?:2[034567]|3[034])-?\d{8}-?\d", argentine_cuit),
    "ar_dni": number(r"\d{1,2}\.?\d{3}\.?\d{3}", _is_varied),
    "mx_curp": number(r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d", mexican_curp),
    "mx_rfc": number(r"[A-ZÑ&]{3,4}\d{6}[0-9A-Z]{2}[0-9A]", mexican_rfc),
    "mx_clabe": number(r"\d{18}", mexican_clabe),
    "mx_nss": number(r"\d{2}-?\d{2}-?\d{2}-?\d{4}-?\d", luhn),
    "uy_ci": number(r"\d\.?\d{3}\.?\d{3}-?\d", uruguayan_ci),
    "ec_cedula": number(r"\d{9}-?\d", ecuadorian_cedula),
    "do_cedula": number(r"\d{3}-?\d{7}-?\d", dominican_cedula),
    "pe_ruc": number(r"\d{11}", peruvian_ruc),
    "pe_dni": number(r"\d{8}", _is_varied),
    "co_cedula": number(r"\d{1,3}(?:\.?\d{3}){2,3}", lambda digits: _is_varied(digits) and len(digits) <= 10),
    "co_nit": number(r"\d{3}\.?\d{3}\.?\d{3}-?\d", colombian_nit),
}
