"""Payment cards: issuer ranges, lengths, layouts on the card, and what is printed beside the number."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

from detectors.checks.base import JOINT, Check, Span, ending, groups, left, right, whole
from detectors.checks.checksums import luhn

_LONG: Final = frozenset({16, 19})

_RANGES: Final[tuple[tuple[int, int, frozenset[int]], ...]] = (
    (220000, 220499, _LONG),  # Mir
    (220500, 220599, frozenset({16})),  # Borica
    (222100, 272099, frozenset({16})),  # Mastercard
    (300000, 305999, frozenset({14}) | _LONG),  # Diners Club
    (309500, 309599, frozenset({14}) | _LONG),  # Diners Club
    (340000, 349999, frozenset({15})),  # American Express
    (352800, 358999, _LONG),  # JCB; RuPay 353 and 356; LankaPay 3571
    (360000, 369999, frozenset({14}) | _LONG),  # Diners Club
    (370000, 379999, frozenset({15})),  # American Express
    (380000, 399999, frozenset({14}) | _LONG),  # Diners Club
    (400000, 499999, frozenset({16, 19})),  # Visa, Visa Electron, Elo 4xxx, Dankort 4571
    (501800, 501999, _LONG),  # Maestro 5018, Dankort 5019
    (502000, 502099, _LONG),  # Maestro
    (503800, 503899, _LONG),  # Maestro
    (506099, 506198, _LONG),  # Verve
    (506699, 506778, frozenset({16})),  # Elo
    (507865, 507964, _LONG),  # Verve
    (508500, 508999, frozenset({16})),  # RuPay
    (509000, 509999, frozenset({16})),  # Elo
    (510000, 559999, frozenset({16})),  # Mastercard
    (560000, 589999, _LONG),  # Maestro
    (601100, 601199, _LONG),  # Discover
    (605474, 605474, frozenset({16})),  # National Payment System of Transnistria
    (606282, 606282, frozenset({16})),  # Hipercard
    (606985, 607984, frozenset({16})),  # RuPay
    (608001, 608500, frozenset({16})),  # RuPay
    (620000, 629999, _LONG),  # UnionPay; Elo 627780
    (630400, 630499, _LONG),  # Maestro
    (636000, 636999, _LONG),  # InterPayment; Elo 636297 and 636368
    (637095, 637612, frozenset({16})),  # Hipercard
    (639000, 639099, _LONG),  # Maestro
    (644000, 659999, _LONG),  # Discover; RuPay, Troy, Elo and Verve share 65
    (670000, 679999, _LONG),  # Maestro
    (810000, 829999, _LONG),  # UnionPay, RuPay
    (860000, 860099, frozenset({16})),  # Uzcard
    (979200, 979289, frozenset({16})),  # Troy
    (986000, 986099, frozenset({16})),  # Humo
)
"""Six-digit issuer ranges with the lengths in use, in order. Visa with 13 digits, Maestro with fewer than 16, UATP, and
numbers of 17 and 18 are left out: too many ordinary numbers look the same, such as those that Discord and others count
messages with. They are taken behind words that speak of a card."""

_FIRSTS: Final = [first for first, _, _ in _RANGES]

_LAYOUTS: Final = frozenset(
    {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4), (4, 4, 4, 3), (6, 13), (4, 5, 6), (4, 4, 4, 1)}
)
"""Groups of digits as cards print them."""

_SHORTEST: Final = 12
"""Digits of the shortest number that is taken for a card's."""

_FIRST: Final = re.compile(r"(?:(?<![\d%])|(?<=%20))\d", re.ASCII)
_GROUPED: Final = rf"\d{{12,19}}|\d{{4,6}}(?P<joint>{JOINT})\d{{4,13}}(?:(?P=joint)\d{{1,6}}){{0,3}}"
_CARD: Final = re.compile(rf"(?:{_GROUPED})\Z", re.ASCII)
_CARD_WORD: Final = re.compile(
    r"card|visa|amex|cvv|cvc|carte|karte|tarjeta|cart[aã]o|carta|kort|kaart|cr[eé]dit|debit|卡", re.IGNORECASE
)


def is_payment_card(digits: str) -> bool:
    """Whether a network issues such numbers, and the check digit fits."""
    at = bisect_right(_FIRSTS, int(digits[:6])) - 1
    if at < 0:
        return False
    _, last, lengths = _RANGES[at]
    return int(digits[:6]) <= last and len(digits) in lengths and luhn(digits)


def _announced(digits: str) -> bool:
    return _SHORTEST <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def payment_card(text: str, start: int, end: int) -> Span | None:
    """A card number of a known issuer, in one run or in the groups of a card with one kind of separator."""
    return _find(text, start, end, announced=False)


def announced_card(text: str, start: int, end: int) -> Span | None:
    """A card number behind words that speak of a card: any issuer, 12 to 19 digits."""
    return _find(text, start, end, announced=True)


def _find(text: str, start: int, end: int, announced: bool) -> Span | None:
    # The match may begin with a group that is no part of the card ("order 12 4111 1111 ..."): try each group as the first.
    for group in _FIRST.finditer(text, start, end):
        if end - group.start() < _SHORTEST:
            break
        found = _CARD.match(text, group.start(), end)
        if found is None or not whole(text, found.start(), end):
            continue
        parts = groups(found.group())
        digits = "".join(parts)
        if not (_announced(digits) if announced else is_payment_card(digits)):  # first, since most numbers are none
            continue
        if len(parts) == 1:
            return found.start(), end
        if tuple(map(len, parts)) not in _LAYOUTS or _in_row(text, found.start(), end, found["joint"]):
            continue
        if found["joint"] not in _CELLS or (is_payment_card(digits) and _out_of_table(text, found.start(), end, announced)):
            return found.start(), end
    return None


def _in_row(text: str, start: int, end: int, joint: str) -> bool:
    """Whether groups of a row stand before it that are no cards: of years, or of a table's numbers."""
    joint = "[ .-]" if joint in " .-" else re.escape(joint)
    found = re.search(rf"(?:(?<!\d)\d{{4}}{joint})+\Z", left(text, start), re.ASCII)
    before = len(re.findall(joint, found[0])) if found is not None else 0
    return before % 4 > 0 and (before > 1 or re.match(rf"{joint}\d", right(text, end, 8), re.ASCII) is not None)


_CELLS: Final = frozenset({"\t", "\n", "\r\n"})


def _out_of_table(text: str, start: int, end: int, announced: bool) -> bool:
    """Whether groups each in a field or line of its own are a card's and not the numbers of a table: in one line, with no
    other field beside them but one that announces them, and no line of fields or numbers above or below; in several lines,
    where words announce them and no line follows that could be another group."""
    above, _, beside = left(text, start).rpartition("\n")
    if "\t" not in text[start:end]:
        return announced and _LINE_AFTER.match(right(text, end, 8)) is None
    alone = "\t" not in above.rpartition("\n")[2] and not above.rstrip()[-1:].isdigit() and (announced or "\t" not in beside)
    return alone and _FIELD_AFTER.match(right(text, end, 8)) is None


_LINE_AFTER: Final = re.compile(r"\r?\n\d{4}(?!\d)", re.ASCII)
_FIELD_AFTER: Final = re.compile(r"\t|\r?\n\d", re.ASCII)


def card_expiry(text: str, start: int, end: int) -> Span | None:
    """A month and year behind "expires", where a card is spoken of nearby."""
    found = _EXPIRY.search(text, start, end)
    if found is None or not whole(text, found.start(), end):
        return None
    near = left(text, start) + " " + right(text, end)
    return (found.start(), end) if _CARD_WORD.search(near) else None


_EXPIRY: Final = re.compile(r"(?:0[1-9]|1[0-2])\s?[/-]\s?(?:20)?\d{2}\Z", re.ASCII)

CHECKS: Final[dict[str, Check]] = {
    "payment_card": payment_card,
    "announced_card": announced_card,
    "card_security_code": ending(r"\d{3,4}", lambda _: True),
    "card_expiry": card_expiry,
}
