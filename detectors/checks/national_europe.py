"""Identity numbers of Europe. Each validator sees digits and capitals without separators, already of the right shape."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from detectors.checks.base import Check, ending, number
from detectors.checks.checksums import icao, luhn, mod_11_10, weighted
from detectors.checks.dates import is_day, is_short_day

_NINO_NEVER: Final = frozenset({"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"})
_SPANISH: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_FINNISH: Final = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_IRISH: Final = "WABCDEFGHIJKLMNOPQRSTUV"
_ITALIAN_ODD: Final = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10,
         22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip
_ITALIAN_MONTHS: Final = "ABCDEHLMPRST"
_ITALIAN_DIGITS: Final = str.maketrans("LMNPQRSTUV", "0123456789")
_LETTER_DIGIT: Final = "[0-9LMNPQRSTUV]"


def nhs_number(digits: str) -> bool:
    """United Kingdom, NHS number: modulus 11."""
    return -weighted(digits, range(10, 1, -1)) % 11 == int(digits[9]) and len(set(digits)) > 1


def nino(text: str) -> bool:
    """United Kingdom, National Insurance number: prefixes that were never given out."""
    return text[:2] not in _NINO_NEVER


def steuer_id(digits: str) -> bool:
    """Germany, tax number of a person: of the first ten digits one occurs two or three times, the others at most once."""
    if digits[0] == "0":
        return False
    counts = sorted(Counter(digits[:10]).values())
    return counts[-1] in (2, 3) and counts[-2] == 1 and mod_11_10(digits)


def icao_serial(text: str) -> bool:
    """A document number and its check digit as ICAO 9303 has it (German identity cards and passports)."""
    return icao(text[:-1]) == int(text[-1])


def german_pension(text: str) -> bool:
    """Germany, Rentenversicherungsnummer: area, birth date, initial, serial, check digit."""
    if not 1 <= int(text[4:6]) <= 12:
        return False
    digits = text[:8] + f"{ord(text[8]) - 64:02d}" + text[9:11]
    products = (int(d) * w for d, w in zip(digits, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=True))
    return sum(product // 10 + product % 10 for product in products) % 10 == int(text[11])


def french_nir(text: str) -> bool:
    """France, social security number: sex, year, month, place and serial, key modulo 97."""
    figures = text.replace("2A", "19").replace("2B", "18")
    month = int(figures[3:5])
    if not (1 <= month <= 12 or 20 <= month <= 42 or 50 <= month <= 99):
        return False
    return 97 - int(figures[:13]) % 97 == int(figures[13:])


def spanish_dni(text: str) -> bool:
    """Spain, DNI and NIE: the letter is the number modulo 23."""
    digits = text[:-1].translate(str.maketrans("XYZ", "012"))
    return _SPANISH[int(digits) % 23] == text[-1] and int(digits) > 0


def codice_fiscale(text: str) -> bool:
    """Italy, codice fiscale, also with letters for digits where two people would share one."""
    day = int(text[9:11].translate(_ITALIAN_DIGITS))
    if text[8] not in _ITALIAN_MONTHS or not (1 <= day <= 31 or 41 <= day <= 71):
        return False
    odd = sum(_ITALIAN_ODD[char] for char in text[0:15:2])
    even = sum(int(char) if char.isdigit() else ord(char) - 65 for char in text[1:15:2])
    return (odd + even) % 26 == ord(text[15]) - 65


def portuguese_nif(digits: str) -> bool:
    check = 11 - weighted(digits, range(9, 1, -1)) % 11
    return digits[0] in "1235689" and (0 if check > 9 else check) == int(digits[8])


def dutch_bsn(digits: str) -> bool:
    """Netherlands, BSN: the eleven test."""
    return weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and digits.strip("0") != ""


def belgian_number(digits: str) -> bool:
    """Belgium, national register number; born from 2000 on a 2 stands before it. Months +20, +40: bis numbers."""
    if not (int(digits[2:4]) % 20 <= 12 and int(digits[4:6]) <= 31):
        return False
    return int(digits[9:]) in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97)


def austrian_svnr(digits: str) -> bool:
    """Austria, social security number: check digit in fourth place; months 13 to 15 where the days were used up."""
    check = weighted(digits[:3] + digits[4:], (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11
    return check == int(digits[3]) and digits[0] != "0" and 1 <= int(digits[6:8]) <= 15 and 1 <= int(digits[4:6]) <= 31


def swiss_ahv(digits: str) -> bool:
    """Switzerland, AHV number: EAN-13."""
    return (weighted(digits, (1, 3) * 6) + int(digits[12])) % 10 == 0


def pesel(digits: str) -> bool:
    """Poland, PESEL: the month tells the century."""
    century, month = divmod(int(digits[2:4]), 20)
    year = (1900, 2000, 2100, 2200, 1800)[century] + int(digits[:2])
    check = -weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10
    return check == int(digits[10]) and is_day(year, month, int(digits[4:6]))


def polish_nip(digits: str) -> bool:
    return weighted(digits, (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(digits[9]) and digits.strip("0") != ""


def czech_number(digits: str) -> bool:
    """Czechia and Slovakia, birth number: women's months +50, overflow +20; ten digits divide by 11."""
    month = int(digits[2:4]) % 50
    if not is_short_day(digits[:2], str(month - 20 if month > 20 else month), digits[4:6]):
        return False
    return len(digits) == 9 or int(digits) % 11 == 0 or (int(digits[:9]) % 11 == 10 and digits[9] == "0")


def romanian_cnp(digits: str) -> bool:
    check = weighted(digits, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return (
        digits[0] != "0"
        and (1 if check == 10 else check) == int(digits[12])
        and is_short_day(digits[1:3], digits[3:5], digits[5:7])
    )


def bulgarian_egn(digits: str) -> bool:
    """Bulgaria, EGN: months +20 before 1900, +40 from 2000 on."""
    check = weighted(digits, (2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 % 10
    return check == int(digits[9]) and is_short_day(digits[:2], str(int(digits[2:4]) % 20), digits[4:6])


def yugoslav_number(digits: str) -> bool:
    """The former Yugoslavia's JMBG (Serbia, Slovenia, Bosnia...): birth date with three digits of the year."""
    check = -weighted(digits, (7, 6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11 % 10
    year = int(digits[4:7]) + (1000 if digits[4] == "9" else 2000)
    return check == int(digits[12]) and is_day(year, int(digits[2:4]), int(digits[:2]))


def greek_afm(digits: str) -> bool:
    check = weighted(digits, (256, 128, 64, 32, 16, 8, 4, 2)) % 11 % 10
    return check == int(digits[8]) and digits.strip("0") != ""


def greek_amka(digits: str) -> bool:
    return luhn(digits) and is_short_day(digits[4:6], digits[2:4], digits[:2])


def hungarian_taj(digits: str) -> bool:
    return weighted(digits, (3, 7) * 4) % 10 == int(digits[8]) and digits.strip("0") != ""


def swedish_number(digits: str) -> bool:
    """Sweden, personnummer and samordningsnummer (day +60); the century, where written, has no part in the check."""
    short = digits[-10:]
    day = int(short[4:6])
    return luhn(short) and is_short_day(short[:2], short[2:4], str(day - 60 if day > 60 else day))


def norwegian_number(digits: str) -> bool:
    """Norway, fødselsnummer and D-nummer (day +40): two check digits."""
    day = int(digits[:2])
    if not is_short_day(digits[4:6], digits[2:4], str(day - 40 if day > 40 else day)):
        return False
    first = -weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    second = -weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return first == int(digits[9]) and second == int(digits[10])


def danish_cpr(digits: str) -> bool:
    """Denmark: numbers given out since 2007 need not pass the old modulus 11, so only the date can be wrong."""
    return is_short_day(digits[4:6], digits[2:4], digits[:2])


def finnish_hetu(text: str) -> bool:
    return is_short_day(text[4:6], text[2:4], text[:2]) and _FINNISH[int(text[:6] + text[-4:-1]) % 31] == text[-1]


def baltic_number(digits: str) -> bool:
    """Estonia and Lithuania: century and sex, birth date, serial; a second row of weights where the first gives 10."""
    check = weighted(digits, (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if check == 10:
        check = weighted(digits, (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return check == int(digits[10]) and is_short_day(digits[1:3], digits[3:5], digits[5:7])


def icelandic_number(digits: str) -> bool:
    check = -weighted(digits, (3, 2, 7, 6, 5, 4, 3, 2)) % 11
    day = int(digits[:2])
    return check == int(digits[8]) and is_short_day(digits[4:6], digits[2:4], str(day - 40 if day > 40 else day))


def irish_pps(text: str) -> bool:
    total = weighted(text, range(8, 1, -1)) + (9 * (ord(text[8]) - 64) if len(text) == 9 and text[8] != "W" else 0)
    return _IRISH[total % 23] == text[7]


def russian_snils(digits: str) -> bool:
    return weighted(digits, range(9, 0, -1)) % 101 % 100 == int(digits[9:]) and digits.strip("0") != ""


def russian_inn(digits: str) -> bool:
    """Russia, tax number of a person (twelve digits): two check digits."""
    first = weighted(digits, (7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10
    second = weighted(digits, (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10
    return first == int(digits[10]) and second == int(digits[11]) and digits.strip("0") != ""


def ukrainian_rnokpp(digits: str) -> bool:
    return weighted(digits, (-1, 5, 7, 9, 4, 6, 10, 5, 7)) % 11 % 10 == int(digits[9]) and digits.strip("0") != ""


def turkish_number(digits: str) -> bool:
    """Türkiye, T.C. kimlik no: two check digits."""
    odd, even = sum(map(int, digits[0:9:2])), sum(map(int, digits[1:8:2]))
    return digits[0] != "0" and (odd * 7 - even) % 10 == int(digits[9]) and sum(map(int, digits[:10])) % 10 == int(digits[10])


_FISCAL: Final = rf"(?i:[A-Z]{{6}}{_LETTER_DIGIT}{{2}}[A-EHLMPRST]{_LETTER_DIGIT}{{2}}[A-Z]{_LETTER_DIGIT}{{3}}[A-Z])"

CHECKS: Final[dict[str, Check]] = {
    "uk_nhs": number(r"\d{3}[ -]?\d{3}[ -]?\d{4}", nhs_number),
    "uk_nino": number(r"(?i:[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?:[ -]?\d\d){3}[ -]?[A-D])", nino),
    "de_steuer_id": number(r"\d{2} ?\d{3} ?\d{3} ?\d{3}", steuer_id),
    "de_identity_card": number(r"[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8} ?\d", icao_serial),
    "de_pension": number(r"\d{2} ?\d{6} ?[A-Z] ?\d{3}", german_pension),
    "fr_nir": number(r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", french_nir),
    "es_dni": number(r"(?i:(?:\d{2}\.?\d{3}\.?\d{3}|[XYZ][ -]?\d{7})[ -]?[A-HJ-NP-TV-Z])", spanish_dni),
    "it_codice_fiscale": number(_FISCAL, codice_fiscale),
    "pt_nif": number(r"\d{3}[ .]?\d{3}[ .]?\d{3}", portuguese_nif),
    "nl_bsn": number(r"\d{4}[ .]?\d{2}[ .]?\d{3}|\d{3}[ .]\d{3}[ .]\d{3}", dutch_bsn),
    "be_number": number(r"\d{2}[.]?\d{2}[.]?\d{2}[ -]?\d{3}[ .]?\d{2}", belgian_number),
    "at_svnr": number(r"\d{4}[ /-]?\d{6}", austrian_svnr),
    "ch_ahv": number(r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}", swiss_ahv),
    "pl_pesel": number(r"\d{11}", pesel),
    "pl_nip": number(r"\d{3}-?\d{3}-?\d{2}-?\d{2}", polish_nip),
    "cz_number": number(r"\d{6}/?\d{3,4}", czech_number),
    "ro_cnp": number(r"\d{13}", romanian_cnp),
    "bg_egn": number(r"\d{10}", bulgarian_egn),
    "yu_number": number(r"\d{13}", yugoslav_number),
    "hr_oib": number(r"\d{11}", mod_11_10),
    "gr_afm": number(r"\d{9}", greek_afm),
    "gr_amka": number(r"\d{11}", greek_amka),
    "hu_taj": number(r"\d{3}[ -]?\d{3}[ -]?\d{3}", hungarian_taj),
    "se_number": ending(r"(?:\d{2})?\d{6}[-+]?\d{4}", lambda value: swedish_number(re.sub(r"\D", "", value))),
    "no_number": number(r"\d{6} ?\d{5}", norwegian_number),
    "dk_cpr": number(r"\d{6}-?\d{4}", danish_cpr),
    "fi_hetu": ending(r"\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", finnish_hetu),
    "baltic_number": number(r"[1-6]\d{10}", baltic_number),
    "is_kennitala": number(r"\d{6}-?\d{3}[089]", icelandic_number),
    "ie_pps": number(r"\d{7}[A-W][A-IW]?", irish_pps),
    "ru_snils": number(r"\d{3}-?\d{3}-?\d{3}[ -]?\d{2}", russian_snils),
    "ru_inn": number(r"\d{12}", russian_inn),
    "ua_rnokpp": number(r"\d{10}", ukrainian_rnokpp),
    "tr_number": number(r"\d{11}", turkish_number),
}
