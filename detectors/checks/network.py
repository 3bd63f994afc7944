"""Addresses of machines, and numbers of devices and vehicles."""

from __future__ import annotations

import ipaddress
import re
import string
from typing import Final

from detectors.checks.base import WORD, Check, Span, ending, given, last, left, number, right, whole
from detectors.checks.checksums import luhn

_VERSION: Final = re.compile(
    r"(?:(?<![A-Za-z])(?:v|ver|rev|build|oid)|version|release|revision|firmware|driver|section|chapter|§|urn:oid:?)"
    r"(?:[ \t:.=\"']{0,5}|[\s:.=\"']{0,3})\Z",
    re.IGNORECASE,
)
_VERSION_REACH: Final = 16

_SMALL: Final = 10
"""What versions and names of objects begin with is less; few addresses do."""

_PACKAGE: Final = re.compile(r"(?P<name>[A-Za-z][\w.+-]{0,40})(?:(?P<file>[_-])|[\]\"']{0,2}(?::\s?[\"'])?[>~^]=)\Z", re.ASCII)
"""A package of which a version follows: in the name of its file, or the least that is wanted of it."""

_FILE: Final = re.compile(
    r"[.-](?:(?:t(?:ar|gz|xz|bz2?)|zip|whl|jar|nupkg|gem|deb|rpm|apk|exe|msi|dll|src)\b"
    r"|(?:el|fc|py|cp|x|win)\d|(?:linux|win|darwin|macos\w*)[_-]\w+)"
)
"""What stands behind the version in the name of a package's file."""

_OBJECT: Final = re.compile(r"(?:0\.[0-5]|1\.[0-3]|2\.(?:1|5|16|23))\.")
"""How names of objects begin (ITU-T X.660)."""

_MACHINES: Final = (
    r"ip(?![a-z])|\bipv4|addr|host|client|peer|server|node|agent|login|log(?:ged)? in|remote|gateway|proxy|source|\bsrc|\bdst"
)
_MACHINE: Final = re.compile(_MACHINES, re.IGNORECASE)
_SPOKEN_OF: Final = re.compile(
    rf"(?P<machine>{_MACHINES}|\b(?:from|by|via)\b)|OIDs?\b|oid_|object.?id|\bASN\.?1|\bX\.?5(?:00|09|20)\b"
    r"|\bext(?:n|ensions?)\b|attribute.?type|key.?usage",
    re.IGNORECASE,
)
"""Machines, or objects such as those of certificates and directories: the last that is spoken of has the name that follows."""

_OUTLINE: Final = re.compile(
    r"\b(?:d|[pP]ath(?:Data)?)\\?[\"']?[=:] ?\{?\\?[\"'][Mm][MmLlHhVvCcSsQqTtAaZz\d ,.\n-]*\Z|\bpoints=\\?[\"'][\d ,.\n-]*\Z"
)
"""An outline in SVG up to some of its numbers, which may follow each other with nothing but their points between."""

_STROKES: Final = re.compile(r"[MmLlHhVvCcSsQqTtAaZz\d ,.\n-]*\Z", re.ASCII)
_COMMAND: Final = re.compile(r"(?<![A-Ya-y])[MmLlHhVvCcSsQqTtAa][ ,]?-?\.?\d", re.ASCII)
_BARE: Final = re.compile(r"(?<!\d)\.\d", re.ASCII)
"""How a short form of SVG writes numbers below one, and nobody who speaks of machines: it tells an outline from afar."""

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
    if not whole(text, start, end) or _VERSION.search(left(text, start, _VERSION_REACH)):
        return None
    before = left(text, start)
    small = octets[0] < _SMALL and (_is_object(before, text[start:end]) or _is_packaged(before, right(text, end, 16)))
    return None if small or _is_outline(before) else octets


def _is_object(before: str, value: str) -> bool:
    spoken_of = last(_SPOKEN_OF, before, 0, len(before))
    return spoken_of is not None and spoken_of["machine"] is None and _OBJECT.match(value) is not None


def _is_packaged(before: str, after: str) -> bool:
    package = _PACKAGE.search(before)
    if package is None or _MACHINE.search(package["name"]):
        return False
    return package["file"] is None or _FILE.match(after) is not None


def _is_outline(before: str) -> bool:
    if _OUTLINE.search(before):
        return True
    strokes = _STROKES.search(before)
    return strokes is not None and len(_BARE.findall(strokes[0])) > 1 and len(_COMMAND.findall(strokes[0])) > 1


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
