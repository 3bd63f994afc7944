"""Addresses of machines, and numbers of devices and vehicles."""

from __future__ import annotations

import ipaddress
import re
import string
from typing import Final

from detectors.checks.base import WORD, Check, Span, ending, given, left, number, whole
from detectors.checks.checksums import luhn

_VERSION: Final = re.compile(
    r"(?:(?:\bv|ver|version|release|rev|revision|build|firmware|driver|section|chapter|§|oid|urn:oid:?)[\s:.=\"']{0,5}|[<>~^]=)\Z",
    re.IGNORECASE,
)
_VERSION_REACH: Final = 16
_PACKAGE: Final = re.compile(r"[.-](?:t[agx]|zip|whl|jar|deb|rpm|exe|msi|dll|el\d|py\d|cp\d|x86|win|linux|src)")
"""What stands behind the version in the name of a package's file."""

_OBJECT: Final = re.compile(r"2\.(?:5\.(?:29|4|8)|23\.140|16)\.")
_OBJECTS: Final = re.compile(r"\bOIDs?\b|object.?id|\bASN\.?1|\bMIB\b|\bsnmp", re.IGNORECASE)
"""Names of objects (ITU-T X.660) of four numbers: those of certificates and directories, and all where such are spoken of."""

_OUTLINE: Final = re.compile(
    r"(?:\b(?:d|points)=[\"']?|(?:\d|\b)[MmLlHhVvCcSsQqTtAaZz][ ,]?-?\.?\d)[MmLlHhVvCcSsQqTtAaZz\d ,.\n-]*\Z", re.ASCII
)
"""An outline in SVG up to some of its numbers, which may follow each other with nothing but their points between."""

_RESOLVERS: Final = frozenset(
    {"1.0.0.1", "1.1.1.1", "8.8.4.4", "8.8.8.8", "9.9.9.9", "149.112.112.112", "208.67.220.220", "208.67.222.222"}
)
"""Public name servers stand in every tutorial and are nobody's address."""

_HEX_GLUE: Final = WORD | {":", "."}
_VIN_CHARS: Final = string.digits + "ABCDEFGHJKLMNPRSTUVWXYZ"
_VIN_VALUES: Final = dict(zip(_VIN_CHARS, (*range(10), *range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True))
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def _octets(text: str, start: int, end: int) -> list[int] | None:
    parts = text[start:end].split(".")
    octets = [int(part) for part in parts]
    if any(octet > 255 or len(part) != len(str(octet)) for octet, part in zip(octets, parts, strict=True)):
        return None
    if not whole(text, start, end) or _VERSION.search(left(text, start, _VERSION_REACH)) or _PACKAGE.match(text, end):
        return None
    before = left(text, start)
    named = octets[0] < 3 and (_OBJECT.match(text, start, end) or _OBJECTS.search(before))
    return None if named or _OUTLINE.search(before) else octets


def ipv4(text: str, start: int, end: int) -> Span | None:
    """An address that is routed on the Internet: no private, reserved or documentation range, no network, no version."""
    octets = _octets(text, start, end)
    if octets is None or max(octets) < 10 or text[start:end] in _RESOLVERS:
        return None
    if text[end : end + 1] == "/" and text[end + 1 : end + 2].isdigit():
        return None
    address = ipaddress.IPv4Address(bytes(octets))
    return (start, end) if address.is_global and not address.is_multicast else None


def private_ipv4(text: str, start: int, end: int) -> Span | None:
    """An address inside somebody's network (RFC 1918, RFC 6598): says little of a person, something of a site."""
    octets = _octets(text, start, end)
    if octets is None or octets[3] == 0:
        return None
    first, second = octets[0], octets[1]
    inside = first == 10 or (first, second) == (192, 168) or (first == 172 and 16 <= second < 32)
    return (start, end) if inside or (first == 100 and 64 <= second < 128) else None


def ipv6(text: str, start: int, end: int) -> Span | None:
    """An address of IPv6 that is not local, reserved or of a documentation range."""
    # A full stop or colon of the sentence is no part of the address.
    stopped = text[end : end + 1] in (".", ":") and not text[end + 1 : end + 2].isalnum()
    if not whole(text, start, end, WORD if stopped else _HEX_GLUE):
        return None
    try:
        address = ipaddress.IPv6Address(text[start:end])
    except ipaddress.AddressValueError:
        return None
    local = address.is_private or address.is_link_local or address.is_multicast or address.is_loopback
    return None if local or address.is_unspecified else (start, end)


def is_mac(text: str) -> bool:
    """EUI-48, one separator throughout; not the empty, broadcast and documentation (RFC 7042) addresses."""
    digits = text.replace(text[2], "").lower()
    return len(digits) == 12 and len(set(digits)) > 2 and not digits.startswith(("00005e0053", "01005e9010"))


def is_imei(digits: str) -> bool:
    return luhn(digits) and len(set(digits)) > 2


def is_vin(text: str) -> bool:
    """A vehicle's number with the check digit that North America and China require (ISO 3779, 49 CFR 565)."""
    total = sum(_VIN_VALUES[char] * weight for char, weight in zip(text, _VIN_WEIGHTS, strict=True))
    return "0123456789X"[total % 11] == text[8] and text[13:].isdigit() and sum(map(str.isalpha, text)) > 2


def is_announced_vin(text: str) -> bool:
    return sum(map(str.isdigit, text)) > 2 and sum(map(str.isalpha, text)) > 1


CHECKS: Final[dict[str, Check]] = {
    "ipv4": ipv4,
    "private_ipv4": private_ipv4,
    "ipv6": ipv6,
    "mac": ending(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}", is_mac, WORD | {":", "-"}),
    "imei": number(r"\d{2}-?\d{6}-?\d{6}-?\d|\d{15}", is_imei),
    "vin": ending(r"[A-HJ-NPR-Z0-9]{17}", is_vin),
    "announced_vin": given(ending(r"[A-HJ-NPR-Z0-9]{17}", is_announced_vin)),
    "number_plate": ending(
        r"(?=[A-Z0-9 -]{0,9}\d)[A-Z0-9]{1,4}(?:[ -]?[A-Z0-9]{1,4}){1,2}", lambda value: any(map(str.isalpha, value))
    ),
}
