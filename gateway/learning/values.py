"""What the learning loop keeps: labels, cases and proposals, and how each is written as JSON."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from patterns.clock import ZERO, Stamp
from patterns.entries import MAX_WORDS
from patterns.schema import MAX_EXAMPLE, Kind, Pattern, Severity, State
from patterns.similar import ALIKE

MAX_NOTE: Final = MAX_WORDS
"""Code points of a label's note, a reason or a name."""

MAX_TEXT: Final = MAX_EXAMPLE
"""Code points of a labelled text: what an example of a pattern may have."""

LEARNT: Final = "learnt."
"""What the ids of patterns begin with that the engine made of labelled texts."""

MAX_LABELS: Final = 50
"""Labels kept of one case: a quorum needs a handful, and a flood must not make a case grow without end."""


class Refused(ValueError):  # noqa: N818 - reads as the condition that it is
    """A label, vote or proposal that is not taken; ``status`` is the HTTP status that says so.

    ``wait``: whole seconds after which it would be, where it came too fast.
    """

    def __init__(self, status: int, message: str, wait: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.wait = wait


class Said(StrEnum):
    """What somebody says a text is."""

    ATTACK = "attack"
    BENIGN = "benign"


class Outcome(StrEnum):
    """A verdict on what the gateway did, once the labellers agree."""

    TRUE_POSITIVE = "true_positive"
    FALSE_POSITIVE = "false_positive"
    TRUE_NEGATIVE = "true_negative"
    FALSE_NEGATIVE = "false_negative"
    UNDECIDED = "undecided"


class Label(NamedTuple):
    """One person's (or application's) word. ``trust`` is what it weighed when it was given; ``at`` in UNIX seconds."""

    id: str
    by: str
    role: str
    said: str
    category: str
    note: str
    trust: float
    at: float


class Trajectory(NamedTuple):
    """What the gateway did with the text, as far as retention let it be kept.

    ``stopped`` says whether the text was blocked (or its values redacted); ``stages`` holds for each finding (stage, pattern,
    category, score); ``read`` says whether the encoder read it, which the front stage spares it of most texts.
    """

    decision: str = ""
    generation: int = 0
    tenant: str = ""
    origin: str = "user"
    action: str = ""
    stopped: bool = False
    score: float = 0.0
    stages: tuple[tuple[str, str, str, float], ...] = ()
    read: bool = False


UNSEEN: Final = Trajectory()
"""Of a text that was labelled without having passed the gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that was said of one text.

    Attributes:
        id: the text's keyed hash, so that a text is one case whoever labels it, and kept text is no condition.
        text: the text itself, or empty where retention forbids it.
        views: the text's embedding as `detectors.semantic.prototypes.write` wrote it, empty where there is no model.
        trajectory: what the gateway did with it.
        labels: what was said, one label a labeller: the latest.
        outcome: what follows from them.
        proposal: the id of the proposal that answers the case, empty while none does.
        lesson: why the outcome was wrong, in words.
    """

    id: str
    at: float
    text: str = field(default="", repr=False)
    views: str = field(default="", repr=False)
    trajectory: Trajectory = UNSEEN
    labels: tuple[Label, ...] = ()
    outcome: Outcome = Outcome.UNDECIDED
    category: str = ""
    proposal: str = ""
    lesson: str = ""

    def of_people(self, person: Callable[[str], str]) -> Case:
        """The same case under the names that those who labelled it have now: of one who used several keys before they were said
        to be his, the latest word counts."""
        if all(person(label.by) == label.by for label in self.labels):
            return self
        latest: dict[str, Label] = {}
        for label in sorted(self.labels, key=lambda one: (one.at, one.id)):
            by = person(label.by)
            latest[by] = label._replace(by=by)
        return replace(self, labels=tuple(latest.values()))

    def with_label(self, label: Label) -> Case:
        """The same case with one more word; a labeller's later word replaces the earlier one."""
        labels = [one for one in self.labels if one.by != label.by] + [label]
        if len(labels) > MAX_LABELS:  # the one that weighs least goes, the oldest of several: a flood drives out nobody's word
            labels.remove(min(labels, key=lambda one: one.trust))
        return replace(self, labels=tuple(labels))


class ProposalKind(StrEnum):
    """What a proposal would change."""

    EXEMPLAR = "exemplar"
    BENIGN = "benign_exemplar"
    LEXICAL = "lexical_pattern"
    NARROW = "narrowed_pattern"
    RETIRE = "retired_pattern"
    THRESHOLD = "threshold_move"
    HEAD = "retrained_head"
    MANUAL = "written_by_hand"


class Stage(StrEnum):
    """Where a proposal stands. From ``shadow`` on its pattern is in the store, with the state of that name."""

    PROPOSED = "proposed"
    FAILED = "failed"  # the trial found against it
    REJECTED = "rejected"
    SHADOW = "shadow"
    CANARY = "canary"
    ACTIVE = "active"
    DEMOTED = "demoted"


SAME_MEANING: Final = 0.98
"""Cosine from which an exemplar is a near-duplicate of another. Of our own, which hold no copies, 46 in a hundred have another
at 0.95 that means something else, 7 at this."""

REWRITTEN: Final = (Stage.PROPOSED, Stage.FAILED)
"""Stages in which the engine may write its own proposal anew: nobody has decided on it."""

OPEN: Final = frozenset({Stage.PROPOSED, Stage.SHADOW, Stage.CANARY})


class Vote(NamedTuple):
    """An approval or a rejection. ``by`` names the key; ``reason`` is in words."""

    by: str
    approves: bool
    reason: str
    at: float


class Trial(NamedTuple):
    """What a trial found, on texts that were not used to make the proposal where there are such.

    ``caught`` of ``own`` labelled examples (each judged by what the others teach); ``false_alarms`` of ``harmless`` texts and
    ``lost`` of ``hostile`` ones, with the bounds on both; ``against`` says in words what failed, empty where it passed.
    """

    own: int = 0
    caught: int = 0
    harmless: int = 0
    false_alarms: int = 0
    hostile: int = 0
    lost: int = 0
    false_alarm_bound: float = 0.0
    loss_bound: float = 0.0
    examples: tuple[str, ...] = ()
    against: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.against


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change of what is known, and everything that speaks for and against it.

    Attributes:
        id: sorts by time. kind: what it would change.
        pattern: the pattern as it would act. at: when it was made; since: when it entered its stage (UNIX seconds).
        author: who or what made it: ``engine`` or a key's id. A vote of its author does not count.
        cases: the cases that it answers. reflection: why, in words.
        worded, worded_by: the same as a language model worded it, and which one; see `gateway.learning.wording`.
        nearest: known exemplars or patterns nearest to it: (id, category, similarity).
        expected: what it is expected to change, in words.
        trial, votes: see there. reason: of the last change of stage.
        stamp: of what stood in the pattern store when it had entered its stage: a later one there has overruled it.
        supporters: the people whose labels it was made from say what it says.
        watched, alarms: texts seen and matched since it entered its stage.
        confirmed, refuted: verdicts on texts that it matched, those it was made from aside.
        spoken_for, spoken_against: what labellers weigh who say that it is right or wrong about such texts, one word each.
    """

    id: str
    kind: ProposalKind
    pattern: Pattern
    at: float
    since: float
    author: str
    stage: Stage = Stage.PROPOSED
    cases: tuple[str, ...] = ()
    reflection: str = ""
    nearest: tuple[tuple[str, str, float], ...] = ()
    expected: str = ""
    trial: Trial | None = None
    votes: tuple[Vote, ...] = ()
    reason: str = ""
    watched: int = 0
    alarms: int = 0
    confirmed: int = 0
    refuted: int = 0
    supporters: tuple[str, ...] = ()
    spoken_for: float = 0.0
    spoken_against: float = 0.0
    worded: str = field(default="", repr=False)
    worded_by: str = ""
    stamp: Stamp = ZERO

    @property
    def open(self) -> bool:
        return self.stage in OPEN

    def of_people(self, person: Callable[[str], str]) -> Proposal:
        """The same proposal under the names that its author, supporters and voters have now; of several votes of one of them
        the latest counts."""
        votes = {person(vote.by): vote._replace(by=person(vote.by)) for vote in sorted(self.votes, key=lambda one: one.at)}
        author, supporters = person(self.author), tuple(sorted(set(map(person, self.supporters))))
        if author == self.author and votes.keys() == {vote.by for vote in self.votes} and {*supporters} == {*self.supporters}:
            return self
        return replace(self, author=author, supporters=supporters, votes=tuple(votes.values()))

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Of what people and feeds propose, ids of those nearest that say nearly the same; what labels led to answers texts
        that none of those stopped."""
        if self.kind is not ProposalKind.MANUAL:
            return ()
        least = ALIKE if self.pattern.kind.lexical else SAME_MEANING
        return tuple(id for id, _, similarity in self.nearest if similarity >= least)


_FIELDS: Final = frozenset(field.name for field in fields(Proposal))


def case_id(key: bytes, text: str) -> str:
    """A text's keyed hash: the same text is the same case, and without the key nobody can tell which text it was."""
    return hmac.digest(key, b"case\n" + text.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]


def encode_case(case: Case) -> bytes:
    return _dumps(asdict(case))


def decode_case(body: bytes) -> Case:
    raw: dict[str, Any] = orjson.loads(body)
    raw["trajectory"] = read_trajectory(raw["trajectory"])
    raw["labels"] = tuple(Label(*one) for one in raw["labels"])
    raw["outcome"] = Outcome(raw["outcome"])
    return Case(**raw)


def encode_proposal(proposal: Proposal) -> bytes:
    return _dumps(asdict(proposal))


def decode_proposal(body: bytes) -> Proposal:
    raw: dict[str, Any] = {name: value for name, value in orjson.loads(body).items() if name in _FIELDS}  # a newer version's
    raw["kind"], raw["stage"] = ProposalKind(raw["kind"]), Stage(raw["stage"])
    raw["stamp"] = Stamp(*raw.get("stamp", ZERO))
    raw["pattern"] = _pattern(raw["pattern"])
    for name in ("cases", "supporters"):
        raw[name] = tuple(raw.get(name, ()))
    raw["nearest"] = tuple((id, category, similarity) for id, category, similarity in raw["nearest"])
    if raw["trial"] is not None:
        *numbers, examples, against = raw["trial"]
        raw["trial"] = Trial._make([*numbers, tuple(examples), tuple(against)])
    raw["votes"] = tuple(Vote(*one) for one in raw["votes"])
    return Proposal(**raw)


def _dumps(raw: dict[str, Any]) -> bytes:
    return orjson.dumps(raw, default=lambda value: sorted(value) if isinstance(value, frozenset) else list(value))


def read_trajectory(raw: list[Any]) -> Trajectory:
    """A trajectory from its fields as JSON has them."""
    *fields, stages, read = raw if len(raw) == len(Trajectory._fields) else (*raw, False)  # older cases do not say
    found = tuple((stage, pattern, category, score) for stage, pattern, category, score in stages)
    return Trajectory._make([*fields, found, read])


def _pattern(raw: dict[str, Any]) -> Pattern:
    for name, kind in (("kind", Kind), ("severity", Severity), ("state", State)):
        raw[name] = kind(raw[name])
    for name in ("hits", "misses"):
        raw[name] = tuple(raw[name])
    raw["origins"] = frozenset(raw["origins"])
    return Pattern(**raw)
