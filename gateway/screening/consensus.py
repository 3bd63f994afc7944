"""Consensus: what a majority of replicas says of one request. Pure: verdicts in, one verdict and a record of the votes out.

A policy may ask that other replicas judge a request too. Each votes with what its verdict would have the policy do, this
replica among them, and more than half of all who were to vote must agree. Only who judges by the very same knowledge has a
vote, and only with a verdict that is whole. Where no majority comes about this replica's own verdict stands, incomplete by
the stage `STAGE`, and the policy's ``failure`` says what that means: so whoever does not answer, or answers wrongly, changes
nothing that a majority would not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from detectors.engine import PASSING, Judged
from detectors.stages import STAGES
from detectors.values import TOOL_CALL, WATCHED, Finding, Origin, Segment, Skipped, Verdict
from gateway.records.decisions import Vote
from gateway.screening.policy import Direction, Policy, Ruling, evaluate
from gateway.sync import frames
from patterns import taxonomy

STAGE: Final = "consensus"

VERDICT: Final = "verdict"
"""What a vote says that counts. The other words are of `frames.Answer` and `gateway.sync.questions`, and these:"""

INCOMPLETE: Final = "incomplete"
MALFORMED: Final = "malformed"
UNNEEDED: Final = "unneeded"
"""It had not answered when the others were a majority already."""

FEW: Final = "few"
SPLIT: Final = "split"
OVERSIZED: Final = "oversized"
CUT_OFF: Final = "cut off"
"""Why there is no majority, where it is not for what the votes say: fewer replicas are connected than are to be asked, the
votes differ, the request is longer than a question, no worker speaks with other replicas."""

_DETECTORS: Final = frozenset({*STAGES, WATCHED})


class Outcome(NamedTuple):
    """What came of a question.

    ``judged`` is the verdict that stands, ``votes`` who said what, this replica first; ``result`` is ``agreed``, ``overruled``
    (the majority sees it otherwise than this replica), or why there is no majority.
    """

    judged: Judged
    votes: tuple[Vote, ...]
    result: str


class _Cast(NamedTuple):
    """A vote that counts: what the policy makes of a verdict. Two are alike where it would do the same to the same places."""

    verdict: Verdict
    ruling: Ruling

    @property
    def meaning(self) -> object:
        return self.ruling.action, self.ruling.edits


class Ballot:
    """The votes on one request.

    Args:
        node: this replica's name. own: its verdict. wanted: how many others are asked.
        before, after: what was judged with the segments, and is put to the others with them; it is not voted on.
    """

    def __init__(
        self, node: str, own: Judged, segments: Sequence[Segment], policy: Policy, wanted: int,
        before: Sequence[Segment] = (), after: Sequence[Segment] = (),
    ) -> None:  # fmt: skip
        self.asked = [*before, *segments, *after]
        self._first = len(before)
        self._own = own
        self._segments = segments
        self._policy = policy
        self._wanted = wanted
        self._node = node
        self._mine = self._cast(own.verdict)
        self._answers: Mapping[str, frames.Answer | str] = {}

    def hear(self, answers: Mapping[str, frames.Answer | str], waiting: Sequence[str]) -> bool:
        """Take notice of what was answered so far; true where more would change nothing."""
        self._answers = {**dict.fromkeys(waiting, UNNEEDED), **answers}
        return self._majority(self._read()[0]) is not None

    def close(self, failure: str = "") -> Outcome:
        """What came of it; ``failure`` where nobody could be asked."""
        casts, votes = self._read()
        winner = self._majority(casts)
        if winner is None:
            reason = failure or self._why(votes)
            verdict = self._own.verdict
            lacking = verdict._replace(skipped=(*verdict.skipped, Skipped(STAGE, reason)))
            return Outcome(self._own._replace(verdict=lacking), votes, reason)
        if self._mine is not None and self._mine.meaning == winner.meaning:
            return Outcome(self._own, votes, "agreed")
        return Outcome(self._own._replace(verdict=winner.verdict), votes, "overruled")

    def _read(self) -> tuple[list[_Cast], tuple[Vote, ...]]:
        casts = [] if self._mine is None else [self._mine]
        votes = [_vote(self._node, self._mine, self._own.verdict.score)]
        for node, answer in sorted(self._answers.items()):
            if isinstance(answer, str):
                votes.append(Vote(node, answer))
                continue
            verdict = read(answer, self.asked, self._own.verdict.generation)
            if verdict is None:
                votes.append(Vote(node, MALFORMED))
                continue
            if len(self.asked) != len(self._segments):
                verdict = within(verdict, self._first, len(self._segments))
            cast = self._cast(verdict)
            if cast is not None:
                casts.append(cast)
            votes.append(_vote(node, cast, verdict.score))
        return casts, tuple(votes)

    def _cast(self, verdict: Verdict) -> _Cast | None:
        if any(skipped.reason in PASSING for skipped in verdict.skipped):
            return None
        return _Cast(verdict, evaluate(self._policy, verdict, self._segments, Direction.REQUEST))

    def _majority(self, casts: Sequence[_Cast]) -> _Cast | None:
        for meaning, number in Counter(cast.meaning for cast in casts).most_common(1):
            if 2 * number > self._wanted + 1:
                return next(cast for cast in casts if cast.meaning == meaning)
        return None

    def _why(self, votes: Sequence[Vote]) -> str:
        if not self._answers:
            return FEW
        silent = Counter(vote.said for vote in votes if vote.said != VERDICT)
        return min(silent, key=lambda said: (-silent[said], said)) if silent else SPLIT


def _vote(node: str, cast: _Cast | None, score: float) -> Vote:
    return Vote(node, INCOMPLETE) if cast is None else Vote(node, VERDICT, cast.ruling.action.value, score)


def asked(number: int, knowledge: bytes, scope: str, segments: Sequence[Segment], left_ms: int) -> frames.Question | None:
    """The question about a request; None where it is longer than a question may be."""
    if len(segments) > frames.MAX_SEGMENTS or sum(len(one.text) for one in segments) > frames.MAX_QUESTION:
        return None
    said = [
        frames.Said(
            one.text.encode("utf-8", "surrogatepass"), one.role == TOOL_CALL, one.origin.value, one.turn, one.glued
        )
        for one in segments
    ]
    question = frames.Question(number, knowledge, scope[:500], left_ms, said)
    return question if question.size <= frames.MAX_QUESTION else None


def segments_of(question: frames.Question) -> list[Segment]:
    """The texts of a peer's question.

    Raises:
        ValueError: they are no texts, or of an unknown origin.
    """
    return [
        Segment(
            one.text.decode("utf-8", "surrogatepass"), TOOL_CALL if one.run else "", Origin(one.origin), one.turn, (), one.glued
        )
        for one in question.segments
    ]


def answered(number: int, verdict: Verdict) -> frames.Answer:
    """A verdict as the answer to a question. One with more findings than an answer holds is none."""
    if len(verdict.findings) > frames.MAX_SEEN:
        return frames.Answer(number, "failed")
    seen = [
        frames.Seen(one.detector, one.pattern[:500], one.category, min(max(float(one.score), 0.0), 1.0), *one[4:])
        for one in verdict.findings
    ]
    return frames.Answer(number, "verdict", min(max(float(verdict.score), 0.0), 1.0), seen, list(verdict.skipped))


def read(answer: frames.Answer, segments: Sequence[Segment], generation: int) -> Verdict | None:
    """The verdict that a peer gives; None where it is none of these segments.

    What it names must exist: places within the texts, known stages and known categories. No policy looks up anything else.
    """
    findings = []
    for one in answer.seen:
        if one.segment >= len(segments) or not one.start <= one.end <= len(segments[one.segment].text):
            return None
        if one.detector not in _DETECTORS or not _is_threat(one.category):
            return None
        findings.append(Finding(one.detector, one.pattern, one.category, one.score, one.segment, one.start, one.end))
    skipped = tuple(Skipped(stage, reason) for stage, reason in answer.missing if stage in STAGES)
    if len(skipped) != len(answer.missing):
        return None
    return Verdict(tuple(findings), answer.score, skipped, generation)


def within(verdict: Verdict, first: int, count: int) -> Verdict:
    """What a verdict says of ``count`` segments from ``first`` on; its score is that of the worst finding in them."""
    found = tuple(
        finding._replace(segment=finding.segment - first)
        for finding in verdict.findings if first <= finding.segment < first + count
    )  # fmt: skip
    return verdict._replace(findings=found, score=max((finding.score for finding in found), default=0.0))


def _is_threat(name: str) -> bool:
    category, _, subcategory = name.partition(".")
    known = taxonomy.CATEGORIES.get(category)
    return known is not None and (not subcategory or subcategory in known.subcategories)
