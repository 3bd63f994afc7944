"""What workers tell the learning loop, and how it is written: labels, and what was seen of the traffic. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Final

import orjson

from gateway.learning import quorum
from gateway.learning.values import Case, Label, Trajectory, read_trajectory

MAX_MATCHED: Final = 200
"""Patterns in one event: what becomes of it is written as one, a document for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A label that was taken.

    Attributes:
        case: the id of the case that it speaks of.
        text: what it is about, where retention lets it be kept; views: its embedding, where that was made already.
        trajectory: what the gateway did with it.
    """

    label: Label
    case: str
    text: str = field(default="", repr=False)
    views: str = field(default="", repr=False)
    trajectory: Trajectory


@dataclass(frozen=True, slots=True)
class Watched:
    """What one worker saw for a while: requests, how many of them each pattern matched in, and until when (UNIX seconds)."""

    seen: int
    matches: Mapping[str, int]
    at: float


def parts(seen: int, matches: Mapping[str, int], at: float) -> Iterator[Watched]:
    """What was seen as events of a bounded size, which add up to it."""
    left = iter(matches.items())
    while some := dict(islice(left, MAX_MATCHED)):
        yield Watched(seen, some, at)
        seen = 0
    if seen:
        yield Watched(seen, {}, at)


def together(some: Iterable[Watched]) -> Watched:
    """What several events come to."""
    seen, at = 0, 0.0
    matches: Counter[str] = Counter()
    for one in some:
        seen, at = seen + one.seen, max(at, one.at)
        matches.update(one.matches)
    return Watched(seen, matches, at)


def heard(case: Case | None, event: Spoken) -> Case | None:
    """What a label makes of its case. None: nothing, since it was heard before, or its labeller said something else later:
    events may come more than once, and in any order."""
    label = event.label
    case = case or Case(id=event.case, at=label.at, text=event.text, views=event.views, trajectory=event.trajectory)
    known = next((one for one in case.labels if one.by == label.by), None)
    if known is not None and when(known) >= when(label):
        return None
    if known is not None and repeats(known, label):
        again = known._replace(at=label.at)  # so that what he said in between, and is heard later, is not his last word
        return None if again == known else case.with_label(again)
    if case.labels and label.trust > max(one.trust for one in case.labels):
        case = replace(case, trajectory=event.trajectory)  # whoever weighs more is believed about which decision the text is of
    return quorum.judged(case.with_label(label))


def when(label: Label) -> tuple[float, str]:
    """What puts a labeller's words in order."""
    return label.at, label.id


def repeats(known: Label, label: Label) -> bool:
    """Whether a labeller said the same before."""
    return known.id != label.id and known[3:6] == label[3:6]  # what was said, category, note


def encode(event: Spoken | Watched) -> bytes:
    return orjson.dumps(asdict(event), default=list)


def decode_spoken(body: bytes) -> Spoken:
    """Read what `encode` wrote.

    Raises:
        ValueError: it is something else.
    """
    try:
        raw: dict[str, Any] = orjson.loads(body)
        label, trajectory = Label(*raw.pop("label")), read_trajectory(raw.pop("trajectory"))
        return Spoken(label=label, trajectory=trajectory, **raw)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a label: {type(error).__name__}") from None


def decode_watched(body: bytes) -> Watched:
    """As `decode_spoken`."""
    try:
        raw: dict[str, Any] = orjson.loads(body)
        matches = {str(pattern): int(count) for pattern, count in raw["matches"].items()}
        return Watched(int(raw["seen"]), matches, float(raw["at"]))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not what was seen: {type(error).__name__}") from None
