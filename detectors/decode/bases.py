"""Bytes written as characters: base64, base32, base85, hexadecimal, binary, decimal and octal character codes."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from detectors.decode.ciphers import is_sentence
from detectors.decode.english import LIKELY, english, is_language, known
from detectors.decode.gate import NOTHING, suspects
from detectors.decode.piece import GROUPS, Allowance, Piece, decoded, readable, solid
from detectors.offsets import Blob

MIN_RUN: Final = 16
"""Characters of a run that is looked at: twelve bytes in base64, eight in hexadecimal."""

MIN_MIXED: Final = 20
"""Characters from which a run of upper and lower case with digits is tried, though its shape is not that of ASCII text."""

MAX_TURN: Final = 6
"""Letters of a run without a digit in which upper case follows lower case once: five at most in base64, more in names."""

MIN_KINDS: Final = 6
"""Different letters in something spelt by numbers."""

MIN_WRAPPED: Final = 32
"""Characters of a line that may go on in the next one: mail breaks at 76, keys at 64, some tools at 32."""

MAX_TRIES: Final = 3
"""Lines of one text from which on what follows is joined in vain."""

_COMPRESSED: Final = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # gzip (RFC 1952), zlib (RFC 1950)

_RUN64 = re.compile(r"(?:(?<![A-Za-z0-9_\])}\"'])={1,2})?[A-Za-z0-9+/_-]{16,}={0,2}")
_WRAPPED = re.compile(r"(?:\r?\n[ \t>]*[A-Za-z0-9+/_-]{32,})*(?:\r?\n[ \t>]*[A-Za-z0-9+/_-]+={0,2}(?=\s|\Z))?")
_GROUP64 = re.compile(r"(?<!\S)[A-Za-z0-9+/]{4,24}(?=[\s-])|(?<=[\s-])[A-Za-z0-9+/]{1,24}={0,2}(?![A-Za-z0-9+/=])")
_NOT64 = re.compile(r"[^A-Za-z0-9+/_-]+")
_STANDARD: Final = str.maketrans("-_", "+/")
# The first of four characters holds the upper six bits of a byte: for printable ASCII, and line feeds, one of these.
_NOT_ASCII64: Final = str.maketrans("", "", "CIJKLMNOPQRSTUVWXYZabcdef")
_TURN = re.compile("[a-z][A-Z]")
_WIDE64 = re.compile(r"A..A....A..A")  # the zero bytes of UTF-16
_CUT64 = re.compile(r"[/_+-]")
_PART64 = re.compile(r"[A-Za-z0-9]{16,}")

_HEX32 = re.compile(r"(?<![A-Za-z0-9])(?:[0-9A-V]{32,}|[0-9a-v]{32,})={0,6}(?![A-Za-z0-9])")
_NOT_ASCII_HEX32: Final = str.maketrans("", "", "456789ABCDEFabcdef")
_RUN32 = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z2-7]{16,}|[a-z2-7]{16,})={0,6}(?![A-Za-z0-9])")
_NOT_ASCII32: Final = str.maketrans("", "", "BEFGHIJKLMNOPefghijklmnopb")

_ADOBE85 = re.compile(r"<~([!-uz\s]{10,})~>")
_RUN85A = re.compile(r"(?<![!-~])[!-uz]{25,}(?![!-~])")
_RUN85B = re.compile(r"(?<![0-9A-Za-z!#$%&()*+\-;<=>?@^_`{|}~])[0-9A-Za-z!#$%&()*+\-;<=>?@^_`{|}~]{25,}")
_QUOTES: Final = "\"'`.,;:()[]"
# The same of the first of five characters, in either alphabet.
_NOT_ASCII85A: Final = str.maketrans("", "", "$+,-./0123456789:;<=>?@ABCDEFGH")
_NOT_ASCII85B: Final = str.maketrans("", "", "3ABCDEFGHIJKLMNOPQRSTUVWXYZabcd")

_RUN16 = re.compile(
    r"(?<![0-9A-Za-z])(?:0x)?((?:[0-9a-f]{2}){8,}|(?:[0-9A-F]{2}){8,}|(?:[0-9n-s]{2}){8,}|(?:[0-9N-S]{2}){8,})(?![0-9A-Za-z])"
)
_SPACED16 = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x)?[0-9A-Fa-f]{2}[\s,:;|./-]{1,3}){7,}(?:0x)?[0-9A-Fa-f]{2}(?![0-9A-Za-z])")
_GROUPED16 = re.compile(
    r"(?<![0-9A-Za-z])(?:(?:0x)?(?:[0-9A-Fa-f]{2}){1,8}[\s,:;|./_\"'-]{1,4}){3,}(?:0x)?(?:[0-9A-Fa-f]{2}){1,8}(?![0-9A-Za-z])"
)
_HEX = re.compile(r"[0-9A-F]+")
_SHIFTED16 = re.compile(r"[N-Sn-s]")
_PREFIX16 = re.compile(r"0x|[^0-9A-Fa-f]")

_DUMP = re.compile(r"(?m)(?:^[ \t>]{0,8}[0-9A-Fa-f]{6,16}:?[ \t]{1,2}(?:[0-9A-Fa-f]{2}){1,2}(?:[ \t][^\n]*|$)(?:\n|\Z)){2,}")
_DUMPED = re.compile(r"(?m)^[ \t>]{0,8}[0-9A-Fa-f]{6,16}:?[ \t]{1,2}((?:(?:[0-9A-Fa-f]{2}){1,2}(?: {1,2}|$)){1,16})")
_ASIDE = re.compile(r"(?<=[0-9A-Fa-f]{4})  |(?<=\b[0-9A-Fa-f]{2})  (?![0-9A-Fa-f]{2} )")
"""What comes behind the bytes: two spaces, which part eights of single bytes as well."""

_BINARY = re.compile(r"(?<![0-9])(?:(?:[01]{8}[\s,;|./-]{0,2}){8,}|(?:[01]{7}[\s,;|./-]{1,2}){7,}[01]{7})(?![0-9])")
_SEVEN = re.compile(r"(?<![01])[01]{7}(?![01])")
_EIGHT = re.compile(r"[01]{8}")
_CODES = re.compile(r"(?<![0-9.])(?:[0-9]{2,3}[\s,;|/-]{1,3}){7,}[0-9]{2,3}(?![0-9.])")
_PLACES = re.compile(r"(?<![0-9.])(?:[0-9]{1,2}(?:[-,.]|, | | ?/ ?|  )){9,}[0-9]{1,2}(?![0-9.])")
_DIGITS = re.compile(r"[0-9]+")


def base64_(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Base64 (RFC 4648) in both alphabets, padded or not, on one line or wrapped, perhaps of compressed data."""
    upto = joined = tries = 0
    for match in solid(_RUN64, text, MIN_RUN):
        start, end = match.span()
        if start < upto:
            continue  # a line of a run that was read already
        run = match[0].strip("=")
        if _may_be64(run):
            ends = [end]
            if end - start >= MIN_WRAPPED and start >= joined and (rest := _WRAPPED.match(text, end)):
                ends = _ends(text, end, rest.end())
            piece = next(filter(None, (_piece64(text[start:last], start, allowance) for last in ends)), None)
            if piece is not None:
                upto = piece.end
                yield piece
                continue
            if len(ends) > 1:  # a line that is none of the block may stand before it; beyond a few, lines are joined once
                tries += 1
                joined = end if tries < MAX_TRIES else ends[0]
        for part in _PART64.finditer(text, start, end) if _CUT64.search(run) else ():
            if _may_be64(part[0]) and (piece := _piece64(part[0], part.start(), allowance)):
                yield piece


def _ends(text: str, own: int, last: int) -> list[int]:
    """Where a block that begins with a run which ends at ``own`` may end: what is on its last lines may be words."""
    cut = text.rfind("\n", own, last)
    return list(dict.fromkeys((last, max(cut, own), own)))


def base64_groups(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Base64 in small groups of one size, no run of which is long."""
    row: list[re.Match[str]] = []
    for group in (*_GROUP64.finditer(text), None):
        if group and row and group.start() == row[-1].end() + 1:
            size = row[0].end() - row[0].start()
            if len(group[0]) == size and row[-1].end() - row[-1].start() == size:
                row.append(group)
                continue
            last = [group] if len(group[0]) < size else []
        else:
            last = []
        if row and len(row) >= GROUPS.get(row[0].end() - row[0].start(), len(row) + 1):
            for groups in ([*row, *last], row) if last else (row,):  # a short one at the end may be a word that follows
                run = "".join([one[0] for one in groups])
                if _is_mixed(run.strip("=")) and (piece := _piece64(run, row[0].start(), allowance, groups[-1].end())):
                    yield piece
                    break
        row = [group] if group else []


def _may_be64(run: str) -> bool:
    """Whether a run may hold text: its shape is that of ASCII or UTF-16 in base64, or it has characters of all kinds."""
    return not run[::4].translate(_NOT_ASCII64) or _is_mixed(run) or _WIDE64.search(run) is not None


def _is_mixed(run: str) -> bool:
    if len(run) < MIN_MIXED or run.islower() or run.isupper():
        return False
    return not run.isalpha() or len(_TURN.findall(run)) * MAX_TURN >= len(run)


def _piece64(run: str, start: int, allowance: Allowance, end: int | None = None) -> Piece | None:
    body = _NOT64.sub("", run).translate(_STANDARD)
    scheme, text = _text64(body, allowance)
    if (text is None or not is_language(text)) and _is_mixed(body):
        # Characters of all kinds may also be base64 that was itself shifted or turned round, and be text by chance as they are.
        for change, scheme_ in ((codecs.encode(body, "rot13"), "rot13"), (body[::-1], "reversed")):
            inner, other = _text64(change, allowance)
            if other is not None and (text is None or is_language(other)):
                scheme, text = f"{scheme_}>{inner}", other
                break
    end = start + len(run) if end is None else end
    return Piece(scheme, text, start, end, (Blob(start, end),)) if text is not None else None


def _text64(body: str, allowance: Allowance) -> tuple[str, str | None]:
    whole = body[: len(body) - 1] if len(body) % 4 == 1 else body
    data = binascii.a2b_base64(whole + "=" * (-len(whole) % 4))
    if data.startswith(_COMPRESSED):
        plain = _decompressed(data, allowance, zlib.MAX_WBITS | 32)
        return "base64>gzip", decoded(plain) if plain is not None else None
    text = decoded(data)
    if text is None and (plain := _decompressed(data, allowance, -zlib.MAX_WBITS)) is not None:
        inflated = decoded(plain)
        if inflated is not None and is_language(inflated):
            return "base64>deflate", inflated
    return "base64", text


def _decompressed(data: bytes, allowance: Allowance, kind: int) -> bytes | None:
    """What compressed data holds, ``kind`` as zlib's ``wbits``; None where it is broken, or holds more than may be decoded."""
    engine = zlib.decompressobj(wbits=kind)
    try:
        plain = engine.decompress(data, allowance.left + 1)
    except zlib.error:
        return None
    if len(plain) > allowance.left:
        allowance.exhausted = True
        return None
    return plain


def base32_(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Base32 (RFC 4648), in either case, and with its alphabet of figures before letters."""
    for match in solid(_RUN32, text, MIN_RUN):
        body = match[0].rstrip("=")
        digits = not body.isalpha()
        long = len(body) >= 2 * MIN_RUN
        if (digits or long) if not body[::8].translate(_NOT_ASCII32) else (digits and long):
            yield from _bytes(match, "base32", base64.b32decode, body.upper() + "=" * (-len(body) % 8))
    for match in solid(_HEX32, text, 2 * MIN_RUN):
        body = match[0].rstrip("=").upper()
        if not body[::8].translate(_NOT_ASCII_HEX32) and not body.isalpha() and _HEX.fullmatch(body) is None:
            yield from _bytes(match, "base32", base64.b32hexdecode, body + "=" * (-len(body) % 8), sure=False)


def base85_(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Ascii85 (btoa, Adobe) and base85 (RFC 1924, git)."""
    for match in _ADOBE85.finditer(text):
        yield from _bytes(match, "ascii85", base64.a85decode, match[1])
    for pattern, foreign, scheme, decode in (
        (_RUN85A, _NOT_ASCII85A, "ascii85", base64.a85decode),
        (_RUN85B, _NOT_ASCII85B, "base85", base64.b85decode),
    ):
        for match in solid(pattern, text, MIN_RUN):
            for run in dict.fromkeys((match[0], match[0].strip(_QUOTES))):
                if not run[::5].translate(foreign):
                    yield from _bytes(match, scheme, decode, run)


def hexadecimal(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Bytes as pairs of hexadecimal digits: in a row, apart, in groups, with ``0x`` before each; perhaps of compressed data."""
    for match in chain(solid(_RUN16, text, MIN_RUN), _SPACED16.finditer(text)):
        if _SHIFTED16.search(match[0]):
            yield from _sentences16(match, codecs.encode(match[0], "rot13"), "rot13>hex")
            continue
        digits = _PREFIX16.sub("", match[0])
        if (data := bytes.fromhex(digits)).startswith(_COMPRESSED):
            plain = _decompressed(data, allowance, zlib.MAX_WBITS | 32)
            if plain is not None and (text_ := decoded(plain)) is not None:
                yield Piece("hex>gzip", text_, *match.span(), (Blob(*match.span()),))
            continue
        found = list(_bytes(match, "hex", bytes.fromhex, digits, sure=not digits.isdigit()))
        if not any(is_language(piece.text) for piece in found):
            yield from _sentences16(match, digits[::-1], "reversed>hex")
        yield from found
    for match in _GROUPED16.finditer(text):
        if _SPACED16.fullmatch(match[0]) is None:
            yield from _sentences16(match, _PREFIX16.sub("", match[0]), "hex")


def _sentences16(match: re.Match[str], digits: str, scheme: str) -> Iterator[Piece]:
    """The text of digits that may have come together by chance, where it is sentences."""
    for piece in _bytes(match, scheme, bytes.fromhex, digits):
        if is_sentence(piece.text) or (readable(piece.text) and not piece.text.isascii()):
            yield piece


def dumps(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Lines of ``xxd``, ``hexdump -C`` and ``od -t x1z``: an offset, up to sixteen bytes, and perhaps what they are."""
    for match in _DUMP.finditer(text):
        rows = [_ASIDE.split(row, maxsplit=1)[0] for row in _DUMPED.findall(match[0])]
        yield from _bytes(match, "hex", bytes.fromhex, " ".join(rows))


def numbers(text: str, allowance: Allowance) -> Iterator[Piece]:
    """Characters as numbers: their codes in binary, decimal or octal, or their places in the alphabet."""
    for match in _BINARY.finditer(text):
        groups = _SEVEN.findall(match[0]) or _EIGHT.findall(match[0])
        yield from _characters(match, {"binary": [int(group, 2) for group in groups]})
    for match in _CODES.finditer(text):
        codes = _DIGITS.findall(match[0])
        readings = {"decimal": list(map(int, codes))}
        if not any("8" in code or "9" in code for code in codes):
            readings["octal"] = [int(code, 8) for code in codes]
        yield from _characters(match, readings)
    for match in _PLACES.finditer(text):
        yield from _places(match)


def _places(match: re.Match[str]) -> Iterator[Piece]:
    """Letters as their places in the alphabet: ``9-7-14`` or ``9 7 14``; what else stands between them parts words."""
    words = re.split(r"[ /]+" if "-" in match[0] else r" ?/ ?|  ", match[0])
    places = [[int(place) for place in _DIGITS.findall(word)] for word in words]
    if all(1 <= place <= 26 for word in places for place in word):
        plain = " ".join("".join(chr(96 + place) for place in word) for word in places)
        # Rows of numbers rise and fall as the alphabet does, which is English for two letters at a time.
        varied = len(set(plain)) >= MIN_KINDS
        if varied and readable(plain) and english(plain) >= (LIKELY if known(plain) > 0.2 else 2 * LIKELY):
            yield Piece("alphabet", plain, *match.span(), (Blob(*match.span()),))


def _bytes(
    match: re.Match[str], scheme: str, decode: Callable[[str], bytes], run: str, *, sure: bool = True
) -> Iterator[Piece]:
    """The text that bytes hold. Where they are not ``sure`` to be meant as such, words in it must look like English."""
    try:
        text = decoded(decode(run))
    except ValueError:  # not in that encoding after all
        return
    if text is not None and (sure or _is_said(text)):
        start, end = match.span()
        yield Piece(scheme, text, start, end, (Blob(start, end),))


def _characters(match: re.Match[str], readings: dict[str, list[int]]) -> Iterator[Piece]:
    """The likeliest of the readings that look like language: any list of numbers is some characters."""
    texts = {scheme: decoded(bytes(codes)) for scheme, codes in readings.items() if max(codes) < 256}
    found = {scheme: text for scheme, text in texts.items() if text is not None and _is_said(text)}
    if found:
        scheme = max(found, key=lambda scheme: english(found[scheme]))
        start, end = match.span()
        yield Piece(scheme, found[scheme], start, end, (Blob(start, end),))


def _is_said(text: str) -> bool:
    # What is not ASCII says enough by being valid UTF-8, and what has few letters may be encoded again.
    return is_language(text) or not readable(text) or suspects(text) != NOTHING
