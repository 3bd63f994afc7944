"""The values that pass between the gateway and the detectors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

WINDOWS: Final = 128
"""Windows of one text, in all its readings, that the encoder reads: half a second of one core. The most suspicious come
first, and what is left over makes the verdict incomplete."""


class Origin(StrEnum):
    """Who speaks in a segment. An order is normal from a user and an attack inside a document."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL_DEFINITION = "tool_definition"
    TOOL_RESULT = "tool_result"
    DOCUMENT = "document"


class ChannelKind(StrEnum):
    """How a text is meant: prose is read, what stands in a tool call is carried out."""

    PROSE = "prose"
    TOOL_CALL = "tool_call"


TOOL_CALL: Final = "tool_call"
"""The role of a text in a tool call, and of whatever in a reply a wire does not know: it might be one."""


class Inner:
    """The path step into a JSON document that is itself written inside a string; there is one instance, `INNER`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "INNER"


INNER: Final = Inner()


class Coded:
    """The path step into a text that is itself written in base64 inside a string, as files are sent; there is one instance,
    `CODED`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "CODED"


CODED: Final = Coded()


@dataclass(frozen=True, slots=True)
class Key:
    """The last path step of a text that is itself an object's key."""

    name: str


Path = tuple["str | int | Inner | Coded | Key", ...]
"""Where a text stands in a JSON body: keys, indexes, `INNER` where JSON inside a string is entered, `CODED` where base64 is, a
last `Key`."""


def show_path(path: Path) -> str:
    """Write a path for people: ``messages[0].content``; ``>`` enters JSON inside a string, ``~`` a text in base64, ``#`` means
    a key itself.

    Keys are the caller's text and may be secret or hostile: what is not a short plain name is written ``*``.
    """
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
            continue
        if isinstance(step, Inner):
            shown += ">"
            continue
        if isinstance(step, Coded):
            shown += "~"
            continue
        name = step.name if isinstance(step, Key) else step
        plain = len(name) <= 40 and name.isascii() and name.replace("_", "").isalnum()
        mark = "#" if isinstance(step, Key) else "." if shown and not shown.endswith(">") else ""
        shown += mark + (name if plain else "*")
    return shown or "$"


def by_name(category: str) -> tuple[bool, str]:
    """Sorts the categories of one value: the one that it is named after is the first, and says most of it."""
    return "generic" in category, category


# Tuples rather than dataclasses: a request makes several of each, and a tuple is made in a third of the time.


BESIDE: Final = -1
"""The turn of what stands beside a request's messages: labels, stop sequences, tools, settings."""


class Segment(NamedTuple):
    """One text of a request or reply.

    ``role`` is the wire's own word; ``turn`` numbers messages from 0 (`BESIDE` for what is of none; of a session's earlier
    events below that); segments of one turn and origin are read by the
    model as one passage, and are judged as one. ``text`` is whole, never a prefix. ``glued`` is true where the model
    reads this text right after the segment before it (the next text part of one message).
    """

    text: str
    role: str
    origin: Origin
    turn: int
    path: Path
    glued: bool = False

    @property
    def named(self) -> bool:
        """Whether the text is a name in a JSON object, and no value."""
        return bool(self.path) and isinstance(self.path[-1], Key)

    @property
    def channel(self) -> ChannelKind:
        return ChannelKind.TOOL_CALL if self.role == TOOL_CALL else ChannelKind.PROSE


class Opaque(NamedTuple):
    """A part of a request or reply that no detector reads; ``reason`` says why (``image``, ``audio``, ``encrypted``...)."""

    origin: Origin
    turn: int
    path: Path
    reason: str


class Finding(NamedTuple):
    """Something that a detector saw: code points ``start`` (inclusive) to ``end`` (exclusive) of segment ``segment``.

    ``detector`` names the stage, ``pattern`` what of it (a pattern's id), ``score`` is the probability of an attack
    that this finding alone gives; for secrets and personal data it is how sure the value is real.
    """

    detector: str
    pattern: str
    category: str
    score: float
    segment: int
    start: int
    end: int


WATCHED: Final = "shadow"
"""The detector of a finding by a pattern that is only watched: in its shadow, or as a canary on a text outside its share.

Such a finding is recorded and counted. It is no evidence, and no policy acts on it.
"""


class Skipped(NamedTuple):
    """A stage that did not run where it should have. ``reason``: ``missing``, ``late``, ``error``, ``budget``, ``overload``,
    ``unread`` (the encoder knows no word of it)."""

    stage: str
    reason: str


class Verdict(NamedTuple):
    """What the detectors say of some segments. ``score`` is the probability of attack, 0..1, comparable across inputs."""

    findings: tuple[Finding, ...]
    score: float
    skipped: tuple[Skipped, ...]
    generation: int

    @property
    def complete(self) -> bool:
        return not self.skipped
