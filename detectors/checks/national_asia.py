"""Identity and tax numbers of Asia, Africa and Oceania. Each validator sees digits and capitals without separators."""

from __future__ import annotations

import re
from typing import Final

from detectors.checks.base import Check, Span, alone, left, number, words
from detectors.checks.checksums import luhn, mod_11_2, verhoeff, weighted
from detectors.checks.dates import is_day, is_short_day

_CHINESE_PROVINCES: Final = words(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83 91"
)
_TAIWANESE: Final = dict(zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", range(10, 36), strict=True))
_SINGAPORE: Final = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "XWUTRQPNJLK"}
_SINGAPORE_OFFSET: Final = {"S": 0, "F": 0, "T": 4, "G": 4, "M": 3}
_PARENTHESES: Final = str.maketrans("", "", "()")
_EGYPTIAN_GOVERNORATES: Final = frozenset({*range(1, 5), *range(11, 20), *range(21, 30), *range(31, 36), 88})


def aadhaar(digits: str) -> bool:
    """India, Aadhaar: Verhoeff's check digit; never begins with 0 or 1."""
    return digits[0] > "1" and verhoeff(digits)


def chinese_id(text: str) -> bool:
    """China, resident identity (GB 11643): region, birth date, serial, ISO 7064 MOD 11-2."""
    return text[:2] in _CHINESE_PROVINCES and is_day(int(text[6:10]), int(text[10:12]), int(text[12:14])) and mod_11_2(text)


def taiwanese_id(text: str) -> bool:
    tens, units = divmod(_TAIWANESE[text[0]], 10)
    total = tens + 9 * units + weighted(text[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))
    return total % 10 == 0


def hong_kong_id(text: str) -> bool:
    """Hong Kong, HKID: one or two letters, six digits, check digit or A, in parentheses on the card."""
    letters, digits, check = text[:-7], text[-7:-1], text[-1]
    values = [36] * (2 - len(letters)) + [ord(letter) - 55 for letter in letters]
    total = values[0] * 9 + values[1] * 8 + weighted(digits, range(7, 1, -1))
    return "0123456789A"[-total % 11] == check


def singapore_nric(text: str) -> bool:
    total = _SINGAPORE_OFFSET[text[0]] + weighted(text[1:8], (2, 7, 6, 5, 4, 3, 2))
    return _SINGAPORE[text[0]][total % 11] == text[8]


def korean_rrn(digits: str) -> bool:
    """Korea, resident registration: numbers given out since October 2020 have no check digit, so the date decides."""
    century = {"1": 1900, "2": 1900, "5": 1900, "6": 1900, "3": 2000, "4": 2000, "7": 2000, "8": 2000}.get(digits[6])
    return century is not None and is_day(century + int(digits[:2]), int(digits[2:4]), int(digits[4:6]))


def my_number(digits: str) -> bool:
    """Japan, individual number."""
    rest = weighted(digits, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if rest < 2 else 11 - rest) == int(digits[11]) and len(set(digits)) > 1


def malaysian_nric(digits: str) -> bool:
    place = int(digits[6:8])
    return is_short_day(digits[:2], digits[2:4], digits[4:6]) and place not in (0, 17, 18, 19, 20, 69, 70, 73, 80, 81, 94)


def indonesian_nik(digits: str) -> bool:
    """Indonesia, NIK: region, birth date (women's days +40), serial; no check digit."""
    day = int(digits[6:8])
    date_fits = is_short_day(digits[10:12], digits[8:10], str(day - 40 if day > 40 else day))
    return date_fits and 11 <= int(digits[:2]) <= 97 and digits[12:] != "0000"


def thai_id(digits: str) -> bool:
    return (11 - weighted(digits, range(13, 1, -1)) % 11) % 10 == int(digits[12]) and digits[0] not in "09"


def pakistani_cnic(digits: str) -> bool:
    """Pakistan, CNIC: the first digit is the province; no check digit."""
    return digits[0] in "1234567" and digits[5:12].strip("0") != ""


def kazakh_iin(digits: str) -> bool:
    check = weighted(digits, range(1, 12)) % 11
    if check == 10:
        check = weighted(digits, (3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2)) % 11
    return check == int(digits[11]) and is_short_day(digits[:2], digits[2:4], digits[4:6])


def israeli_id(digits: str) -> bool:
    return luhn(digits.zfill(9)) and digits.strip("0") != ""


def emirates_id(digits: str) -> bool:
    return luhn(digits) and 1900 <= int(digits[3:7]) <= 2099


def saudi_id(digits: str) -> bool:
    """Saudi Arabia, national identity and residence (iqama) numbers."""
    return digits[0] in "12" and luhn(digits)


def egyptian_id(digits: str) -> bool:
    """Egypt: century, birth date, governorate, serial; the rule of the check digit is not public."""
    century = {"2": 1900, "3": 2000}.get(digits[0])
    return (
        century is not None
        and is_day(century + int(digits[1:3]), int(digits[3:5]), int(digits[5:7]))
        and int(digits[7:9]) in _EGYPTIAN_GOVERNORATES
    )


def south_african_id(digits: str) -> bool:
    return digits[10] in "012" and is_short_day(digits[:2], digits[2:4], digits[4:6]) and luhn(digits)


def australian_tfn(digits: str) -> bool:
    return weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0 and digits.strip("0") != ""


def australian_medicare(digits: str) -> bool:
    """Australia, Medicare: eight digits, a check digit, the card's issue, perhaps the person's place on it."""
    return weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(digits[8]) and digits[9] != "0"


def new_zealand_ird(digits: str) -> bool:
    """New Zealand, IRD: a second row of weights where the first gives 10."""
    padded = digits.zfill(9)
    check = -weighted(padded, (3, 2, 7, 6, 5, 4, 3, 2)) % 11
    if check == 10:
        check = -weighted(padded, (7, 4, 3, 2, 5, 2, 7, 6)) % 11
    return check == int(padded[8]) and 10_000_000 <= int(digits) <= 150_000_000


def _no_time(check: Check) -> Check:
    """As ``check``, but no time in milliseconds that a record is named by: ``"id": "1805253418207"``."""

    def told(text: str, start: int, end: int) -> Span | None:
        span = check(text, start, end)
        if span is None or (_TIME.fullmatch(text, *span) and _RECORD.search(left(text, span[0]))):
            return None
        return span

    return told


_TIME: Final = re.compile(r"1[4-9]\d{11}", re.ASCII)
"""From 2014 to 2033; people who were born in such a year of a century have such numbers."""

_RECORD: Final = re.compile(r"""(?<![A-Za-z] )\bid["']?\s?[:=]\s?["']?\Z""")

CHECKS: Final[dict[str, Check]] = {
    "in_aadhaar": alone(number(r"\d{4}[ -]?\d{4}[ -]?\d{4}", aadhaar)),
    "in_pan": number(r"[A-Z]{3}P[A-Z]\d{4}[A-Z]", lambda text: text[5:9] != "0000"),
    "in_pan_any": number(r"(?i:[A-Z]{5}\d{4}[A-Z])", lambda text: text[5:9] != "0000"),
    "cn_id": number(r"\d{17}[\dXx]", chinese_id),
    "tw_id": number(r"[A-Z][1289]\d{8}", taiwanese_id),
    "hk_id": number(r"[A-Z]{1,2}\d{6} ?\([\dA]\)|[A-Z]{1,2}\d{6}[\dA]", lambda t: hong_kong_id(t.translate(_PARENTHESES))),
    "sg_nric": number(r"[STFGM]\d{7}[A-Z]", singapore_nric),
    "kr_rrn": number(r"\d{6}-?[1-8]\d{6}", korean_rrn),
    "jp_my_number": number(r"\d{4}[ -]?\d{4}[ -]?\d{4}", my_number),
    "my_nric": number(r"\d{6}-?\d{2}-?\d{4}", malaysian_nric),
    "id_nik": number(r"\d{16}", indonesian_nik),
    "th_id": number(r"\d[ -]?\d{4}[ -]?\d{5}[ -]?\d{2}[ -]?\d", thai_id),
    "pk_cnic": number(r"\d{5}-?\d{7}-?\d", pakistani_cnic),
    "kz_iin": number(r"\d{12}", kazakh_iin),
    "il_id": number(r"\d{7,8}-?\d", israeli_id),
    "ae_id": number(r"784-?\d{4}-?\d{7}-?\d", emirates_id),
    "sa_id": number(r"[12]\d{9}", saudi_id),
    "eg_id": number(r"[23]\d{13}", egyptian_id),
    "za_id": _no_time(number(r"\d{6} ?\d{4} ?\d{3}", south_african_id)),
    "ng_nin": number(r"\d{11}", lambda digits: len(set(digits)) > 2),
    "au_tfn": number(r"\d{3}[ -]?\d{3}[ -]?\d{3}", australian_tfn),
    "au_medicare": number(r"[2-6]\d{3}[ -]?\d{5}[ -]?\d(?:[ /-]?\d)?", australian_medicare),
    "nz_ird": number(r"\d{2,3}[ -]?\d{3}[ -]?\d{3}", new_zealand_ird),
}
