"""Ways of writing a text so that its words do not show, for seeing whether detection still finds them."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

_MORSE: Final = dict(zip(
    "abcdefghijklmnopqrstuvwxyz0123456789",
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----.".split(), strict=True,
))  # fmt: skip
_LEET: Final = str.maketrans("aeiostAEIOST", "431057431057")
_LOOKALIKE: Final = str.maketrans("aceopxyAEOPCX", "асеорхуАЕОРСХ")


def _morse(text: str) -> str:
    words = ("".join(char for char in word if char in _MORSE) for word in text.lower().split())
    return " / ".join(" ".join(_MORSE[char] for char in word) for word in words if word)


def _tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(char)) for char in text if ord(char) < 128)


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


DISGUISES: Final[dict[str, Callable[[str], str]]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "percent, as a URL has it": quote,
    "entities": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "escapes": _escaped,
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "reversed": lambda text: text[::-1],
    "leetspeak": lambda text: text.translate(_LEET),
    "morse": _morse,
    "spaced": lambda text: "  ".join(" ".join(word) for word in text.split()),
    "look-alikes": lambda text: text.translate(_LOOKALIKE),
    "zero-width": lambda text: "\u200b".join(text),
    "zalgo": lambda text: "".join(char + "\u0336\u0352" if char.isalpha() else char for char in text),
    "tags": _tags,
    "base64 of rot13": lambda text: base64.b64encode(codecs.encode(text, "rot13").encode()).decode(),
}
"""By name; each loses at most marks and case."""
