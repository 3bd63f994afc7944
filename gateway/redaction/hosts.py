"""The host of an address as browsers read it (WHATWG URL), however it is written: percent-encoded, in full-width letters, with
other code points for its dots, as a number, in the escapes of HTML, JSON, Markdown or CSS."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from urllib.parse import unquote

import idna


class Place(Enum):
    """What an address stands in, which tells what ends its host."""

    ATTRIBUTE = "attribute"  # or angle brackets: what is in there may hold spaces, and tabs and line ends are left out
    QUOTED = "quoted"
    BARE = "bare"
    PROSE = "prose"  # behind what no address stands behind but a sentence's: who makes links of it stops at other characters


_UNICODE: Final = re.compile(r"(?<!\\)\\+u([0-9a-fA-F]{4})")
_BACKSLASH: Final = re.compile(r"\\(.)", re.DOTALL)
_PUNCTUATION: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
_CSS: Final = re.compile(r"\\(?:([0-9a-fA-F]{1,6})(?:\r\n|\s)?|[\r\n]+)")
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r"}


def _json(text: str) -> str:
    text = _UNICODE.sub(lambda found: chr(int(found[1], 16)), text)
    return _BACKSLASH.sub(lambda found: _CONTROLS.get(found[1], found[1]), text)


def _markdown(text: str) -> str:
    return _PUNCTUATION.sub(r"\1", text)


def _css(text: str) -> str:
    return _CSS.sub(lambda found: chr(min(int(found[1] or "0", 16), 0x10FFFF)) if found[1] else "", text)


def _undone(texts: Iterable[str], ways: Iterable[Callable[[str], str]], times: int) -> set[str]:
    known = set(texts)
    fresh = known
    for _ in range(times):
        fresh = {way(text) for text in fresh for way in ways} - known
        known |= fresh
    return known


_WHITE: Final = re.compile(r"\s")
_LEFT_OUT: Final = re.compile(r"[\t\r\n]")
_AUTHORITY_END: Final = re.compile(r"[/\\?#]")


def hosts(written: str, place: Place, closing: str, slashes: int, markdown: bool) -> Iterator[str]:
    """The hosts of an address in all ways in which a program may read it, normalised; empty where it names none.

    Args:
        written: from its slashes on to where its host is over, or behind that.
        closing: the character that ends what it stands in, or none.
        slashes: how many it needs to be one; what has fewer is read as a path.
        markdown: whether Markdown's escapes count: in a regular expression, ``\\.`` is none.
    """
    texts = {written}
    if "\\" in written:
        texts = _undone(texts, (_json,), 2)
        if place in (Place.BARE, Place.PROSE):
            texts = {written} | {_WHITE.split(text, maxsplit=1)[0] for text in texts}
        elif closing:
            texts = {written} | {text.split(closing, 1)[0] for text in texts}
    if "&" in written or "\\" in written:
        texts = _undone(texts, (html.unescape, _css, *([_markdown] if markdown else [])), 2)
    for text in texts:
        address = _LEFT_OUT.sub("", text)
        authority = address.lstrip("/\\")
        if len(address) - len(authority) >= slashes:
            yield _host(_AUTHORITY_END.split(authority, maxsplit=1)[0], place)


_FORBIDDEN: Final = re.compile(r"[|^\[\]]")
_LAST_ODD: Final = re.compile(r"(.*)[^\w.-]([\w.-]*)", re.DOTALL)


def _host(authority: str, place: Place) -> str:
    rest = authority.rpartition("@")[2]
    if rest.startswith("["):
        return normalised(rest.partition("]")[0] + "]")
    name = _mapped(unquote(rest.partition(":")[0]))
    if place is Place.PROSE:  # of a table, say: browsers take no host that has such a character
        name = _FORBIDDEN.split(name, maxsplit=1)[0]
    while (odd := _LAST_ODD.fullmatch(name)) is not None and _ends_behind(odd[2], place):
        name = odd[1]
    return normalised(name.rstrip("._"))


def _ends_behind(rest: str, place: Place) -> bool:
    """Whether a host is over before an odd character with this behind it: the name of a domain of the first level has none, so
    else it would be nobody's. In prose, a name with a domain in another script is taken for the sentence that goes on."""
    domain, _, top = rest.strip(".").rpartition(".")
    return not domain or (place is Place.PROSE and not top.isascii())


def _mapped(name: str) -> str:
    if name.isascii():
        return name.lower()
    try:
        return idna.uts46_remap(name, std3_rules=False, transitional=False)
    except idna.IDNAError:  # of a newer Unicode, or of nobody's host
        return unicodedata.normalize("NFKC", name).casefold().replace("\u3002", ".")


def normalised(name: str) -> str:
    """The name of a host in the one way of writing it: lower case, ASCII, addresses of machines in their shortest form."""
    if name.startswith("["):
        try:
            return f"[{IPv6Address(name[1:-1]).compressed}]"
        except AddressValueError:
            return name
    name = _mapped(name)
    if not name.isascii():
        try:
            name = idna.encode(name).decode()
        except (idna.IDNAError, UnicodeError):
            return name
    number = _ipv4(name)
    return name if number is None else str(IPv4Address(number))


_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")


def _number(part: str) -> int:
    """
    Raises:
        ValueError: an octal number has an 8 or a 9.
    """
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if part[0] == "0" else 10)


def _ipv4(name: str) -> int | None:
    """What a name of numbers (decimal, octal, hexadecimal; four of them or fewer) stands for; None if it is none."""
    parts = name.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return None
    last = numbers.pop()
    if any(number > 255 for number in numbers) or last >= 256 ** (4 - len(numbers)):
        return None
    return last + sum(number << 8 * (3 - at) for at, number in enumerate(numbers))
