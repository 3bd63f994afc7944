"""What converters yield, and what they share."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

ATTACK: Final = "prompt_injection.instruction_override"
"""The category of what a source calls an attack and no more."""

HARMLESS: Final = "prompt_injection.instruction_override"
"""A harmless exemplar speaks against a category; a source that names none speaks against the commonest false alarm."""


class Unreadable(ValueError):  # noqa: N818 - reads as the condition that it is
    """Bytes that are not of their format, or too many of them."""


class Converted(NamedTuple):
    """One pattern to be: ``where`` it stood in the source, the source's ``name`` for it or nothing, and its fields."""

    where: str
    name: str
    fields: dict[str, Any]


class Fault(NamedTuple):
    """Something that cannot become a pattern: where, and why not."""

    where: str
    what: str


def text(data: bytes) -> str:
    """
    Raises:
        Unreadable: it is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8 (byte {error.start})") from None


def literal(words: str, category: str = ATTACK, severity: str = "medium") -> dict[str, Any]:
    """The fields of a literal; its own text is its hit, and the text torn apart its miss."""
    torn = words[: len(words) // 2] + " \u2026 " + words[len(words) // 2 :]
    return {"kind": "literal", "body": words, "category": category, "severity": severity, "hits": [words], "misses": [torn]}


def exemplar(words: str, attack: bool, category: str = "") -> dict[str, Any]:
    """The fields of an exemplar."""
    return {
        "kind": "semantic" if attack else "benign", "body": words, "severity": "high",
        "category": category or (ATTACK if attack else HARMLESS),
    }  # fmt: skip


