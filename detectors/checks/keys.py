"""Private keys: in PEM and OpenPGP armour, in base 64 and JSON around them, and the keys and phrases of wallets."""

from __future__ import annotations

import re
import string
from typing import Final

from detectors.checks.base import BASE64, Check, Span, ending, whole, words
from detectors.checks.checksums import base58check, bech32
from detectors.checks.tokens import VARIETY, decode_base64

_HEADER: Final = r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----"
_PRIVATE_HEADER: Final = re.compile(_HEADER)
_SEVERED: Final = re.compile(_HEADER + r"(?:(?:\s|\\{1,4}[nr]){1,6}[A-Za-z0-9+/=]{24,}){1,80}", re.ASCII)
_PUTTY: Final = re.compile(r"Private-Lines: \d+\s+(?P<lines>[A-Za-z0-9+/=\s]{40,}?)\s+Private-MAC:", re.ASCII)
_ARMOUR: Final = frozenset(string.ascii_letters + string.digits + "+/=")

_JWK_LENGTHS: Final = frozenset({43, 64, 86, 88, 171, 342, 512, 683})
"""Characters of base 64 of a private value: 256, 384, 512 and 521 bits of a curve, 1,024 to 4,096 bits of RSA."""

_PHRASE_LENGTHS: Final = frozenset({12, 15, 18, 21, 24})
_PHRASE: Final = re.compile(r"(?:[a-z]{3,8}\s{1,2}){11,23}[a-z]{3,8}\Z", re.ASCII)
_PHRASE_AFTER: Final = re.compile(r"\s{1,2}[a-z]", re.ASCII)
_COMMON: Final = words(
    "the and for are was were with from his her has had been which who whom whose them their than these those not but its our"
    " out some would could"
)
"""Words of English sentences that are not in the list of BIP 39."""


def armoured_key(text: str, start: int, end: int) -> Span | None:
    """A private key in PEM or OpenPGP armour, from the first dash to the last."""
    begin = text.rindex("-----BEGIN", start, end)
    inside = text[text.index("-----", begin + 10) + 5 : text.rindex("-----END", begin, end)]
    return (begin, end) if len(set(inside) & _ARMOUR) > 2 * VARIETY else None


def severed_key(text: str, start: int, end: int) -> Span | None:
    """The beginning of a private key whose last line is missing: the header and the lines of base 64 that follow it."""
    if text.startswith("-----", end) or (end < len(text) and text[end] in _ARMOUR):
        return None
    found = _SEVERED.match(text, start, end)
    return found and found.span()


def putty_key(text: str, start: int, end: int) -> Span | None:
    """The private part of a PuTTY key file: the lines between their count and the authentication code."""
    found = _PUTTY.match(text, start, end)
    return found and found.span("lines")


def encoded_key(text: str, start: int, end: int) -> Span | None:
    """Base 64 of a PEM file that holds a private key, as Kubernetes and CI variables carry it."""
    if not whole(text, start, end, BASE64):
        return None
    head = decode_base64(text[start : start + 56])
    return (start, end) if head is not None and _PRIVATE_HEADER.match(head.decode("ascii", "replace")) else None


def jwk_private(text: str, start: int, end: int) -> Span | None:
    """The private value ``d`` of a JSON Web Key (RFC 7518): as long as a key of its kind."""
    begin = text.rindex('"', start, end - 1) + 1
    return (begin, end - 1) if end - 1 - begin in _JWK_LENGTHS else None


def seed_phrase(text: str, start: int, end: int) -> Span | None:
    """BIP 39: 12 to 24 words of three to eight letters, none of them a word that only sentences have."""
    found = _PHRASE.search(text, start, end)
    if found is None or not whole(text, found.start(), end) or _PHRASE_AFTER.match(text, end):
        return None
    phrase = found.group().split()
    fits = len(phrase) in _PHRASE_LENGTHS and _COMMON.isdisjoint(phrase) and len(set(phrase)) > 1
    return found.span() if fits else None


def is_wif(value: str) -> bool:
    """Bitcoin's wallet import format: version 0x80 and 32 bytes, one more where the public key is compressed."""
    payload = base58check(value)
    return payload is not None and payload[:1] == b"\x80" and len(payload) in (33, 34)


def is_extended_key(value: str) -> bool:
    """BIP 32: 78 bytes; the private ones end in a zero byte and 32 bytes of key."""
    payload = base58check(value)
    return payload is not None and len(payload) == 78 and payload[45] == 0


CHECKS: Final[dict[str, Check]] = {
    "armoured_key": armoured_key,
    "severed_key": severed_key,
    "putty_key": putty_key,
    "encoded_key": encoded_key,
    "jwk_private": jwk_private,
    "seed_phrase": seed_phrase,
    "wif": ending(r"[5KL][1-9A-HJ-NP-Za-km-z]{50,51}", is_wif),
    "extended_key": ending(r"[a-zA-Z]prv[1-9A-HJ-NP-Za-km-z]{107,108}", is_extended_key),
    "bech32": ending(r"[A-Za-z-]{1,20}1[0-9A-Za-z]{38,90}", bech32),
    "hex_key": ending(r"(?:0x)?[0-9a-fA-F]{64}", lambda value: len(set(value.lower())) > VARIETY),
}
