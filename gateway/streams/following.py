"""What of a streamed reply was judged by meaning, and what is to be judged next. Pure; `gateway.streams.beside` has it done.

All channels of a stream share one count of what was heard, in code points. A trip takes all that was heard and not judged yet,
each channel's with what stands before it; when its verdict is back, everything up to where it began is judged. One trip runs
at a time: where judging is slow, trips grow longer, not more. What trips were told is put together when the stream is over
(`Follower.parts`), so that what was judged beside it is not judged once more.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from detectors.engine import Judged
from detectors.parts import Parts
from detectors.semantic.windows import OVERLAP, WINDOW
from detectors.values import TOOL_CALL, Finding, Origin, Path, Segment, Skipped, Verdict
from gateway.screening.policy import MODEL_STAGES, Action, Direction, Policy, decide

STEP: Final = 80
"""Code points that make a trip worth while where nothing may go out before it is judged: 20 tokens, so an attack of some
sentences is judged several times while it is written. A stream that pauses or ends is judged at once."""

TRIPS_AHEAD: Final = 4
"""Trips for as many code points as may go out ahead. A trip reads what stands before its own text again, so that short ones
cost several times as much in all, and bring nothing where text does not wait for them."""

MAX_BEHIND: Final = 8 * WINDOW
"""Code points that may be heard and not judged before no more is read of the upstream."""

Channel = tuple[str | int, ...]


class Cut(NamedTuple):
    """What a stream was cut for: the threat, the pattern or other cause, and the stage that saw it; how sure that was, and
    where: ``start`` to ``end`` of ``channel``."""

    threat: str
    cause: str
    stage: str
    score: float = 1.0
    channel: Path = ()
    start: int = 0
    end: int = 0
    alarm: bool = False
    """Whether the text was cut for its score alone, by `Policy.alarm`."""


class Trip(NamedTuple):
    """Texts to be judged. ``starts`` tells of each where in its channel it begins, ``until`` what was heard when it was
    taken, ``whole`` that no more will come."""

    segments: tuple[Segment, ...]
    starts: tuple[int, ...]
    until: int
    whole: bool


class Rise(NamedTuple):
    """A step of a score that rises while a text is written: ``at`` that many code points it was ``score`` or more."""

    at: int
    score: float


class _Tail:
    """The end of one channel's text: what is not judged yet, and what stands before it."""

    __slots__ = ("judged", "origin", "parts", "role", "start", "text")

    def __init__(self, role: str, origin: Origin) -> None:
        self.role = role
        self.origin = origin
        self.text = ""
        self.judged = 0  # code points of ``text``
        self.start = 0  # where in the channel it begins
        self.parts = Parts()


class Follower:
    """Follows one stream.

    Attributes:
        heard, judged: code points of all channels together.
        step: code points that make a trip worth while.
        score: the highest probability of an attack so far; ``rises`` is how it came about, a step for each tenth.
        skipped: the stages that did not judge in time.
    """

    __slots__ = ("_ahead", "_policy", "_tails", "heard", "judged", "rises", "score", "skipped", "step")

    def __init__(self, policy: Policy, ahead: int) -> None:
        """``ahead``: code points that may go out before they are judged."""
        self._policy = policy
        self._ahead = ahead
        self._tails: dict[Path, _Tail] = {}
        self.heard = self.judged = 0
        self.step = STEP if policy.alarm is not None else max(STEP, ahead // TRIPS_AHEAD)
        self.score = 0.0
        self.rises: list[Rise] = []
        self.skipped: set[Skipped] = set()

    @property
    def behind(self) -> int:
        """Code points that were heard and not judged."""
        return self.heard - self.judged

    def feed(self, channel: Channel, text: str, called: bool = False, origin: Origin = Origin.ASSISTANT) -> None:
        """Take the next piece of a channel; ``called``: of a tool call, ``origin``: who speaks in it."""
        tail = self._tails.get(channel)
        if tail is None:
            tail = self._tails[channel] = _Tail(TOOL_CALL if called else origin.value, origin)
        tail.text += text
        self.heard += len(text)

    def due(self, last: bool) -> int:
        """How much must have been judged before a frame may go out that says no more than was heard by now.

        ``last``: it ends a text, after which nothing could be cut any more, or is of a tool call, which is run as it is.
        """
        return self.heard if last else self.heard - self._ahead

    def trip(self, whole: bool) -> Trip:
        """Take all that was not judged yet; ``whole``: the stream is over."""
        taken = [(channel, tail) for channel, tail in self._tails.items() if tail.judged < len(tail.text)]
        for _, tail in taken:
            low = max(0, min(tail.judged - OVERLAP, len(tail.text) - WINDOW))
            if low:
                space = tail.text.find(" ", low, low + OVERLAP // 3)
                low = max(low, space + 1)  # a word that is cut in two may look like another one
                tail.text, tail.start = tail.text[low:], tail.start + low
            tail.judged = len(tail.text)
        segments = tuple(
            Segment(tail.text, tail.role, tail.origin, turn, channel) for turn, (channel, tail) in enumerate(taken)
        )
        return Trip(segments, tuple(tail.start for _, tail in taken), self.heard, whole)

    def forget(self, kept: int) -> None:
        """Forget all channels but the ``kept`` that began last."""
        for channel in list(self._tails)[: max(0, len(self._tails) - kept)]:
            del self._tails[channel]

    def parts(self, channel: Path) -> Parts | None:
        """What was said of a channel's text, part by part; None where not all of it was judged, and by every stage."""
        tail = self._tails.get(channel)
        return None if tail is None or self.behind or self.skipped else tail.parts

    def gather(self, trip: Trip, judged: Judged) -> None:
        """Keep what a trip was told of each channel's part, for `parts`."""
        for number, (segment, start) in enumerate(zip(trip.segments, trip.starts, strict=True)):
            own = [finding for finding in judged.verdict.findings if finding.segment == number]
            self._tails[segment.path].parts.add(start, own, judged.scores[number], judged.stages[number])

    def settle(self, trip: Trip, verdict: Verdict) -> Cut | None:
        """Take a trip's verdict; gives what the policy cuts the stream for, if it does."""
        alarm = self.rise(trip, verdict)
        self.skipped.update(verdict.skipped)
        # At an edge a pattern may match that would not if it saw what stands beyond.
        findings = tuple(
            finding for finding in verdict.findings
            if finding.detector in MODEL_STAGES
            or ((trip.whole or finding.end < len(trip.segments[finding.segment].text))
                and (not trip.starts[finding.segment] or finding.start > 0))
        )  # fmt: skip
        if alarm is not None:
            return alarm
        ruling = decide(self._policy, verdict._replace(findings=findings), trip.segments, Direction.REPLY)
        if ruling.action is not Action.BLOCK:
            self.judged = trip.until
            return None
        for finding, action in zip(findings, ruling.actions, strict=True):
            if action is Action.BLOCK:
                return self._cut(trip, finding)
        return Cut("incomplete judgement", ruling.reason, "stream")

    def rise(self, trip: Trip, verdict: Verdict) -> Cut | None:
        """Note a trip's score; gives the cut where it is one that the policy's alarm is for."""
        if int(10 * verdict.score) > int(10 * self.score):
            self.rises.append(Rise(trip.until, verdict.score))
        self.score = max(self.score, verdict.score)
        bar = self._policy.alarm
        if bar is None or verdict.score < bar or not self._policy.acts:
            return None
        return self._cut(trip, max(verdict.findings, key=lambda finding: finding.score, default=None), verdict.score)

    def _cut(self, trip: Trip, finding: Finding | None, alarm: float = 0.0) -> Cut:
        """The cut for a finding in a trip, or for the ``alarm`` that a score is, which the strongest finding explains."""
        if finding is None:
            return Cut("attack", "no finding by itself", "stream", alarm, alarm=True)
        start = trip.starts[finding.segment]
        path = trip.segments[finding.segment].path
        place = (path, start + finding.start, start + finding.end)
        return Cut(finding.category, finding.pattern, finding.detector, alarm or finding.score, *place, alarm > 0)
