"""How people are reached: e-mail, telephone, postal address."""

from __future__ import annotations

import re
import string
from typing import Final

from detectors.checks.base import DIGITS, WORD, Check, Span, ending, left, right, whole, words

_LOCAL: Final = frozenset(string.ascii_letters + string.digits + "._%+-")
_USERINFO: Final = re.compile(r"://[^\s/]*\Z")
"""In ``https://user:password@host`` the part before the host is no mailbox."""

_ROBOTS: Final = frozenset({"git", "hg", "svn", "noreply", "no-reply", "donotreply", "do-not-reply", "mailer-daemon"})
"""Names before the @ that no person answers to."""

_FILE_TYPES: Final = words(
    "png jpg jpeg gif svg webp ico css js ts json yaml yml md txt html xml py rb go rs java php pdf zip gz tgz whl jar lock"
    " log local internal localhost invalid"
)
"""Ends of names such as ``icon@2x.png`` or ``root@db.internal``, which are no domains of the public."""

# ITU-T E.164: country codes in use; every number begins with exactly one of them.
_COUNTRY_CODES: Final = words(
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91"
    " 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 235 236 237 238 239 240"
    " 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255 256 257 258 260 261 262 263 264 265 266 267 268 269 290 291"
    " 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378 379 380 381 382 383 385 386 387"
    " 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592 593 594 595 596 597 598 599 670 672 673 674 675 676"
    " 677 678 679 680 681 682 683 685 686 687 688 689 690 691 692 800 808 850 852 853 855 856 870 878 880 881 882 883 886 888"
    " 960 961 962 963 964 965 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998"
)
_DATE: Final = re.compile(r"(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)\d\d", re.ASCII)


_EXTENSION: Final = r"(?: ?(?:x|ext\.?) ?\d{1,6})?"


def _digits(value: str) -> str:
    """The digits of a telephone number, without those of the extension behind it."""
    return "".join(char for char in value.partition("x")[0] if char in DIGITS)


def email(text: str, start: int, end: int) -> Span | None:
    """An address of RFC 5321's everyday form, up to the end of its domain."""
    if (start > 0 and text[start - 1] in _LOCAL) or (end < len(text) and text[end] in WORD):
        return None
    if text[end : end + 1] in (".", "-") and text[end + 1 : end + 2].isalnum():
        return None
    if _USERINFO.search(left(text, start)):
        return None
    local, _, domain = text[start:end].rpartition("@")
    if local[0] == "." or local[-1] == "." or ".." in local or local.lower() in _ROBOTS:
        return None
    labels = domain.split(".")
    if labels[-1].lower() in _FILE_TYPES or any(label[0] == "-" or label[-1] == "-" for label in labels):
        return None
    return start, end


def is_north_american(digits: str) -> bool:
    """North American Numbering Plan: the area begins with 2 to 9 and is no service code (N11).

    The exchange is not looked at: made-up numbers such as 555-123-4567 break its rules, and are meant as numbers.
    """
    digits = digits[1:] if len(digits) == 11 and digits[0] == "1" else digits
    return len(digits) == 10 and digits[0] > "1" and digits[1:3] != "11"


def is_international(value: str) -> bool:
    """``+`` and up to 15 digits of ITU-T E.164; the ``(0)`` that Europeans write is not dialled."""
    digits = _digits(value.replace("(0)", ""))
    if not 8 <= len(digits) <= 15 or len(set(digits[2:])) < 2:
        return False
    if digits[0] == "1":
        return is_north_american(digits)
    return any(digits[:length] in _COUNTRY_CODES for length in (1, 2, 3))


def is_national(value: str) -> bool:
    """A number with its trunk 0: nine to eleven digits, in groups, and no date."""
    digits = _digits(value)
    short_end = value.count("-") > 1 and len(value.rpartition("-")[2]) < 3  # so drug codes end, and no telephone numbers
    return 9 <= len(digits) <= 11 and len(set(digits)) > 2 and not short_end and not _DATE.match(value)


def is_announced(value: str) -> bool:
    digits = _digits(value)
    return 7 <= len(digits) <= 15 and len(set(digits)) > 1 and not _DATE.match(value)


def national(text: str, start: int, end: int) -> Span | None:
    """A number with its trunk 0, but none that a dump in hexadecimal has: five bytes without a letter, beside which two more
    stand in a row that begins with an offset, or two with letters on one side. One tells nothing: flats have such numbers."""
    span = _national(text, start, end)
    if span is None or _BYTES.fullmatch(text, *span) is None:
        return span
    row = left(text, span[0]).rpartition("\n")[2]
    before, after = _BEFORE.search(row), _AFTER.match(right(text, span[1], _REACH))
    sides = [found[0] if found else "" for found in (before, after)]
    counted = _OFFSET.fullmatch(row.removesuffix(sides[0])) is not None and len("".join(sides).split()) > 1
    return None if counted or any(len(_LETTERED.findall(side)) > 1 for side in sides) else span


_national: Final = ending(r"\(?0\d(?:[ ()./-]{0,3}\d)+", is_national, WORD | {"/"})
_BYTES: Final = re.compile(r"\d\d(?: {1,2}\d\d)+", re.ASCII)
_BEFORE: Final = re.compile(r"(?<![^ ])(?:[0-9A-Fa-f]{2} {1,2})+\Z")
_AFTER: Final = re.compile(r"(?: {1,2}[0-9A-Fa-f]{2}(?![^ \r\n]))+")
_REACH: Final = 16
_OFFSET: Final = re.compile(r"[ \t]*0[xX]?[0-9A-Fa-f]{2,14}[08]:?[ \t]{1,4}")
"""Rows have eight or sixteen bytes; what is numbered one by one, as people are, seldom ends so."""

_LETTERED: Final = re.compile(r"\d[A-Fa-f]|[A-Fa-f]\d")

CHECKS: Final[dict[str, Check]] = {
    "email": email,
    "phone_international": ending(rf"\+\d(?:[ ()./-]{{0,3}}\d)+{_EXTENSION}", is_international),
    "phone_north_american": ending(
        rf"(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{{3}}[ .-]\d{{4}}{_EXTENSION}",
        lambda value: is_north_american(_digits(value)),
    ),
    "phone_national": national,
    "phone_announced": ending(rf"[+(]{{0,2}}\d(?:[ ()./-]{{0,3}}\d)+{_EXTENSION}", is_announced),
    "address": lambda text, start, end: (start, end) if whole(text, start, end) else None,
    "postcode": ending(
        r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z][ -]?\d[A-Z]\d|\d{4} ?[A-Z]{2}|\d{3} \d{2}|\d{2}-\d{3}|\d{5}-\d{3,4}"
        r"|\d{4,6}",
        lambda _: True,
    ),
}
