"""What every check is made of: the type, how far a check may look, and where a value begins and ends.

Matches come from an automaton that reports *every* place where an expression may end, and for each end the leftmost
start. For ``\\d{13,19}`` inside a longer run of digits that is a match at almost every digit. So a check must insist on the
whole token: where the value's neighbour could belong to the value, it is a part of something else, and not a value.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Callable
from typing import Final

CONTEXT: Final = 64
"""Code points to the left and to the right of a match that a check may look at: a stream keeps no more at hand."""

Span = tuple[int, int]

Check = Callable[[str, int, int], Span | None]
"""``check(text, start, end)``: the span that is the value, within the match [start, end), or None where it is none.

Positions are code points, ends are exclusive. The span may be narrower than the match: an expression may need words to
the left ("passport no.") to know a value, and only the value is redacted.
"""

WORD: Final = frozenset(string.ascii_letters + string.digits + "_")
DASHED: Final = WORD | {"-"}
BASE64: Final = WORD | {"+", "/", "="}
DIGITS: Final = frozenset(string.digits)

_JOINTS: Final = frozenset("-.")
_STRIP: Final = str.maketrans("", "", " -./\u00a0")


def words(text: str) -> frozenset[str]:
    """The words of ``text``, for tables."""
    return frozenset(text.split())


def compact(value: str) -> str:
    """``value`` without the separators that people write into numbers."""
    return value.translate(_STRIP)


JOINT: Final = r"(?:[ .+\t-]|\r?\n|%20|&nbsp;|&#160;)"
"""What may stand between the groups of a number that is written as cards and accounts are: as people type it, as an address
or a form carries it, as HTML has it, a field or a line for each group."""

_JOINED: Final = re.compile(JOINT, re.ASCII)


def groups(value: str) -> list[str]:
    """The groups of a number whose separators are of `JOINT`."""
    return _JOINED.split(value)


def left(text: str, start: int, reach: int = CONTEXT) -> str:
    """Up to ``reach`` code points before ``start``."""
    return text[max(0, start - min(reach, CONTEXT)) : start]


def right(text: str, end: int, reach: int = CONTEXT) -> str:
    """Up to ``reach`` code points from ``end`` on."""
    return text[end : end + min(reach, CONTEXT)]


def whole(text: str, start: int, end: int, glue: frozenset[str] = WORD) -> bool:
    """Whether [start, end) is a whole token: no neighbour is in ``glue``, and no number goes on behind a dash or a dot.

    So ``123-45-6789`` is whole in ``(123-45-6789).`` and ``a,123-45-6789,b``, but not in ``123-45-6789-01``.
    """
    if start > 0:
        before = text[start - 1]
        if before in glue and before != "=":  # behind a name, ``=`` is no padding of base 64
            return False
        if before in _JOINTS and start > 1 and text[start - 2] in DIGITS and text[start] in DIGITS:
            return False
    if end < len(text):
        after = text[end]
        if after in glue:
            return False
        if after in _JOINTS and end + 1 < len(text) and text[end + 1] in DIGITS and text[end - 1] in DIGITS:
            return False
    return True


def last(expression: re.Pattern[str], text: str, start: int, end: int) -> re.Match[str] | None:
    """The last place in [start, end) where ``expression`` matches."""
    found = None
    for match in expression.finditer(text, start, end):
        found = match
    return found


def ending(shape: str, accept: Callable[[str], bool], glue: frozenset[str] = WORD) -> Check:
    """The check for a value that stands at the end of the match, perhaps after words that announce it.

    Args:
        shape: the expression of the value alone; the longest text that fits it and ends with the match is taken.
        accept: whether such a text is a real value.
        glue: the characters that would make a neighbour part of the value.
    """

    @functools.cache
    def expression() -> re.Pattern[str]:  # there are a hundred, and most gateways never see what most of them are for
        return re.compile(f"(?:{shape})\\Z", re.ASCII)

    def check(text: str, start: int, end: int) -> Span | None:
        found = expression().search(text, start, end)
        if found is None or not whole(text, found.start(), end, glue) or not accept(found.group()):
            return None
        return found.start(), end

    return check


def number(shape: str, valid: Callable[[str], bool]) -> Check:
    """As `ending`, for numbers that may be written in groups: ``valid`` sees them in upper case without separators."""
    return ending(shape, lambda value: valid(compact(value).upper()))


def alone(check: Check) -> Check:
    """As ``check``, but not where more groups of digits stand beside the value, as in the middle of a longer number or of a
    UUID."""

    def lonely(text: str, start: int, end: int) -> Span | None:
        span = check(text, start, end)
        if span is None or _GROUP_BEFORE.search(left(text, span[0], 9)) or _GROUP_AFTER.match(right(text, span[1], 2)):
            return None
        return span

    return lonely


def given(check: Check) -> Check:
    """As ``check``, but not where a program names what has the value instead of giving it: ``policy_number = row2.number``."""

    def literal(text: str, start: int, end: int) -> Span | None:
        span = check(text, start, end)
        return None if span is None or is_expression(text, *span) else span

    return literal


def is_expression(text: str, start: int, end: int) -> bool:
    """Whether [start, end) is a variable that stands in a template, or a name in a program whose attribute, element or result
    is taken.

    A name of capitals alone is none: so are values written that something is put behind. Nor does a colon make a program, as
    people use it: ``username: jdoe42(admin)``.
    """
    name = text[start:end]
    if not name.isidentifier():
        return False
    before = left(text, start, 16)
    if _VARIABLE.search(before):
        return True
    code = _CODE.search(before)
    if code is None or name.isupper():
        return False
    return (_ELEMENT if code["glued"] else _TAKEN).match(text, end) is not None


_VARIABLE: Final = re.compile(r"(?:\$\{?|\{\{|%\()\Z")
_CODE: Final = re.compile(r"(?:(?P<glued>=)|=[ \t]{1,4}|=>\s?|\w\(|[\"'\]]\s?:\s{0,4})\Z")
"""What stands before an expression. Logs have ``login=jdoe42(admin)``, with no space."""

_MEMBER: Final = r"(?:\??\.|->|::)(?!(?:pdf|docx?|jpe?g|png|txt)\b)[a-z_]"
_ELEMENT: Final = re.compile(rf"{_MEMBER}|\[(?:-?\d\]|[\"'])")
_TAKEN: Final = re.compile(rf"{_MEMBER}|[\[(]")
"""What is behind a name of which something is taken; scans of documents have their numbers as names."""

_GROUP_BEFORE: Final = re.compile(r"(?:\d[ -]|[0-9A-Fa-f]{8}-)\Z", re.ASCII)
_GROUP_AFTER: Final = re.compile(r"[ -]\d", re.ASCII)
