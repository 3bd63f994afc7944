"""The one door to YAML that others wrote: packs, feeds and imports.

YAML's aliases let some hundred bytes stand for a billion values, and its dates and numbers, read as such, fail in many ways or
take hours. Here a document is as large as it is written, within a bound, and what is wrong with it is one kind of error.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

EXPANDED: Final = 10
"""How many times as long as it is written a document may be, with what its aliases stand for."""

SMALL: Final = 1_000_000
"""Code points that any document may come to: of a short one, a few aliases are many times its length."""

MAX_SCALAR: Final = 64
"""Code points of a value that is no text: a number's time to be read grows with the square of its length."""

_DEEP: Final = "it is nested too deeply"
_TEXT: Final = "tag:yaml.org,2002:str"
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._most = SMALL + EXPANDED * len(source)

    def construct_document(self, node: yaml.Node) -> Any:
        if _size(node, {}) > self._most:
            raise yaml.YAMLError("its aliases stand for too much")
        try:
            return super().construct_document(node)
        except (ValueError, LookupError, AttributeError, TypeError) as error:  # what PyYAML lets out of values that are none
            raise yaml.YAMLError(f"a value is not what it is marked as: {str(error)[:100]}") from None


def load(source: str) -> Any:
    """The one document in ``source``.

    Raises:
        yaml.YAMLError: it is not YAML, or too much.
    """
    try:
        return yaml.load(source, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError(_DEEP) from None


def load_all(source: str) -> list[Any]:
    """The documents in ``source``.

    Raises:
        yaml.YAMLError: as `load`.
    """
    try:
        return list(yaml.load_all(source, Loader=_Loader))
    except RecursionError:
        raise yaml.YAMLError(_DEEP) from None


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many code points a node comes to where each alias is written out. ``known``: sizes by node, 0 while at work."""
    found = known.get(id(node))
    if found is not None:
        if not found:
            raise yaml.YAMLError("an alias stands for something that it is itself a part of")
        return found
    if isinstance(node, yaml.ScalarNode):
        if node.tag != _TEXT and len(node.value) > MAX_SCALAR:
            where = f"line {node.start_mark.line + 1}"
            raise yaml.YAMLError(f"{where}: a value that is no text has at most {MAX_SCALAR} characters")
        size = 1 + len(node.value)
    else:
        known[id(node)] = 0
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        size = 1 + sum(_size(part, known) for part in parts)
    known[id(node)] = size
    return size
