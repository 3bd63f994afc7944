"""Dates: real days of the calendar, and the dates of birth that stand in texts and inside identifiers."""

from __future__ import annotations

import re
from typing import Final

from detectors.checks.base import Check, Span, whole

FIRST_YEAR: Final = 1880
"""No living person was born earlier."""

LAST_YEAR: Final = 2099
"""A bound that needs no clock: a check must say the same today and when the decision is replayed."""

_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# The first letters of the months in the languages of Western and Central Europe, enough to tell them apart.
_MONTHS: Final = {
    1: ("jan", "ene", "gen", "sty"),
    2: ("feb", "fév", "fev", "lut", "fèv"),
    3: ("mar", "mär", "maa", "mrz"),
    4: ("apr", "avr", "abr", "kwi"),
    5: ("may", "mai", "mag", "maj", "mei", "maio"),
    6: ("jun", "juin", "giu", "cze"),
    7: ("jul", "juil", "lug", "lip"),
    8: ("aug", "aoû", "aou", "ago", "sie"),
    9: ("sep", "set", "wrz"),
    10: ("oct", "okt", "ott", "out", "paź", "paz"),
    11: ("nov", "lis"),
    12: ("dec", "déc", "dez", "dic", "gru"),
}
_MONTH_OF: Final = {start: month for month, starts in _MONTHS.items() for start in starts}

_DATE: Final = re.compile(
    r"(?P<y>\d{4})(?:[-/.]|年\s?)(?P<m>\d{1,2})(?:[-/.]|月\s?)(?P<d>\d{1,2})日?\Z"
    r"|(?P<a>\d{1,2})(?P<s>[-/.]\s?| )(?P<b>\d{1,2})(?P=s)(?P<ny>\d{4}|\d{2})\Z"
    r"|(?P<td>\d{1,2})(?:st|nd|rd|th|er|º|\.)?[ -](?:of |de )?(?P<tm>[^\W\d_]{3,10})\.?,?[ -](?:of |de )?(?P<ty>\d{4})\Z"
    r"|(?P<um>[^\W\d_]{3,10})\.? (?P<ud>\d{1,2})(?:st|nd|rd|th)?,? (?P<uy>\d{4})\Z"
    r"|(?P<cy>(?:18|19|20)\d{2})(?P<cm>[01]\d)(?P<cd>[0-3]\d)\Z"
)


def is_day(year: int, month: int, day: int) -> bool:
    """Whether this is a day of the Gregorian calendar between `FIRST_YEAR` and `LAST_YEAR`."""
    if not (FIRST_YEAR <= year <= LAST_YEAR and 1 <= month <= 12 and 1 <= day <= _DAYS[month - 1]):
        return False
    return (month, day) != (2, 29) or (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0))


def is_short_day(year: str, month: str, day: str) -> bool:
    """As `is_day`, for a year of two digits, which may belong to either century."""
    return is_day(2000 + int(year), int(month), int(day)) or is_day(1900 + int(year), int(month), int(day))


def month_named(name: str) -> int:
    """The month of a (shortened) name in one of several languages; 0 where it is none."""
    name = name.lower()
    return _MONTH_OF.get(name[:4], 0) or _MONTH_OF.get(name[:3], 0)


def _is_date(found: re.Match[str]) -> bool:
    part = found.group
    if part("y"):
        return is_day(int(part("y")), int(part("m")), int(part("d")))
    if part("a"):
        first, second, year = part("a"), part("b"), part("ny")
        return any(
            is_day(int(year), int(month), int(day)) if len(year) == 4 else is_short_day(year, month, day)
            for day, month in ((first, second), (second, first))
        )
    if part("tm"):
        return is_day(int(part("ty")), month_named(part("tm")), int(part("td")))
    if part("um"):
        return is_day(int(part("uy")), month_named(part("um")), int(part("ud")))
    return is_day(int(part("cy")), int(part("cm")), int(part("cd")))


def birth_date(text: str, start: int, end: int) -> Span | None:
    """A date in figures or with the month's name, behind words that say it is of birth."""
    at = start
    while (found := _DATE.search(text, at, end)) is not None:
        if whole(text, found.start(), end) and _is_date(found):
            return found.start(), end
        at = found.start() + 1
    return None


CHECKS: Final[dict[str, Check]] = {"birth_date": birth_date}
