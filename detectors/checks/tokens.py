"""Tokens that a service made: random characters behind a known prefix, or behind a name that announces them."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Final

from detectors.checks.base import BASE64, DASHED, WORD, Check, Span, ending, left, whole
from detectors.checks.checksums import crc32_base62

_STANDARD: Final = str.maketrans("-_", "+/")

VARIETY: Final = 7
"""Different characters among the last 20 of a token. Twenty random hexadecimal digits have fewer once in 100,000 times."""

_TAIL: Final = 20

PLACEHOLDER: Final = re.compile(
    r"your|example|placeholder|redacted|dummy|change_?-?me|replace|insert|goes_?-?here|(?:key|token|secret)_?-?here"
    r"|xxxx|\*\*\*|\.\.\.|\$\{|\{\{|<[a-z]|(.)\1{7}",
    re.IGNORECASE,
)
"""What people write where a secret belongs. Long random tokens contain none of it by chance."""


def decode_base64(text: str) -> bytes | None:
    """Base 64 of either alphabet, with or without padding; None where it is none."""
    text = text.rstrip("=").translate(_STANDARD)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None


def entropy(text: str) -> float:
    """Shannon entropy of the characters, in bits per character."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values())


def is_random(value: str) -> bool:
    """Whether a token of a known shape has a body, and not a row of the same characters or a note to the reader."""
    return len(set(value[-_TAIL:])) >= VARIETY and PLACEHOLDER.search(value) is None


def is_random_named(value: str) -> bool:
    """As `is_random`, for shapes that words could have too: at least two digits and two letters."""
    digits = sum(map(str.isdigit, value))
    return digits > 1 and sum(map(str.isalpha, value)) > 1 and is_random(value)


def is_random_base64(value: str) -> bool:
    """As `is_random`, for base 64 behind a name: both cases and many different characters."""
    return any(map(str.islower, value)) and any(map(str.isupper, value)) and len(set(value)) > 12 and is_random(value)


def is_aws_secret(value: str) -> bool:
    """Forty characters of base 64 in both cases. Amazon's own example key counts: who pastes it expects an answer."""
    mixed = any(map(str.islower, value)) and any(map(str.isupper, value)) and any(map(str.isdigit, value))
    return mixed and len(set(value)) > 12


def _token(glue: frozenset[str], accept: Callable[[str], bool] = is_random) -> Check:
    def check(text: str, start: int, end: int) -> Span | None:
        return (start, end) if whole(text, start, end, glue) and accept(text[start:end]) else None

    return check


def _has_crc(value: str) -> bool:
    """GitHub and npm: six digits of CRC-32 over the thirty characters before them."""
    body = value.rpartition("_")[2]
    return len(body) == 36 and crc32_base62(body[:-6]) == body[-6:]


def _has_grafana_crc(value: str) -> bool:
    body, _, check = value.rpartition("_")
    return struct.pack("<I", zlib.crc32(body.encode("ascii"))).hex() == check


def _is_discord(value: str) -> bool:
    """The first part of a bot's token is the bot's number in base 64."""
    number = decode_base64(value.partition(".")[0])
    return number is not None and number.isdigit() and is_random(value)


def telegram_token(text: str, start: int, end: int) -> Span | None:
    """A bot's number and key; in addresses the word ``bot`` stands before them without a gap."""
    found = _TELEGRAM.search(text, start, end)
    if found is None or (end < len(text) and text[end] in DASHED) or text[found.start() - 1 : found.start()].isdigit():
        return None
    return found.span() if is_random(found.group()) else None


_TELEGRAM: Final = re.compile(r"\d{8,10}:AA[A-Za-z0-9_-]{33}\Z", re.ASCII)


def url_secret(text: str, start: int, end: int) -> Span | None:
    """The path of an address that is its own password, as those of web hooks are."""
    begin = text.index("/", text.index("://", start) + 3) + 1
    return (begin, end) if whole(text, begin, end, _URL_GLUE) and is_random(text[begin:end]) else None


_URL_GLUE: Final = DASHED | {"%"}


def _announced(check: Check) -> Check:
    """As ``check``, where a word says that the value is secret: more often a hash or an id stands behind a service's name."""

    def announced(text: str, start: int, end: int) -> Span | None:
        span = check(text, start, end)
        if span is None:
            return None
        said = left(text, start, _NAME_REACH).rpartition("\n")[2] + text[start : span[0]]
        return span if _SECRECY.search(said) else None

    return announced


_NAME_REACH: Final = 24
_SECRECY: Final = re.compile(r"key|token|secret|crumb|ssws|passw|credential|auth(?!or|0)", re.IGNORECASE)

CHECKS: Final[dict[str, Check]] = {
    "token": _token(WORD),
    "token_dashed": _token(DASHED),
    "token_base64": _token(BASE64),
    "token_crc": _token(WORD, _has_crc),
    "token_without_crc": _token(WORD, lambda value: not _has_crc(value) and is_random(value)),
    "token_grafana": _token(WORD, _has_grafana_crc),
    "token_discord": _token(DASHED, _is_discord),
    "aws_key_id": _token(WORD, lambda value: len(set(value[4:])) > 5),
    "aws_secret": ending(r"[A-Za-z0-9/+]{40}", is_aws_secret, BASE64),
    "named_token": _announced(ending(r"[A-Za-z0-9_-]{16,}", is_random_named, DASHED)),
    "named_base64": ending(r"[A-Za-z0-9+/_-]{16,}={0,2}", is_random_base64, BASE64),
    "named_dotted": ending(r"[A-Za-z0-9._~-]{16,}", is_random_named, DASHED),
    "token_client_secret": _token(DASHED | {"~"}),
    "token_twitter": _token(WORD | {"%"}, lambda value: is_random(value[22:])),
    "token_hash": _token(WORD | {"/", "$"}),
    "token_symbols": _token(WORD | frozenset("!#$%&(*+-/=?@[^_{}~")),
    "sas_signature": ending(r"(?<=sig=)[A-Za-z0-9%+/]{40,80}(?:=|%3[Dd])", is_random_named, BASE64),
    "telegram_token": telegram_token,
    "url_secret": url_secret,
}
