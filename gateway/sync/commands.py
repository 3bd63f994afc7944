"""What a node tells its shell to do."""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.sync import frames
from gateway.sync.frames import Answer, Frame, Question
from patterns.entries import Entry

LONG_QUESTION: Final = 16 * 2**10
"""Bytes of text above which a question travels with bulk: fresh revisions do not wait for it."""


class Send(NamedTuple):
    """Send a frame on a connection."""

    link: int
    frame: Frame

    @property
    def bulk(self) -> bool:
        """Whether it takes the second lane, which others overtake."""
        match self.frame:
            case frames.Listing():
                return True
            case frames.Entries(fresh=fresh):
                return not fresh
            case frames.Question() as question:
                return question.size > LONG_QUESTION
        return False


class Close(NamedTuple):
    """End a connection, after what was sent before."""

    link: int
    reason: str


class Dial(NamedTuple):
    """Connect to an address; answer with `Node.opened` or `Node.unreachable`."""

    address: str


class Apply(NamedTuple):
    """Verify entries, merge them into the store and make them durable; then call `Node.changed` and `Node.applied`."""

    link: int
    batch: int
    entries: list[Entry]
    fresh: bool


class Warn(NamedTuple):
    """Something that an operator should read."""

    node: str
    text: str


class Judge(NamedTuple):
    """A peer asks what we say of some texts; answer with `Node.judged`."""

    link: int
    question: Question


class Told(NamedTuple):
    """How a question of ours (`Node.ask`) stands: by node what it said, or in a word why it did not; ``waiting`` are those that
    may still answer. With none of them left the question is over."""

    key: int
    answers: dict[str, Answer | str]
    waiting: tuple[str, ...]


Command = Send | Close | Dial | Apply | Judge | Told | Warn
