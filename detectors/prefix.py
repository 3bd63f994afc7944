"""What may still become a match: from an expression, the expression of all that its matches begin with.

A stream must hold back the end of its text exactly when that end is the beginning of a match. The beginnings of a regular
language are again a regular language, so Hyperscan can look for them too. For a sequence ``x y`` the beginnings are those
of ``x``, and ``x`` followed by the beginnings of ``y``; for ``x{m,n}`` they are ``x{0,n-1}`` followed by those of ``x``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from detectors.syntax import Node, character, class_item, constants, parser, write, write_all
from patterns.schema import PatternError

MAX_FINE: Final = 1_500
"""Characters of an expression of beginnings above which it is made coarse: it would take Hyperscan seconds."""

SURE_TO_FIT: Final = 500
"""Characters up to which nobody need try whether Hyperscan takes an expression of beginnings."""

MAX_FINE_REACH: Final = 256
"""Likewise the longest match: beginnings of long repeats make automata that Hyperscan refuses."""


class Part(NamedTuple):
    """One way in which an expression matches: ``head``, words that announce a value and harm nobody, then ``rest``.

    ``head`` is empty where all of the match counts.
    """

    head: str
    rest: str


def parts(body: str, where: str) -> list[Part]:
    """Take an expression apart at its capturing groups: a group marks where the value begins.

    So ``(?i)ssn\\D{0,9}(\\d{9})`` becomes the head ``(?i)ssn\\D{0,9}`` and the rest ``(?i)\\d{9}``. Each alternative may
    have a group of its own.

    Raises:
        PatternError: a group is inside a repeat, or something has no form that can be followed (look-around).
    """
    tree = parser.parse(body)
    flag = "(?i)" if tree.state.flags & re.IGNORECASE else ""
    nodes = list(tree)
    try:
        if not any(map(_marks, nodes)):
            return [Part("", flag + write_all(nodes))]
        return [
            Part(flag + write_all(head) if head else "", flag + write_all(rest)) for head, rest in _split(nodes)
        ]
    except KeyError as error:
        raise PatternError(f"{where}: body: {error.args[0]} cannot be followed in a stream") from None


def _marks(node: Node) -> bool:
    """Whether a node is a capturing group or holds one."""
    kind, value = node
    if kind is constants.SUBPATTERN:
        return value[0] is not None or any(map(_marks, value[3]))
    if kind is constants.BRANCH:
        return any(_marks(one) for branch in value[1] for one in branch)
    if kind in (constants.MAX_REPEAT, constants.MIN_REPEAT):
        return any(map(_marks, value[2]))
    return False


def led(part: Part, lead: int, where: str) -> list[Part]:
    """Take a part without a head apart after its first ``lead`` characters or a little more, however it begins.

    For what is only cut off and never replaced: the first characters of a command do nothing without the rest.

    Raises:
        PatternError: as `parts`.
    """
    if part.head:
        return [part]
    tree = parser.parse(part.rest)
    flag = "(?i)" if tree.state.flags & re.IGNORECASE else ""
    try:
        pairs = _lead([], list(tree), lead)
        return [Part(flag + write_all(head) if rest else "", flag + write_all(rest or head)) for head, rest in pairs]
    except KeyError as error:
        raise PatternError(f"{where}: body: {error.args[0]} cannot be followed in a stream") from None


def _lead(head: list[Node], rest: Sequence[Node], lead: int) -> list[tuple[list[Node], Sequence[Node]]]:
    while rest and _least_width(head) < lead:
        (kind, value), rest = rest[0], rest[1:]
        if kind is constants.BRANCH:
            found = [_lead(head, [*branch, *rest], lead) for branch in value[1]]
            return [one for some in found for one in some]
        if kind is constants.SUBPATTERN:
            rest = [*value[3], *rest]
        elif kind is constants.MAX_REPEAT and value[0] > 1 and value[1] <= MAX_FINE_REACH:
            # Its first round may be the head's, and the others the rest's.
            rest = [*value[2], (kind, (value[0] - 1, value[1] - 1, value[2])), *rest]
        else:
            head = [*head, (kind, value)]
    return [(head, rest)]


@functools.lru_cache(4_096)  # the same bodies are asked for by the rules of each policy
def widest(body: str) -> int:
    """Characters of the longest text that ``body`` matches."""
    return int(parser.parse(body).getwidth()[1])


def _least_width(nodes: Sequence[Node]) -> int:
    return int(parser.SubPattern(parser.State(), list(nodes)).getwidth()[0])


def _split(nodes: Sequence[Node]) -> list[tuple[Sequence[Node], Sequence[Node]]]:
    """The alternatives of a sequence, each as what stands before its first capturing group, and the rest."""
    at = next((at for at, node in enumerate(nodes) if _marks(node)), None)
    if at is None:
        return [((), nodes)]
    kind, value = nodes[at]
    if kind is constants.BRANCH:
        found = [_split([*nodes[:at], *branch, *nodes[at + 1 :]]) for branch in value[1]]
        return [one for some in found for one in some]
    if kind is not constants.SUBPATTERN:
        raise KeyError("a capturing group inside a repeat")
    if value[0] is None:
        return _split([*nodes[:at], *value[3], *nodes[at + 1 :]])
    if all(node[0] is constants.AT for node in nodes[:at]):
        return [((), nodes)]
    return [(nodes[:at], nodes[at:])]


def beginnings(body: str, where: str) -> str:
    """The expression of every beginning, at least one character long, of what ``body`` matches, whole matches included.

    ``where`` names the pattern in errors. An inline ``(?i)`` at the start is kept.

    Raises:
        PatternError: the expression uses something that has no such form (look-around, back-references).
    """
    tree = parser.parse(body)
    head = "(?i)" if tree.state.flags & re.IGNORECASE else ""
    try:
        return f"{head}(?:{_some(list(tree))})"
    except KeyError as error:
        raise PatternError(f"{where}: body: {error.args[0]} cannot be followed in a stream") from None


def backwards(body: str) -> str:
    """The expression of what ``body`` matches, read from its end to its beginning, at the front of a text.

    Over a text written backwards it tells where a match that reaches the text's end may begin, and lets go as soon as nothing
    can: in ordinary text after a few characters, whatever stands before.
    """
    tree = parser.parse(body)
    flag = "(?i)" if tree.state.flags & re.IGNORECASE else ""
    return rf"{flag}\A(?:{write_all(_turned(list(tree)))})"


def _turned(nodes: Sequence[Node]) -> list[Node]:
    return [_turned_one(node) for node in reversed(nodes)]


def _turned_one(node: Node) -> Node:
    kind, value = node
    if kind is constants.SUBPATTERN:
        return kind, (*value[:3], _turned(list(value[3])))
    if kind is constants.BRANCH:
        return kind, (value[0], [_turned(list(branch)) for branch in value[1]])
    if kind in (constants.MAX_REPEAT, constants.MIN_REPEAT):
        return kind, (value[0], value[1], _turned(list(value[2])))
    return kind, _OTHER_END.get(value, value) if kind is constants.AT else value


_OTHER_END: Final = {
    constants.AT_BEGINNING: constants.AT_END_STRING,
    constants.AT_BEGINNING_STRING: constants.AT_END_STRING,
    constants.AT_END: constants.AT_BEGINNING_STRING,
    constants.AT_END_STRING: constants.AT_BEGINNING_STRING,
}


def coarse_beginnings(body: str, reach: int, where: str, most: int = 64) -> str:
    """As `beginnings`, for an expression too large to be followed to its end: also takes what only might be one.

    It follows as many of the expression's parts as stay small (at most ``most``), and after those takes any run of the
    characters that the rest is made of, up to ``reach`` in all. The run is the last thing in it: see `unbounded`.

    Raises:
        PatternError: as `beginnings`.
    """
    tree = parser.parse(body)
    nodes = list(tree)
    flag = "(?i)" if tree.state.flags & re.IGNORECASE else ""
    try:
        return flag + _either([_coarse(one, reach, most) for one in _alternatives(nodes)])
    except KeyError as error:
        raise PatternError(f"{where}: body: {error.args[0]} cannot be followed in a stream") from None


def _alternatives(nodes: Sequence[Node]) -> list[list[Node]]:
    """The sequences that a choice at the front of one stands for: each may begin in a way of its own."""
    for at, node in enumerate(nodes):
        if node[0] is constants.SUBPATTERN and not (node[1][1] or node[1][2]):
            return _alternatives([*nodes[:at], *node[1][3], *nodes[at + 1 :]])
        if node[0] is constants.BRANCH:
            found = [_alternatives([*nodes[:at], *branch, *nodes[at + 1 :]]) for branch in node[1][1]]
            return [one for some in found for one in some]
        if node[0] is not constants.AT:
            break
    return [list(nodes)]


def _coarse(nodes: Sequence[Node], reach: int, most: int) -> str:
    used = 1 + next((at for at, node in enumerate(nodes) if node[0] is not constants.AT), 0)
    while used < min(most, len(nodes)) and _is_small(nodes[: used + 1]):
        used += 1
    head, rest = nodes[:used], nodes[used:]
    if not rest:
        return _some(head)
    return f"(?:{_some(head)}|{write_all(head)}{_alphabet(rest)}{{1,{reach}}})"


def unbounded(coarse: str) -> str:
    """A coarse expression for Hyperscan, in which the run at its end has no bound: that is far smaller than a count.

    What it finds beyond the bound is told by the bounded one, which Python's engine looks with afterwards.
    """
    return _RUN.sub("]*)", coarse)


_RUN: Final = re.compile(r"\]\{1,\d+\}\)(?=[|)]|\Z)")


def _is_small(nodes: Sequence[Node]) -> bool:
    width = parser.SubPattern(parser.State(), list(nodes)).getwidth()[1]
    return bool(width <= MAX_FINE_REACH) and len(_some(nodes)) <= MAX_FINE


def _alphabet(nodes: Sequence[Node]) -> str:
    """A class of all characters that the nodes can match."""
    items: set[str] = set()
    for node in nodes:
        _add_alphabet(node, items)
    return r"[\s\S]" if _ANYTHING in items else f"[{''.join(sorted(items))}]"


def _add_alphabet(node: Node, items: set[str]) -> None:
    kind, value = node
    if kind is constants.LITERAL:
        items.add(character(value))
    elif kind in (constants.NOT_LITERAL, constants.ANY):
        items.add(_ANYTHING)
    elif kind is constants.IN:
        items.update(_ANYTHING if item[0] is constants.NEGATE else class_item(item) for item in value)
    elif kind is constants.BRANCH:
        for branch in value[1]:
            for inner in branch:
                _add_alphabet(inner, items)
    elif kind in (constants.SUBPATTERN, constants.MAX_REPEAT, constants.MIN_REPEAT):
        for inner in value[-1]:
            _add_alphabet(inner, items)


_ANYTHING: Final = "anything"


def _some(nodes: Sequence[Node]) -> str:
    """Beginnings of a sequence that are not empty; '' where there is none."""
    options: list[str] = []
    before = ""
    for at, node in enumerate(nodes):
        rest = _any(nodes[at + 1 :])
        if node[0] is constants.AT:
            before += write(node)
            continue
        if not rest and _is_repeat_of_one(node):
            options.append(before + write((node[0], (1, node[1][1], node[1][2]))))
            break
        options.append(before + _full_not_empty(node) + rest)
        if inside := _some_of(node):
            options.append(before + inside)
        if not _nullable(node):
            break
    return _either(options)


def _any(nodes: Sequence[Node]) -> str:
    """Beginnings of a sequence, the empty one included."""
    if not nodes:
        return ""
    node, rest = nodes[0], _any(nodes[1:])
    if not rest and _is_repeat_of_one(node):
        return write((node[0], (0, node[1][1], node[1][2])))
    options = [write(node) + rest]
    if inside := _some_of(node):
        options.append(inside)
    return f"(?:{'|'.join(options)})?"


def _some_of(node: Node) -> str:
    """Beginnings of one node that are neither empty nor the whole of a single character."""
    kind, value = node
    if kind is constants.SUBPATTERN:
        return _some(list(value[3]))
    if kind is constants.BRANCH:
        return _either([some for branch in value[1] if (some := _some(list(branch)))])
    if kind is constants.MAX_REPEAT or kind is constants.MIN_REPEAT:
        low, high, inner = value
        items = list(inner)
        if _is_single(items):
            return f"{write_all(items)}{{1,{low - 1}}}" if low > 1 else ""
        some = _some(items)
        return f"(?:{write_all(items)}){{0,{high - 1}}}{some}" if high > 1 else some
    return ""


def _full_not_empty(node: Node) -> str:
    kind, value = node
    if kind in (constants.MAX_REPEAT, constants.MIN_REPEAT) and value[0] == 0:
        return write((kind, (1, value[1], value[2])))
    return write(node)


def _nullable(node: Node) -> bool:
    kind, value = node
    if kind in (constants.MAX_REPEAT, constants.MIN_REPEAT):
        return value[0] == 0 or all(map(_nullable, value[2]))
    if kind is constants.SUBPATTERN:
        return all(map(_nullable, value[3]))
    if kind is constants.BRANCH:
        return any(all(map(_nullable, branch)) for branch in value[1])
    return kind is constants.AT


def _is_single(nodes: list[Node]) -> bool:
    single = (constants.LITERAL, constants.NOT_LITERAL, constants.IN, constants.ANY)
    if len(nodes) == 1 and nodes[0][0] is constants.SUBPATTERN:
        return _is_single(list(nodes[0][1][3]))
    return len(nodes) == 1 and nodes[0][0] in single


def _is_repeat_of_one(node: Node) -> bool:
    """Whether a node repeats a single character: what it begins with is then just fewer of them."""
    return node[0] in (constants.MAX_REPEAT, constants.MIN_REPEAT) and _is_single(list(node[1][2]))


def _either(options: list[str]) -> str:
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})" if options else ""
