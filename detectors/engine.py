"""The cascade: what is said of a text by all stages together, under one generation of patterns."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from detectors.cache import VerdictCache
from detectors.cascade import Cascade
from detectors.lexical import Lexical
from detectors.parts import Parts
from detectors.passages import Passage, passages
from detectors.semantic.judge import Reading, SemanticModel
from detectors.stages import STAGES, Asked, Screened, TextFinding, TextVerdict
from detectors.values import WINDOWS, Finding, Origin, Segment, Skipped, Verdict
from patterns.schema import WATCHING, Pattern
from patterns.snapshot import layered

CACHE_BYTES: Final = 16 * 2**20
"""Verdicts kept per worker: about 40,000, the live texts of some thousand conversations."""

PASSING: Final = frozenset({"late", "overload", "error"})
"""Reasons for an incomplete verdict that may be gone next time: such a verdict is not remembered."""


class Judged(NamedTuple):
    """A verdict with what it cost: nanoseconds by stage (in the order of `STAGES`), and texts found in the cache.

    ``stages`` holds for each segment the stages that saw it, when it was judged first; ``scores`` the highest probability of
    attack of a passage that it stands in.
    """

    verdict: Verdict
    stage_ns: tuple[int, ...]
    cached: int
    stages: tuple[tuple[str, ...], ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """An immutable set of knowledge. A request keeps the one that it began with, and its record names it."""

    number: int
    digest: str
    patterns: tuple[Pattern, ...]
    loaded_at: float


class _Open(NamedTuple):
    """A passage that waits for the encoder."""

    number: int
    key: tuple[object, str | bytes]
    screened: Screened


_WAITING: Final = TextVerdict((), 0.0, (), ())


class Screening:
    """What the cheap stages say of some segments, and what they leave to the encoder.

    ``asked`` lists the windows that are to be read, empty where all is settled; `close` takes the readings of them, in
    order, and gives the verdict. What they are part of is `open`, for whoever may know more of it (`know`).
    """

    __slots__ = ("_cached", "_clock", "_engine", "_open", "_passages", "_segments", "_verdicts", "asked")

    def __init__(
        self, engine: Engine, segments: Sequence[Segment], scope: str, together: Iterable[Sequence[int]] = ()
    ) -> None:
        self._engine = engine
        self._segments = segments
        self._clock = [0] * len(STAGES)
        self._cached = 0
        self._passages = passages(segments, together)
        self._verdicts: list[TextVerdict] = []
        self._open: list[_Open] = []
        cache, cascade = engine.cache, engine.cascade
        asked: list[Asked] = []
        for number, passage in enumerate(self._passages):
            key = cache.key((scope, passage.origin), passage.text)
            verdict = cache.get(key)
            if verdict is None:
                screened = cascade.screen(passage.text, passage.origin, self._clock)
                if screened.asked:
                    self._open.append(_Open(number, key, screened))
                    asked += screened.asked
                    verdict = _WAITING
                else:
                    verdict = cascade.finish(screened, ())
                    cache.put(key, verdict)
            else:
                self._cached += 1
            self._verdicts.append(verdict)
        self.asked = tuple(asked)

    @property
    def model(self) -> SemanticModel | None:
        """What is to read the windows of ``asked``."""
        return self._engine.cascade.model

    @property
    def generation(self) -> Generation:
        """What it is judged by."""
        return self._engine.generation

    @property
    def open(self) -> list[Passage]:
        """The passages whose windows are asked for; once closed, those that were."""
        return [self._passages[waiting.number] for waiting in self._open]

    @property
    def verdicts(self) -> list[TextVerdict]:
        """Once closed, what was said of `open`, in order."""
        return [self._verdicts[waiting.number] for waiting in self._open]

    def know(self, verdicts: Sequence[TextVerdict | None]) -> None:
        """Take verdicts of `open`, in order, that were made elsewhere by the same knowledge; None where there is none."""
        left: list[_Open] = []
        for waiting, verdict in zip(self._open, verdicts, strict=True):
            if verdict is None:
                left.append(waiting)
                continue
            self._verdicts[waiting.number] = verdict
            self._engine.cache.put(waiting.key, verdict)
            self._cached += 1
        self._open = left
        self.asked = tuple(asked for waiting in left for asked in waiting.screened.asked)

    def close(self, readings: Sequence[Reading | None] = (), reason: str = "late", spent: tuple[int, int] = (0, 0)) -> Judged:
        """The verdict.

        Args:
            readings: those of ``asked``, or nothing where nobody read; None for one that could not be had, for which
                ``reason`` says why.
            spent: nanoseconds in encoder and index.
        """
        at = 0
        readings = readings or (None,) * len(self.asked)
        cascade, cache = self._engine.cascade, self._engine.cache
        for waiting in self._open:
            upto = at + len(waiting.screened.asked)
            verdict = cascade.finish(waiting.screened, readings[at:upto], reason)
            at = upto
            self._verdicts[waiting.number] = verdict
            if not any(skipped.reason in PASSING for skipped in verdict.skipped):
                cache.put(waiting.key, verdict)
        self._clock[-2:] = spent
        return Judged(self._verdict(), tuple(self._clock), self._cached, *self._by_segment())

    def _verdict(self) -> Verdict:
        found: dict[Finding, None] = {}
        skipped: list[Skipped] = []
        score = 0.0
        for passage, verdict in zip(self._passages, self._verdicts, strict=True):
            if verdict.findings:
                _place(passage, verdict.findings, found)
            if verdict.skipped:
                skipped += verdict.skipped
            score = max(score, verdict.score)
        return Verdict(tuple(found), score, tuple(dict.fromkeys(skipped)), self._engine.generation.number)

    def _by_segment(self) -> tuple[tuple[tuple[str, ...], ...], tuple[float, ...]]:
        if len(self._passages) == 1:
            return (self._verdicts[0].stages,) * len(self._segments), (self._verdicts[0].score,) * len(self._segments)
        stages: list[tuple[str, ...]] = [()] * len(self._segments)
        scores = [0.0] * len(self._segments)
        for passage, verdict in zip(self._passages, self._verdicts, strict=True):
            for number in passage.numbers:
                scores[number] = max(scores[number], verdict.score)
                if len(verdict.stages) > len(stages[number]):
                    stages[number] = verdict.stages
        return tuple(stages), tuple(scores)


class Engine:
    """Judges texts under one generation. Not thread-safe: one instance for each thread that scans."""

    def __init__(self, generation: Generation, cascade: Cascade) -> None:
        self.generation = generation
        self.cache: VerdictCache[TextVerdict] = VerdictCache(CACHE_BYTES, secrets.token_bytes(32))
        self.cascade = cascade

    @classmethod
    def load(
        cls, patterns: Sequence[Pattern], number: int, now: float, cache: Path | None = None,
        model: SemanticModel | None = None, absent: tuple[Skipped, ...] = (), *,
        decodes: bool = True, deep: bool = True, windows: int = WINDOWS,
    ) -> Engine:  # fmt: skip
        """Compile ``patterns`` into a generation.

        Args:
            patterns: of all states; active ones act, those in the shadow and canaries are watched.
            number: the generation's number. now: UNIX seconds. cache: a folder for compiled patterns.
            model, absent, decodes, deep, windows: as `Cascade`.

        Raises:
            PatternError: as `Lexical`.
        """
        live = tuple(pattern for pattern in patterns if pattern.state in WATCHING)
        cascade = Cascade(Lexical(live, cache), model, absent, decodes=decodes, deep=deep, windows=windows)
        return cls(Generation(number, digest(live), live, now), cascade)

    @property
    def thresholds(self) -> Mapping[str, Mapping[Origin, float]]:
        """From which score presets act, by preset and origin; empty where no model judges."""
        return self.cascade.model.calibration.thresholds if self.cascade.model else {}

    def renewed(self, over: Mapping[str, Pattern], number: int, now: float, known: Engine | None = None) -> Engine:
        """A generation of these patterns with those of the pattern store over them; takes milliseconds, not the minutes
        that compiling all of them anew would.

        Args:
            over: by id; one that has the id of a pattern here replaces it, in whatever state it is.
            known: what was made so before: of what stands in it still, nothing is compiled or embedded again.

        Raises:
            PatternError: an expression that Hyperscan cannot take.
        """
        together = layered({pattern.id: pattern for pattern in self.generation.patterns}, over)
        live = tuple(pattern for pattern in together.values() if pattern.state in WATCHING)
        before = known.cascade if known is not None else None
        return Engine(Generation(number, digest(live), live, now), self.cascade.overlaid(over, before))

    @property
    def pieces(self) -> list[object]:
        """The many small things that it is made of and that another generation may not have."""
        return [*self.generation.patterns, *self.cascade.lexical.laid, *self.cache.held]

    def twin(self) -> Engine:
        """An engine with the same knowledge and the same cache for another thread."""
        twin = Engine(self.generation, self.cascade.twin())
        twin.cache = self.cache
        return twin

    def screen(self, segments: Sequence[Segment], scope: str, together: Iterable[Sequence[int]] = ()) -> Screening:
        """The cheap stages, for a caller who has the encoder's part done elsewhere.

        Args:
            scope: a tenant; keeps one caller from learning what another one sent.
            together: as for `passages`.
        """
        return Screening(self, segments, scope, together)

    def know(self, text: str, origin: Origin, scope: str, parts: Parts) -> None:
        """Put together what was said of a text's parts, so that it is known when the whole is screened.

        It stays unknown where only the model can say what the whole means; see `Parts.verdict`.
        """
        key = self.cache.key((scope, origin), text)
        if self.cache.get(key) is None:
            verdict = parts.verdict(self.cascade.words(text, origin, [0] * len(STAGES)))
            if verdict is not None:
                self.cache.put(key, verdict)

    def judge(self, segments: Sequence[Segment], scope: str) -> Judged:
        """All stages in this thread: some milliseconds for each window that the cheap ones do not settle."""
        screening = self.screen(segments, scope)
        if not screening.asked:
            return screening.close()
        model = self.cascade.model
        assert model is not None  # nothing else asks
        began = time.perf_counter_ns()
        readings = [model.read(window.text) for window in screening.asked]
        searched = sum(reading.search_ns for reading in readings)
        return screening.close(readings, spent=(time.perf_counter_ns() - began - searched, searched))


def digest(patterns: Sequence[Pattern]) -> str:
    """The identity of a set of patterns: SHA-256 over what makes each of them act, in order of their ids."""
    state = hashlib.sha256()
    for pattern in sorted(patterns, key=attrgetter("id")):
        acting = (
            pattern.id, pattern.kind, pattern.body, pattern.category, pattern.severity, pattern.check,
            sorted(pattern.origins), pattern.closeness, pattern.hits if pattern.closeness else (), pattern.state,
            pattern.rollout,
        )  # fmt: skip
        state.update(_encode(acting))
    return state.hexdigest()


_encode: Final = msgspec.json.Encoder().encode  # of ten thousand, in a third of the time that their `repr` takes


def _place(passage: Passage, findings: Sequence[TextFinding], found: dict[Finding, None]) -> None:
    """Map findings to the segments of the passage; one that crosses a cut becomes one for each side."""
    for finding in findings:
        for span in passage.locate(finding.start, finding.end):
            found[Finding(*finding[:4], span.segment, span.start, span.end)] = None
