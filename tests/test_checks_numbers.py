"""Checksums of numbers, against generators that compute the check characters another way.

A scheme draws what stands before the check characters and appends those. Its check must take the result, in a sentence and
alone, and must take none of the numbers that differ in one digit, where the standard promises that.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import NamedTuple

import pytest
from counting import calls
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from detectors.checks import CHECKS

Draw = st.DrawFn
DATES = st.dates(dt.date(1921, 1, 1), dt.date(2019, 12, 31))


class Scheme(NamedTuple):
    """``build`` draws a valid number; ``certain``: every change of one digit must be noticed."""

    check: str
    build: Callable[[Draw], str]
    certain: bool = True


def digits(draw: Draw, count: int, first: str = "0123456789") -> str:
    head = draw(st.sampled_from(first))
    text = head + draw(st.text("0123456789", min_size=count - 1, max_size=count - 1))
    assume(len(set(text)) > 2)
    return text


def date(draw: Draw, form: str) -> str:
    return draw(DATES).strftime(form)


def dot(text: str, weights: str) -> int:
    return sum(int(a) * int(b) for a, b in zip(text, weights.split(), strict=True))


def fitting(body: str, fits: Callable[[str], bool], alphabet: str = "0123456789") -> str:
    """``body`` and the one character behind it that makes it fit; without one, another body is drawn."""
    found = [body + char for char in alphabet if fits(body + char)]
    assume(len(found) == 1)
    return found[0]


def luhn_sum(text: str) -> int:
    """Luhn by its definition in ISO/IEC 7812: double every second digit from the right, add the digits of the products."""
    total = 0
    for place, char in enumerate(text[::-1], 1):
        total += int(char) if place % 2 else sum(map(int, str(2 * int(char))))
    return total


def luhn_end(body: str) -> str:
    return fitting(body, lambda text: luhn_sum(text) % 10 == 0)


def sum_end(body: str, weights: str, modulus: int, rest: int = 0) -> str:
    """The digit that makes the sum of digits times weights (the last included) leave ``rest``."""
    return fitting(body, lambda text: dot(text, weights) % modulus == rest)


def card(prefix: str, length: int) -> Callable[[Draw], str]:
    return lambda draw: luhn_end(prefix + digits(draw, length - len(prefix) - 1))


def steuer_id(draw: Draw) -> str:
    nine = draw(st.permutations("0123456789"))[:9]
    body = [*nine, draw(st.sampled_from(nine))]
    body = draw(st.permutations(body))
    assume(body[0] != "0")
    product = 10
    for char in body:  # ISO/IEC 7064, 5.4: the hybrid system as a recursion
        product = (int(char) + product) % 10 or 10
        product = product * 2 % 11
    return "".join(body) + str((11 - product) % 10)


def iban(country: str, account: Callable[[Draw], str]) -> Callable[[Draw], str]:
    def build(draw: Draw) -> str:
        rest = account(draw)
        figures = "".join(str(ord(char) - 55) if char.isalpha() else char for char in rest + country + "00")
        return f"{country}{98 - int(figures) % 97:02d}{rest}"

    return build


def verhoeff_end(draw: Draw) -> str:
    """Verhoeff's scheme written as symmetries of the pentagon: rotations 0 to 4, reflections 5 to 9."""

    def compose(a: int, b: int) -> int:
        turn_a, flip_a, turn_b, flip_b = a % 5, a // 5, b % 5, b // 5
        return (turn_a + (-turn_b if flip_a else turn_b)) % 5 + 5 * (flip_a ^ flip_b)

    def state(text: str) -> int:
        result = 0
        for place, char in enumerate(text[::-1]):
            value = int(char)
            for _ in range(place % 8):
                value = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[value]
            result = compose(result, value)
        return result

    return fitting(digits(draw, 11, "23456789"), lambda text: state(text) == 0)


def chinese(draw: Draw) -> str:
    body = draw(st.sampled_from(["110105", "440524", "310104"])) + date(draw, "%Y%m%d") + digits(draw, 3)
    return fitting(body, lambda t: sum(int(c, 36) % 23 * 2 ** (17 - i) for i, c in enumerate(t)) % 11 == 1, "0123456789X")


def cpf(draw: Draw) -> str:
    first = sum_or_zero(digits(draw, 9), "10 9 8 7 6 5 4 3 2")
    return sum_or_zero(first, "11 10 9 8 7 6 5 4 3 2")


def sum_or_zero(body: str, weights: str) -> str:
    """Brazil's rule: the digit that makes the sum divide by 11, and 0 where that would be 10."""
    rest = dot(body, weights) % 11
    return body + str(0 if rest < 2 else 11 - rest)


def hetu(draw: Draw) -> str:
    day, sign, serial = date(draw, "%d%m%y"), draw(st.sampled_from("-A")), digits(draw, 3)
    return day + sign + serial + "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(day + serial) % 31]


def norwegian(draw: Draw) -> str:
    body = sum_end(date(draw, "%d%m%y") + digits(draw, 3), "3 7 6 1 8 9 4 5 2 1", 11)
    return sum_end(body, "5 4 3 2 7 6 5 4 3 2 1", 11)


def turkish(draw: Draw) -> str:
    body = digits(draw, 9, "123456789")
    tenth = str((7 * sum(int(c) for c in body[::2]) - sum(int(c) for c in body[1::2])) % 10)
    return body + tenth + str(sum(map(int, body + tenth)) % 10)


def nir(draw: Draw) -> str:
    body = draw(st.sampled_from("12")) + date(draw, "%y%m") + draw(st.sampled_from(["75", "13", "69"])) + digits(draw, 6)
    return f"{body}{97 - int(body) % 97:02d}"


def belgian(draw: Draw) -> str:
    body = date(draw, "%y%m%d") + digits(draw, 3)
    return f"{body}{97 - int(body) % 97:02d}"


def rut(draw: Draw) -> str:
    body = digits(draw, 8, "12")
    remainder = 11 - sum(int(c) * w for c, w in zip(body[::-1], (2, 3, 4, 5, 6, 7, 2, 3), strict=True)) % 11
    return body + {10: "K", 11: "0"}.get(remainder, str(remainder))


def dni(draw: Draw) -> str:
    body = digits(draw, 8)
    return body + "TRWAGMYFPDXBNJZSQVHLCKE"[int(body) - int(body) // 23 * 23]


def snils(draw: Draw) -> str:
    body = digits(draw, 9)
    total = dot(body, "9 8 7 6 5 4 3 2 1")
    while total > 101:
        total %= 101
    return f"{body}{0 if total in (100, 101) else total:02d}"


def pesel(draw: Draw) -> str:
    day = draw(DATES)
    month = day.month + (20 if day.year >= 2000 else 0)
    return sum_end(f"{day:%y}{month:02d}{day:%d}" + digits(draw, 4), "1 3 7 9 1 3 7 9 1 3 1", 10)


def mrz_line(draw: Draw) -> str:
    """A passport's second line; the check digits as ICAO 9303 computes them."""

    def check(field: str) -> str:
        values = [0 if c == "<" else "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(c) for c in field]
        return str(sum(v * (7, 3, 1)[i % 3] for i, v in enumerate(values)) % 10)

    number, born, until = digits(draw, 9), date(draw, "%y%m%d"), date(draw, "%y%m%d")
    own = draw(st.sampled_from(["<" * 14, "ZE184226B<<<<<"]))
    line = f"{number}{check(number)}UTO{born}{check(born)}F{until}{check(until)}{own}{check(own)}"
    return line + check(line[:10] + line[13:20] + line[21:])


def vin(draw: Draw) -> str:
    """49 CFR 565.15: letters count by their place in rows of nine, I, O and Q are not used."""
    rows = {1: "AJ", 2: "BKS", 3: "CLT", 4: "DMU", 5: "ENV", 6: "FW", 7: "GPX", 8: "HY", 9: "RZ"}
    values = {char: value for value, row in rows.items() for char in row} | {str(n): n for n in range(10)}
    head = "1" + draw(st.text("ABCDEFGHJKLMNPRSTUVWXYZ", min_size=7, max_size=7))
    tail = digits(draw, 8)
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    rest = sum(values[c] * w for c, w in zip(head + "0" + tail, weights, strict=True)) % 11
    return head + ("X" if rest == 10 else str(rest)) + tail


def npi(draw: Draw) -> str:
    return fitting(digits(draw, 9, "12"), lambda text: luhn_sum("80840" + text) % 10 == 0)


def dea(draw: Draw) -> str:
    body = digits(draw, 6)
    return "AB" + body + str(sum(map(int, body[::2])) + 2 * sum(map(int, body[1::2])))[-1]


SCHEMES = {
    "visa": Scheme("payment_card", card("4", 16)),
    "mastercard, new series": Scheme("payment_card", card("2345", 16)),
    "american express": Scheme("payment_card", card("37", 15)),
    "unionpay, 19 digits": Scheme("payment_card", card("62", 19)),
    "diners club": Scheme("payment_card", card("305", 14)),
    "maestro, announced": Scheme("announced_card", card("6304", 12)),
    "iban, germany": Scheme("iban", iban("DE", lambda draw: digits(draw, 18))),
    "iban, united kingdom": Scheme("iban", iban("GB", lambda draw: "WEST" + digits(draw, 14))),
    "iban, norway": Scheme("iban", iban("NO", lambda draw: digits(draw, 11))),
    "aba routing": Scheme("us_routing", lambda draw: sum_end("02" + digits(draw, 6), "3 7 1 3 7 1 3 7 1", 10)),
    "clabe": Scheme("mx_clabe", lambda draw: sum_end(digits(draw, 17), "3 7 1 3 7 1 3 7 1 3 7 1 3 7 1 3 7 1", 10)),
    "nhs number": Scheme("uk_nhs", lambda draw: sum_end(digits(draw, 9), "10 9 8 7 6 5 4 3 2 1", 11)),
    "steuer-id": Scheme("de_steuer_id", steuer_id),
    "nir": Scheme("fr_nir", nir),
    "dni": Scheme("es_dni", dni),
    "bsn": Scheme("nl_bsn", lambda draw: sum_end(digits(draw, 8), "9 8 7 6 5 4 3 2 10", 11)),
    # The century is not in the number but in its check digits, so a wrong digit may be right for another century.
    "rijksregisternummer": Scheme("be_number", belgian, certain=False),
    "ahv": Scheme("ch_ahv", lambda draw: sum_end("756" + digits(draw, 9), "1 3 1 3 1 3 1 3 1 3 1 3 1", 10), certain=False),
    "pesel": Scheme("pl_pesel", pesel),
    "nip": Scheme("pl_nip", lambda draw: sum_end(digits(draw, 9), "6 5 7 2 3 4 5 6 7 10", 11)),
    "oib": Scheme("hr_oib", steuer_id),
    "personnummer": Scheme("se_number", lambda draw: luhn_end(date(draw, "%y%m%d") + digits(draw, 3))),
    "fødselsnummer": Scheme("no_number", norwegian),
    "hetu": Scheme("fi_hetu", hetu),
    "snils": Scheme("ru_snils", snils, certain=False),
    "tc kimlik": Scheme("tr_number", turkish),
    "sin": Scheme("ca_sin", lambda draw: luhn_end(digits(draw, 8, "12345679"))),
    "cpf": Scheme("br_cpf", cpf, certain=False),
    "rut": Scheme("cl_rut", rut),
    "cuit": Scheme("ar_cuit", lambda draw: sum_end("20" + digits(draw, 8), "5 4 3 2 7 6 5 4 3 2 1", 11)),
    "aadhaar": Scheme("in_aadhaar", verhoeff_end),
    "chinese identity": Scheme("cn_id", chinese),
    "south african identity": Scheme("za_id", lambda draw: luhn_end(date(draw, "%y%m%d") + digits(draw, 4) + "08")),
    "emirates identity": Scheme("ae_id", lambda draw: luhn_end("784" + date(draw, "%Y") + digits(draw, 7))),
    "tfn": Scheme("au_tfn", lambda draw: sum_end(digits(draw, 8), "1 4 3 7 5 8 6 9 10", 11)),
    "npi": Scheme("us_npi", npi),
    "dea": Scheme("us_dea", dea, certain=False),
    "machine-readable zone": Scheme("mrz", mrz_line),
    "vin": Scheme("vin", vin),
    "imei": Scheme("imei", lambda draw: luhn_end(digits(draw, 14))),
}


def found(scheme: Scheme, text: str, value: str) -> bool:
    """Whether the check takes ``value`` where it stands in ``text``."""
    start = text.index(value)
    return CHECKS[scheme.check](text, start, start + len(value)) == (start, start + len(value))


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=40)
@given(data=st.data())
def test_a_valid_number_is_taken_and_one_with_a_wrong_digit_is_not(name: str, data: st.DataObject) -> None:
    scheme = SCHEMES[name]
    value = data.draw(st.composite(scheme.build)(), label="value")
    assert found(scheme, value, value)
    assert found(scheme, f"it is ({value}), he said", value)
    if scheme.certain:
        place = data.draw(st.sampled_from([at for at, char in enumerate(value) if char.isdigit()]), label="place")
        other = data.draw(st.sampled_from("0123456789".replace(value[place], "")), label="digit")
        wrong = value[:place] + other + value[place + 1 :]
        assert not found(scheme, wrong, wrong)


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=20)
@given(data=st.data(), before=st.text("0123456789", max_size=3), after=st.text("0123456789", max_size=3))
def test_a_number_inside_a_longer_run_is_not_taken(name: str, data: st.DataObject, before: str, after: str) -> None:
    scheme = SCHEMES[name]
    value = data.draw(st.composite(scheme.build)(), label="value")
    assume(before + after)
    text = f"{before}{value}{after}"
    assert CHECKS[scheme.check](text, len(before), len(before) + len(value)) is None
    joined = f"{value}-{after}" if after else f"{before}-{value}"
    at = joined.index(value)
    if value[0].isdigit() and value[-1].isdigit():
        assert CHECKS[scheme.check](joined, at, at + len(value)) is None


# Published examples and near misses of the numbers that have no scheme above.
EXAMPLES = [
    ("uk_nino", "AB123456C", True),
    ("uk_nino", "BG123456C", False),
    ("de_identity_card", "L01X00T471", True),
    ("de_identity_card", "L01X00T472", False),
    ("de_pension", "15070649C103", True),
    ("de_pension", "15070649C104", False),
    ("it_codice_fiscale", "RSSMRA85T10A562S", True),
    ("it_codice_fiscale", "RSSMRA85T10A562T", False),
    ("pt_nif", "123456789", True),
    ("pt_nif", "123456780", False),
    ("at_svnr", "1237010180", True),
    ("at_svnr", "1238010180", False),
    ("cz_number", "780123/3540", True),
    ("cz_number", "780123/3541", False),
    ("ro_cnp", "1800101221144", True),
    ("ro_cnp", "1800101221145", False),
    ("bg_egn", "7523169263", True),
    ("bg_egn", "7523169264", False),
    ("yu_number", "0101006500006", True),
    ("yu_number", "0101006500007", False),
    ("gr_afm", "094259216", True),
    ("gr_afm", "094259217", False),
    ("hu_taj", "111111110", True),
    ("hu_taj", "111111111", False),
    ("baltic_number", "37605030299", True),
    ("baltic_number", "37605030298", False),
    ("is_kennitala", "1201743399", True),
    ("is_kennitala", "1201743389", False),
    ("ie_pps", "1234567T", True),
    ("ie_pps", "1234567FA", True),
    ("ie_pps", "1234567A", False),
    ("ru_inn", "500100732259", True),
    ("ru_inn", "500100732258", False),
    ("ua_rnokpp", "1759013776", True),
    ("ua_rnokpp", "1759013777", False),
    ("us_ssn", "460-89-9847", True),
    ("us_ssn", "666-89-9847", False),
    ("us_ssn", "460-00-9847", False),
    ("us_ssn", "078-05-1120", False),
    ("us_itin", "912-70-1234", True),
    ("us_itin", "912-69-1234", False),
    ("us_ein", "12-3456789", True),
    ("us_ein", "07-3456789", False),
    ("br_cnpj", "11.222.333/0001-81", True),
    ("br_cnpj", "12.ABC.345/01DE-35", True),
    ("br_cnpj", "12.ABC.345/01DE-36", False),
    ("mx_curp", "BOXW310820HNERXN09", True),
    ("mx_curp", "BOXW310820HNERXN08", False),
    ("mx_rfc", "GODE561231GR8", True),
    ("mx_rfc", "GODE561231GR7", False),
    ("ec_cedula", "1710034065", True),
    ("ec_cedula", "9910034065", False),
    ("pe_ruc", "20100070970", True),
    ("pe_ruc", "20100070971", False),
    ("co_nit", "860034313-7", True),
    ("co_nit", "860034313-8", False),
    ("tw_id", "A123456789", True),
    ("tw_id", "A123456788", False),
    ("hk_id", "A123456(3)", True),
    ("hk_id", "A123456(4)", False),
    ("sg_nric", "S1234567D", True),
    ("sg_nric", "S1234567E", False),
    ("kr_rrn", "900101-1234567", True),
    ("kr_rrn", "901301-1234567", False),
    ("jp_my_number", "123456789018", True),
    ("jp_my_number", "123456789017", False),
    ("il_id", "123456782", True),
    ("il_id", "123456783", False),
    ("au_medicare", "2123456701", True),
    ("au_medicare", "2123456711", False),
    ("nz_ird", "49091850", True),
    ("nz_ird", "136410132", True),
    ("nz_ird", "49091851", False),
    ("nz_nhi", "ZAC5361", True),
    ("nz_nhi", "ZZZ0044", False),
    ("us_mbi", "1EG4-TE5-MK73", True),
    ("us_mbi", "1SG4-TE5-MK73", False),
    ("bic", "DEUTDEFF", True),
    ("bic", "DEUTXXFF", False),
    ("payment_card", "1700000000000", False),
    ("payment_card", "0000000000000000", False),
    ("payment_card", "4111 1111-1111 1111", False),
    ("ipv4", "86.121.97.248", True),
    ("ipv4", "10.0.0.1", False),
    ("ipv4", "203.0.113.7", False),
    ("private_ipv4", "192.168.178.20", True),
    ("ipv6", "2a00:1450:4001:81b::200e", True),
    ("ipv6", "2001:db8::1", False),
    ("mac", "3c:22:fb:9a:1e:07", True),
    ("mac", "ff:ff:ff:ff:ff:ff", False),
]


@pytest.mark.parametrize(("check", "value", "real"), EXAMPLES)
def test_published_examples(check: str, value: str, real: bool) -> None:
    assert (CHECKS[check](value, 0, len(value)) is not None) == real


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("DOB: 1974-12-25", "1974-12-25"),
        ("born 3 March 1985", "3 March 1985"),
        ("born on March 3rd, 1985", "March 3rd, 1985"),
        ("geboren am 12.05.1990", "12.05.1990"),
        ("né le 1er août 1979", "1er août 1979"),
        ("nacida el 5 de mayo de 1988", "5 de mayo de 1988"),
        ("出生日期：1990年1月2", "1990年1月2"),
        ("DOB 19571012", "19571012"),
        ("DOB 2/8/1935", "2/8/1935"),
        ("DOB 1974-13-25", None),
        ("DOB 30/02/1990", None),
        ("born 3 Marbles 19850", None),
        ("DOB 1700-01-01", None),
    ],
)
def test_dates_of_birth(text: str, date: str | None) -> None:
    span = CHECKS["birth_date"](text, 0, len(text))
    assert (span and text[slice(*span)]) == date


@given(
    day=st.dates(dt.date(1900, 1, 1), dt.date(2030, 12, 31)),
    form=st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%B %d, %Y", "%d %b %Y"]),
)
def test_every_day_of_the_calendar_is_a_date(day: dt.date, form: str) -> None:
    text = f"born {day.strftime(form)}"
    assert CHECKS["birth_date"](text, 0, len(text)) == (5, len(text))


def test_in_a_table_of_numbers_those_that_are_no_cards_cost_little() -> None:
    """A megabyte of numbers has some eighty thousand that look like a card's until one counts."""
    table = " ".join(f"{number * 7919 % 10_000:04d}" for number in range(1, 2_000))
    places = range(0, len(table) - 19, 5)

    def look(text: str) -> None:
        for at in places:
            CHECKS["payment_card"](text, at, at + 19)

    assert calls(look, table) / len(places) < 60


@given(data=st.data(), joint=st.sampled_from([" ", "-", ".", "+", "%20", "&nbsp;", "&#160;"]))
def test_a_card_in_groups_of_four_however_they_are_joined(data: st.DataObject, joint: str) -> None:
    number = data.draw(st.composite(card("4", 16))(), label="number")
    groups = [number[at : at + 4] for at in range(0, 16, 4)]
    text = f"({joint.join(groups)})"
    assert CHECKS["payment_card"](text, 1, len(text) - 1) == (1, len(text) - 1)
    mixed = f"({groups[0]}/{joint.join(groups[1:])})"
    assert CHECKS["payment_card"](mixed, 1, len(mixed) - 1) is None


@given(data=st.data(), joint=st.sampled_from(["\t", "\n", "\r\n"]))
def test_fields_and_lines_of_four_digits_are_a_card_only_out_of_a_table(data: st.DataObject, joint: str) -> None:
    number = data.draw(st.composite(card("4", 16))(), label="number")
    value = joint.join(number[at : at + 4] for at in range(0, 16, 4))
    for before, after in (("Year\tSum\n", ""), ("5120\n", ""), ("", f"{joint}5120"), (f"5120{joint}5121{joint}", "")):
        text = before + value + after
        assert CHECKS["payment_card"](text, len(before), len(before) + len(value)) is None
    alone = f"card: {value} "
    assert CHECKS["announced_card"](alone, 0, len(alone) - 1) == (6, 6 + len(value))


TAKEN = st.sampled_from([".id", "->id", "::id", "?.id", "[0]", "(1)"])


@given(name=st.from_regex(r"[a-z]{3,8}[0-9]{5,6}", fullmatch=True), taken=TAKEN)
def test_what_a_program_takes_out_of_something_is_no_number(name: str, taken: str) -> None:
    assume(len(set(name[-4:])) > 1)
    for check in ("record_number", "driver_licence"):
        assert CHECKS[check](f"= {name}{taken}", 2, 2 + len(name)) is None
        for after in (".", ". It", ", (see below)", ".pdf"):
            assert CHECKS[check](f"= {name}{after}", 2, 2 + len(name)) == (2, 2 + len(name))
        for before in ("${", "{{", "$", "%("):
            assert CHECKS[check](f"{before}{name}}}", len(before), len(before) + len(name)) is None
        assert CHECKS[check](f"= {name.upper()}(old)", 2, 2 + len(name)) == (2, 2 + len(name))
