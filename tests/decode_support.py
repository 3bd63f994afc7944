"""Encoders, written for the tests alone: each the inverse of a decoder, from what its standard or its users say."""

from __future__ import annotations

import base64
import binascii
import codecs
import gzip
import re
import zlib
from collections.abc import Callable

LOWER = "abcdefghijklmnopqrstuvwxyz"

MORSE = {
    "a": ".-", "b": "-...", "c": "-.-.", "d": "-..", "e": ".", "f": "..-.", "g": "--.", "h": "....", "i": "..", "j": ".---",
    "k": "-.-", "l": ".-..", "m": "--", "n": "-.", "o": "---", "p": ".--.", "q": "--.-", "r": ".-.", "s": "...", "t": "-",
    "u": "..-", "v": "...-", "w": ".--", "x": "-..-", "y": "-.--", "z": "--..",
}  # fmt: skip
RADIO = (
    "alfa bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo sierra "
    "tango uniform victor whiskey x-ray yankee zulu"
).split()  # fmt: skip
TURNED = dict(zip(LOWER, "ɐqɔpǝɟƃɥᴉɾʞlɯuodbɹsʇnʌʍxʎz", strict=True))
BRAILLE = dict(zip(LOWER, "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵", strict=True))
LEET = str.maketrans("aeiost", "431057")

Encoder = Callable[[str], str]


def shift(text: str, n: int) -> str:
    upper = LOWER.upper()
    return text.translate(str.maketrans(LOWER + upper, LOWER[n:] + LOWER[:n] + upper[n:] + upper[:n]))


def atbash(text: str) -> str:
    return text.translate(str.maketrans(LOWER + LOWER.upper(), LOWER[::-1] + LOWER.upper()[::-1]))


def rot47(text: str) -> str:
    return "".join(chr(33 + (ord(c) - 33 + 47) % 94) if "!" <= c <= "~" else c for c in text)


def wrapped(text: str) -> str:
    return base64.encodebytes(text.encode() * 3).decode().strip()


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(c)) for c in text)


def selectors(text: str) -> str:
    return "".join(chr(0xFE00 + b if b < 16 else 0xE0100 + b - 16) for b in text.encode())


def bits(zero: str, one: str) -> Encoder:
    return lambda text: "".join(one if bit == "1" else zero for byte in text.encode() for bit in f"{byte:08b}")


def pig_latin(text: str) -> str:
    words = []
    for word in text.split():
        head = next((at for at, c in enumerate(word) if c in "aeiou"), 0)
        if head and word[head - 1 : head + 1] == "qu":
            head += 1
        words.append(word[head:] + word[:head] + ("ay" if head else "way"))
    return " ".join(words)


def cut(text: str) -> str:
    return " + ".join(f'"{text[at : at + 3]}"' for at in range(0, len(text), 3))


def in_groups(text: str, size: int, between: str) -> str:
    run = base64.b64encode(text.encode()).decode()
    return between.join(run[at : at + size] for at in range(0, len(run), size))


def base58(text: str) -> str:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, written = int.from_bytes(text.encode()), ""
    while number:
        number, digit = divmod(number, 58)
        written = alphabet[digit] + written
    return written


def uuencoded(text: str, zero: bool) -> str:
    data = text.encode()
    lines = (binascii.b2a_uu(data[at : at + 45], backtick=zero).decode() for at in range(0, len(data), 45))
    return f"begin 644 note.txt\n{''.join(lines)}{'`' if zero else ' '}\nend"


def by_words(encoder: Encoder) -> Encoder:
    return lambda text: " ".join(map(encoder, text.split()))


def lowered(encoder: Encoder) -> Encoder:
    return lambda text: encoder(text.lower())


EXACT: dict[str, tuple[str, Encoder]] = {
    "base64": ("base64", lambda t: base64.b64encode(t.encode()).decode()),
    "base64 url-safe": ("base64", lambda t: base64.urlsafe_b64encode(t.encode()).decode().rstrip("=")),
    "base64 unpadded": ("base64", lambda t: base64.b64encode(t.encode()).decode().rstrip("=")),
    "base64 utf-16": ("base64", lambda t: base64.b64encode(t.encode("utf-16-le")).decode()),
    "base64 utf-32": ("base64", lambda t: base64.b64encode(t.encode("utf-32-be")).decode()),
    "deflate": ("base64>deflate", lambda t: base64.b64encode(zlib.compress(t.encode(), wbits=-15)).decode()),
    "gzip": ("base64>gzip", lambda t: base64.b64encode(gzip.compress(t.encode())).decode()),
    "base64 rot13": ("rot13>base64", lambda t: codecs.encode(base64.b64encode(t.encode()).decode(), "rot13")),
    "base64 reversed": ("reversed>base64", lambda t: base64.b64encode(t.encode()).decode()[::-1]),
    "base64 by words": ("base64", by_words(lambda w: base64.b64encode(w.encode()).decode())),
    "base58": ("base58", base58),
    "uuencode": ("uuencode", lambda t: uuencoded(t, True)),
    "uuencode of Python": ("uuencode", lambda t: uuencoded(t, False)),
    "base32": ("base32", lambda t: base64.b32encode(t.encode()).decode()),
    "base32 hex": ("base32", lambda t: base64.b32hexencode(t.encode()).decode()),
    "base32 hex lower": ("base32", lambda t: base64.b32hexencode(t.encode()).decode().lower().rstrip("=")),
    "base64 in lines of twenty": ("base64", lambda t: in_groups(t, 20, "\n")),
    "base32 lower": ("base32", lambda t: base64.b32encode(t.encode()).decode().lower().rstrip("=")),
    "ascii85": ("ascii85", lambda t: base64.a85encode(t.encode()).decode()),
    "ascii85 adobe": ("ascii85", lambda t: base64.a85encode(t.encode(), adobe=True).decode()),
    "base85": ("base85", lambda t: base64.b85encode(t.encode()).decode()),
    "hex": ("hex", lambda t: t.encode().hex()),
    "hex upper": ("hex", lambda t: t.encode().hex().upper()),
    "hex spaced": ("hex", lambda t: t.encode().hex(" ")),
    "hex 0x": ("hex", lambda t: ", ".join(f"0x{b:02x}" for b in t.encode())),
    "hex colons": ("hex", lambda t: t.encode().hex(":")),
    "hex bars": ("hex", lambda t: t.encode().hex("|")),
    "hex in fours": ("hex", lambda t: t.encode().hex(" ", -2)),
    "hex in eights": ("hex", lambda t: t.encode().hex("_", 4)),
    "hex 0x in eights": ("hex", lambda t: f"0x{t.encode().hex(' ', -4)}".replace(" ", ", 0x")),
    "hex of a list": ("hex", lambda t: t.encode().hex(" ").replace(" ", "', '")),
    "hex in fours of a list": ("hex", lambda t: t.encode().hex(" ", -2).replace(" ", '", "')),
    "hex by words": ("hex", by_words(lambda w: w.encode().hex())),
    "hex rot13": ("rot13>hex", lambda t: codecs.encode(t.encode().hex(), "rot13")),
    "hex reversed": ("reversed>hex", lambda t: t.encode().hex()[::-1]),
    "hex spaced reversed": ("reversed>hex", lambda t: t.encode().hex(" ")[::-1]),
    "chr": ("calls", lambda t: "+".join(f"chr({ord(c)})" for c in t)),
    "chr spaced": ("calls", lambda t: " + ".join(f"chr({ord(c)})" for c in t)),
    "chr of databases": ("calls", lambda t: " || ".join(f"CHR({ord(c)})" for c in t)),
    "chr in hexadecimal": ("calls", lambda t: ".".join(f"chr(0x{ord(c):x})" for c in t)),
    "char of JavaScript": ("calls", lambda t: " + ".join(f"String.fromCharCode({ord(c)})" for c in t)),
    "letters of a list": ("letters", lambda t: ", ".join(f'"{c}"' for c in t)),
    "letters of a list, unspaced": ("letters", lambda t: ",".join(f"'{c}'" for c in t)),
    "hex gzip": ("hex>gzip", lambda t: gzip.compress(t.encode()).hex()),
    "binary": ("binary", lambda t: " ".join(f"{b:08b}" for b in t.encode())),
    "binary solid": ("binary", lambda t: "".join(f"{b:08b}" for b in t.encode())),
    "binary hyphens": ("binary", lambda t: "-".join(f"{b:08b}" for b in t.encode())),
    "binary seven": ("binary", lambda t: " ".join(f"{b:07b}" for b in t.encode())),
    "decimal": ("decimal", lambda t: " ".join(str(b) for b in t.encode())),
    "decimal slashes": ("decimal", lambda t: "/".join(str(b) for b in t.encode())),
    "decimal list": ("decimal", lambda t: ", ".join(str(b) for b in t.encode())),
    "octal": ("octal", lambda t: " ".join(f"{b:03o}" for b in t.encode())),
    "percent": ("percent", lambda t: "".join(f"%{b:02X}" for b in t.encode())),
    "percent twice": ("percent", lambda t: "".join(f"%25{b:02x}" for b in t.encode())),
    "entities": ("entities", lambda t: "".join(f"&#{ord(c)};" for c in t)),
    "entities hex": ("entities", lambda t: "".join(f"&#x{ord(c):x};" for c in t)),
    "entities twice": ("entities", lambda t: "".join(f"&amp;#{ord(c)};" for c in t)),
    "json": ("escapes", lambda t: "".join(f"\\u{unit}" for unit in re.findall("....", t.encode("utf-16-be").hex()))),
    "percent u": ("escapes", lambda t: "".join(f"%u{ord(c):04x}" for c in t)),
    "javascript": ("escapes", lambda t: "".join(f"\\u{{{ord(c):x}}}" for c in t)),
    "python": ("escapes", lambda t: "".join(f"\\U{ord(c):08x}" for c in t)),
    "c": ("escapes", lambda t: "".join(f"\\x{b:02x}" for b in t.encode())),
    "octal escapes": ("escapes", lambda t: "".join(f"\\{b:03o}" for b in t.encode())),
    "css": ("css", lambda t: "".join(f"\\{ord(c):06x}" for c in t)),
    "code points": ("code_points", lambda t: " ".join(f"U+{ord(c):04X}" for c in t)),
    "quoted-printable": ("quoted_printable", lambda t: "".join(f"={b:02X}" for b in t.encode())),
    "tags": ("tags", tags),
    "selectors": ("selectors", selectors),
    "zero width": ("zero_width", bits("\u200b", "\u200c")),
    "zero width joiners": ("zero_width", bits("\u2060", "\u200d")),
    "reversed": ("reversed", lambda t: t[::-1]),
    "upside down": ("upside_down", lowered(lambda t: "".join(TURNED.get(c, c) for c in t)[::-1])),
    "rot47": ("rot47", rot47),
    "atbash": ("atbash", atbash),
    **{f"rot{n}": (f"rot{n}", lambda t, n=n: shift(t, n)) for n in range(1, 26)},  # type: ignore[misc]
    "reversed words": ("reversed_words", lambda t: " ".join(word[::-1] for word in t.split())),
    "pieces": ("pieces", cut),
    "hyphens for spaces": ("joined", lambda t: "-".join(t.split())),
    "braille": ("braille", lowered(lambda t: "".join(BRAILLE.get(c, "⠀") for c in t))),
    "morse": ("morse", lowered(lambda t: " / ".join(" ".join(MORSE[c] for c in word) for word in t.split()))),
    "radio": ("radio", lowered(lambda t: "   ".join(" ".join(RADIO[LOWER.index(c)] for c in word) for word in t.split()))),
    "alphabet": (
        "alphabet",
        lowered(lambda t: " / ".join("-".join(str(LOWER.index(c) + 1) for c in word) for word in t.split())),
    ),
}
"""Encoders whose decoder gives back every letter: the scheme's name, and the encoder."""

ROUGH: dict[str, tuple[str, Encoder]] = {
    "leet": ("leet", lambda t: t.translate(LEET)),
    "pig latin": ("pig_latin", lowered(pig_latin)),
    "unspaced": ("unspaced", lambda t: t.replace(" ", "")),
}
"""Encoders that lose something: which letter a sign was, where a word began."""

INNER = ("base64", "hex", "base32", "percent", "json", "entities", "decimal", "binary", "c", "tags")
"""Encoders of which any may stand inside of any other: they take every character."""

SECRET_VERBS = "ignore reveal forget show print repeat write follow translate describe explain send delete remember".split()
SECRET_THINGS = (
    "instructions message password system prompt secret rules conversation answer question information document letter story"
).split()  # fmt: skip
LITTLE = "the this that your every another".split()


def sentence(verbs: list[str], little: list[str], things: list[str]) -> str:
    """A sentence as attacks have them, of common words."""
    parts = [f"{verb} {article} {thing}" for verb, article, thing in zip(verbs, little, things, strict=True)]
    return " and then ".join(parts)
