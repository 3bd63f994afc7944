"""What is remembered of one request: who asked, what was screened, found and decided, and how long it took.

A stored record never holds a text: findings are offsets, and paths are shown without the caller's own key
names. Texts that retention keeps travel beside it as `KeptTexts`.

A record is made for every request, so all values are tuples, and the hot path only puts together what it has
at hand: a `Decision` of `Screened`, about two microseconds. What is shown and listed of it, a `Decision` of
`Screening`, is worked out when it is stored; see ``gateway.records.recorder``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from detectors.values import ChannelKind, Finding, Opaque, Segment, Skipped

MAX_NAME: Final = 200
"""Code points of a model's name, which is the caller's text."""

_ID: Final = re.compile(r"[0-9a-f]{32}")


class Part(NamedTuple):
    """A part that was screened. ``path`` as `show_path` writes it; ``length`` in code points; ``stages`` that
    saw it; ``channel`` one of `ChannelKind`."""

    path: str
    origin: str
    turn: int
    length: int
    stages: tuple[str, ...]
    channel: str = ChannelKind.PROSE.value


class Gap(NamedTuple):
    """A part that was not screened, and why: ``image``, ``audio``, ``encrypted``, ..."""

    path: str
    origin: str
    turn: int
    reason: str


class Found(NamedTuple):
    """A finding: ``start`` (inclusive) to ``end`` (exclusive) are code points of the text at ``path``.

    ``action`` is what the policy asked for on its account.
    """

    detector: str
    pattern: str
    category: str
    score: float
    path: str
    start: int
    end: int
    action: str = ""


class Vote(NamedTuple):
    """What a replica said of a request, where the policy asks several: ``said`` is ``verdict``, or in a word why it gave none
    that counts; ``action`` is what its verdict would have the policy do."""

    node: str
    said: str
    action: str = ""
    score: float = 0.0


class Screened(NamedTuple):
    """What became of one direction, the request or the reply, as the hot path has it, texts and all.

    ``stages`` holds for each segment the stages that saw it, ``actions`` for each finding what the policy
    asked for; ``timings`` holds (stage, µs). None of the sequences may change afterwards.
    """

    action: str
    reason: str
    score: float
    segments: Sequence[Segment]
    stages: Sequence[tuple[str, ...]]
    opaque: Sequence[Opaque] = ()
    findings: Sequence[Finding] = ()
    actions: Sequence[str] = ()
    skipped: Sequence[Skipped] = ()
    timings: Sequence[tuple[str, int]] = ()
    rises: Sequence[tuple[int, float]] = ()
    votes: Sequence[Vote] = ()


class Screening(NamedTuple):
    """What became of one direction, as it is recorded.

    ``skipped`` holds (stage, reason), ``timings`` (stage, µs); ``unlisted`` counts the parts, gaps and
    findings beyond `MAX_LISTED`. ``rises`` says of a streamed reply after how many code points its score
    was how high, while it was written; ``votes`` what each replica said, where several were asked.
    """

    action: str
    reason: str = ""
    score: float = 0.0
    parts: tuple[Part, ...] = ()
    gaps: tuple[Gap, ...] = ()
    findings: tuple[Found, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    timings: tuple[tuple[str, int], ...] = ()
    unlisted: int = 0
    rises: tuple[tuple[int, float], ...] = ()
    votes: tuple[Vote, ...] = ()


class Shadow(NamedTuple):
    """What a shadow policy would have done."""

    policy: str
    version: str
    action: str
    reason: str


class Upstream(NamedTuple):
    """The call to the provider: ``status`` 0 where none came, ``seconds`` from sending to the last byte."""

    name: str
    status: int
    seconds: float
    retries: int = 0


Side = TypeVar("Side", bound=Screened | Screening, covariant=True)


class Decision(NamedTuple, Generic[Side]):
    """The record of one request.

    ``id`` comes from `new_id` at ``time`` (UNIX seconds), so ids sort by time. ``key`` is the id of the
    gateway key, empty without one. ``action``, ``reason`` and ``status`` are what the caller met; ``edits``
    counts replaced values as (category, count); ``seconds`` is the whole request's.
    """

    id: str
    time: float
    tenant: str
    key: str
    wire: str
    operation: str
    model: str
    streaming: bool
    action: str
    reason: str
    status: int
    policy: str
    version: str
    generation: int
    request: Side
    reply: Side | None = None
    edits: tuple[tuple[str, int], ...] = ()
    shadow: Shadow | None = None
    upstream: Upstream | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    client_gone: bool = False


AnyDecision = Decision[Screened | Screening]
Record = Decision[Screening]


class Text(NamedTuple):
    """A text that retention kept, of the request or the reply (``direction``). It is shown by no ``repr``."""

    direction: str
    path: str
    text: str

    def __repr__(self) -> str:
        return f"Text({self.direction!r}, {self.path!r}, {len(self.text)} code points)"


class KeptTexts(NamedTuple):
    """The texts kept of decision ``id`` until ``expires_at`` (UNIX seconds), as they were or with values
    redacted."""

    id: str
    expires_at: float
    redacted: bool
    texts: tuple[Text, ...]


def new_id(now: float) -> str:
    """An id of 32 hexadecimal digits that sorts by time: milliseconds of ``now`` (UNIX seconds), then 80
    random bits.

    Unique, not secret: it must not open anything.
    """
    return f"{int(now * 1000):012x}{_random_bits(80):020x}"


_random_bits: Final = random.getrandbits  # seeded anew by the interpreter in every forked worker


def is_id(text: str) -> bool:
    """True for what `new_id` could have made."""
    return _ID.fullmatch(text) is not None


def first_id(time: float) -> str:
    """The least id of the millisecond that ``time`` lies in; negative and far-off times give the first and
    last."""
    return f"{int(min(max(time * 1000, 0), 2**48 - 1)):012x}{0:020x}"
