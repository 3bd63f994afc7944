"""Files that a message carries in base64, as far as they are text.

Providers take such a file for a document: a plain text, a page, a table, source code. What no text is (an image, a PDF) is
nobody's to read here.
"""

from __future__ import annotations

import base64
import re
from typing import Final

_NAMED: Final = re.compile(
    r"text/|image/svg\+xml|application/(?:[^;/]+\+|x-)?"
    r"(?:json|xml|yaml|toml|csv|ndjson|jsonlines|javascript|typescript|python|sh|sql|rtf|httpd-php)\b",
    re.I,
)
_MEDIA: Final = re.compile(r"(?:image|audio|video)/", re.I)
_OTHER: Final = re.compile(rb"[^A-Za-z0-9+/]+")
_BINARY: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_CONTAINER: Final = re.compile(r"\s{0,1020}%PDF-|PK\x03\x04")
"""How what holds its text in a form of its own begins, a document or an archive, though all that follows may be letters."""

_LOOKED_AT: Final = 4_096  # characters of base64 by which a file of no telling type is told to be text, and of text at a time
_LEAST: Final = 4  # characters below which they tell nothing
_ODD: Final = 0.02  # share of them that no text has: what was broken on the way leaves some


def text_of(value: str, media_type: str = "") -> str | None:
    """The text of a file, or None where it is none.

    A file is text by its type, or, where that says nothing (``application/octet-stream``), by what is in it.

    Args:
        value: base64, perhaps behind the head of a ``data:`` URL.
        media_type: as the message names it; the URL's own goes before it.
    """
    head = _head(value)
    kind = head[5:].partition(";")[0].rstrip(",") or media_type
    named = _NAMED.match(kind) is not None
    if not named and _MEDIA.match(kind):
        return None
    if not named:
        some = decoded(value[: len(head) + _LOOKED_AT])
        if len(some) < _LEAST or not _is_letters(some):
            return None
    text = decoded(value)
    if not named and _CONTAINER.match(text) and not _is_letters(text):
        return None  # with an edit in it, written anew as a text, it would be broken
    return text or None


def legible(text: str) -> bool:
    """Whether what was decoded is a text all the way: a file may be named one that is none, be written in letters of another
    kind than was read, or only begin as one."""
    return _CONTAINER.match(text) is None and _is_letters(text)


def _is_letters(text: str) -> bool:
    if _BINARY.search(text) is None:
        return True
    last = max(len(text) - _LOOKED_AT, 0)
    begins = (min(at, last) for at in range(0, len(text), _LOOKED_AT))
    return all(_odd(text[begin : begin + _LOOKED_AT]) <= _ODD for begin in begins)


def _odd(text: str) -> float:
    return len(_BINARY.findall(text)) / len(text)


def decoded(value: str) -> str:
    """What a file says if it is text: in UTF-16 with a mark, else in UTF-8; what is neither becomes U+FFFD.

    As the most lenient reader takes it: both alphabets, and whatever else stands in between is passed over.
    """
    data = value[len(_head(value)) :].encode("ascii", "ignore").translate(_ONE_ALPHABET)
    data = _OTHER.sub(b"", data)
    if len(data) % 4 == 1:  # six bits are no byte
        data = data[:-1]
    raw = base64.b64decode(data + b"=" * (-len(data) % 4))
    return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")


def is_coded(value: str) -> bool:
    """Whether a text is a ``data:`` URL in base64."""
    return bool(_head(value))


def with_text(value: str, text: str) -> str:
    """The file with another text, in UTF-8; the head of a ``data:`` URL stays."""
    return _head(value) + base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")


def _head(value: str) -> str:
    """What stands before the base64 of a ``data:`` URL (RFC 2397), its comma included; nothing where it is none."""
    if value[:5].lower() != "data:":
        return ""
    head = value[: value.find(",") + 1]
    return head if head[-8:].lower() == ";base64," else ""


_ONE_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")
