"""Expressions as Python's own parser reads them, and written again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

parser: Final = re._parser  # type: ignore[attr-defined]
constants: Final = re._constants  # type: ignore[attr-defined]

_CATEGORIES: Final = {
    constants.CATEGORY_DIGIT: r"\d",
    constants.CATEGORY_NOT_DIGIT: r"\D",
    constants.CATEGORY_SPACE: r"\s",
    constants.CATEGORY_NOT_SPACE: r"\S",
    constants.CATEGORY_WORD: r"\w",
    constants.CATEGORY_NOT_WORD: r"\W",
}
_ASSERTIONS: Final = {
    constants.AT_BEGINNING: "^",
    constants.AT_BEGINNING_STRING: r"\A",
    constants.AT_BOUNDARY: r"\b",
    constants.AT_NON_BOUNDARY: r"\B",
    constants.AT_END: "$",
    constants.AT_END_STRING: r"\z",
}

Node = tuple[Any, Any]


def write_all(nodes: Sequence[Node]) -> str:
    """As `write`, of nodes that follow each other."""
    return "".join(map(write, nodes))


def write(node: Node) -> str:
    """Write a parsed node as an expression again, with the same meaning.

    Raises:
        KeyError: of the name of a construct that is not supported.
    """
    kind, value = node
    if kind is constants.LITERAL:
        return character(value)
    if kind is constants.NOT_LITERAL:
        return f"[^{character(value)}]"
    if kind is constants.ANY:
        return "."
    if kind is constants.IN:
        return "[" + "".join(map(class_item, value)) + "]"
    if kind is constants.AT:
        return _ASSERTIONS[value]
    if kind is constants.BRANCH:
        return "(?:" + "|".join(write_all(list(branch)) for branch in value[1]) + ")"
    if kind is constants.SUBPATTERN:
        if value[1] or value[2]:
            raise KeyError("an inline flag inside a group")
        return f"(?:{write_all(list(value[3]))})"
    if kind in (constants.MAX_REPEAT, constants.MIN_REPEAT):
        low, high, inner = value
        bound = f"{{{low}}}" if low == high else f"{{{low},{'' if high is constants.MAXREPEAT else high}}}"
        return f"(?:{write_all(list(inner))}){bound}"
    raise KeyError(str(kind).lower())


def class_item(item: Node) -> str:
    """One item of a class in brackets."""
    kind, value = item
    if kind is constants.NEGATE:
        return "^"
    if kind is constants.LITERAL:
        return character(value)
    if kind is constants.RANGE:
        return f"{character(value[0])}-{character(value[1])}"
    return _CATEGORIES[value]


def character(code: int) -> str:
    """A character that stands for itself."""
    char = chr(code)
    if char.isascii():
        return char if char.isalnum() else f"\\x{code:02x}"
    return char
